"""Dry speech of espeak-ng: cut at its ends, at the sample rate wanted, with the times of its words."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from moe_asr.audio.io import resample
from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.voices import Voice
from moe_asr.data.word_times import SpokenWord, word_times
from moe_asr.errors import ConfigError, DataError

_TRIM_DB = -50.0  # what is quieter than this, from the peak, at the ends is cut off
_MIN_RMS = 1e-3  # the quietest voice is louder than three times this


@dataclass(frozen=True)
class Speaking:
    """What espeak-ng is told: see `moe_asr.data.espeak.EspeakSynthesizer.speak`."""

    text: str
    voice: Voice
    rate: int
    pitch: int
    pitch_range: int
    volume: int


class Speech(NamedTuple):
    """Dry speech: (num_samples,) float32, and the words in it."""

    samples: np.ndarray
    words: list[SpokenWord]


def say_text(
    text: str,
    voice: str = "en-us",
    sample_rate: int = 16000,
    rate: int = 150,
    silence_seconds: float = 0.3,
) -> np.ndarray:
    """Says a text with silence around it: (num_samples,) float32.

    Args:
        voice: espeak-ng's name, see `EspeakSynthesizer.synthesize`.
        sample_rate: in Hz.
        rate: words per minute, 80 to 450.
        silence_seconds: before it, and after it.

    Raises:
        ConfigError: if a number is out of its range, or there is nothing to say.
        DataError: if the voice is unknown, or cannot be heard with this text.
        MissingDependencyError: if espeak-ng is not installed.
    """
    for name, value, low, high in (
        ("rate", rate, 80, 450),
        ("sample_rate", sample_rate, 4000, 192000),
        ("silence_seconds", silence_seconds, 0.0, 3600.0),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{name} must be between {low} and {high}, found {value}")
    if not text.strip():
        raise ConfigError("there is nothing to say: the text is empty")
    engine = EspeakSynthesizer()
    samples = engine.synthesize(text, voice, rate)
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 10 ** (_TRIM_DB / 20))
    if len(loud) == 0:
        raise DataError(f"espeak-ng says nothing of '{text}' with voice '{voice}'")
    spoken = resample(samples[loud[0] : loud[-1] + 1], engine.sample_rate, sample_rate)
    silence = np.zeros(round(silence_seconds * sample_rate), np.float32)
    return np.concatenate([silence, spoken, silence])


def say(engine: EspeakSynthesizer, what: Speaking, sample_rate: int) -> Speech:
    """Says a text; cuts off the silence around it.

    Raises:
        DataError: if a word was not spoken, or is not to be heard.
    """
    voice = what.voice.espeak_name
    samples, events = engine.speak(
        what.text, voice, what.rate, what.pitch, what.pitch_range, what.volume
    )
    words = word_times(what.text, events, len(samples), lambda word: engine.phonemes(word, voice))
    magnitude = np.abs(samples)
    loud = np.flatnonzero(magnitude > magnitude.max(initial=0.0) * 10 ** (_TRIM_DB / 20))
    if len(loud) == 0 or np.sqrt(np.mean(samples**2)) < _MIN_RMS:
        raise DataError(f"espeak-ng whispers '{what.text}' with voice '{what.voice.name}'")
    first, last = int(loud[0]), int(loud[-1]) + 1
    trimmed = resample(samples[first:last], engine.sample_rate, sample_rate)
    ratio = sample_rate / engine.sample_rate

    def moved(sample: int) -> int:
        return min(len(trimmed), max(0, round((sample - first) * ratio)))

    shifted = [word._replace(start=moved(word.start), end=moved(word.end)) for word in words]
    for word in shifted:
        if word.start >= word.end:
            raise DataError(
                f"'{what.text}': '{word.text}' is not to be heard from voice '{what.voice.name}'"
            )
    return Speech(trimmed, shifted)
