"""`build-hlg` and `decode` from the command line, and the files they leave."""

import json
import math
from pathlib import Path

import pytest

from moe_asr.cli.main import main
from moe_asr.evaluate.wer import read_transcripts, score
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice_file import LatticeArchive
from moe_asr.model.config import preset
from moe_asr.model.directory import save_model_dir
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable
from tests.decode.conftest import TEXTS, Workplace

TEXTS_BY_ID = {f"utt-{i}": text for i, text in enumerate(TEXTS)}


def test_decode_writes_texts_alignments_and_figures(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["decode", "--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    command += ["--mode", "full", "--mode", "chunk4", "--output", str(output), "--threads", "1"]
    assert main(command) == 0
    results = json.loads((output / "results.json").read_text())
    assert list(results) == ["full", "chunk4"]
    table = capsys.readouterr().out
    for mode, methods in results.items():
        references = read_transcripts(output / mode / "ref.txt")
        assert references == TEXTS_BY_ID
        hypotheses = read_transcripts(output / mode / "hyp_ctc_greedy.txt")
        total = score(references, hypotheses).total
        row = methods["ctc_greedy"]
        assert row.pop("rtf") > 0
        assert row.pop("second_pass_rtf") is None
        low, high = row.pop("interval")
        assert low <= row["wer"] <= high
        assert row == {
            "wer": pytest.approx(total.wer),
            "substitutions": total.substitutions,
            "deletions": total.deletions,
            "insertions": total.insertions,
            "reference_words": sum(len(text.split()) for text in TEXTS),
            "unit": "word",
        }
        alignment = (output / mode / "alignment_ctc_greedy.txt").read_text()
        assert f"WER {total.wer:.2f} %" in alignment and "utt-3" in alignment
        assert f"{total.wer:.2f}" in table and mode in table


def test_decode_with_packed_weights(workplace: Workplace, tmp_path: Path) -> None:
    """Every utterance in float32 as by torch; which precision it was is on record."""
    texts: dict[str | None, dict[str, dict[str, str]]] = {}
    for precision in (None, "float32", "int8"):
        output = tmp_path / str(precision)
        command = ["decode", "--model", str(workplace.model_dir), "--threads", "1", "--streaming"]
        command += ["--manifest", str(workplace.manifest), "--output", str(output)]
        command += ["--mode", "full", "--mode", "chunk4-left1", "--mode", "chunk4"]
        command += ["--precision", precision] if precision else []
        assert main(command) == 0
        given = json.loads((output / "options.json").read_text())["input"]
        assert given.get("precision") == precision
        texts[precision] = {
            mode: read_transcripts(output / mode / "hyp_ctc_greedy.txt")
            for mode in ("full", "chunk4-left1", "chunk4")
        }
    assert texts["float32"] == texts[None] and set(texts["int8"]["chunk4"]) == set(TEXTS_BY_ID)


def test_decode_counts_characters_where_asked_to(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["decode", "--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    assert main([*command, "--unit", "char", "--output", str(tmp_path), "--threads", "1"]) == 0
    row = json.loads((tmp_path / "results.json").read_text())["full"]["ctc_greedy"]
    assert row["unit"] == "char"
    assert row["reference_words"] == sum(len(text.replace(" ", "")) for text in TEXTS)
    found = read_transcripts(tmp_path / "full" / "hyp_ctc_greedy.txt")
    references = {name: list(text.replace(" ", "")) for name, text in TEXTS_BY_ID.items()}
    hypotheses = {name: list(text.replace(" ", "")) for name, text in found.items()}
    assert row["wer"] == pytest.approx(score(references, hypotheses).total.wer)
    assert "CER %" in capsys.readouterr().out


def test_a_model_of_phones_is_scored_by_phones(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lexicon = Lexicon([Pronunciation("one", ("w", "ah", "n")), Pronunciation("two", ("t", "uw"))])
    tokenizer = PhoneTokenizer.from_lexicon(lexicon)
    model = U2MoeModel(preset("tiny", vocab_size=tokenizer.vocab_size)).eval()
    save_model_dir(tmp_path / "model", model, tokenizer, workplace.loaded.fbank_options)
    command = ["decode", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "out")]
    assert main([*command, "--manifest", str(workplace.manifest), "--threads", "1"]) == 0
    row = json.loads((tmp_path / "out" / "results.json").read_text())["full"]["ctc_greedy"]
    phones = {"one": 3, "two": 2}
    expected = sum(phones[word] for text in TEXTS for word in text.split())
    assert row["unit"] == "phone" and row["reference_words"] == expected
    assert "PER %" in capsys.readouterr().out


def test_build_hlg_of_words_whose_pronunciations_have_probabilities(tmp_path: Path) -> None:
    half = math.log(0.5)
    lexicon = Lexicon([Pronunciation("one", ("w",), half), Pronunciation("one", ("ah",), half)])
    PhoneTokenizer.from_lexicon(lexicon).save(tmp_path / "phones")
    command = ["build-hlg", "--tokenizer", str(tmp_path / "phones"), "--words", "one"]
    assert main([*command, "--builder", "openfst", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "lexicon.txt").read_text() == "one 0.5 w\none 0.5 ah\n"
    assert (tmp_path / "HLG.safetensors").is_file()


def test_build_hlg_then_decode_with_it(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph_dir = tmp_path / "graph"
    command = ["build-hlg", "--tokenizer", str(workplace.model_dir), "--output", str(graph_dir)]
    assert main([*command, "--words", "one,two", "--draw", "--word-insertion-penalty", "0.5"]) == 0
    graph = DecodingGraph.load(graph_dir / "HLG.safetensors")
    said = capsys.readouterr().out.split("\n")
    row = next(line.split() for line in said if line.startswith("HLG"))
    assert row[1:3] == [str(graph.num_states), str(graph.num_arcs)]
    assert graph.metadata["word_insertion_penalty"] == 0.5
    assert SymbolTable.read(graph_dir / "words.txt") == graph.word_table
    assert SymbolTable.read(graph_dir / "tokens.txt") == workplace.loaded.tokenizer.tokens
    assert Lexicon.read(graph_dir / "lexicon.txt").words == ["one", "two"]
    assert (graph_dir / "L.dot").stat().st_size and (graph_dir / "G.dot").stat().st_size

    again = [*command, "--lexicon", str(graph_dir / "lexicon.txt")]
    assert main([*again, "--word-insertion-penalty", "0.5"]) == 0
    second = DecodingGraph.load(graph_dir / "HLG.safetensors")
    assert (second.score == graph.score).all() and (second.token == graph.token).all()

    output = tmp_path / "out"
    command = ["decode", "--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    command += ["--method", "ctc_greedy", "--method", "one_best", "--streaming", "--mode", "chunk4"]
    command += ["--graph", str(graph_dir / "HLG.safetensors"), "--output", str(output)]
    assert main([*command, "--option", "one_best.search_beam=15", "--lattices"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert list(results["chunk4"]) == ["ctc_greedy", "one_best"]
    words = " ".join(read_transcripts(output / "chunk4" / "hyp_one_best.txt").values()).split()
    assert set(words) <= {"one", "two"}
    archive = LatticeArchive(output / "chunk4" / "lattices_one_best.safetensors")
    assert set(archive.names) == set(TEXTS_BY_ID) and archive.word_table == graph.word_table
    assert archive.metadata["mode"] == "chunk4"
    assert archive.metadata["options"]["search_beam"] == 15.0


def test_errors_are_one_line_and_name_the_culprit(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decode = ["decode", "--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    decode += ["--output", str(tmp_path / "out")]
    build = ["build-hlg", "--tokenizer", str(workplace.model_dir), "--output", str(tmp_path)]
    (tmp_path / "bad.txt").write_text("one o n e\none\n")
    for command, message in (
        ([*decode, "--mode", "half"], "unknown decoding mode 'half'"),
        ([*decode, "--threads", "0"], "--threads must be at least 1"),
        ([*decode, "--device", "cuda:99"], "--device cuda:99: "),
        ([*decode, "--device", "gpu"], "--device gpu: "),
        ([*decode, "--graph", str(tmp_path / "no.safetensors")], "no.safetensors"),
        ([*decode, "--option", "one_best.search_beam=3"], "--option one_best.search_beam=3"),
        ([*decode, "--option", "ctc_greedy.beam=3"], "unknown key 'beam'"),
        ([*decode, "--method", "one_best"], "one_best searches a graph"),
        ([*decode, "--lattices"], "lattices cannot be kept: ctc_greedy makes none"),
        ([*build, "--words", "one,three"], "word 'three' cannot be spelled"),
        ([*build, "--lexicon", str(tmp_path / "bad.txt")], "bad.txt:2: word 'one'"),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        main([*decode, "--method", "guess"])
    assert "invalid choice" in capsys.readouterr().err
