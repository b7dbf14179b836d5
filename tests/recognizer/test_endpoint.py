"""The rules by which segments end, against arithmetic without rounding; cuts, against all there are."""

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.recognizer.endpoint import (
    RULES,
    EndpointOptions,
    EndpointRule,
    cut_frame,
    detect_endpoint,
)

INFINITY = float("inf")
# of Kaldi's online2/online-endpoint.h: speech, silence, cost, length
KALDI = {
    "rule1": (False, "5", None, "0"),
    "rule2": (True, "0.5", 2, "0"),
    "rule3": (True, "1", 8, "0"),
    "rule4": (True, "2", None, "0"),
    "rule5": (False, "0", None, "20"),
}


def expected_rule(blanks: int, cost: float, frames: int, shift: str, rules: dict) -> str:
    silence, length = blanks * Fraction(shift), frames * Fraction(shift)
    for name, (speech, least_silence, most_cost, least_length) in rules.items():
        if (
            (length > silence or not speech)
            and silence >= Fraction(least_silence)
            and (most_cost is None or cost <= most_cost)
            and length >= Fraction(least_length)
        ):
            return name
    return ""


def test_every_rule_at_its_edges() -> None:
    """At 40 ms: 125, 13, 25, 50 and 500 frames."""
    counts = [0, 1, 12, 13, 14, 24, 25, 26, 49, 50, 51, 124, 125, 126, 499, 500, 501]
    costs = [0.0, 1.999, 2.0, 2.001, 8.0, 8.001, INFINITY]
    fired = set()
    for blanks, frames, cost in itertools.product(counts, counts, costs):
        if blanks <= frames and frames:
            found = detect_endpoint(blanks, cost, frames, 0.04, EndpointOptions())
            assert found == expected_rule(blanks, cost, frames, "0.04", KALDI)
            fired.add(found)
    assert fired == {"", *RULES}


@given(st.data())
def test_any_rules_and_frame_shifts(data: st.DataObject) -> None:
    tenths = st.integers(0, 30).map(lambda n: f"{n / 10:g}")
    rules = {
        name: (
            data.draw(st.booleans()),
            data.draw(tenths),
            data.draw(st.one_of(st.none(), st.integers(0, 4))),
            data.draw(tenths),
        )
        for name in RULES
    }
    options = EndpointOptions(
        **{
            name: EndpointRule(
                speech, float(silence), INFINITY if cost is None else float(cost), float(length)
            )
            for name, (speech, silence, cost, length) in rules.items()
        }
    )
    shift = data.draw(st.sampled_from(["0.01", "0.03", "0.04", "0.06", "0.1"]))
    frames = data.draw(st.integers(1, 320))
    blanks = data.draw(st.integers(0, frames))
    cost = data.draw(st.sampled_from([0.0, 1.0, 2.5, 4.0, INFINITY]))
    found = detect_endpoint(blanks, cost, frames, float(shift), options)
    assert found == expected_rule(blanks, cost, frames, shift, rules)


@pytest.mark.parametrize("shift", ["0.01", "0.03", "0.04", "0.06", "0.1"])
def test_a_whole_number_of_frames_is_as_long_as_it_says(shift: str) -> None:
    """35 * 0.06 is less than 2.1 in floating point."""
    never = EndpointRule(False, 1e9)
    for frames in range(2, 400):
        seconds = float(frames * Fraction(shift))
        rule1 = EndpointRule(False, seconds, min_length_seconds=seconds)
        options = EndpointOptions(rule1, never, never, never, never)
        assert detect_endpoint(frames, 0.0, frames, float(shift), options) == "rule1"
        assert detect_endpoint(frames - 1, 0.0, frames, float(shift), options) == ""
        assert detect_endpoint(frames - 1, 0.0, frames - 1, float(shift), options) == ""


def test_nothing_ends_what_has_not_begun_or_must_not_end() -> None:
    at_once = EndpointRule(False, 0.0)
    always = EndpointOptions(*[at_once] * 5)
    assert detect_endpoint(0, 0.0, 1, 0.04, always) == "rule1"
    assert detect_endpoint(0, 0.0, 0, 0.04, always) == ""
    never = dataclasses.replace(always, enabled=False)
    assert detect_endpoint(1000, 0.0, 1000, 0.04, never) == ""


@pytest.mark.parametrize(
    ("blanks", "cost", "frames", "shift", "message"),
    [
        (4, 0.0, 3, 0.04, "4 blank frames of 3 frames"),
        (-1, 0.0, 3, 0.04, "-1 blank frames of 3"),
        (0, -0.5, 3, 0.04, "relative_cost must be 0 or more, found -0.5"),
        (0, float("nan"), 3, 0.04, "relative_cost must be 0 or more, found nan"),
        (0, 0.0, 3, 0.0, "frame_shift_seconds must be positive, found 0.0"),
    ],
)
def test_numbers_out_of_range(
    blanks: int, cost: float, frames: int, shift: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detect_endpoint(blanks, cost, frames, shift, EndpointOptions())


def layouts(num_frames: int) -> Iterator[tuple[list[int], list[int]]]:
    """First and last frames of the tokens of every segment of this length."""
    for frames in itertools.product(".xo", repeat=num_frames):  # blank, a token begins, it goes on
        text = "".join(frames)
        if f".{text}".find(".o") >= 0:
            continue
        starts = [frame for frame, kind in enumerate(text) if kind == "x"]
        lengths = [len(part) - len(part.lstrip("o")) for part in text.split("x")[1:]]
        ends = [start + length for start, length in zip(starts, lengths, strict=True)]
        yield starts, ends


def best_cut(starts: list[int], ends: list[int], num_frames: int) -> int:
    """Every place in the second half is looked at; places with the same tokens before them are a gap."""
    gaps: dict[int, list[int]] = {}
    for cut in range(1, num_frames + 1):
        goes_on = bool(ends) and ends[-1] == num_frames - 1 and cut == num_frames
        inside = any(start < cut <= end for start, end in zip(starts, ends, strict=True))
        if 2 * cut >= num_frames and not inside and not goes_on:
            gaps.setdefault(sum(end < cut for end in ends), []).append(cut)
    if not gaps:
        return num_frames
    longest = max(map(len, gaps.values()))
    places = [gap for gap in gaps.values() if len(gap) == longest][-1]
    return (places[0] + places[-1]) // 2


def test_all_small_segments_are_cut_in_their_longest_gap() -> None:
    count = 0
    for num_frames in range(1, 9):
        for starts, ends in layouts(num_frames):
            assert cut_frame(starts, ends, num_frames) == best_cut(starts, ends, num_frames)
            count += 1
    assert count > 2000


def test_a_cut_lies_between_words() -> None:
    starts, ends = [10, 260, 420, 460], [255, 410, 440, 495]
    assert cut_frame(starts, ends, 500) == 450  # 441..459 are silent
    assert cut_frame(starts[:2], ends[:2], 500) == 455  # the silence at the end
    assert (
        cut_frame([10], [200], 500) == cut_frame([], [], 500) == 375
    )  # only the second half counts
    assert cut_frame([100], [499], 500) == 500  # a token without end


@pytest.mark.parametrize(
    ("starts", "ends", "num_frames"),
    [([3], [2], 9), ([0, 2], [2, 3], 9), ([3, 1], [3, 1], 9), ([3], [9], 9), ([-1], [2], 9), ([], [], 0)],
)  # fmt: skip
def test_tokens_that_are_none(starts: list[int], ends: list[int], num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"{num_frames} frames"):
        cut_frame(starts, ends, num_frames)
