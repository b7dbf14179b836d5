"""Time errors of words against closed forms, and corrections fitted to known ones."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem

from moe_asr.data.manifests import write_cuts
from moe_asr.errors import DataError, TextError
from moe_asr.evaluate.ctm import CtmWord, write_ctm
from moe_asr.evaluate.draw_timing import timing_figure
from moe_asr.evaluate.timing import (
    error_figures,
    format_timing,
    read_word_times,
    score_times,
    words_of_cuts,
)
from moe_asr.evaluate.timing_fit import TimedTokens, fit_correction, fitted_figures
from moe_asr.evaluate.word_ctm import hypothesis_ctm, path_ctm, timed_words_ctm
from moe_asr.fsa.lattice_canvas import write_figure
from moe_asr.fsa.nbest import NBestPath
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord
from moe_asr.fsa.word_times import SpellingCutter, WordTime
from moe_asr.text.symbol_table import SymbolTable


def words_of(name: str, *words: tuple[str, float, float]) -> list[CtmWord]:
    return [CtmWord(name, "1", start, end - start, word) for word, start, end in words]


def test_only_right_words_are_compared() -> None:
    references = {
        "u": words_of("u", ("a", 0.0, 0.5), ("b", 0.5, 1.0), ("a", 1.0, 1.5), ("c", 2.0, 2.5)),
        "v": words_of("v", ("b", 0.1, 0.2)),
        "w": words_of("w", ("b", 0.1, 0.2)),
    }
    hypotheses = {
        # b is wrong, d too much; the second a and c are right
        "u": words_of(
            "u", ("a", 0.02, 0.5), ("x", 0.5, 0.9), ("d", 0.9, 1), ("a", 1.3, 1.4), ("c", 1.9, 2.6)
        ),
        "v": words_of("v", ("b", 0.1, 0.3)),
    }  # fmt: skip
    report = score_times(references, hypotheses)
    assert report.start_errors.tolist() == pytest.approx([0.02, 0.3, -0.1, 0.0])
    assert report.end_errors.tolist() == pytest.approx([0.0, -0.1, 0.1, 0.1])
    figures = report.figures()
    assert {name: value for name, value in figures.items() if name.startswith("num_")} == {
        "num_utterances": 3,
        "num_silent_utterances": 1,
        "num_reference_words": 6,
        "num_hypothesis_words": 6,
        "num_matched_words": 4,
    }
    start = figures["start"]
    assert start["bias_ms"] == pytest.approx(55.0) and start["mean_ms"] == pytest.approx(105.0)
    assert start["p50_ms"] == pytest.approx(60.0) and start["max_ms"] == pytest.approx(300.0)
    shares = [start[f"within_{limit}_ms"] for limit in (20, 50, 100, 200)]
    assert shares == [0.5, 0.5, 0.75, 0.75]  # what is just at the limit counts
    assert figures["both"]["mean_ms"] == pytest.approx((420 + 300) / 8)
    table = format_timing(figures).split("\n")
    assert table[0].startswith("4 of 6 words compared") and len(table) == 5
    assert table[2].split()[:6] == ["start", "105.0", "60.0", "240.0", "270.0", "+55.0"]


def test_figures_of_known_distributions() -> None:
    """Uniform from -200 to 200 ms."""
    errors = np.linspace(-0.2, 0.2, 40_001)
    figures = error_figures(errors)
    for name, expected in (
        ("bias_ms", 0), ("mean_ms", 100), ("p50_ms", 100), ("p90_ms", 180), ("p95_ms", 190),
        ("within_20_ms", 0.1), ("within_50_ms", 0.25), ("within_100_ms", 0.5), ("within_200_ms", 1),
    ):  # fmt: skip
        assert figures[name] == pytest.approx(expected, rel=1e-3, abs=1e-3), name


def test_what_cannot_be_compared() -> None:
    one = {"u": words_of("u", ("a", 0.0, 0.5))}
    with pytest.raises(DataError, match=r"1 utterance\(s\) have no reference: v"):
        score_times(one, {"v": words_of("v", ("a", 0.0, 0.5))})
    with pytest.raises(DataError, match="no word of the hypotheses is right"):
        score_times(one, {"u": words_of("u", ("b", 0.0, 0.5))})
    with pytest.raises(DataError, match="no word of the hypotheses is right"):
        score_times(one, {})
    two = {"u": [*one["u"], CtmWord("u", "2", 0.0, 0.5, "b")]}
    with pytest.raises(DataError, match="utterance u has words in several channels"):
        score_times(two, one)
    back = {"u": words_of("u", ("a", 0.5, 0.6), ("a", 0.4, 0.5))}
    for sides in ((back, one), (one, back)):
        with pytest.raises(DataError, match="the words of utterance u go back in time"):
            score_times(*sides)


def cut_with(name: str, alignment: dict[str, list[AlignmentItem]] | None) -> MonoCut:
    supervision = SupervisionSegment(name, name, 0.0, 2.0, text="a b", alignment=alignment)
    return MonoCut(name, 0.0, 2.0, 0, supervisions=[supervision])


def test_word_times_of_files(tmp_path: Path) -> None:
    items = [AlignmentItem("a", 0.25, 0.5), AlignmentItem("b", 0.75, 1.0)]
    cuts = [cut_with("u", {"word": items})]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    expected = {"u": words_of("u", ("a", 0.25, 0.75), ("b", 0.75, 1.75))}
    assert read_word_times(tmp_path / "cuts.jsonl.gz") == expected
    write_ctm(tmp_path / "u.ctm", expected["u"])
    assert read_word_times(tmp_path / "u.ctm") == expected
    for alignment in (None, {"phone": items}, {"word": []}):
        with pytest.raises(DataError, match=r"manifest: cut 'v' has no word times"):
            words_of_cuts([*cuts, cut_with("v", alignment)])
    with pytest.raises(DataError, match="two cuts have the id 'u'"):
        words_of_cuts([*cuts, *cuts])
    with pytest.raises(DataError, match="cut 'v': duration_seconds must not be negative"):
        words_of_cuts([cut_with("v", {"word": [AlignmentItem("a", 0.5, -0.1)]})])


def test_words_of_lattices_as_ctm() -> None:
    table = SymbolTable(["<eps>", "a", "b"])
    times = [WordTime(2, 3, 4), WordTime(1, 10, 10)]
    found = hypothesis_ctm("u", times, table, 0.04, [0.5, 1.0 + 1e-12])
    assert [(w.word, w.start_seconds, w.end_seconds, w.confidence) for w in found] == [
        ("b", pytest.approx(0.12), pytest.approx(0.2), 0.5),
        ("a", pytest.approx(0.4), pytest.approx(0.44), 1.0),
    ]
    assert [w.confidence for w in hypothesis_ctm("u", times, table, 0.04, channel="A")] == [
        None
    ] * 2
    with pytest.raises(DataError, match="utterance u: 1 confidences of 2 words"):
        hypothesis_ctm("u", times, table, 0.04, [0.5])
    with pytest.raises(DataError, match="utterance u: 'b' starts at .* before 'a'"):
        hypothesis_ctm("u", times[::-1], table, 0.04)
    with pytest.raises(TextError):
        hypothesis_ctm("u", [WordTime(7, 3, 4)], table, 0.04)
    assert timed_words_ctm("u", [TimedWord("a", 0.5, 0.75)])[0].duration_seconds == 0.25


def test_words_of_a_path_are_corrected() -> None:
    """▁ at frame 0, ab at 5 to 6, c at 8; ▁ab at 10, c at 12 to 13."""
    tokens = SymbolTable(["<blk>", "<sos/eos>", "<unk>", "▁", "▁ab", "ab", "c"])
    words = SymbolTable(["<eps>", "abc", "#0"])
    none = np.zeros(0, np.int32)
    path = NBestPath(
        (1, 1), (0, 9), (3, 5, 6, 4, 6), (0, 5, 8, 10, 12), (0, 6, 8, 10, 13), none, none, none,
        0.0, 0.0, 0.0,
    )  # fmt: skip
    cutter = SpellingCutter(tokens, words)

    def times(**arguments: Any) -> list[tuple[float, float, float | None]]:
        found = path_ctm("u", path, cutter, words, 0.1, **arguments)
        assert {word.word for word in found} == {"abc"}
        return [(round(w.start_seconds, 6), round(w.end_seconds, 6), w.confidence) for w in found]

    assert times() == [(0.5, 0.9, None), (1.0, 1.4, None)]
    plain = hypothesis_ctm("u", path.word_times(cutter), words, 0.1)
    assert path_ctm("u", path, cutter, words, 0.1) == plain
    rule = TimeCorrection(-0.05, 0.2, 0.0, -0.1, True, 0.3, 0.1)
    assert times(correction=rule, duration_seconds=1.5, confidences=[0.25, 1.0]) == [
        (0.4, 0.95, 0.25),
        (0.95, 1.5, 1.0),
    ]
    with pytest.raises(DataError, match="utterance u: 1 confidences of 2 words"):
        times(confidences=[0.5])
    # a third word that has no token yet is left out, and so is its confidence
    unfinished = replace(path, words=(1, 1, 1))
    found = path_ctm(
        "u", unfinished, cutter, words, 0.1, confidences=[0.1, 0.2, 0.3], is_partial=True
    )
    assert [word.confidence for word in found] == [0.1, 0.2]


def planted(rng: random.Random, rule: TimeCorrection, jitter: float) -> TimedTokens:
    """Words whose true times are those of a rule, and a little noise."""
    spans, frames, ends = [], [], []
    frame = rng.randint(0, 2)
    for number in range(8):
        begin = len(frames)
        for place in range(rng.randint(2, 4)):
            frames.append(frame)
            ends.append(frame)
            frame += 20 if number == 0 and place == 0 and rng.random() < 0.5 else 2
        spans.append((begin + 1, len(frames)))  # the first is a separator
        frame += rng.choice([0, 1, 15])
    times = rule.apply(range(8), spans, frames, ends, 0.04, 20.0)
    noise = [rng.gauss(0.0, jitter) for _ in times]
    return TimedTokens(
        spans, frames, ends, 20.0,
        [word.start_seconds + x for word, x in zip(times, noise, strict=True)],
        [word.end_seconds + x for word, x in zip(times, noise, strict=True)],
    )  # fmt: skip


def test_a_planted_rule_is_found() -> None:
    rng = random.Random(1)
    rule = TimeCorrection(-0.03, 0.07, 0.1, -0.1, True, 0.4, 0.3)
    known = [planted(rng, rule, 0.005) for _ in range(60)]
    found = fit_correction(known, 0.04)
    for name in ("start", "end", "first", "late"):
        expected = getattr(rule, f"{name}_offset_seconds")
        assert getattr(found, f"{name}_offset_seconds") == pytest.approx(expected, abs=0.004), name
    assert found.counts_separator
    assert found.longest_lead_seconds is not None and 0.08 < found.longest_lead_seconds < 0.8
    # a gap is one of 1 or 2 frames (less 30 ms), or of more than 15
    assert found.longest_gap_seconds is not None and 0.05 < found.longest_gap_seconds < 0.6
    figures = fitted_figures(known, 0.04, found)
    assert figures["num_words"] == 480
    assert figures["start_ms"] == pytest.approx(4.0, abs=1.0)  # a deviation of 5: a mean of 4
    assert figures["end_ms"] == pytest.approx(4.0, abs=1.5)
    assert figures["start_ms_before"] > 30 and figures["end_ms_before"] > 30
    with pytest.raises(DataError, match="no words to fit"):
        fit_correction([], 0.04)


def test_the_picture(tmp_path: Path) -> None:
    """Errors beyond it are in its outermost bars; the shares are right."""
    errors = np.array([-0.9, 0.0, 0.004, 0.03, 0.5])
    references = {"u": words_of("u", *((f"w{i}", i + 1.0, i + 1.5) for i in range(5)))}
    moved = [(f"w{i}", i + 1 + e, i + 1.6 + e) for i, e in enumerate(errors)]
    moved.sort(key=lambda word: word[1])
    report = score_times(references, {"u": words_of("u", *moved)})
    figure = timing_figure(report, "a $title")
    histogram, shares = figure.axes
    assert [patch.get_label() for patch in histogram.patches] == ["start", "end"]
    heights = histogram.patches[0].get_path().vertices[:, 1].max()
    assert heights == 2  # 0 and 4 ms share a bar
    start = shares.lines[0].get_ydata()
    assert [start[limit] for limit in (0, 5, 29, 31, 250)] == pytest.approx([20, 40, 40, 60, 60])
    for suffix in ("png", "svg"):
        write_figure(figure, tmp_path / f"p.{suffix}")
        assert (tmp_path / f"p.{suffix}").stat().st_size > 1000
