"""Background noises made of random numbers: nothing is downloaded, and no two are the same."""

from collections.abc import Callable, Mapping

import numpy as np

_MIN_HZ = 20.0  # spectra are flat below
_TABLE_SIZE = 4096  # samples of one period of a tone


def make_noise(
    kind: str, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A noise of one of the `NOISE_KINDS`: (num_samples,) float32 with a mean square of 1."""
    noise = NOISE_KINDS[kind](num_samples, sample_rate, rng)
    return normalize(noise).astype(np.float32)


def normalize(samples: np.ndarray) -> np.ndarray:
    """Scaled to a mean square of 1; silence is returned as it is."""
    rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return samples / rms if rms > 0 else samples


def _white(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(num_samples)


def _pink(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    return _shaped(num_samples, sample_rate, rng, lambda hertz: hertz**-0.5)


def _brown(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    return _shaped(num_samples, sample_rate, rng, lambda hertz: hertz**-1.0)


def _hum(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The mains: 50 or 60 Hz with harmonics that fall off, over pink noise 10 to 20 dB below."""
    fundamental = rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    harmonics = np.arange(1, 25)
    amplitudes = rng.uniform(0.5, 1, len(harmonics)) / harmonics
    tone = _harmonics(num_samples, sample_rate, rng, fundamental, amplitudes)
    floor = normalize(_pink(num_samples, sample_rate, rng)) * 10 ** (-rng.uniform(10, 20) / 20)
    return normalize(tone) + floor


def _fan(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A fan or an engine: noise below a corner of 300 to 2000 Hz that throbs with the turning, and
    the tone of the blades."""
    corner, turning = rng.uniform(300, 2000), rng.uniform(8, 30)
    blades = int(rng.integers(3, 8))
    noise = _shaped(num_samples, sample_rate, rng, lambda hertz: 1 / (1 + (hertz / corner) ** 2))
    seconds = np.arange(num_samples) / sample_rate
    throb = 1 + rng.uniform(0.2, 0.7) * np.sin(2 * np.pi * (turning * seconds + rng.uniform()))
    tone = _harmonics(num_samples, sample_rate, rng, turning * blades, 1 / np.arange(1, 9))
    return normalize(noise) * throb + normalize(tone) * 10 ** (-rng.uniform(3, 15) / 20)


def _music(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked notes of a pentatonic scale, two voices, 2 to 6 notes a second."""
    music = np.zeros(num_samples)
    root, speed = rng.uniform(110, 220), rng.uniform(2, 6)
    length = int(1.5 * sample_rate)
    timbre = rng.uniform(0.3, 1, 5) / np.arange(1, 6)
    decay = np.exp(-np.arange(length) / (sample_rate * rng.uniform(0.15, 0.5)))
    for octave in (0, 1):
        begin = -int(rng.uniform(0, 1) * sample_rate)  # the first notes began before the recording
        while begin < num_samples:
            step = rng.choice([0, 2, 4, 7, 9]) + 12 * (octave + rng.integers(0, 2))
            note = _harmonics(length, sample_rate, rng, root * 2 ** (step / 12), timbre) * decay
            first, last = max(0, begin), min(num_samples, begin + length)
            if last > first:
                music[first:last] += rng.uniform(0.5, 1) * note[first - begin : last - begin]
            begin += max(1, int(sample_rate / speed * rng.choice([0.5, 1, 1, 2])))
    return music


def _harmonics(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    fundamental: float,
    amplitudes: np.ndarray,
) -> np.ndarray:
    """A periodic tone with random phases; harmonics from half of the sample rate are left out."""
    harmonics = np.arange(1, len(amplitudes) + 1)
    phases = rng.uniform(0, 2 * np.pi, len(amplitudes))
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=complex)
    audible = harmonics * fundamental < sample_rate / 2
    spectrum[harmonics[audible]] = (amplitudes * np.exp(1j * phases))[audible]
    period = np.fft.irfft(spectrum, _TABLE_SIZE) * _TABLE_SIZE
    position = np.arange(num_samples) * (fundamental / sample_rate * _TABLE_SIZE)
    return period[position.astype(np.int64) % _TABLE_SIZE]


def _shaped(
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    amplitude: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Gaussian noise with the amplitude spectrum ``amplitude(hertz)``."""
    size = 1 << (num_samples - 1).bit_length() if num_samples > 1 else 2  # a fast size
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    parts = rng.standard_normal((2, len(hertz)))
    spectrum = (parts[0] + 1j * parts[1]) * amplitude(np.maximum(hertz, _MIN_HZ))
    return np.fft.irfft(spectrum, size)[:num_samples]


NOISE_KINDS: Mapping[str, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "white": _white,
    "pink": _pink,
    "brown": _brown,
    "hum": _hum,
    "fan": _fan,
    "music": _music,
}
