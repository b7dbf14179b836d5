"""Connected digit strings as audio: recordings laid on a noise floor with lhotse's mixing."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from lhotse import MonoCut
from lhotse.cut import Cut

from moe_asr.audio.io import read_audio
from moe_asr.data.digit_plan import DigitString
from moe_asr.data.fsdd import DigitRecording
from moe_asr.data.memory_cut import in_memory_cut
from moe_asr.errors import DataError

MAX_PEAK = 0.9
_NOISE_SECONDS = 40


def mix_digit_string(string: DigitString) -> Cut:
    """The string as a lhotse MixedCut: a noise floor, with the digits mixed in at their places."""
    rate = string.sample_rate
    digits = [_digit_cut(recording, rate) for recording in string.recordings]
    peak = max(cut.custom["peak"] for cut in digits)
    gain = min(10 ** (string.gain_db / 20), MAX_PEAK / peak)
    source = _noise_cut(string.split, string.pink, rate)
    slack = source.recording.num_samples - string.num_samples
    if slack <= 0:
        raise DataError(
            f"{string.id}: {string.num_samples / rate:.1f} s; at most {_NOISE_SECONDS} s fit"
        )
    mixed: Cut = source.truncate(
        offset=int(string.noise_position * slack) / rate, duration=string.num_samples / rate
    ).perturb_volume(10 ** (string.noise_dbfs / 20))
    for cut, start in zip(digits, string.starts, strict=True):
        mixed = mixed.mix(cut.perturb_volume(gain), offset_other_by=start / rate)
    return mixed


def render_digit_string(string: DigitString) -> np.ndarray:
    """The waveform of a string: (num_samples,) float32, peak about 0.9 at most."""
    samples = mix_digit_string(string).load_audio()[0]
    assert abs(len(samples) - string.num_samples) <= 1, (string, len(samples))
    samples = np.pad(samples[: string.num_samples], (0, max(0, string.num_samples - len(samples))))
    return np.clip(samples, -1.0, 1.0)


@lru_cache(maxsize=4096)
def _digit_cut(recording: DigitRecording, rate: int) -> MonoCut:
    """One recording at ``rate``, decoded and resampled once; ``custom["peak"]`` is its peak."""
    samples, _ = read_audio(Path(recording.path), rate)
    peak = float(np.abs(samples).max())
    if peak == 0.0:
        raise DataError(f"{recording.path}: digital silence; expected a spoken digit")
    return in_memory_cut(recording.id, samples, rate, peak=peak)


@lru_cache(maxsize=8)
def _noise_cut(split: str, pink: bool, rate: int) -> MonoCut:
    """A stretch of noise with RMS 1; each split has its own."""
    rng = np.random.Generator(np.random.PCG64([*split.encode(), int(pink)]))
    num_samples = _NOISE_SECONDS * rate
    noise = rng.standard_normal(num_samples)
    if pink:
        spectrum = np.fft.rfft(noise)
        frequency = np.maximum(np.fft.rfftfreq(num_samples, 1 / rate), 20.0)  # flat below 20 Hz
        noise = np.fft.irfft(spectrum / np.sqrt(frequency), num_samples)
    noise /= np.sqrt(np.mean(noise**2))
    return in_memory_cut(f"noise-{split}", noise.astype(np.float32), rate)
