"""Rooms, noise and level, put on a waveform by lhotse's transforms."""

from dataclasses import dataclass

import numpy as np
from lhotse.cut import MixedCut

from moe_asr.data.memory_cut import in_memory_cut

_PREDELAY_SECONDS = 0.0025  # of the first reflection
_DECAY = 3 * np.log(10)  # exp(-_DECAY) is -60 dB in amplitude


@dataclass(frozen=True)
class Room:
    """A room as a microphone in it hears it.

    Attributes:
        rt60_seconds: the time in which the reverberation falls by 60 dB.
        direct_to_reverberant_db: energy of the direct sound over that of all reflections.
    """

    rt60_seconds: float
    direct_to_reverberant_db: float


def room_impulse_response(room: Room, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A random impulse response: (num_samples,) float32, the direct sound first, with amplitude 1.

    The reflections are Gaussian noise that decays exponentially (J.-D. Polack, La transmission de
    l'energie sonore dans les salles, 1988). lhotse's own generator needs torchaudio, and what it draws
    cannot be asked for by reverberation time.
    """
    begin = max(1, round(_PREDELAY_SECONDS * sample_rate))
    seconds = np.arange(1, max(begin + 1, round(room.rt60_seconds * sample_rate))) / sample_rate
    reflections = rng.standard_normal(len(seconds)) * np.exp(-_DECAY * seconds / room.rt60_seconds)
    reflections[: begin - 1] = 0.0
    energy = 10 ** (-room.direct_to_reverberant_db / 10)
    reflections *= np.sqrt(energy / np.sum(reflections**2))
    limit = 0.9  # lhotse takes the largest sample for the direct sound
    return np.concatenate([[1.0], np.clip(reflections, -limit, limit)]).astype(np.float32)


def in_surroundings(
    speech: np.ndarray,
    noise: np.ndarray,
    sample_rate: int,
    snr_db: float,
    level_dbfs: float,
    impulse_response: np.ndarray | None = None,
) -> tuple[MixedCut, float]:
    """Speech in a room with a noise, as a lhotse cut whose first track is the speech.

    Args:
        speech, noise: (num_samples,) float32.
        snr_db: mean square of the (reverberant) speech over that of the noise, both over all samples.
        level_dbfs: root mean square of the speech in the result, over all samples.
        impulse_response: of the room; None: no reverberation.

    Returns:
        ``(cut, gain_db)``: the gain that brings the speech to its level.
    """
    assert len(speech) == len(noise), (len(speech), len(noise))
    rms = float(np.sqrt(np.mean(np.square(speech, dtype=np.float64))))
    gain_db = level_dbfs - 20 * np.log10(rms)
    cut = in_memory_cut("speech", speech, sample_rate)
    if impulse_response is not None:  # keeps the mean square, and the place of the direct sound
        response = in_memory_cut("room", impulse_response, sample_rate)
        cut = cut.reverb_rir(rir_recording=response.recording)
    cut = cut.perturb_volume(10 ** (gain_db / 20))
    return cut.mix(in_memory_cut("noise", noise, sample_rate), snr=snr_db), gain_db
