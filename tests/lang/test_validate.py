"""Validation: what passes, what bounds mean, what is skipped, how it is reported."""

import gzip
import json
import random
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_asr.config import to_dict
from moe_asr.errors import ConfigError, TextError
from moe_asr.files import write_yaml
from moe_asr.fsa.accept import spellings_of
from moe_asr.fsa.build import build_hlg, build_lg
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang import validate_graph, validate_sentences
from moe_asr.lang.directory import LangDir
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.lang.validate import ValidationOptions, validate
from moe_asr.lang.validate_g import LoadedG, mean_deficit
from moe_asr.lang.validate_report import CheckResult, Findings, Report, Runner, Skipped
from moe_asr.lang.validate_text import TextSentence
from moe_asr.model.config import preset
from moe_asr.text.tokenizer import BpeTokenizer
from tests.lang import damage as d
from tests.lang.validated import BUILDERS, Workplace

SCRIPT = Path(__file__).parents[2] / "lang" / "validate_lang.py"


@pytest.fixture
def place(built: dict[str, Workplace], tmp_path: Path) -> Workplace:
    """A copy of the workplace of byte pairs."""
    return built["bpe"].copy(tmp_path / "place")


def by_name(report: Report, name: str) -> list[CheckResult]:
    return [result for result in report.results if result.name == name]


@pytest.mark.parametrize("forged", [False, True], ids=["as-is", "forged"])
@pytest.mark.parametrize("base", BUILDERS)
def test_good_directories_pass(
    built: dict[str, Workplace], tmp_path: Path, base: str, forged: bool
) -> None:
    place = built[base].copy(tmp_path / "place")
    if forged:
        place.forge()
    report = place.validate("ngram", "grammar")
    assert report.ok, report.text()
    assert report.counts["skipped"] == 0 and report.counts["failed"] == 0
    names = [result.name for result in by_name(report, "sampled sentences")]
    assert len(names) == 2


@pytest.mark.parametrize("topology", ["standard", "modified"])
@pytest.mark.parametrize("builder", [pytest.param("k2", marks=pytest.mark.k2), "openfst"])
def test_graphs_of_every_builder_and_topology_pass(
    built: dict[str, Workplace], tmp_path: Path, builder: str, topology: str
) -> None:
    place = built["phone"].copy(tmp_path / "place")
    place.make_graph("ngram", builder=builder, topology=topology)
    report = place.validate("ngram", num_sentences=60)
    assert report.ok, report.text()
    assert report.counts["skipped"] == 0
    (rebuilt,) = by_name(report, "LG rebuilt")
    assert rebuilt.note == f"det(L_disambig o G) by {builder}"


