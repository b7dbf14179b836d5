"""Times of words from the frames of their tokens, and how they are corrected."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord
from moe_asr.fsa.word_times import word_times

SEEDS = st.integers(0, 2**32)
SHIFT = 0.04


def random_tokens(rng: random.Random) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Spans, first frames, last frames; some words have a separator before them, some no token."""
    spans, frames, ends = [], [], []
    frame = 0
    for _ in range(rng.randint(0, 6)):
        if rng.random() < 0.1:
            spans.append((len(frames), len(frames)))
            continue
        separators, own = rng.randint(0, 1), rng.randint(1, 4)
        for _ in range(separators + own):
            frame += rng.choice([0, 1, 2, 12])
            frames.append(frame)
            frame += rng.randint(0, 2)
            ends.append(frame)
            frame += 1
        spans.append((len(frames) - own, len(frames)))
    return spans, frames, ends


@settings(max_examples=200)
@given(SEEDS)
def test_without_a_correction_times_are_those_of_the_tokens(seed: int) -> None:
    spans, frames, ends = random_tokens(random.Random(seed))
    words = list(range(1, len(spans) + 1))
    plain = [(time.word, *time.seconds(SHIFT)) for time in word_times(words, spans, frames, ends)]
    found = TimeCorrection().apply(words, spans, frames, ends, SHIFT)
    assert [(w.word, w.start_seconds, w.end_seconds) for w in found] == plain


@settings(max_examples=300)
@given(SEEDS)
def test_words_are_in_order_and_within_the_audio(seed: int) -> None:
    rng = random.Random(seed)
    spans, frames, ends = random_tokens(rng)
    correction = TimeCorrection(
        start_offset_seconds=rng.uniform(-0.5, 0.5),
        end_offset_seconds=rng.uniform(-0.5, 0.5),
        first_offset_seconds=rng.uniform(-0.5, 0.5),
        late_offset_seconds=rng.uniform(-0.5, 0.5),
        counts_separator=rng.random() < 0.5,
        longest_lead_seconds=rng.choice([None, 0.0, 0.2]),
        longest_gap_seconds=rng.choice([None, 0.0, 0.3]),
    )
    duration = rng.choice([math.inf, rng.uniform(0.0, 3.0)])
    names = "abcdef"[: len(spans)]
    found = correction.apply(names, spans, frames, ends, SHIFT, duration)
    assert [word.word for word in found] == [
        name for name, (begin, end) in zip(names, spans, strict=True) if end > begin
    ]
    time = 0.0
    for word in found:
        assert time <= word.start_seconds <= word.end_seconds <= duration
        time = word.end_seconds


def test_each_rule() -> None:
    """Three words: ``▁`` at frame 0 and letters at 10 and 12; ``▁`` at 15, a letter at 17; 40 and 41."""
    spans, frames = [(1, 3), (4, 5), (5, 7)], [0, 10, 12, 15, 17, 40, 41]
    ends = [0, 11, 13, 15, 20, 40, 42]

    def times(**rules: float | bool) -> list[tuple[float, float]]:
        correction = TimeCorrection(**rules)  # type: ignore[arg-type]
        found = correction.apply("abc", spans, frames, ends, 0.1, 4.5)
        return [(round(w.start_seconds, 6), round(w.end_seconds, 6)) for w in found]

    assert times() == [(1.0, 1.4), (1.7, 2.1), (4.0, 4.3)]
    assert times(start_offset_seconds=-0.25) == [(0.75, 1.4), (1.45, 2.1), (3.75, 4.3)]
    assert times(counts_separator=True) == [(0.0, 1.4), (1.5, 2.1), (4.0, 4.3)]
    lead = {"counts_separator": True, "longest_lead_seconds": 0.5}
    assert times(**lead, late_offset_seconds=-0.3)[0] == (0.7, 1.4)
    assert times(**lead, first_offset_seconds=0.3, start_offset_seconds=0.1) == [
        (1.0, 1.4), (1.6, 2.1), (4.1, 4.3)
    ]  # fmt: skip
    assert times(counts_separator=True, longest_lead_seconds=1.0, first_offset_seconds=0.25)[0] == (
        0.25, 1.4
    )  # fmt: skip
    # to the next word where it is near, else by the offset, never beyond it or the audio
    assert times(longest_gap_seconds=0.35, end_offset_seconds=0.2) == [
        (1.0, 1.7), (1.7, 2.3), (4.0, 4.5)
    ]  # fmt: skip
    assert times(end_offset_seconds=0.5) == [(1.0, 1.7), (1.7, 2.6), (4.0, 4.5)]
    assert times(end_offset_seconds=-0.5) == [(1.0, 1.0), (1.7, 1.7), (4.0, 4.0)]
    assert TimeCorrection().apply("", [], [], [], 0.1) == []
    assert TimeCorrection().apply([7], [(0, 1)], [2], [3], 0.5) == [TimedWord(7, 1.0, 2.0)]


def test_files(tmp_path: Path) -> None:
    correction = TimeCorrection(-0.03, 0.01, 0.1, -0.12, True, 0.26, 0.1)
    correction.save(tmp_path / "c.json", {"num_words": 3})
    assert TimeCorrection.load(tmp_path / "c.json") == correction
    assert json.loads((tmp_path / "c.json").read_text())["fitted"] == {"num_words": 3}
    TimeCorrection().save(tmp_path / "none.json")
    assert TimeCorrection.load(tmp_path / "none.json") == TimeCorrection()
    for text, message in (
        ("{}", "bad.json: expected a mapping with the keys"),
        ("[", "bad.json:1: not JSON"),
        ('{"correction": {"start_ofset_seconds": 1}, "fitted": {}}', "did you mean 'start_offset"),
        ('{"correction": {"start_offset_seconds": 30}, "fitted": {}}', "start_offset_seconds must"),
        ('{"correction": {"longest_gap_seconds": -1}, "fitted": {}}', "longest_gap_seconds must"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            TimeCorrection.load(tmp_path / "bad.json")
    with pytest.raises(ConfigError, match="frame_shift_seconds must be positive"):
        TimeCorrection().apply("a", [(0, 1)], [2], [3], 0.0)
