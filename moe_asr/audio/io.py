"""Waveforms in and out of files, and resampling.

A waveform is float32, mono, of shape (num_samples,), with full scale at -1 and 1.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from moe_asr.errors import AudioError
from moe_asr.files import PathLike, atomic_path

_RESAMPLE_QUALITY = "HQ"
# Programs that write to a pipe cannot know the size in advance and put one of these placeholders:
# 0xFFFFFFFF (ffmpeg), 0x80000000 and 0x7FFFFFFF (arecord), 0x7FFFF000 and a little more (sox).
_PLACEHOLDER_SIZE = 0x7FFFF000


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
    file: str | BinaryIO = str(path)
    layout = _find_wav_data(path)
    if layout is not None and layout.is_placeholder:
        file = _with_real_size(path, layout)
    elif layout is not None and layout.promised > layout.available:
        raise AudioError(
            f"{path}: truncated: the header promises {layout.promised} bytes of samples, "
            f"the file has {layout.available}"
        )
    try:
        with soundfile.SoundFile(file) as sound:
            promised, channels, rate = sound.frames, sound.channels, sound.samplerate
            samples_TC = sound.read(dtype="float32", always_2d=True)
    except (RuntimeError, OSError, TypeError) as error:  # TypeError: raw audio by its file name
        reason = "no such file" if not Path(path).exists() else f"not readable as audio: {error}"
        raise AudioError(f"{path}: {reason}") from error
    if len(samples_TC) < promised:
        raise AudioError(
            f"{path}: truncated: the header promises {promised} samples, found {len(samples_TC)}"
        )
    if len(samples_TC) == 0:
        raise AudioError(f"{path}: empty: found 0 samples; expected audio")
    if channel is None and channels != 1:
        raise AudioError(f"{path}: found {channels} channels; expected mono, or choose a channel")
    if channel is not None and not 0 <= channel < channels:
        raise AudioError(f"{path}: channel {channel} was asked for; found {channels} channel(s)")
    samples = np.ascontiguousarray(samples_TC[:, channel or 0])
    if not np.isfinite(samples).all():
        first = int(np.argmin(np.isfinite(samples)))
        raise AudioError(f"{path}: sample {first} is {samples[first]}; expected finite samples")
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


@dataclass(frozen=True)
class _WavData:
    """Where the samples of a WAV file lie: byte offset, promised and available size in bytes."""

    offset: int
    promised: int
    available: int
    is_placeholder: bool
    byte_order: str


def _find_wav_data(path: PathLike) -> _WavData | None:
    """Finds the data chunk of a RIFF, RIFX or RF64 file; None for another format or no such chunk.

    libsndfile reads a truncated WAV without complaint, as far as it goes; hence this.
    """
    try:
        with open(path, "rb") as file:
            total = file.seek(0, io.SEEK_END)
            file.seek(0)
            header = file.read(12)
            if header[:4] not in (b"RIFF", b"RIFX", b"RF64") or header[8:] != b"WAVE":
                return None
            order = ">" if header[:4] == b"RIFX" else "<"
            (riff_size,) = struct.unpack(f"{order}I", header[4:8])
            size_64 = None
            while len(chunk := file.read(8)) == 8:
                (size,) = struct.unpack(f"{order}I", chunk[4:])
                start = file.tell()
                if chunk[:4] == b"data":
                    if size == 0xFFFFFFFF and size_64 is not None:
                        size = size_64
                        unknown = False
                    elif size == 0:  # an empty file says so in both sizes, a stream in neither
                        unknown = riff_size in (0, 0xFFFFFFFF)
                    else:
                        unknown = size >= _PLACEHOLDER_SIZE
                    available = total - start
                    is_placeholder = unknown and size != available and available > 0
                    return _WavData(start, size, available, is_placeholder, order)
                if chunk[:4] == b"ds64" and size >= 16:
                    (size_64,) = struct.unpack(f"{order}8xQ", file.read(16).ljust(16, b"\0"))
                file.seek(start + size + size % 2)
    except OSError:
        pass  # soundfile meets the same error, and its message is the one to show
    return None


def _with_real_size(path: PathLike, layout: _WavData) -> BinaryIO:
    """The file in memory, placeholder replaced: libsndfile takes a size of 0 at its word."""
    content = bytearray(Path(path).read_bytes())
    size = min(layout.available, 0xFFFFFFFE)
    content[layout.offset - 4 : layout.offset] = struct.pack(f"{layout.byte_order}I", size)
    return io.BytesIO(bytes(content))