def test_a_graph_built_by_what_is_not_installed_is_not_built_again(
    built: dict[str, Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate_graph, "_LIBRARIES", {"openfst": "no_such_library"})
    report = built["bpe"].validate("ngram", rebuild=True)
    (rebuilt,) = by_name(report, "LG rebuilt")
    assert report.ok and rebuilt.status == "skipped" and "not installed" in rebuilt.note


@pytest.mark.parametrize(
    ("wanted", "status"), [(None, "skipped"), (False, "skipped"), (True, "ok")]
)
def test_large_graphs_are_built_again_if_that_is_asked_for(
    built: dict[str, Workplace], monkeypatch: pytest.MonkeyPatch, wanted: bool | None, status: str
) -> None:
    monkeypatch.setattr(validate_graph, "REBUILD_ARCS", 10)
    (rebuilt,) = by_name(built["bpe"].validate("ngram", rebuild=wanted), "LG rebuilt")
    assert rebuilt.status == status
    monkeypatch.setattr(validate_graph, "REBUILD_ARCS", 1000)
    (rebuilt,) = by_name(built["bpe"].validate("ngram", rebuild=wanted), "LG rebuilt")
    assert rebuilt.status == ("skipped" if wanted is False else "ok")


def test_graphs_of_another_directory_are_refused(built: dict[str, Workplace]) -> None:
    place = built["bpe"]
    report = validate(place.lang, [place / "other"], ValidationOptions(num_sentences=5))
    errors = report.errors("provenance")
    assert any("step 'G' was done with another words.txt" in error for error in errors)
    assert any("step 'graph' was done with another L_disambig" in error for error in errors)
    report = validate(place.lang, [place / "ngram", place / "other"], ValidationOptions())
    failed = {result.directory for result in report.results if result.status == "failed"}
    assert failed == {str(place / "other")}


@pytest.mark.parametrize(("number", "ok"), [(35, False), (36, True), (37, False)])
def test_number_of_outputs(built: dict[str, Workplace], number: int, ok: bool) -> None:
    report = built["bpe"].validate("ngram", num_outputs=number, text=None)
    assert report.ok == ok
    if not ok:
        assert f"36 tokens, but the model has {number} outputs" in report.errors("outputs")[0]
        assert [result.status for result in by_name(report, "LG")] == ["skipped"]


def test_graph_tokens_stay_inside_the_outputs(built: dict[str, Workplace]) -> None:
    lang = LangDir.load(built["bpe"].lang)
    fst, metadata = Fst.load(built["bpe"] / "ngram/G.safetensors")
    found = Findings(100)
    words = np.isin(np.arange(len(lang.words)), fst.olabel[fst.olabel > 0])
    arguments = lang.tokens, lang.words, lang.L_disambig, LoadedG(fst, metadata), words
    validate_graph.check_graph(found, built["bpe"] / "ngram", "LG", *arguments, 30)
    graph = DecodingGraph.load(built["bpe"] / "ngram/LG.safetensors")
    assert found.num_errors == (graph.token >= 30).sum() > 0
    assert "the model has 30 outputs" in found.kept[0].message


def model_directory(place: Workplace, folder: Path, vocab_size: int) -> Path:
    """What validation reads of a model: its tokenizer and its configuration."""
    shutil.copytree(place / "units", folder)
    config = preset("small", vocab_size=vocab_size)
    write_yaml(folder / "config.yaml", {"model": to_dict(config), "features": {}})
    return folder


def test_model(built: dict[str, Workplace], tmp_path: Path) -> None:
    place = built["bpe"]
    model = model_directory(place, tmp_path / "model", 36)
    assert place.validate(model=model).ok
    assert place.validate(tokenizer=place / "units").ok
    larger = model_directory(place, tmp_path / "larger", 40)
    report = place.validate(model=larger)
    assert report.failed == ["outputs"] and "the model has 40 outputs" in report.errors()[0]
    (model / "config.yaml").write_text("features: {}\n")
    assert "no section 'model'" in place.validate(model=model).errors("outputs")[0]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("other symbols", ["turn on the lamp", "play the lamp"], "by "),
        ("other merges", None, "is not the same file as"),
        ("another kind", [], "a bpe tokenizer, expected char"),
    ],
)
def test_tokenizer_of_another_model(
    place: Workplace, tmp_path: Path, name: str, text: list[str] | None, says: str
) -> None:
    other = tmp_path / "other"
    if text is None:  # the same pieces, not the same model
        shutil.copytree(place / "units", other)
        from sentencepiece import sentencepiece_model_pb2

        model = sentencepiece_model_pb2.ModelProto.FromString((other / "bpe.model").read_bytes())
        model.pieces[5].score -= 1.0
        BpeTokenizer(model.SerializeToString()).save(other)
    else:
        (tmp_path / "text").write_text("".join(f"{line}\n" for line in text) or "turn\n")
        size = {} if not text else {"vocab_size": 36 - 8}
        make_tokenizer(other, "bpe" if text else "char", text=tmp_path / "text", **size)
    report = place.validate(tokenizer=other)
    assert report.failed == ["outputs"], report.text()
    assert says in report.errors()[0]


def test_oov_rate_and_coverage(place: Workplace) -> None:
    text = place / "new"
    text.write_text("play the polka polka\nplay jazz\nplay fado\nplay the news louder please\n")
    (result,) = by_name(place.validate(text=text, max_oov_rate=3 / 13), "OOV rate")
    assert result.status == "ok"
    assert result.note == (
        "OOV rate 23.08 % (3 of 13 words): polka (2), fado (1); 6 of the lexicon's 15 words occur"
    )
    report = place.validate(text=text, max_oov_rate=0.23)
    assert report.failed == ["OOV rate"]
    assert "at most 23 %; most frequent: polka (2), fado (1)" in report.errors()[0]


