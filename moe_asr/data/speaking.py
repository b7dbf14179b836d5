"""Dry speech of espeak-ng: cut at its ends, at the sample rate wanted, with the times of its words."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from moe_asr.audio.io import resample
from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.voices import Voice
from moe_asr.data.word_times import SpokenWord, word_times
from moe_asr.errors import DataError

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
