"""Audio of people who talk to an assistant: sentences of the voice commands, spoken, with pauses between."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_asr.data.noises import make_noise, normalize
from moe_asr.data.speaking import Speaking
from moe_asr.data.speech_server import speak
from moe_asr.data.voices import voices_of
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.fsa.grammar_sampler import iterate_sentences

GRAMMAR = Path(__file__).parents[1] / "egs" / "voice_commands" / "grammar" / "assistant.gram"
LEVEL_DBFS, NOISE_DBFS = -26.0, -66.0


@dataclass(frozen=True, eq=False)
class Spoken:
    """A sentence: (num_samples,) float32 without silence at its ends."""

    text: str
    samples: np.ndarray


def say_sentences(count: int, sample_rate: int, seed: int = 0) -> list[Spoken]:
    """Different sentences of the grammar in the voices of the test set, all equally loud.

    Raises:
        MissingDependencyError: if ``espeakng-loader`` is not installed.
    """
    rng = random.Random(seed)
    sentences = iterate_sentences(read_grammar(GRAMMAR), rng, distinct=True)
    voices = voices_of("test")
    plan = [
        Speaking(text, rng.choice(voices), rng.randint(110, 180), 50, 50, 25)
        for text in itertools.islice(sentences, count)
    ]
    level = 10 ** (LEVEL_DBFS / 20)
    return [
        Spoken(what.text, (level * normalize(speech.samples)).astype(np.float32))
        for what, speech in zip(plan, speak(plan, sample_rate), strict=True)
    ]


def conversation(
    sentences: Sequence[Spoken],
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    pause_seconds: tuple[float, float] = (0.8, 2.0),
) -> np.ndarray:
    """(seconds * sample_rate,) float32: sentences at random, pauses drawn evenly, a floor of pink noise.

    The first sentence begins within a pause, and the last may be cut off in mid-word.
    """
    total = round(seconds * sample_rate)
    audio = 10 ** (NOISE_DBFS / 20) * make_noise("pink", total, sample_rate, rng)
    position = round(rng.uniform(0.0, pause_seconds[1]) * sample_rate)
    while position < total:
        samples = sentences[rng.integers(len(sentences))].samples[: total - position]
        audio[position : position + len(samples)] += samples
        position += len(samples) + round(rng.uniform(*pause_seconds) * sample_rate)
    return audio.astype(np.float32)
