"""Quality of lattices against the enumeration of paths, and ``moe-asr score-lattices``."""

import json
import random
import re
from pathlib import Path

import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.cli.main import main
from moe_asr.errors import ConfigError, DataError, GraphError
from moe_asr.evaluate import lattice_quality
from moe_asr.evaluate.lattice_quality import (
    QualityOptions,
    WordIds,
    counts_to,
    measure_lattice,
)
from moe_asr.evaluate.lattice_report import (
    fit_confidence_scale,
    format_summary,
    score_archive,
    write_report,
)
from moe_asr.evaluate.wer import score, write_transcripts
from moe_asr.fsa.confidence import word_confidences
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_file import LatticeArchive, write_lattices
from moe_asr.fsa.nbest import nbest
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import paths_of, random_lattice

SEEDS = st.integers(0, 2**32)
WORDS = SymbolTable(["<eps>", "one", "two", "three"])
TOKENS = SymbolTable(["<blk>", "a", "b", "c"])
Words = tuple[int, ...]


def distance(reference: Words, words: Words) -> int:
    return kaldialign.edit_distance(list(reference), list(words))["total"]


@settings(max_examples=100)
@given(SEEDS, st.sampled_from(["word", "token"]))
def test_one_lattice_against_all_paths(seed: int, unit: str) -> None:
    """With the order that must hold: oracle, n-best oracles falling with n, one best."""
    rng = random.Random(seed)
    lattice = random_lattice(rng, num_frames=5, wordless=rng.choice([0.2, 0.6]))
    paths = {path.words if unit == "word" else path.tokens for path in paths_of(lattice)}
    reference = rng.choice([rng.choice(sorted(paths)), (1, 7, 2, 2), ()])
    options = QualityOptions(unit, (1, 2, 5, 1000), 0.5, 1.0, 0.7)
    found = measure_lattice(lattice, reference, options)
    ranked = [
        path.words if unit == "word" else path.tokens for path in nbest(lattice, 1000, unit, 0.5)
    ]
    distances = [distance(reference, words) for words in ranked]
    assert found.nbest_errors == tuple(min(distances[:n]) for n in (1, 2, 5, 1000))
    assert sum(found.oracle) == min(distances)
    assert sum(found.best) == distances[0] and found.words == ranked[0]
    in_order = [sum(found.best), *found.nbest_errors, sum(found.oracle)]
    assert in_order == sorted(in_order, reverse=True)
    assert found.is_in_lattice == (reference in paths)
    assert found.rank == (ranked.index(reference) + 1 if reference in paths else None)
    assert found.sequences == len(paths)
    substitutions, deletions, _ = found.best
    assert found.correct.sum() == len(reference) - substitutions - deletions
    np.testing.assert_array_equal(
        found.confidences, word_confidences(lattice, ranked[0], unit, 0.35, 0.7)
    )


def test_another_hypothesis_and_a_lattice_without_a_path() -> None:
    found = measure_lattice(Lattice.empty(7), (1, 2), hypothesis=(1, 9))
    assert (found.best, found.oracle, found.nbest_errors) == ((0, 2, 0), (0, 2, 0), (2,) * 7)
    assert found.correct.tolist() == [True, False] and found.confidences.tolist() == [0.0, 0.0]
    assert (found.rank, found.is_in_lattice, found.sequences) == (None, False, 0)
    assert not measure_lattice(Lattice.empty(7), ()).is_in_lattice


def test_words_that_the_table_lacks_keep_their_names() -> None:
    ids = WordIds(WORDS)
    numbers = ids("one four <eps> two four five")
    assert numbers == (1, 4, 5, 2, 4, 6)
    names = [ids.symbol(number) for number in numbers]
    assert names == "one four <eps> two four five".split()
    # in whatever normal form, of the table or of the text
    accents = WordIds(SymbolTable(["<eps>", "\u00e9", "e\u0301a"]))
    assert accents("\u00e9 e\u0301 e\u0301a") == (1, 1, 2)
    assert accents("\u00e9b") == accents("e\u0301b") == (3,)
    assert [ids.is_known(number) for number in (0, 1, 3, 4)] == [False, True, True, False]


def test_oracles_out_of_order_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = random_lattice(random.Random(3), num_frames=5, wordless=0.2)
    reference = nbest(lattice, 1)[0].words
    wrong = lattice_quality.lattice_oracle(lattice, (*reference, 8, 8))
    monkeypatch.setattr(lattice_quality, "lattice_oracle", lambda *_: wrong)
    with pytest.raises(AssertionError):
        measure_lattice(lattice, reference)


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (7, (1, 2, 5, 7)),
                                                (100, (1, 2, 5, 10, 20, 50, 100))])  # fmt: skip
