"""A sound file read from its beginning to its end, with every check that audio needs.

libsndfile reads WAV, FLAC, MP3, Ogg Vorbis, Opus, AIFF and more. A compressed stream whose writer did not
know its length (FLAC from a pipe) is read to its end.
"""

import os
import stat
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile

from moe_asr.audio.wav_header import find_wav_data, open_with_real_size
from moe_asr.errors import AudioError
from moe_asr.files import PathLike

_PIECE = 1 << 22  # values of all channels that are in memory at a time
_UNKNOWN_LENGTH = 1 << 62  # samples; libsndfile says 2 ** 63 - 1 where it does not know
# What soundfile raises; a TypeError on raw audio, by its file name.
_ERRORS = (RuntimeError, OSError, TypeError)


class AudioReader:
    """One channel of a file, piece by piece.

    Args:
        path: the file.
        channel: which one, from 0; None accepts only mono files.

    Attributes:
        sample_rate: the file's, in Hz.
        num_samples: as the header has it; None where it does not say.

    Raises:
        AudioError: naming the file, if it is not readable audio, a WAV shorter than its header says, empty as
            its header says, or has several channels and none was chosen.
    """

    def __init__(self, path: PathLike, channel: int | None = None) -> None:
        self._path = path
        self._num_read = 0
        self._file: BinaryIO | None = None
        self._sound = self._open()
        self.sample_rate: int = self._sound.samplerate
        frames = self._sound.frames
        self.num_samples: int | None = frames if frames < _UNKNOWN_LENGTH else None
        try:
            self._channel = self._choose(channel)
        except AudioError:
            self.close()
            raise

    def _open(self) -> soundfile.SoundFile:
        path = self._path
        self._check_file()
        layout = find_wav_data(path)
        if layout is not None and not layout.is_placeholder and layout.promised > layout.available:
            raise AudioError(
                f"{path}: truncated: the header promises {layout.promised} bytes of samples, "
                f"the file has {layout.available}"
            )
        try:
            if layout is not None and layout.is_placeholder:
                self._file = open_with_real_size(path, layout)
            return _ForwardFile(self._file or os.fsencode(path))
        except _ERRORS as error:
            self._close_file()
            raise self._unreadable(error) from error

    def _check_file(self) -> None:
        """Opening a named pipe would wait for who writes to it, and a device need have no end."""
        try:
            mode = os.stat(self._path).st_mode
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
            raise AudioError(f"{self._path}: not readable as audio: {kind}, not a file")

    def _choose(self, channel: int | None) -> int:
        channels = self._sound.channels
        if self.num_samples == 0:
            raise AudioError(f"{self._path}: empty: found 0 samples; expected audio")
        if channel is None and channels != 1:
            raise AudioError(
                f"{self._path}: found {channels} channels; expected mono, or choose a channel"
            )
        if channel is not None and not 0 <= channel < channels:
            raise AudioError(
                f"{self._path}: channel {channel} was asked for; found {channels} channel(s)"
            )
        return channel or 0

    def read(self, max_samples: int) -> np.ndarray:
        """The next samples, (n,) float32: ``max_samples`` of them, fewer only at the end; then none.

        Raises:
            AudioError: naming the file, if the data is damaged, shorter than the header says or empty; if it
                holds NaN or infinity, naming the sample. An Ogg stream promises no length, so a truncated
                one may pass for a short one.
        """
        try:
            samples = self._read(max_samples)
        except _ERRORS as error:
            raise self._unreadable(error) from error
        if not np.isfinite(samples).all():
            first = int(np.argmin(np.isfinite(samples)))
            raise AudioError(
                f"{self._path}: sample {self._num_read + first} is {samples[first]}; "
                "expected finite samples"
            )
        self._num_read += len(samples)
        if len(samples) < max_samples:
            self._check_end()
        return samples

    def _read(self, max_samples: int) -> np.ndarray:
        """In pieces: a header may promise a rate of gigahertz, or a thousand channels."""
        most = max(1, _PIECE // self._sound.channels)
        pieces, missing = [np.zeros(0, np.float32)], max_samples
        while missing:
            asked = min(missing, most)
            piece_TC = self._sound.read(asked, dtype="float32", always_2d=True)
            pieces.append(piece_TC[:, self._channel].copy())
            missing -= len(piece_TC)
            if len(piece_TC) < asked:
                break
        return np.concatenate(pieces)

    def _check_end(self) -> None:
        if self._num_read < (self.num_samples or 0):
            raise AudioError(
                f"{self._path}: truncated: the header promises {self.num_samples} samples, "
                f"found {self._num_read}"
            )
        if self._num_read == 0:
            raise AudioError(f"{self._path}: empty: found 0 samples; expected audio")

    def _unreadable(self, error: Exception) -> AudioError:
        exists = os.path.exists(self._path)
        reason = f"not readable as audio: {error}" if exists else "no such file"
        return AudioError(f"{self._path}: {reason}")

    def close(self) -> None:
        """Closes the file; may be called again."""
        self._sound.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _ForwardFile(soundfile.SoundFile):
    """A file without seeking: soundfile seeks after each read, which streams of unknown length fail."""

    def seekable(self) -> bool:
        return False
