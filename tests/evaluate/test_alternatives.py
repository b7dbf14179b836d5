"""The best of all readings, against all readings."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.evaluate import alternatives
from moe_asr.evaluate.alternatives import (
    Segment,
    best_readings,
    expand,
    parse_alternatives,
)
from moe_asr.evaluate.compare import score_texts
from moe_asr.evaluate.wer import align, count_errors

WORD = st.sampled_from(["a", "b", "cd", "@"])
READINGS = st.lists(
    st.lists(st.sampled_from(["a", "b", "cd"]), max_size=2).map(tuple), min_size=1, max_size=3
)
SEGMENTS = st.lists(WORD | READINGS.map(tuple), max_size=4)


def readings(segments: list[Segment]) -> list[list[str]]:
    """Every text that the segments stand for; a sign outside of alternatives is a word."""
    ways = [[(one,)] if isinstance(one, str) else list(one) for one in segments]
    return [[word for part in choice for word in part] for choice in product(*ways)]


@pytest.mark.parametrize("unit", ["word", "char"])
@settings(max_examples=60)
@given(reference=SEGMENTS, hypothesis=SEGMENTS)
def test_best_readings_are_the_best_of_all(
    unit: str, reference: list[Segment], hypothesis: list[Segment]
) -> None:
    def units(words: list[str]) -> list[str]:
        return words if unit == "word" else list("".join(words))

    lefts = [units(words) for words in readings(reference)]
    rights = [units(words) for words in readings(hypothesis)]
    left, right = best_readings(reference, hypothesis, unit)
    assert left in lefts and right in rights
    costs = [(count_errors(align(*pair)).errors, -len(pair[0])) for pair in product(lefts, rights)]
    assert (count_errors(align(left, right)).errors, -len(left)) == min(costs)


def test_readings_are_chosen_for_both_sides() -> None:
    reference = parse_alternatives("i am { going to / gonna } see { um / @ } him")
    hypothesis = parse_alternatives("i am gonna see { her / him }")
    left, right = best_readings(reference, hypothesis)
    assert left == right == ["i", "am", "gonna", "see", "him"]
    # as many errors either way: the longer reference
    assert best_readings(parse_alternatives("{ a / b c }"), ["x", "y"])[0] == ["b", "c"]


def test_there_may_be_more_readings_than_can_be_tried() -> None:
    reference = parse_alternatives("{ a / b c / @ } " * 60)
    left, right = best_readings(reference, ["b", "c"] * 60)
    assert left == right == ["b", "c"] * 60


def test_a_recording_as_one_text() -> None:
    """Words in the thousands, an alternative now and then."""
    words = [f"w{number * 7919 % 1009}" for number in range(3000)]
    reference: list[Segment] = [
        ((word,), (word, "x"), ()) if place % 50 == 0 else word for place, word in enumerate(words)
    ]
    hypothesis = [word for place, word in enumerate(words) if place % 7]
    left, right = best_readings(reference, hypothesis)
    assert right == hypothesis
    # an alternative that was not said is nothing; other words that were not are deletions
    expected = [word for place, word in enumerate(words) if place % 7 or place % 50]
    assert left == expected


def test_texts_that_are_too_long_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "MAX_CELLS", 20)
    score_texts({"u": [(("a",), ("b",)), "b", "c"]}, {"u": "a b c d"})
    with pytest.raises(DataError, match="utterance 'u': texts of 4 and 4 units are too long"):
        score_texts({"u": [(("a",), ("b",)), "b", "c", "d"]}, {"u": "a b c d"})


def test_parsing() -> None:
    assert parse_alternatives("a / b") == ["a", "/", "b"]
    assert parse_alternatives("x { a / b { c / d } / @ } @") == [
        "x", (("a",), ("b", "c"), ("b", "d"), ()), "@",
    ]  # fmt: skip
    for text, message in (
        ("a } b", "has no '{' before"),
        ("{ a / b", "has no '}' after"),
        ("{ a / }", "an alternative is empty"),
        ("{ }", "an alternative is empty"),
        ("{ " + "{ a / b } " * 10 + "}", "more than 1000 readings"),
    ):
        with pytest.raises(DataError, match=message):
            parse_alternatives(text)
    assert expand([(("a",), ("a",)), "b"]) == [("a", "b")]
