"""Utterances of a spoken corpus as audio: espeak-ng speaks, lhotse adds room, noise and level."""

from dataclasses import dataclass

import numpy as np
from lhotse.cut import MixedCut

from moe_asr.data.acoustics import in_surroundings, room_impulse_response
from moe_asr.data.noises import make_noise, normalize
from moe_asr.data.speech_server import speak
from moe_asr.data.spoken_plan import BABBLE, SpokenUtterance
from moe_asr.data.word_times import SpokenWord
from moe_asr.errors import DataError

MAX_PEAK = 0.98


@dataclass(frozen=True)
class RenderedUtterance:
    """One utterance as it goes to the file.

    Attributes:
        samples: (num_samples,) float32.
        words: their samples count from the start of ``samples``.
        gain_db: from what espeak-ng said to what is in the file.
    """

    samples: np.ndarray
    words: list[SpokenWord]
    gain_db: float


def render_utterance(utterance: SpokenUtterance, sample_rate: int) -> RenderedUtterance:
    """Makes one utterance. The same one gives the same samples in every process.

    Raises:
        DataError: naming the utterance, if espeak-ng cannot say it.
    """
    cut, words, gain_db = mix_utterance(utterance, sample_rate)
    samples = cut.load_audio()[0].astype(np.float32)
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        samples *= MAX_PEAK / peak
        gain_db += 20 * np.log10(MAX_PEAK / peak)
    return RenderedUtterance(samples, words, gain_db)


def mix_utterance(
    utterance: SpokenUtterance, sample_rate: int
) -> tuple[MixedCut, list[SpokenWord], float]:
    """The utterance as a lhotse cut of two tracks, speech and noise; its words; the speech's gain in dB."""
    try:
        speech, *talkers = speak((utterance.speech, *utterance.talkers), sample_rate)
    except DataError as error:
        raise DataError(f"{utterance.id}: {error}") from error
    lead, trail = (
        round(seconds * sample_rate)
        for seconds in (utterance.lead_seconds, utterance.trail_seconds)
    )
    dry = np.pad(speech.samples, (lead, trail))
    rng = np.random.Generator(np.random.PCG64([*utterance.seed.encode()]))
    if utterance.noise == BABBLE:
        noise = _babble([talker.samples for talker in talkers], len(dry), rng)
    else:
        noise = make_noise(utterance.noise, len(dry), sample_rate, rng)
    response = None
    if utterance.room is not None:
        response = room_impulse_response(utterance.room, sample_rate, rng)
    cut, gain_db = in_surroundings(
        dry, noise, sample_rate, utterance.snr_db, utterance.level_dbfs, response
    )
    words = [w._replace(start=w.start + lead, end=w.end + lead) for w in speech.words]
    return cut, words, gain_db


def _babble(talkers: list[np.ndarray], num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """All talk at once, each from a random place in what they say, over and over; equally loud."""
    mixture = np.zeros(num_samples)
    for talker in talkers:
        repeats = -(-num_samples // len(talker)) + 1
        begin = int(rng.integers(len(talker)))
        mixture += normalize(np.tile(talker, repeats)[begin : begin + num_samples])
    return normalize(mixture).astype(np.float32)
