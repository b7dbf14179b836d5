"""The sizes in a WAV file's header, which libsndfile believes: truncated files, and files from a pipe."""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from moe_asr.files import PathLike

# Programs that write to a pipe cannot know the size in advance and put one of these placeholders:
# 0xFFFFFFFF (ffmpeg), 0x80000000 and 0x7FFFFFFF (arecord), 0x7FFFF000 and a little more (sox).
# Other sizes beyond 2 GB are those of long recordings.
_PLACEHOLDERS = (range(0x7FFFF000, 0x80001000), range(0xFFFFF000, 0x100000000))
_LARGEST_SIZE = 0xFFFFFFFE


@dataclass(frozen=True)
class WavData:
    """Where the samples of a WAV file lie: byte offset, promised and available size in bytes."""

    offset: int
    promised: int
    available: int
    is_placeholder: bool
    byte_order: str


def find_wav_data(path: PathLike) -> WavData | None:
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
                        unknown = any(size in sizes for sizes in _PLACEHOLDERS)
                    available = total - start
                    is_placeholder = unknown and size != available and available > 0
                    return WavData(start, size, available, is_placeholder, order)
                if chunk[:4] == b"ds64" and size >= 16:
                    (size_64,) = struct.unpack(f"{order}8xQ", file.read(16).ljust(16, b"\0"))
                file.seek(start + size + size % 2)
    except OSError:
        pass  # soundfile meets the same error, and its message is the one to show
    return None


def open_with_real_size(path: PathLike, layout: WavData) -> BinaryIO:
    """The file, its placeholder replaced while it is read: libsndfile takes a size of 0 at its word.

    Raises:
        OSError: if it cannot be opened.
    """
    size = struct.pack(f"{layout.byte_order}I", min(layout.available, _LARGEST_SIZE))
    return io.BufferedReader(_PatchedFile(path, layout.offset - len(size), size))


class _PatchedFile(io.RawIOBase):
    """A file in which some bytes read as others."""

    def __init__(self, path: PathLike, offset: int, patch: bytes) -> None:
        self._file = open(path, "rb", buffering=0)
        self._offset, self._patch = offset, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # whatever has a memoryview
        position = self._file.tell()
        count = self._file.readinto(buffer) or 0
        start = max(position, self._offset)
        end = min(position + count, self._offset + len(self._patch))
        if start < end:
            patch = self._patch[start - self._offset : end - self._offset]
            memoryview(buffer)[start - position : end - position] = patch
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
