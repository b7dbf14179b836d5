"""sclite's trn files: ``text (id)``, a line each; ``;;`` begins a comment.

(Format: the sclite manual of NIST's Scoring Toolkit.)
"""

import re
from collections.abc import Mapping

from moe_asr.errors import DataError, TextError
from moe_asr.files import PathLike, write_text
from moe_asr.text.lines import read_lines

_LINE = re.compile(r"(.*)\(([^()\s]+)\)\s*")


def read_trn(path: PathLike) -> dict[str, str]:
    """The texts by id, in the order of the lines; spaces are single.

    Raises:
        DataError: with file and line if a line does not end with an id in parentheses, if an id comes twice,
            or on what is not UTF-8; naming the file if it cannot be read.
    """
    texts: dict[str, str] = {}
    try:
        for number, line in enumerate(read_lines(path), start=1):
            line = line.removeprefix("\ufeff")
            if not line.strip() or line.lstrip().startswith(";;"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise DataError(f"{path}:{number}: expected 'text (id)', found no id at the end")
            if match[2] in texts:
                raise DataError(f"{path}:{number}: utterance '{match[2]}' comes twice")
            texts[match[2]] = " ".join(match[1].split())
    except TextError as error:
        raise DataError(str(error)) from error
    return texts


def write_trn(path: PathLike, texts: Mapping[str, str]) -> None:
    """Writes ``text (id)`` lines, atomically.

    Raises:
        DataError: if an id is empty or has whitespace or parentheses, or a text would be a comment.
    """
    lines = []
    for name, text in texts.items():
        line = f"{' '.join(text.split())} ({name})".lstrip()
        if re.fullmatch(r"[^()\s]+", name) is None:
            raise DataError(
                f"{path}: utterance id {name!r} cannot be written: it is empty or has spaces or parentheses"
            )
        if line.startswith(";;"):
            raise DataError(f"{path}: the text of '{name}' begins with ;;, as comments do")
        lines.append(line + "\n")
    write_text(path, "".join(lines))
