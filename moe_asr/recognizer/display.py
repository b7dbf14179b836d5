"""What is shown of a stream while it is recognised: a line in place, lines of finals, or lines of JSON.

The line in place shows stable words in bold and the others dim, and its end if it is too long for the
terminal. The codes are those of ECMA-48: carriage return, EL (erase to the end of the line) and SGR (bold,
faint, normal).
"""

import io
import json
import os
import shutil
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TextIO

from moe_asr.fsa.lattice_canvas import printable
from moe_asr.recognizer.results import Result

BOLD, DIM, NORMAL, ERASE = "\x1b[1m", "\x1b[2m", "\x1b[0m", "\r\x1b[K"
CUT = "..."  # before the end of a line that is too long
_WIDTHS = {"W": 2, "F": 2}
_NO_WIDTH = ("Mn", "Me", "Cf")


class Display(ABC):
    """Where results are written to, in the order in which they come."""

    @abstractmethod
    def show(self, result: Result) -> None:
        """A partial or a final result."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something that the user should know, one line."""

    @abstractmethod
    def close(self) -> None:
        """Leaves things in order after the last result."""


class _Lines(Display):
    """A result is at most a line; notes go elsewhere."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out = out
        self._errors = errors

    def note(self, text: str) -> None:
        print(_clean(text), file=self._errors, flush=True)

    def close(self) -> None:
        self._out.flush()


class FinalLines(_Lines):
    """Final results that have words, a line each; no codes.

    Args:
        out, errors: for results, and for notes.
        with_times: the segment's start and end stand before the text.
    """

    def __init__(self, out: TextIO, errors: TextIO, with_times: bool = False) -> None:
        super().__init__(out, errors)
        self._with_times = with_times

    def show(self, result: Result) -> None:
        if result.is_final and result.text:
            print(final_line(result, self._with_times), file=self._out, flush=True)


class JsonLines(_Lines):
    """All results, partial ones too, one JSON object a line (see `result_record`)."""

    def show(self, result: Result) -> None:
        line = json.dumps(result_record(result), ensure_ascii=False, allow_nan=False)
        print(line, file=self._out, flush=True)


class TerminalLine(Display):
    """One line of a terminal that is written anew with every partial result; finals stay above it.

    Args:
        out: a terminal; its width is asked for each time, so that it may be resized.
        errors: for notes; the line is taken away while one is written, in case this is the same terminal.
        with_times: see `FinalLines`.
    """

    def __init__(self, out: TextIO, errors: TextIO, with_times: bool = False) -> None:
        self._out = out
        self._errors = errors
        self._with_times = with_times
        self._line = ""

    def show(self, result: Result) -> None:
        if not result.is_final:
            line = partial_line(result, self._columns())
            if line != self._line:
                self._write(ERASE + line)
            self._line = line
        elif result.text:
            self._write(f"{ERASE}{final_line(result, self._with_times)}\n")
            self._line = ""
        else:
            self.close()

    def note(self, text: str) -> None:
        line = self._line
        self.close()
        print(_clean(text), file=self._errors, flush=True)
        self._write(line)
        self._line = line

    def close(self) -> None:
        if self._line:
            self._write(ERASE)
        self._line = ""

    def _columns(self) -> int:
        """Of the terminal, less the last: some go on to the next line when that is written to."""
        try:
            columns = os.get_terminal_size(self._out.fileno()).columns
        except OSError:
            columns = 0
        return max((columns or shutil.get_terminal_size().columns) - 1, 1)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def make_display(
    out: TextIO,
    errors: TextIO,
    as_json: bool = False,
    with_times: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Display:
    """The display that suits ``out``: codes are for terminals only, and not for dumb ones.

    JSON is written in UTF-8, whatever the locale; in text, what ``out`` cannot encode becomes a question
    mark.
    """
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(
            encoding="utf-8" if as_json else None, errors=None if as_json else "replace"
        )
    if as_json:
        return JsonLines(out, errors)
    if out.isatty() and environment.get("TERM") != "dumb":
        return TerminalLine(out, errors, with_times)
    return FinalLines(out, errors, with_times)


def final_line(result: Result, with_times: bool) -> str:
    """The text of a final result, perhaps after ``[start - end]`` of its segment in seconds."""
    text = _clean(result.text)
    if not with_times:
        return text
    return f"[{result.start_seconds:.2f} - {result.end_seconds:.2f}] {text}"


def partial_line(result: Result, columns: int) -> str:
    """Stable words bold, the others dim, in so many columns: the end of the line if it does not fit."""
    text = _clean(" ".join(word.text for word in result.words))
    first, mark = 0, ""
    if text_width(text) > columns:
        mark = CUT if columns > len(CUT) else ""
        first = _first_visible(text, columns - len(mark))
    border = max(len(result.stable_text), first)
    parts = ((DIM, mark), (BOLD, text[first:border]), (DIM, text[border:]))
    return "".join(f"{code}{part}{NORMAL}" for code, part in parts if part)


def text_width(text: str) -> int:
    """Columns of a terminal that a text takes, by Unicode's East Asian Width (UAX 11).

    Wide and full-width characters take two, combining and format characters none, all others one; a
    terminal may show sequences, as of emoji, in less.
    """
    return sum(map(_character_width, text))


def result_record(result: Result) -> dict[str, Any]:
    """A result as plain values: times in seconds to the millisecond, no confidences where there are none."""
    words = []
    for word in result.words:
        entry: dict[str, Any] = {
            "text": word.text,
            "start": round(word.start_seconds, 3),
            "end": round(word.end_seconds, 3),
        }
        if word.confidence is not None:
            entry["confidence"] = round(word.confidence, 4)
        words.append(entry)
    record: dict[str, Any] = {
        "stream": result.stream_id,
        "segment": result.segment,
        "final": result.is_final,
        "text": result.text,
        "num_stable": result.num_stable,
        "start": round(result.start_seconds, 3),
        "end": round(result.end_seconds, 3),
        "words": words,
    }
    return {**record, "endpoint": result.endpoint} if result.is_final else record


def _first_visible(text: str, columns: int) -> int:
    """Where the longest end of a text begins that fits."""
    first, width = len(text), 0
    for place in range(len(text) - 1, -1, -1):
        width += _character_width(text[place])
        if width > columns:
            break
        if _character_width(text[place]) > 0:  # a mark goes with the letter before it
            first = place
    return first


def _character_width(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return _WIDTHS.get(unicodedata.east_asian_width(character), 1)


def _clean(text: str) -> str:
    """Without control characters, whose place others take: what a terminal is told comes from here only."""
    return printable(text).replace("\n", "\ufffd")
