"""Noise, rooms and levels against closed forms: spectra, decay, ratios of mean squares."""

import hashlib

import numpy as np
import pytest

from moe_asr.data.acoustics import Room, in_surroundings, room_impulse_response
from moe_asr.data.noises import NOISE_KINDS, make_noise

RATE = 16000


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def power_spectrum(samples: np.ndarray, size: int = 4096) -> np.ndarray:
    """Mean periodogram with a Hann window: (size // 2 + 1,)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    return (np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2).mean(axis=0)


def decibel(ratio: float) -> float:
    return float(10 * np.log10(ratio))


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_has_a_mean_square_of_one_and_depends_on_the_generator_alone(kind):
    first, again, other = (make_noise(kind, 37123, RATE, generator(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.float32 and first.shape == (37123,)
    assert np.mean(np.square(first, dtype=np.float64)) == pytest.approx(1, abs=1e-4)
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.5
    # it is there all the time, not a click
    loudest = np.sort(np.square(first))[::-1]
    assert loudest[: len(loudest) // 100].sum() < 0.5 * loudest.sum()


@pytest.mark.parametrize("kind, slope", [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_slope_of_the_spectrum(kind, slope):
    """In dB an octave, over 125 Hz to 4 kHz."""
    spectrum = power_spectrum(make_noise(kind, 40 * RATE, RATE, generator()))
    hertz = np.fft.rfftfreq(4096, 1 / RATE)
    octaves = [
        decibel(spectrum[(hertz >= low) & (hertz < 2 * low)].mean())
        for low in (125, 250, 500, 1000, 2000)
    ]
    assert np.diff(octaves) == pytest.approx([slope] * 4, abs=0.4)


def test_hum_is_at_the_mains_frequency():
    for seed in range(4):
        spectrum = power_spectrum(make_noise("hum", 20 * RATE, RATE, generator(seed)), 1 << 15)
        hertz = np.fft.rfftfreq(1 << 15, 1 / RATE)[1:]
        peak = hertz[np.argmax(spectrum[1:])]
        assert min(abs(peak / mains - round(peak / mains)) for mains in (50, 60)) < 0.02, peak
        assert peak < 400


def test_no_tone_is_aliased():
    """A tone of 700 Hz at 8 kHz: nothing between its harmonics, none of which may pass 4 kHz."""
    from moe_asr.data.noises import _harmonics

    tone = _harmonics(8000, 8000, generator(), 700.0, np.ones(20))
    power = np.abs(np.fft.rfft(tone)) ** 2  # one bin a Hz
    harmonics = np.arange(700, 4000, 700)
    assert power[harmonics].min() > 1e3 * np.delete(power, harmonics).max()


@pytest.mark.parametrize("rt60, ratio", [(0.15, 0.0), (0.3, 12.0), (0.6, -2.0)])
def test_a_room_decays_by_60_db_in_its_reverberation_time(rt60, ratio):
    """By backward integration (M. R. Schroeder, 1965), over -5 to -25 dB."""
    measured, energies = [], []
    for seed in range(20):
        response = room_impulse_response(Room(rt60, ratio), RATE, generator(seed))
        assert response[0] == 1.0 == np.abs(response).max() and response.dtype == np.float32
        tail = np.square(response[1:], dtype=np.float64)
        energies.append(tail.sum())
        curve = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum() + 1e-12)
        begin, end = np.argmax(curve < -5), np.argmax(curve < -25)
        measured.append(60 * (end - begin) / RATE / (curve[begin] - curve[end]))
    assert np.mean(measured) == pytest.approx(rt60, rel=0.05)
    assert [decibel(1 / energy) for energy in energies] == pytest.approx([ratio] * 20, abs=0.05)


@pytest.fixture
def speech():
    rng = generator(5)
    burst = rng.standard_normal(RATE) * np.hanning(RATE)
    return np.pad(0.05 * burst, (3000, 5000)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 40.0])
@pytest.mark.parametrize("with_room", [False, True])
def test_ratio_and_level_are_what_was_asked_for(speech, snr_db, with_room):
    noise = make_noise("pink", len(speech), RATE, generator(7))
    response = room_impulse_response(Room(0.4, 3.0), RATE, generator(8)) if with_room else None
    cut, gain_db = in_surroundings(speech, noise, RATE, snr_db, -26.0, response)
    tracks = cut.load_audio(mixed=False)
    pieces = [np.mean(np.square(track[0], dtype=np.float64)) for track in tracks]
    assert decibel(pieces[0] / pieces[1]) == pytest.approx(snr_db, abs=0.01)
    assert decibel(pieces[0]) == pytest.approx(-26.0, abs=0.01)
    assert np.abs(cut.load_audio()[0] - tracks[0][0] - tracks[1][0]).max() < 1e-6
    assert gain_db == pytest.approx(-26 - decibel(np.mean(np.square(speech))), abs=0.01)
    assert np.corrcoef(tracks[1][0], noise)[0, 1] > 0.999


def test_a_room_does_not_move_the_speech(speech):
    """A click stays where it is; what follows is the room."""
    click = np.zeros(RATE, dtype=np.float32)
    click[4000] = 0.5
    room = Room(0.5, 6.0)
    response = room_impulse_response(room, RATE, generator(3))
    cut, _ = in_surroundings(click, np.zeros_like(click), RATE, 0.0, -40.0, response)
    samples = cut.load_audio()[0]
    assert np.argmax(np.abs(samples)) == 4000
    assert np.abs(samples[:4000]).max() < 1e-4 * np.abs(samples).max()
    expected = np.convolve(click, response)[: len(click)]
    assert samples / samples[4000] == pytest.approx(expected / expected[4000], abs=1e-4)


def test_the_response_is_the_same_in_every_call():
    digests = {
        hashlib.sha256(room_impulse_response(Room(0.3, 5.0), RATE, generator(1))).hexdigest()
        for _ in range(2)
    }
    assert len(digests) == 1
