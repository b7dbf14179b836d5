"""What is shown of a stream, read back from a terminal as its user sees it."""

import io
import json
import os
import pty
import re
import struct
import termios
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from fcntl import ioctl
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.recognizer.display import (
    FinalLines,
    JsonLines,
    TerminalLine,
    make_display,
    partial_line,
    result_record,
    text_width,
)
from tests.recognizer.fakes import result

WIDE = "\u97f3\u4e50\u8bf7"


class Screen:
    """As much of a terminal as is needed: text of one or two columns, CR, LF, EL, SGR 0, 1 and 2."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[tuple[str, str]]] = [[]]  # cells: a character and its look
        self.place = 0
        self.look = ""

    def feed(self, text: str) -> "Screen":
        """Shows what is written to it; two cells have the same wide character."""
        for kind, character in re.findall(r"\x1b\[(\d*[Km])|(.)", text, re.DOTALL):
            row = self.rows[-1]
            if kind == "K":
                del row[self.place :]
            elif kind:
                self.look = {"0m": "", "1m": "bold", "2m": "dim"}[kind]
            elif character == "\r":
                self.place = 0
            elif character == "\n":
                self.rows.append([])
            else:
                assert character.isprintable(), repr(character)
                width = 1 + (character in WIDE)
                if self.place + width > self.columns:
                    self.rows.append(row := [])
                    self.place = 0
                row[self.place : self.place + width] = [(character, self.look)] * width
                self.place += width
        return self

    def lines(self, look: str | None = None) -> list[str]:
        """What each row says, or what it says in one look."""
        return [
            "".join(
                character
                for i, (character, own) in enumerate(row)
                if look in (None, own)
                and (character not in WIDE or [c for c, _ in row[:i]].count(character) % 2 == 0)
            )
            for row in self.rows
        ]


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A terminal of 20 columns: what a program writes to, and where it arrives."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST  # no CR before an LF: what is read is what was written
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8", newline="") as out:
        yield out, master
    os.close(master)


def test_line_in_place_on_a_real_terminal(terminal: tuple[TextIO, int]) -> None:
    out, master = terminal
    display = make_display(out, out, environment={"TERM": "xterm"})
    assert isinstance(display, TerminalLine)

    def screen() -> str:
        """All that was written since the last call; a terminal passes it on in pieces."""
        out.write("\x05")
        out.flush()
        data = b""
        while not data.endswith(b"\x05"):
            data += os.read(master, 65536)
        return data[:-1].decode()

    display.show(result("turn on"))
    display.show(result("turn on the", 2))
    seen = Screen(20).feed(screen())
    assert seen.lines() == ["turn on the"]
    assert seen.lines("bold") == ["turn on"] and seen.lines("dim") == [" the"]
    display.show(result("turn on the \u97f3\u4e50 in a kitchen", 4))
    seen.feed(screen())
    assert seen.lines() == ["...\u4e50 in a kitchen"]  # 18 columns of 19: the last one stays empty
    assert seen.lines("bold") == ["\u4e50"]
    ioctl(out.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 10, 12, 0, 0))
    display.show(result("turn on the \u97f3\u4e50 in the kitchens", 4))
    assert seen.feed(screen()).lines() == ["...kitchens"]
    ioctl(out.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    display.note("overrun\x1b[2J")  # what comes from elsewhere cannot command the terminal
    display.show(result("turn on the light", final=True))
    display.show(result("and", segment=1))
    display.show(result("", segment=1, final=True))
    display.show(result("then", segment=2))
    display.close()
    # the note is a line, the final is a line, nothing is left of the rest
    lines = seen.feed(screen().replace("\n", "\r\n")).lines()
    assert lines == ["overrun\ufffd[2J", "turn on the light", ""]


def test_nothing_is_written_twice_for_the_same_line() -> None:
    out = io.StringIO()
    display = TerminalLine(out, out)
    display.show(result("one two", 1))
    once = out.getvalue()
    display.show(result("one two", 1))
    assert out.getvalue() == once
    display.show(result("one two", 2))
    assert out.getvalue() != once


@given(st.lists(st.tuples(st.sampled_from(["partial", "final", "note"]), st.integers(0, 5))))
def test_screen_has_finals_notes_and_the_last_partial(events: list[tuple[str, int]]) -> None:
    """Whatever the order: no residue, no line lost."""
    out = io.StringIO()
    display = TerminalLine(out, out)  # no terminal: 80 columns, 79 of which are used
    expected, last = [], ""
    for kind, length in events:
        text = " ".join("abcde"[:length])
        if kind == "note":
            display.note(f"note {length}")
            expected.append(f"note {length}")
            continue
        display.show(result(text, final=kind == "final"))
        last = text if kind == "partial" else ""
        if kind == "final" and text:
            expected.append(text)
    screen = Screen(80).feed(out.getvalue().replace("\n", "\r\n"))
    assert screen.lines() == [*expected, last]
    display.close()
    assert Screen(80).feed(out.getvalue().replace("\n", "\r\n")).lines() == [*expected, ""]


def test_without_a_terminal_only_finals_are_printed() -> None:
    out, errors = io.StringIO(), io.StringIO()
    for display in (make_display(out, errors), make_display(out, errors, with_times=True)):
        assert isinstance(display, FinalLines)
        display.show(result("one tw"))
        display.show(result("one two", final=True))
        display.show(result("", final=True, segment=1))
        display.note("gap")
        display.close()
    assert out.getvalue() == "one two\n[0.00 - 1.00] one two\n"
    assert errors.getvalue() == "gap\n" * 2

    class Dumb(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(make_display(Dumb(), errors, environment={"TERM": "dumb"}), FinalLines)
    assert isinstance(make_display(Dumb(), errors, environment={}), TerminalLine)


def test_json_lines_are_records_of_all_results() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    display = make_display(out, io.StringIO(), as_json=True)
    assert isinstance(display, JsonLines)
    music = replace(
        result("\u97f3\u4e50 on", final=True, endpoint="rule2"), start_seconds=0.1234567
    )
    display.show(result("one", 1))
    display.show(music)
    first, second = (json.loads(line) for line in raw.getvalue().decode("utf-8").splitlines())
    assert first == result_record(result("one", 1))
    assert first["final"] is False and first["num_stable"] == 1 and "endpoint" not in first
    assert second == {
        "stream": "fake", "segment": 0, "final": True, "text": "\u97f3\u4e50 on", "num_stable": 2,
        "start": 0.123, "end": 1.0, "endpoint": "rule2",
        "words": [
            {"text": "\u97f3\u4e50", "start": 0.0, "end": 0.1, "confidence": 0.5},
            {"text": "on", "start": 0.1, "end": 0.2, "confidence": 0.5},
        ],
    }  # fmt: skip


def test_what_a_terminal_cannot_encode_does_not_stop_it() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    make_display(out, out).show(result("play \u97f3", final=True))
    assert raw.getvalue() == b"play ?\n"


def test_width_of_wide_and_combining_characters() -> None:
    assert text_width("abc") == 3
    assert text_width("\u97f3\u4e50") == 4  # Han
    assert text_width("e\u0301") == 1  # with an accent of its own
    assert text_width("\uff21") == 2  # a full-width A


WORDS = st.lists(
    st.sampled_from(["a", "bcd", "\u97f3\u4e50", "\u8bf7", "e\u0301e\u0301", "a\n\x1b"])
)


@given(WORDS, st.integers(1, 30), st.data())
def test_line_is_the_longest_end_that_fits(
    words: list[str], columns: int, data: st.DataObject
) -> None:
    text = " ".join(words)
    num_stable = data.draw(st.integers(0, len(words)))
    one = replace(result("x"), text=text, num_stable=num_stable)
    one = replace(one, words=tuple(replace(one.words[0], text=word) for word in words))
    line = partial_line(one, columns)
    parts = [part for part in line.replace("\x1b[1m", "\x1b[2m").split("\x1b[") if part]
    plain = "".join(part.split("m", 1)[1] for part in parts)
    shown = text.replace("\n", "\ufffd").replace("\x1b", "\ufffd")
    assert text_width(plain) <= columns
    if text_width(shown) <= columns:
        assert plain == shown
    else:
        end = plain.removeprefix("...") if columns > 3 else plain
        assert plain.startswith("...") or columns <= 3
        assert shown.endswith(end)
        assert not unicodedata.combining((end or "x")[0])  # no accent without its letter
        longer = shown[len(shown) - len(end) - 1 :]
        while text_width(longer) == text_width(end):  # an accent before it
            longer = shown[len(shown) - len(longer) - 1 :]
        assert text_width(longer) > columns - (3 if columns > 3 else 0)
    bold = [part[2:] for part in line.split("\x1b[") if part.startswith("1m")]
    assert len(bold) <= 1 and len("".join(bold)) <= len(" ".join(words[:num_stable]))
    assert shown[: len(" ".join(words[:num_stable]))].endswith("".join(bold))