def test_text_may_be_gzipped_and_must_be_whole(place: Workplace) -> None:
    packed = place / "text.gz"
    packed.write_bytes(gzip.compress((place / "text").read_bytes()))
    assert place.validate("ngram", text=packed).ok
    packed.write_bytes(packed.read_bytes()[:-12])
    report = place.validate("ngram", text=packed)
    assert report.failed == ["text"] and "text.gz: cannot be read" in report.errors()[0]
    (result,) = by_name(report, "text sentences")
    assert result.status == "skipped"


def test_without_a_text_its_checks_are_skipped(built: dict[str, Workplace]) -> None:
    report = built["bpe"].validate("ngram", text=None)
    skipped = [result.name for result in report.results if result.status == "skipped"]
    assert report.ok and skipped == ["text"]
    assert not by_name(report, "text sentences")


@pytest.mark.parametrize("seed", [0, 1])
def test_text_is_sampled_evenly(built: dict[str, Workplace], seed: int) -> None:
    """Of a text that is longer than the sample all lines have a chance."""
    from moe_asr.lang.validate_text import read_text

    lang = LangDir.load(built["bpe"].lang)
    counts: dict[str, int] = {}
    rng = random.Random(seed)
    for _ in range(300):
        statistics = read_text(
            Findings(10), built["bpe"] / "text", lang.lexicon, lang.words, 3, rng
        )
        assert statistics is not None and len(statistics.sample) == 3
        for sentence in statistics.sample:
            counts[sentence.place] = counts.get(sentence.place, 0) + 1
    assert len(counts) == 10
    assert all(50 < count < 140 for count in counts.values())  # 90 expected, deviation 8


