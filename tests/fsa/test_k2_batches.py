"""How batches are cut for k2: pure arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from moe_asr.fsa.k2_batches import BatchLimits, allowed_max_active


@given(
    st.lists(st.integers(1, 60), max_size=30),
    st.integers(1, 100),
    st.integers(1, 8),
    st.sampled_from([2, 500, 2**31 // 61 - 1, 2**31 // 70]),
)
def test_every_utterance_is_in_one_call_within_the_limits(
    lengths: list[int], max_frames: int, max_utterances: int, num_columns: int
) -> None:
    limits = BatchLimits(max_frames, max_utterances, num_columns)
    calls = limits.split(lengths)
    assert sorted(index for call in calls for index in call) == list(range(len(lengths)))
    for call in calls:
        frames = [lengths[index] for index in call]
        assert frames == sorted(frames, reverse=True)
        assert len(call) <= max_utterances
        if len(call) > 1:
            assert sum(frames) <= max_frames
            assert (sum(frames) + len(frames)) * num_columns < 2**31
    sizes = [max(lengths[index] for index in call) for call in calls]
    assert sizes == sorted(sizes, reverse=True)
    for call, following in zip(calls, calls[1:], strict=False):  # none is cut short without need
        frames = [lengths[index] for index in [*call, following[0]]]
        too_many = len(frames) > max_utterances or sum(frames) > max_frames
        assert too_many or (sum(frames) + len(frames)) * num_columns >= 2**31


def test_limits_of_k2() -> None:
    common = BatchLimits.of(377_000, 500, 10_000, 25_000)
    assert common == BatchLimits(25_000, 2**26 // 40_000, 501)
    huge = BatchLimits.of(10**9, 500, 10_000, 25_000)
    assert huge.max_utterances == 4  # 5e9 keys would not fit 32 bits
    assert BatchLimits.of(10**9, 500, 10**9, 25_000).max_utterances == 1
    assert common.fits_alone(4_000_000) and not common.fits_alone(2**31 // 501)


@given(st.integers(1, 2**31), st.integers(1, 10**6), st.data())
def test_max_active_means_the_same_to_k2(
    max_active: int, num_states: int, data: st.DataObject
) -> None:
    """Of any number of active states: whether they are too many, and fewer than half."""
    allowed = allowed_max_active(max_active, num_states)
    active = data.draw(st.integers(0, num_states))
    assert (active > max_active) == (active > allowed)
    assert (active < max_active / 2) == (active < allowed / 2)
