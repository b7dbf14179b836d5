"""Waveforms in and out of files, and resampling.

A waveform is float32, mono, of shape (num_samples,), with full scale at -1 and 1.
"""

import numpy as np
import soundfile
import soxr

from moe_asr.audio.reader import AudioReader
from moe_asr.errors import AudioError
from moe_asr.files import PathLike, atomic_path

_RESAMPLE_QUALITY = "HQ"
_PIECE = 1 << 20  # samples that are read at a time


def read_audio(
    path: PathLike, sample_rate: int | None = None, channel: int | None = None
) -> tuple[np.ndarray, int]:
    """Reads a whole file: WAV, FLAC, Ogg, MP3 and whatever else libsndfile knows.

    Args:
        path: the file.
        sample_rate: resample to this rate, in Hz; None keeps the file's.
        channel: which channel of a multi-channel file, from 0; None accepts only mono files.

    Returns:
        ``(samples, rate)``: (num_samples,) float32, and their rate in Hz.

    Raises:
        AudioError: naming the file, if it is not readable audio, shorter than its header says,
            empty, holds NaN or infinity, or has several channels and none was chosen. An Ogg
            stream promises no length, so a truncated one may pass for a short one.
    """
    with AudioReader(path, channel) as reader:
        rate, pieces = reader.sample_rate, []
        while len(piece := reader.read(_PIECE)):
            pieces.append(piece)
    samples = np.concatenate(pieces)
    if sample_rate is None or sample_rate == rate:
        return samples, rate
    return resample(samples, rate, sample_rate), sample_rate


def write_audio(
    path: PathLike, samples: np.ndarray, sample_rate: int, subtype: str | None = None
) -> None:
    """Writes a waveform atomically, in the format of the file's extension.

    Args:
        path: the file; its extension (.wav, .flac, .ogg, .mp3) names the format.
        samples: (num_samples,) floats; integer formats clip them to [-1, 1].
        sample_rate: in Hz.
        subtype: the encoding, as soundfile names it ("PCM_16", "FLOAT"); None takes the format's
            default (16 bit for WAV).

    Raises:
        AudioError: naming the file, if the samples are not a finite, non-empty mono waveform, or
            the format, encoding or rate cannot be written.
    """
    try:
        samples = as_waveform(samples)
        if len(samples) == 0:
            raise AudioError("found 0 samples; expected audio")
        with atomic_path(path) as temporary:
            soundfile.write(str(temporary), samples, sample_rate, subtype=subtype)
    except (AudioError, RuntimeError, TypeError, ValueError) as error:
        raise AudioError(f"{path}: cannot be written: {error}") from error


def as_waveform(samples: np.ndarray) -> np.ndarray:
    """The waveform as contiguous float32 of shape (num_samples,), from numpy or a CPU tensor.

    Raises:
        AudioError: if it is not one-dimensional, not of a floating type (integers would be of
            another scale) or not finite.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(f"samples of shape {array.shape}; expected mono audio, (num_samples,)")
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"samples of type {array.dtype}; expected floats in [-1, 1]")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        first = int(np.argmin(np.isfinite(array)))
        raise AudioError(f"sample {first} is {array[first]}; expected finite samples")
    return array


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resamples a waveform with soxr at its high quality, without delay.

    Args:
        samples: (num_samples,) floats.
        from_rate, to_rate: in Hz.

    Returns:
        (round(num_samples * to_rate / from_rate),) float32, give or take one sample.

    Raises:
        AudioError: on a rate that is not positive, or samples that `as_waveform` refuses.
    """
    _check_rates(from_rate, to_rate)
    samples = as_waveform(samples)
    if from_rate == to_rate or len(samples) == 0:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality=_RESAMPLE_QUALITY)


class StreamingResampler:
    """Resamples a waveform that arrives in pieces; all pieces out are `resample` of all pieces in.

    Until the last piece, output lags behind input by the filter's delay and soxr's blocks: from
    8 kHz to 16 kHz by 64 ms on average and 115 ms at most, from 48 kHz by 21 ms and 36 ms.

    Args:
        from_rate, to_rate: in Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        _check_rates(from_rate, to_rate)
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(
                from_rate, to_rate, num_channels=1, dtype="float32", quality=_RESAMPLE_QUALITY
            )
        )
        self._finished = False

    def process(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes a piece (num_in,), possibly empty, and returns what is ready: (num_out,) float32.

        Raises:
            AudioError: after the piece that was said to be the last, or on samples that
                `as_waveform` refuses.
        """
        if self._finished:
            raise AudioError("samples after the last piece; a new stream needs a new resampler")
        samples = as_waveform(samples)
        self._finished = last
        return samples if self._stream is None else self._stream.resample_chunk(samples, last=last)


def _check_rates(*rates: int) -> None:
    for rate in rates:
        if not 0 < rate < float("inf"):
            raise AudioError(f"a sample rate of {rate} Hz; expected more than 0")
