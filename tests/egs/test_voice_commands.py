"""The voice commands recipe, every stage of it, at a tiny size."""

from pathlib import Path

import pytest

from moe_asr.data.manifests import read_cuts
from moe_asr.files import read_json
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.recognizer.release import read_release, read_release_info
from tests.egs.recipe_runs import contents, distance, read_texts, run_recipe, steps_made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The recipe's folder, and what it printed."""
    exp = tmp_path_factory.mktemp("voice_commands")
    output = run_recipe("voice_commands", exp)
    return exp / "tiny", output


def test_the_table_is_that_of_the_files(run: tuple[Path, str]) -> None:
    """Every rate is computed again here by plain dynamic programming from the files beside it."""
    exp, output = run
    systems = read_json(exp / "summary.json")["systems"]
    assert list(systems) == ["bpe", "phone"]
    accents = {
        cut.id: cut.custom["unseen_accent"] for cut in read_cuts(exp / "data/cuts_test.jsonl.gz")
    }
    for unit, system in systems.items():
        assert list(system["decoding"]) == ["greedy", "3gram", "grammar"]
        for name, modes in system["decoding"].items():
            assert list(modes) == ["full", "chunk16"]
            for mode, row in modes.items():
                folder = exp / f"moe_{unit}" / f"decode_{name}" / mode
                phones = unit == "phone" and name == "greedy"
                assert row["unit"] == ("phone" if phones else "word")
                references = read_texts(folder / ("ref_phone.txt" if phones else "ref.txt"))
                first = "ctc_greedy" if name == "greedy" else "one_best"
                hypotheses = read_texts(folder / f"hyp_{first}.txt")
                assert set(hypotheses) == set(references) == set(accents)
                for column, kept in (
                    ("wer", set(accents)),
                    ("wer_known_accents", {key for key, unseen in accents.items() if not unseen}),
                    ("wer_unseen_accents", {key for key, unseen in accents.items() if unseen}),
                ):
                    if not kept:
                        assert column not in row
                        continue
                    words = {key: references[key].split() for key in kept}
                    errors = sum(distance(words[key], hypotheses[key].split()) for key in kept)
                    rate = 100.0 * errors / sum(map(len, words.values()))
                    assert row[column] == pytest.approx(rate, abs=1e-3)
                star = "*" if phones else ""
                assert any(
                    line.split()[:4] == [unit, name, mode, f"{star}{row['wer']:.2f}"]
                    for line in output.splitlines()
                )


def test_sentences_and_voices_of_the_test_set_are_unseen(run: tuple[Path, str]) -> None:
    cuts = {
        split: list(read_cuts(run[0] / f"data/cuts_{split}.jsonl.gz"))
        for split in ("train", "dev", "test")
    }
    for get in (lambda cut: cut.supervisions[0].text, lambda cut: cut.supervisions[0].speaker):
        seen = {split: {get(cut) for cut in part} for split, part in cuts.items()}
        assert all(seen.values())
        assert not seen["test"] & (seen["train"] | seen["dev"])
        assert not seen["dev"] & seen["train"]
    lines = (run[0] / "text" / "lm.txt").read_text().splitlines()
    assert len(lines) > 1000
    assert not set(lines) & {cut.supervisions[0].text for cut in cuts["dev"] + cuts["test"]}


def test_the_release_is_what_was_tuned_and_measured(run: tuple[Path, str]) -> None:
    exp, _ = run
    loaded, graph, options = read_release(exp / "release")
    assert loaded.storage == "int8" and graph.kind == "LG"
    record = read_json(exp / "moe_bpe/scales_release/lattice_attention_rescoring.json")
    tuned = record["modes"]["chunk16-left8"]["scales"]
    assert options.method_options == {"n": 5, "output_beam": 2, "max_active": 100, **tuned}
    assert options.correction == TimeCorrection.load(exp / "moe_bpe/times.json")
    info = read_release_info(exp / "release")
    assert info.chunk_sizes == (16, 8, 4)
    modes = ["full", "chunk16-left8", "chunk8-left16", "chunk4-left32"]
    assert [row.mode for row in info.measured] == [mode for mode in modes for _ in range(2)]
    for row in info.measured:
        folder = exp / "moe_bpe/decode_release" / row.mode
        references = read_texts(folder / "ref.txt")
        hypotheses = read_texts(folder / f"hyp_{row.method}.txt")
        words = {key: text.split() for key, text in references.items()}
        assert row.errors == sum(distance(words[key], hypotheses[key].split()) for key in words)
        assert row.units == sum(map(len, words.values()))
        if row.method == options.method:
            assert row.options == options.method_options


def test_a_second_run_makes_nothing_again(run: tuple[Path, str]) -> None:
    exp, output = run
    assert {"graph_bpe_3gram/G", "graph_phone_grammar/graph"} <= set(steps_made(output))
    before = contents(exp)
    assert steps_made(run_recipe("voice_commands", exp.parent, "--stop-stage", "5")) == []
    assert contents(exp) == before
