"""A waveform as a lhotse cut that needs no file, so that lhotse's transforms can work on it."""

import io
from typing import Any

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording


def in_memory_cut(cut_id: str, samples: np.ndarray, sample_rate: int, **custom: Any) -> MonoCut:
    """A cut of ``samples``, (num_samples,) floats, kept as they are (32 bit)."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, format="WAV", subtype="FLOAT")
    duration = len(samples) / sample_rate
    recording = Recording(
        id=cut_id,
        sources=[AudioSource(type="memory", channels=[0], source=stream.getvalue())],
        sampling_rate=sample_rate,
        num_samples=len(samples),
        duration=duration,
    )
    return MonoCut(
        id=cut_id, start=0.0, duration=duration, channel=0, recording=recording, custom=custom
    )