def test_a_lexicon_that_the_tokenizer_did_not_make_may_spell_otherwise(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.write("text", ["read a book", "a book"])
    place.make_units(kind="char", text=place / "text")
    (place / "lexicon").write_text("read r e d\na ▁ a\nbook ▁ b o o k\n", encoding="utf-8")
    place.make_lang(lexicon_probabilities=False)
    report = place.validate()
    (result,) = by_name(report, "spelling")
    assert report.ok and result.status == "warning" and result.num_warnings == 2
    assert "the tokenizer spells 'read a book' as r e a d" in result.findings[0].message


def test_bounds_of_probabilities(place: Workplace) -> None:
    """The words outside the lexicon have a share, which the bound must allow for."""
    note = by_name(place.validate("ngram"), "G probabilities")[0].note
    deficit = float(note.split()[-4]) / 100
    assert 0.005 < deficit < 0.03
    assert place.validate("ngram", max_deficit=deficit + 1e-4).ok
    report = place.validate("ngram", max_deficit=deficit - 1e-4)
    assert report.failed == ["G probabilities"]
    assert (
        "% of the probability is for words that are not in G, expected at most"
        in report.errors()[0]
    )
    d.fst(d.score(0, 0.001))(place / "ngram/G.safetensors")
    place.forge()
    assert "G probabilities" not in place.validate("ngram", max_excess=0.0).failed
    d.fst(d.score(0, 1.0))(place / "ngram/G.safetensors")
    place.forge()
    assert "G probabilities" in place.validate("ngram", max_excess=0.0).failed
    assert "G probabilities" not in place.validate("ngram", max_excess=1.0).failed


def test_mean_deficit() -> None:
    """Of a word every other of whose successors is missing, and a state that is seldom reached."""
    arcs = [(0, 1, 1, 1, np.log(0.9)), (0, 2, 2, 2, np.log(0.1)), (1, 0, 1, 1, np.log(0.25))]
    fst = Fst.from_list(arcs, {1: float(np.log(0.25)), 2: float(np.log(0.2))})
    total = np.array([1.0, 0.5, 0.2])
    # a turn is 0, then 1 (of which one in two goes back) or 2: 1 + r turns with r = 0.45 (1 + r)
    turns = 1 / (1 - 0.45)
    expected = turns * (0.9 * 0.5 + 0.1 * 0.8) / (turns * 2)
    assert mean_deficit(fst, total) == pytest.approx(expected, abs=1e-4)
    # a backoff is passed: the state that it leads to is not one that a word led to
    backing = Fst.from_list([(0, 1, 9, 0, 0.0), (1, 1, 1, 1, np.log(0.5))], {1: float(np.log(0.5))})
    assert mean_deficit(backing, np.array([0.8, 1.0])) == pytest.approx(0.2 / 2, abs=1e-4)


def test_words_that_a_model_has_and_the_lexicon_has_not(place: Workplace) -> None:
    d.substitute(r"\tdown\b", "\tdawn")(place / "lm.arpa")
    d.substitute(r" down\b", " dawn")(place / "lm.arpa")
    assert place.make_g("ngram") and place.make_graph("ngram")
    report = place.validate("ngram", max_deficit=0.5)
    assert "% of the probability" in place.validate("ngram", max_deficit=0.03).errors()[0]
    (source,) = by_name(report, "G source")
    assert source.status == "warning" and "not in the lexicon" in source.findings[0].message
    assert "out of G: dawn" in source.findings[0].message
    (words,) = by_name(report, "G words")
    assert "1 of the lexicon's words are not in it: down" in words.findings[0].message
    (text,) = by_name(report, "text sentences")
    assert text.status == "ok" and text.note.endswith("lacks words of 1")
    assert report.ok, report.text()


def test_sentences_outside_the_grammar_may_not_be_accepted(place: Workplace) -> None:
    """LG and HLG of the n-gram in the place of the grammar's: they accept too much."""
    for name in ("LG", "HLG"):
        path = place / f"grammar/{name}.safetensors"
        about = DecodingGraph.load(path).metadata
        wide = DecodingGraph.load(place / f"ngram/{name}.safetensors")
        replace(wide, metadata=about).save(path)
    place.forge()
    report = place.validate("grammar", rebuild=False)
    said = report.errors("text sentences")
    assert any("LG accepts" in error and "L and G do not" in error for error in said)
    assert any("HLG accepts" in error for error in said)


def test_a_model_must_accept_all_sentences_of_its_words(built: dict[str, Workplace]) -> None:
    lang = LangDir.load(built["bpe"].lang)
    fst, _ = Fst.load(built["bpe"] / "grammar/G.safetensors")
    lg = build_lg(lang.L_disambig, fst, lang.tokens, lang.words, "openfst")
    spellings = spellings_of(lang.lexicon, lang.tokens, lang.words)
    words = tuple(lang.words[word] for word in ("turn", "the", "light"))
    tokens = sum((spellings[word][0][0] for word in words), ())
    spelled = [(TextSentence("text:7", words, "turn the light"), tokens)]
    known = np.ones(len(lang.words), bool)
    for source, errors in (("grammar", 0), ("arpa", 1)):
        found = Findings(10)
        g = LoadedG(fst, {"source": source})
        graphs = validate_sentences.Graphs(
            spellings, g, lg, build_hlg(lg, builder="openfst"), "standard"
        )
        validate_sentences.check_text(found, graphs, spelled, known, 0)
        assert found.num_errors == errors and found.num_warnings == 1
    assert found.kept[0].message.startswith("text:7: G has all of its words, but does not accept")


def test_frames_are_read_as_ctc_reads_them() -> None:
    readings = validate_sentences._readings
    assert list(readings((0, 1, 1, 0, 2, 1), "standard")) == [(1, 2, 1)]
    assert list(readings((1, 0, 1), "standard")) == [(1, 1)]
    assert sorted(readings((1, 1, 0, 1), "modified")) == [(1, 1), (1, 1, 1)]
    assert list(readings((), "standard")) == [()] == list(readings((0,), "modified"))


def test_a_topology_that_is_said_to_be_another_is_found_by_frames(place: Workplace) -> None:
    """Both graphs fit one another and the record: only frames show that equal tokens need a blank."""
    about = DecodingGraph.load(place / "ngram/HLG.safetensors")
    graph = DecodingGraph.load(place / "modified/HLG.safetensors")
    said = replace(graph, metadata={**graph.metadata, "topology": "standard"})
    lg = DecodingGraph.load(place / "ngram/LG.safetensors")
    lang = LangDir.load(place.lang)
    g = LoadedG(*Fst.load(place / "ngram/G.safetensors"))
    spellings = spellings_of(lang.lexicon, lang.tokens, lang.words)
    for hlg, good in ((about, True), (said, False)):
        found = Findings(1000)
        graphs = validate_sentences.Graphs(spellings, g, lg, hlg, "standard")
        validate_sentences.check_sampled(found, graphs, 100, 0)
        assert (found.num_errors == 0) == good
        # "off" has two f in a row, other words meet with the same token
        wrong = [finding.message for finding in found.kept]
        assert all(" frames: " in message for message in wrong)
        assert good or any("off" in message for message in wrong)


def test_rare_pronunciations_are_tried(built: dict[str, Workplace], tmp_path: Path) -> None:
    """A pronunciation of "a" has a wrong score in LG and HLG: a better one hides it unless it is tried."""
    place = built["phone"].copy(tmp_path / "place")
    lang = LangDir.load(place.lang)
    other = replace(lang.L_disambig, score=lang.L_disambig.score.copy())
    (arc,) = np.flatnonzero(lang.L_disambig.ilabel == lang.tokens["ey"])
    other.score[arc] -= 0.5
    fst, _ = Fst.load(place / "ngram/G.safetensors")
    for name in ("LG", "HLG"):
        path = place / f"ngram/{name}.safetensors"
        graph = build_lg(other, fst, lang.tokens, lang.words, "openfst")
        graph = graph if name == "LG" else build_hlg(graph, builder="openfst")
        replace(graph, metadata=DecodingGraph.load(path).metadata).save(path)
    place.forge()
    report = place.validate("ngram", rebuild=False, text=None)
    assert report.failed == ["sampled sentences"]
    assert all(re.search(r"\bey\b", error) for error in report.errors())


def test_samples_depend_on_the_seed_only(built: dict[str, Workplace]) -> None:
    place = built["bpe"]
    notes = [
        by_name(place.validate("ngram", seed=seed), "sampled sentences")[0].note
        for seed in (0, 0, 1, 2, 3)
    ]
    assert notes[0] == notes[1] and len(set(notes)) > 1


def test_stale_inputs_of_inputs_are_found(place: Workplace) -> None:
    """The text changed after the word list was made of it, which the language directory was made of."""
    (place / "text").write_text((place / "text").read_text() + "play a waltz\n")
    errors = place.validate(max_oov_rate=1.0).errors("provenance")
    assert any("an input is stale itself" in error and "text" in error for error in errors)


def test_inputs_that_are_gone(place: Workplace) -> None:
    assert place.validate("ngram").ok
    (place / "words").unlink()
    (place / "lm.arpa").unlink()
    shutil.rmtree(place / "units")
    report = place.validate("ngram")
    assert report.failed == ["provenance", "provenance"]
    report = place.validate("ngram", allow_missing_inputs=True)
    assert report.ok
    for name, count in (("lexicon source", 1), ("G source", 1)):
        results = by_name(report, name)
        assert [result.status for result in results] == ["skipped"] * count
    warnings = [result.num_warnings for result in by_name(report, "provenance")]
    assert warnings == [4, 1]
    (place / "lang/words.txt").write_text("<eps> 0\n")  # this is no input of the directory
    assert not place.validate("ngram", allow_missing_inputs=True).ok


def test_what_needs_a_failed_check_is_skipped(place: Workplace) -> None:
    d.delete_line(6)(place / "lang/tokens.txt")
    report = place.validate("ngram")
    status = {result.name: result.status for result in report.results}
    assert status["tokens"] == "failed"
    for name in ("lexicon", "words", "L", "L_disambig", "determinizable", "text", "G", "LG"):
        assert status[name] == "skipped", name
    for name in ("HLG", "topology", "sampled sentences", "text sentences", "G source"):
        assert status[name] == "skipped", name
    (result,) = by_name(report, "sampled sentences")
    assert result.note.startswith("needs '") and result.note.endswith("could not be used")
    passed = {name for name, one in status.items() if one == "ok"}
    assert passed == {"files", "tokenizer", "outputs"}


def test_all_errors_count_and_the_first_are_shown(place: Workplace) -> None:
    path = place / "lang/words.txt"
    path.write_text("".join(f"{line} x\n" for line in path.read_text().splitlines()))
    (result,) = by_name(place.validate(max_findings=3), "words")
    assert result.num_errors == 17 and len(result.findings) == 3
    lines = result.lines()
    assert len(lines) == 4 and lines[0].startswith(f"FAIL  words: {path}:1: expected 'symbol id'")
    assert lines[3] == "FAIL  words: ... and 14 more"


def test_findings() -> None:
    found = Findings(2)
    found.errors(np.array([4, 7, 9]), lambda place: f"arc {place}")
    found.warn("a")
    assert found.num_errors == 3 and found.num_warnings == 1
    assert [finding.message for finding in found.kept] == ["arc 4", "arc 7", "a"]
    found.errors(np.array([1]), lambda place: "never shown")
    assert found.num_errors == 4


def test_runner() -> None:
    report, told = Report(), []
    run = Runner(report, on_result=told.append)
    run.directory = "x"

    def refuse(found: Findings) -> int:
        raise TextError("x:1: no")

    def usable(found: Findings, number: int) -> int:
        found.error("x:2: odd")
        return number + 1

    def leave(found: Findings) -> int:
        raise Skipped("because")

    assert run("refused", refuse).value is None
    assert run("usable", usable, run("also", usable, 1)).value == 3
    assert run("skipped", usable, run("left", leave)).value is None
    assert run.derive(usable, Findings(1), run("none", lambda found: None)).value is None
    assert [(result.name, result.status) for result in report.results] == [
        ("refused", "failed"), ("also", "failed"), ("usable", "failed"), ("left", "skipped"),
        ("skipped", "skipped"), ("none", "ok"),
    ]  # fmt: skip
    assert told == report.results
    assert report.errors("refused") == ["x:1: no"]
    assert report.results[4].note == "needs 'left', which could not be used"
    with pytest.raises(ZeroDivisionError):  # a defect of a check is no finding
        run("defect", lambda found: 1 // 0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_oov_rate": 1.5},
        {"max_oov_rate": float("nan")},
        {"max_deficit": -0.1},
        {"max_excess": -1.0},
        {"num_sentences": 0},
        {"max_findings": 0},
        {"model": "a", "tokenizer": "b"},
        {"model": "a", "num_outputs": 5},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ValidationOptions(**options)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, place: Workplace):
    """Runs the script in the folder of the workplace; returns its exit status."""
    monkeypatch.chdir(place.folder)

    def call(arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments.split()])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return call


