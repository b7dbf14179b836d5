"""Cuts of long audio: no sample lost or given twice, cuts where nobody speaks, in any conditions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.audio.io import resample
from moe_asr.audio.silence import SilenceOptions, cut_at_silence
from moe_asr.errors import AudioError

RATE = 16000
SENTENCES = [
    "turn on the light in the living room at five o'clock",
    "she sells sea shells on the sea shore",
    "he said that fifty six ships should be safe",
]


def segments(samples, options=None, rate=RATE, block=160000):
    blocks = [samples[i : i + block] for i in range(0, len(samples), block)]
    return list(cut_at_silence(blocks, rate, options))


def check_whole(found, samples):
    """The segments, joined, are the samples."""
    position = 0
    for start, piece in found:
        assert start == position and len(piece) > 0 and piece.dtype == np.float32
        np.testing.assert_array_equal(piece, samples[start : start + len(piece)])
        position += len(piece)
    assert position == len(samples)


def noise(seconds, level=0.1, seed=1):
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


@settings(max_examples=40)
@given(
    pieces=st.lists(
        st.tuples(
            st.sampled_from(["zeros", "noise", "speech"]),
            st.floats(0.01, 4.0),
            st.sampled_from([1.0, 0.03]),
        ),
        max_size=8,
    ),
    extra=st.integers(0, 90),
    maximum=st.sampled_from([1.0, 2.5, 30.0]),
    cuts=st.lists(st.integers(0, 32000), max_size=6),
)
def test_no_sample_is_lost_and_blocks_do_not_matter(pieces, extra, maximum, cuts):
    rate, rng = 1000, np.random.default_rng(len(pieces))
    level = {"zeros": 0.0, "noise": 0.003, "speech": 0.3}
    parts = [
        gain * level[kind] * rng.standard_normal(round(seconds * rate))
        for kind, seconds, gain in pieces
    ]
    samples = np.concatenate([*parts, np.full(extra, 0.01)]).astype(np.float32)
    options = SilenceOptions(maximum, 0.5)
    found = segments(samples, options, rate)
    check_whole(found, samples)
    assert all(len(piece) <= maximum * rate for _, piece in found)
    split = np.split(samples, sorted(min(cut, len(samples)) for cut in cuts))
    again = list(cut_at_silence(split, rate, options))
    assert [start for start, _ in again] == [start for start, _ in found]


def test_audio_is_given_before_its_end_and_bounded():
    given_samples = 0

    def blocks():
        nonlocal given_samples
        for seed in range(100):
            given_samples += 10 * RATE
            yield noise(10, 0.1, seed)

    taken = 0
    for start, piece in cut_at_silence(blocks(), RATE):
        assert start == taken
        taken += len(piece)
        assert given_samples - start <= (30 + 5 + 1 + 10 + 0.1) * RATE
    assert taken == given_samples == 1000 * RATE


@pytest.fixture(scope="module")
def speech():
    """Sentences with pauses of 0.1 to 3 s between them, and where these are."""
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    from moe_asr.data.espeak import EspeakSynthesizer

    engine, rng = EspeakSynthesizer(), np.random.default_rng(5)
    spoken = []
    for text in SENTENCES:
        samples = resample(engine.synthesize(text), engine.sample_rate, RATE)
        loud = np.flatnonzero(np.abs(samples) > 2e-3)
        spoken.append(samples[loud[0] : loud[-1] + 1])
    parts, pauses, position = [], [], 0
    for seconds in rng.permutation(np.linspace(0.1, 3.0, 30)):
        parts += [spoken[rng.integers(len(spoken))], np.zeros(round(seconds * RATE), np.float32)]
        position += len(parts[-2])
        pauses.append((position, position + len(parts[-1])))
        position += len(parts[-1])
    return np.concatenate(parts), pauses[:-1]


def white(samples, decibels):
    rng = np.random.default_rng(2)
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-decibels / 20)
    return (level * rng.standard_normal(len(samples))).astype(np.float32)


def steps(samples):
    """30 dB down every other 15 seconds."""
    return np.where((np.arange(len(samples)) // (15 * RATE)) % 2, 10**-1.5, 1.0).astype(np.float32)


def clicks(samples):
    clicked = samples.copy()
    clicked[RATE // 3 :: RATE // 2] = 0.95
    return clicked


# what is done to clean speech -> the share of the long pauses that must be found
CONDITIONS = {
    "digital silence": (lambda x: x, 1.0),
    "noise 30 dB below": (lambda x: x + white(x, 30), 1.0),
    "noise 10 dB below": (lambda x: x + white(x, 10), 1.0),
    "offset": (lambda x: 0.5 * (x + white(x, 30)) + 0.4, 1.0),
    "clipping": (lambda x: np.clip(20 * (x + white(x, 30)), -1, 1), 1.0),
    "quiet, 16 bit": (lambda x: np.round(32.768 * (x + white(x, 26))) / 32768, 1.0),
    "clicks": (lambda x: clicks(x + white(x, 30)), 1.0),
    "steps of gain": (lambda x: (x + white(x, 25)) * steps(x), 0.6),
    "steps of noise": (lambda x: x + white(x, 20) * steps(x), 0.6),
    "noise gate": (lambda x: x + white(x, 30) * (np.arange(len(x)) // RATE % 3 > 0), 1.0),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_speech_is_cut_in_its_pauses(speech, condition):
    clean, pauses = speech
    change, share = CONDITIONS[condition]
    samples = change(clean).astype(np.float32)
    found = segments(samples)
    check_whole(found, samples)
    cuts = [start for start, _ in found[1:]]
    margin = RATE // 20
    for cut in cuts:
        assert any(begin + margin < cut < end - margin for begin, end in pauses), cut / RATE
    long = [(begin, end) for begin, end in pauses if end - begin >= 0.6 * RATE]
    hit = [any(begin < cut < end for cut in cuts) for begin, end in long]
    assert len(long) > 20 and np.mean(hit) >= share


def test_short_pauses_end_a_segment_only_where_it_must_end(speech):
    clean, pauses = speech
    parts, last = [], 0
    for begin, end in pauses:  # pauses of a third of a second
        parts.append(clean[last : min(end, begin + RATE // 3)])
        last = end
    samples = np.concatenate(parts)
    samples += white(samples, 30)
    found = segments(samples)
    check_whole(found, samples)
    lengths = [len(piece) / RATE for _, piece in found]
    assert 15 <= min(lengths[:-1]) and max(lengths) <= 30
    # the quietest stretch is a pause: there is nothing but noise around the cut
    for start, _ in found[1:]:
        assert np.abs(samples[start - 800 : start + 800]).max() < 0.05


def test_long_silence_is_left_to_segments_of_its_own():
    tone = np.sin(np.arange(2 * RATE) * 0.3).astype(np.float32) * 0.3
    samples = np.concatenate([noise(10, 1e-3), tone, noise(8, 1e-3), tone, noise(1.2, 1e-3), tone])
    bounds = [start / RATE for start, _ in segments(samples)]
    np.testing.assert_allclose(bounds, [0, 9.5, 12.5, 19.5, 22.6], atol=0.05)
    # in a pause that ends with the audio there is nothing to cut
    assert len(segments(np.concatenate([tone, noise(9, 1e-3)]))) == 1


@pytest.mark.parametrize("level", [0.0, 0.1, 1e-6])
def test_without_speech_segments_are_long(level):
    samples = noise(100, level)
    found = segments(samples)
    check_whole(found, samples)
    assert all(15 * RATE <= len(piece) <= 30 * RATE for _, piece in found[:-1])


@pytest.mark.parametrize("rate", [1051, 16000, 22255])
def test_no_segment_is_longer_than_it_may_be(rate):
    found = segments(noise(12, 0.1)[: 5 * rate + 9], SilenceOptions(5.0), rate)
    assert max(len(piece) for _, piece in found) <= 5 * rate


def test_a_segment_keeps_no_more_than_its_samples():
    samples = noise(200, 0.1)
    for _, piece in cut_at_silence([samples], RATE):
        assert len(piece if piece.base is None else piece.base) <= 36 * RATE + (1 << 18)
    first = next(cut_at_silence([samples], RATE))[1]
    assert first.base is None


def test_no_audio_has_no_segments():
    assert segments(np.zeros(0, np.float32)) == []
    assert list(cut_at_silence([], RATE)) == []
    (start, piece), *rest = segments(np.ones(3, np.float32))
    assert start == 0 and piece.tolist() == [1, 1, 1] and not rest


def test_what_is_refused():
    for samples in (np.zeros((2, 10), np.float32), np.zeros(10, np.int16), np.array([np.nan])):
        with pytest.raises(AudioError):
            list(cut_at_silence([samples], RATE))
    with pytest.raises(AudioError, match="expected at least 1000"):
        list(cut_at_silence([], 0))
    for values in ((0.5, 0.5), (float("nan"), 0.5), (30.0, 0.0), (30.0, 31.0)):
        with pytest.raises(ValueError, match="_seconds must be"):
            SilenceOptions(*values)
