"""Text files, line by line."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from moe_asr.errors import TextError
from moe_asr.files import PathLike


def read_lines(path: PathLike) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends (LF or CRLF), read as they are asked for.

    A file that gzip wrote is unpacked. Only a line feed ends a line: other separators of Unicode may
    stand inside a symbol.

    Raises:
        TextError: naming the file if it cannot be read, with the line if that is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=file) if packed else file
            for number, line in enumerate(stream, start=1):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise TextError(f"{path}:{number}: not UTF-8 text: {error}") from error
                yield text.removesuffix("\n").removesuffix("\r")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: cannot be read: {reason}") from error