def test_script(run, place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--lang lang --graph ngram grammar --text text --num-sentences 20 --json report.json"
    )
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lang" and lines[1].startswith("  ok    files: ")
    assert [line for line in lines if line in ("lang", "text", "ngram", "grammar")] == [
        "lang", "text", "ngram", "grammar",
    ]  # fmt: skip
    assert sum(line.startswith("  ok ") for line in lines) == 38
    assert lines[-1].startswith("39 checks: 38 ok, 1 with warnings, 0 failed, 0 skipped; ")
    content = json.loads((place / "report.json").read_text())
    assert content["ok"] and content["counts"]["ok"] == 38 and len(content["checks"]) == 39
    d.edit("radio", "ratio")(place / "lang/words.txt")
    assert run(arguments) == 1
    out = capsys.readouterr().out
    assert "FAIL  words: lang/words.txt:13: word 'ratio' has no pronunciation" in out
    assert "skip  G: needs 'words', which could not be used" in out
    content = json.loads((place / "report.json").read_text())
    assert not content["ok"] and content["counts"]["failed"] > 1
    (words,) = (check for check in content["checks"] if check["name"] == "words")
    assert words["status"] == "failed" and words["directory"] == "lang" and words["errors"] == 2
    assert words["findings"][0]["message"].startswith("lang/words.txt:13: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--lang nowhere", "nowhere: no such directory"),
        ("--lang lang --graph nowhere", "nowhere: no such directory"),
        ("--lang lang --text nowhere", "nowhere: no such file"),
        ("--lang lang --model nowhere", "nowhere: no such directory"),
        ("--lang lang --max-oov-rate 2", "max_oov_rate must be 0 to 1"),
        ("--lang lang --num-outputs 3 --model lang", "not allowed with"),
        ("", "--lang"),
    ],
)
def test_unusable_arguments(
    run, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err