def test_counts(most: int, expected: tuple[int, ...]) -> None:
    assert counts_to(most) == QualityOptions(counts=expected).counts == expected


@pytest.mark.parametrize("options", [{"unit": "char"}, {"counts": ()}, {"counts": (2, 3)},
                                     {"counts": (1, 1)}, {"confidence_scale": -1.0},
                                     {"graph_scale": float("nan")}])  # fmt: skip
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        QualityOptions(**options)
    with pytest.raises(ConfigError, match="n must be at least 1"):
        counts_to(0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Lattices, one without a path, and references: one path of each with an error or two, one empty."""
    rng = random.Random(11)
    lattices: dict[str, Lattice] = {
        f"utt{i}": random_lattice(rng, num_frames=6, exact=False, wordless=0.4) for i in range(12)
    }
    texts = {}
    for name, lattice in lattices.items():
        words = [WORDS.symbol(word) for word in rng.choice(nbest(lattice, 8)).words]
        texts[name] = " ".join(words + rng.choice([[], [], ["four"], ["<eps>"]]))
    lattices["none"], texts["none"] = Lattice.empty(4), "one two"
    texts["utt3"] = ""
    path = tmp_path_factory.mktemp("quality") / "lattices.safetensors"
    write_lattices(path, lattices, TOKENS, WORDS)
    return path, texts


def test_totals_are_those_of_texts(archive: tuple[Path, dict[str, str]]) -> None:
    """Scored as words, not as ids; words that the table lacks are errors."""
    path, texts = archive
    with LatticeArchive(path) as lattices:
        summary = score_archive(lattices, texts, QualityOptions(counts=(1, 3, 50)))
        figures = summary.figures()
        best = {name: nbest(lattice, 1) for name, lattice in lattices}
        sizes = [lattice.num_arcs for _, lattice in lattices]
    hypotheses = {
        name: " ".join(WORDS.symbol(word) for path in paths for word in path.words)
        for name, paths in best.items()
    }
    total = score(texts, hypotheses).total
    assert figures["one_best"]["errors"] == total.errors
    assert figures["one_best"]["wer"] == pytest.approx(total.wer)
    assert figures["reference_length"] == total.reference_length
    assert figures["unknown_words"] == " ".join(texts.values()).count("four") + " ".join(
        texts.values()
    ).count("<eps>")
    assert figures["unknown_words"] > 0
    in_order = [figures["nbest_oracle"][n]["errors"] for n in ("1", "3", "50")]
    in_order = [total.errors, *in_order, figures["lattice_oracle"]["errors"]]
    assert in_order == sorted(in_order, reverse=True) and in_order[-1] < in_order[0]
    assert figures["size"]["arcs"] == sum(sizes) and figures["size"]["empty"] == 1
    assert summary.calibration().words == sum(len(text.split()) for text in hypotheses.values())


def test_the_fitted_scale_is_the_best(archive: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, texts = archive
    with LatticeArchive(path) as lattices:
        summary = score_archive(lattices, texts)
        scale, fitted = fit_confidence_scale(lattices, summary)
        others = [
            score_archive(lattices, texts, QualityOptions(confidence_scale=x)).calibration()
            for x in (scale, 0.5 * scale, 2.0 * scale, 1.0)
        ]
    assert fitted == others[0]
    assert all(fitted.cross_entropy <= other.cross_entropy + 1e-9 for other in others)
    report = write_report(tmp_path, summary, (scale, fitted))
    assert report["confidence_fitted_on_this_set"]["scale"] == scale
    assert report["confidence"]["words"] == fitted.words
    ends = ((0.001, True), (0.0011, False), (0.4, False), (1.9, False), (2.0, True))
    for other, is_end in ends:
        report["confidence_fitted_on_this_set"]["scale"] = other
        (row,) = (line for line in format_summary(report).splitlines() if "optimistic" in line)
        assert ("an end of the range that was searched" in row) == is_end


@pytest.mark.parametrize(("is_right", "end"), [(True, 2.0), (False, 0.001)])
def test_a_fit_that_ends_at_an_end_of_the_range_says_so(
    is_right: bool,
    end: float,
    archive: tuple[Path, dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the best paths are all right, no scale is too large; where all are wrong, none too small."""
    path, texts = archive
    with LatticeArchive(path) as lattices:
        words = {
            name: [word for p in nbest(lattice, 1) for word in p.words]
            for name, lattice in lattices
        }
    right = {name: " ".join(map(WORDS.symbol, found)) for name, found in words.items()}
    wrong = {name: " ".join("four" for _ in found) for name, found in words.items()}
    write_transcripts(tmp_path / "ref.txt", right if is_right else wrong)
    command = ["score-lattices", "--lattices", str(path), "--ref", str(tmp_path / "ref.txt")]
    assert main([*command, "--output", str(tmp_path / "out"), "--fit-confidence-scale"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "optimistic" in line)
    assert float(row.split()[0]) == end
    assert row.endswith("(fitted on this set: optimistic); an end of the range that was searched")


def test_the_command(
    archive: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, texts = archive
    write_transcripts(tmp_path / "ref.txt", texts)
    write_transcripts(tmp_path / "hyp.txt", texts)
    command = ["score-lattices", "--lattices", str(path), "--ref", str(tmp_path / "ref.txt")]
    assert main([*command, "--output", str(tmp_path / "out"), "--n", "20"]) == 0
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "lattices.json").read_text())
    for line, errors in (("one best", report["one_best"]["errors"]),
                         ("best of 20", report["nbest_oracle"]["20"]["errors"]),
                         ("lattice oracle", report["lattice_oracle"]["errors"])):  # fmt: skip
        row = next(row for row in out.splitlines() if row.startswith(line))
        assert int(row[len(line) :].split()[1]) == errors
    assert set(report["by_utterance"]) == set(texts)
    assert report["empty_references"] == list(texts.values()).count("") == 1
    assert "\nempty references: 1; the rates count what is inserted there\n" in out
    ranks = sorted(u["rank"] for u in report["by_utterance"].values() if u["rank"] is not None)
    assert report["reference"]["ranks"] == ranks and 1 < len(ranks) < len(texts)
    share = f"in the 20 best {100 * len(ranks) / len(texts):.1f} %"
    assert f"{share} (median rank {ranks[(len(ranks) - 1) // 2]})" in out
    for name in ("nbest_oracle.png", "calibration.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "out" / "confidences.txt").read_text().splitlines()
    assert len(rows) == report["confidence"]["words"]
    assert sum(int(row.split()[3]) for row in rows) == report["confidence"]["correct"]

    # of the references themselves every word is correct, and there is no cross entropy to normalise
    hyp = ["--hyp", str(tmp_path / "hyp.txt"), "--fit-confidence-scale"]
    assert main([*command, "--output", str(tmp_path / "out"), *hyp]) == 0
    report = json.loads((tmp_path / "out" / "lattices.json").read_text())
    assert report["confidence"]["words"] == report["confidence"]["correct"] > 0
    assert report["confidence"]["normalised_cross_entropy"] is None
    assert "fitted on this set" in capsys.readouterr().out

    assert main([*command, "--output", str(tmp_path / "out"), "--unit", "token"]) == 0
    report = json.loads((tmp_path / "out" / "lattices.json").read_text())
    assert report["unknown_words"] == report["reference_length"] > 0  # words are no tokens


def test_what_does_not_fit_together(
    archive: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, texts = archive
    fewer = {name: text for name, text in texts.items() if name not in ("utt3", "none")}
    with LatticeArchive(path) as lattices:
        with pytest.raises(DataError, match=r"2 utterance\(s\) have no text: utt3, none"):
            score_archive(lattices, fewer)
        with pytest.raises(DataError, match=r"references: 1 utterance\(s\) have no lattice: other"):
            score_archive(lattices, {**texts, "other": "one"})
        with pytest.raises(DataError, match=r"hypotheses: 2 utterance\(s\) have no text"):
            score_archive(lattices, texts, hypotheses=fewer)
    bare = tmp_path / "bare.safetensors"
    write_lattices(bare, {})
    with LatticeArchive(bare) as lattices:
        with pytest.raises(GraphError, match="has no table of words"):
            score_archive(lattices, {})
        with pytest.raises(DataError, match="no utterances to score"):
            score_archive(lattices, {}, table=WORDS)
    reference = tmp_path / "ref.txt"
    reference.write_text("utt0 one\nutt0 two\n")
    command = ["score-lattices", "--lattices", str(path), "--output", str(tmp_path / "out")]
    assert main([*command, "--ref", str(reference)]) == 2
    assert "ref.txt:2: utterance 'utt0' comes twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    write_transcripts(reference, texts)
    command[-1] = str(reference)  # a file where the directory should be, found before the work
    assert main([*command, "--ref", str(reference)]) == 2
    assert "ref.txt: cannot be written to: File exists" in capsys.readouterr().err.splitlines()[-1]


def test_the_document_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option and file that it has is one of the command's, and no option is left out."""
    text = (Path(__file__).parents[2] / "docs" / "lattice_evaluation.md").read_text()
    with pytest.raises(SystemExit):
        main(["score-lattices", "--help"])
    help_text = capsys.readouterr().out
    named, there = (set(re.findall(r"--[a-z][a-z-]+", t)) for t in (text, help_text))
    assert named | {"--help"} == there
    written = {"lattices.json", "confidences.txt", "nbest_oracle.png", "calibration.png"}
    assert written <= set(re.findall(r"`([a-z_]+\.(?:json|txt|png))`", text))
