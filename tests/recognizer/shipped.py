"""The shipped release, and commands said to it."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.spoken_streams import Spoken, say_sentences
from moe_asr.recognizer.recognizer import Recognizer

RELEASE = Path(__file__).parents[2] / "egs" / "voice_commands" / "release"
RATE = 16000
FLOOR = 10 ** (-66 / 20)


@lru_cache
def release() -> Recognizer:
    """The recogniser of the release folder; skips the test where it is not checked out."""
    if not RELEASE.is_dir():
        pytest.skip("the shipped release is not here")
    return Recognizer.from_dir(RELEASE)


@lru_cache
def commands(count: int) -> list[Spoken]:
    """Different commands; skips the test where there is no espeak-ng."""
    pytest.importorskip("espeakng_loader")
    return say_sentences(count, RATE)


def joined(sentences: list[Spoken], pause_seconds: float, seed: int = 0) -> np.ndarray:
    """One recording: a pause before each sentence and after the last, over a floor of noise."""
    pause = np.zeros(round(pause_seconds * RATE), np.float32)
    audio = np.concatenate([pause, *(part for one in sentences for part in (one.samples, pause))])
    noise = FLOOR * np.random.default_rng(seed).standard_normal(len(audio))
    return audio + noise.astype(np.float32)
