"""Features that wait are those of the whole waveform, however it arrives and whoever takes them."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.audio.fbank import FbankOptions, make_fbank
from moe_asr.audio.io import resample
from moe_asr.errors import AudioError
from moe_asr.recognizer import feature_queue
from moe_asr.recognizer.feature_queue import FeatureQueue
from tests.recognizer.conftest import babble

OPTIONS = FbankOptions()


def queue(max_seconds: float = 100.0) -> FeatureQueue:
    return FeatureQueue(OPTIONS, max_seconds, lambda seconds: None)


@given(
    st.lists(st.integers(0, 9000), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), max_size=10),
    st.sampled_from([16000, 8000, 44100]),
)
@settings(max_examples=40, deadline=None)
def test_features_come_in_order_once(
    pieces: list[int], takes: list[tuple[int, int]], rate: int
) -> None:
    waveform = babble(sum(pieces) / rate, 1, rate)[: sum(pieces)]
    one, taken, start = queue(), [], 0
    for number, size in enumerate(pieces):
        one.accept_waveform(waveform[start : start + size], rate)
        start += size
        if number < len(takes):
            more, used = takes[number]
            used = min(used, one.waiting[0])
            seen = one.take(used, used + more)
            assert len(seen) == min(used + more, one.waiting[0] + used)
            assert one.num_bytes == one.waiting[0] * OPTIONS.num_bins * 4
            taken.append(seen[:used])
    one.input_finished()
    one.input_finished()
    waiting, finished = one.waiting
    assert finished
    taken.append(one.take(waiting, waiting))
    expected = make_fbank(OPTIONS)(resample(waveform, rate, 16000)) if len(waveform) else []
    got = np.concatenate(taken)
    assert len(got) == len(expected)
    if len(got):
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_rate_that_changes_loses_nothing() -> None:
    """Features of both parts, away from the seam, are those of each alone."""
    low, high = babble(1.0, 2, 8000), babble(1.0, 3, 44100)
    one = queue()
    one.accept_waveform(low, 8000)
    one.accept_waveform(high, 44100)
    one.accept_waveform(high[:0], 8000)
    one.input_finished()
    waiting, _ = one.waiting
    assert waiting == 200
    got = one.take(waiting, waiting)
    for part, rate, rows in ((low, 8000, slice(0, 95)), (high, 44100, slice(105, 195))):
        alone = make_fbank(OPTIONS)(resample(part, rate, 16000))
        first = 0 if rows.start == 0 else 5
        np.testing.assert_allclose(
            got[rows], alone[first : first + rows.stop - rows.start], atol=0.02
        )


def test_what_is_refused_leaves_the_queue_as_it_was() -> None:
    one, other = queue(max_seconds=1.0), queue()
    first, second = babble(0.5, 4), babble(0.4, 5)
    one.accept_waveform(first, 16000)
    for samples, rate, message in (
        (np.array([0.0, np.nan], np.float32), 16000, "sample 1 is nan"),
        (np.zeros(4, np.int16), 16000, "floats in"),
        (np.zeros((2, 4), np.float32), 16000, "mono"),
        (second, 0, "sample rate of 0 Hz"),
        (babble(0.6), 16000, "1.1 s of audio would wait to be decoded; at most 1 s may"),
    ):
        with pytest.raises(AudioError, match=message):
            one.accept_waveform(samples, rate)
    for samples in (first, second):
        other.accept_waveform(samples, 16000)
    one.accept_waveform(second, 16000)
    for each in (one, other):
        each.input_finished()
    np.testing.assert_array_equal(one.take(90, 90), other.take(90, 90))
    with pytest.raises(AudioError, match="after input_finished"):
        one.accept_waveform(second, 16000)


def test_one_thread_gives_while_another_takes() -> None:
    waveform = babble(8.0, 6)
    one, taken = queue(), []

    def give() -> None:
        for start in range(0, len(waveform), 777):
            one.accept_waveform(waveform[start : start + 777], 16000)
        one.input_finished()

    giver = threading.Thread(target=give)
    giver.start()
    while True:
        waiting, finished = one.waiting
        taken.append(one.take(min(waiting, 7), 9)[: min(waiting, 7)])
        if finished and waiting <= 7:
            break
    giver.join()
    np.testing.assert_array_equal(np.concatenate(taken), make_fbank(OPTIONS)(waveform))


def test_what_has_been_taken_is_not_kept() -> None:
    """Of a long piece, whatever part of it still waits; and nothing at all of a stream that has ended."""
    one = queue()
    one.accept_waveform(np.zeros(60 * 16000, np.float32), 16000)
    frames, _ = one.waiting
    for taken in (63, 64, 65, 1, frames - 63 - 64 - 65 - 1 - 7):
        one.take(taken, taken)
        kept = sum((piece if piece.base is None else piece.base).nbytes for piece in one._pieces)
        assert kept == one.num_bytes == 4 * OPTIONS.num_bins * one.waiting[0]
    assert one.waiting == (7, False)
    one.clear()
    assert (one.num_bytes, one.waiting) == (0, (0, False))


def test_a_rate_that_the_resampler_refuses_changes_nothing(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AudioError("no such rate")

    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    found = []
    for is_disturbed in (False, True):
        one = queue()
        one.accept_waveform(samples, 8000)
        for _ in range(2 * is_disturbed):
            with monkeypatch.context() as patch, pytest.raises(AudioError, match="no such rate"):
                patch.setattr(feature_queue, "StreamingResampler", refuse)
                one.accept_waveform(samples, 12345)
        one.accept_waveform(samples, 8000)
        one.input_finished()
        found.append(one.take(0, 10**6))
    np.testing.assert_array_equal(*found)
