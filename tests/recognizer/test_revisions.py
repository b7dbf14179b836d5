"""How often shown words change: scripted histories, and laws that any history obeys."""

from hypothesis import given
from hypothesis import strategies as st

from moe_asr.recognizer.results import Result
from moe_asr.recognizer.revisions import Revisions, segment_revisions, stream_revisions
from tests.recognizer.fakes import result


def test_what_only_moves_is_not_changed() -> None:
    history = [result("b c"), result("a b c"), result("a b c d"), result("b c d", final=True)]
    found = segment_revisions(history)
    assert (found.shown, found.changed, found.final) == (4, 1, 3)
    assert found.changed_at_end == 1 and found.unstable_segments == 1


def test_who_changed_a_word() -> None:
    found = segment_revisions(
        [
            result("tern on", 0),
            result("turn on", 1),  # tern: by the first pass
            result("turn on a light", 2),
            # the first pass ends with "turn on the light", the second makes it "turn off the light"
            result("turn off the light", final=True, first_pass="turn on the light"),
        ]
    )
    assert found == Revisions(
        segments=1,
        unstable_segments=1,
        shown=7,  # tern on turn a light off the
        changed_by_first_pass=2,  # tern, a
        changed_by_second_pass=1,  # on
        final=4,
        stable=2,
        stable_changed_by_second_pass=1,  # on
    )
    figures = found.figures()
    assert figures["changed_share"] == 3 / 7
    assert figures["unstable_partial_word_ratio"] == 3 / 4
    assert figures["unstable_partial_segment_ratio"] == 1.0
    assert figures["stable_changed_by_second_pass_share"] == 0.5
    assert Revisions().figures()["changed_share"] is None


def test_broken_promises_of_the_first_pass_are_found() -> None:
    between = segment_revisions([result("a b", 2), result("a c", 1), result("a c", final=True)])
    assert between.stable_changed_by_first_pass == 1
    shorter = segment_revisions([result("a b", 2), result("a"), result("a", final=True)])
    assert shorter.stable_changed_by_first_pass == 1
    at_the_end = [result("a b", 2), result("a b", final=True, first_pass="c b")]
    assert segment_revisions(at_the_end).stable_changed_by_first_pass == 1
    assert segment_revisions([result("a b", 2), result("a c", final=True)]) == Revisions(
        1, 1, 3, changed_at_end=1, final=2, stable=2, stable_changed_by_second_pass=1
    )


TEXTS = st.lists(st.sampled_from("abcd"), max_size=5).map(" ".join)


@st.composite
def histories(draw: st.DrawFn, segment: int = 0) -> list[Result]:
    partials = draw(st.lists(TEXTS, max_size=5))
    found = draw(st.none() | TEXTS)
    return [
        *(result(t, draw(st.integers(0, len(t.split()))), segment=segment) for t in partials),
        result(draw(TEXTS), final=True, segment=segment, first_pass=found),
    ]


@given(histories(), histories(1))
def test_every_shown_word_is_changed_or_final(one: list[Result], other: list[Result]) -> None:
    total = stream_revisions([*one, *other])
    assert total == segment_revisions(one) + segment_revisions(other)
    assert total.shown == total.changed + total.final
    assert total.final == len(one[-1].words) + len(other[-1].words)
    assert total.stable_changed_by_second_pass <= total.stable
    assert total.unstable_segments <= total.segments <= 2
    if total.changed == 0:
        assert total.unstable_segments == 0


@given(st.lists(st.sampled_from("abcd"), max_size=6), st.data())
def test_text_that_only_grows_changes_nothing(words: list[str], data: st.DataObject) -> None:
    lengths = sorted(data.draw(st.lists(st.integers(0, len(words)), max_size=4)))
    history = [result(" ".join(words[:n]), n) for n in lengths]
    found = segment_revisions([*history, result(" ".join(words), final=True)])
    assert found.changed == found.stable_changed_by_first_pass == 0
    assert found.shown == len(words)
