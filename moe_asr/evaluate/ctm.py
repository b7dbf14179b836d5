"""NIST's ctm files: words with times and confidences, a line each.

A line is ``file channel start duration word [confidence]``, seconds from the file's start. Lines of one file
and channel follow one another, in the order of their starts. ``;;`` begins a comment; a confidence may be
``NA``. (Format: the sclite manual of NIST's Scoring Toolkit.)
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from moe_asr.errors import DataError, TextError
from moe_asr.files import PathLike, write_text
from moe_asr.text.lines import read_lines

_NUMBERS = ("start", "duration", "confidence")


@dataclass(frozen=True)
class CtmWord:
    """A word and when it was said.

    Args:
        utterance_id: the first column: whatever the times count from the start of.
        channel: the second column, commonly ``1`` or ``A``.
        start_seconds, duration_seconds: not negative.
        word: without whitespace.
        confidence: between 0 and 1, or None.

    Raises:
        DataError: if a value is none of these.
    """

    utterance_id: str
    channel: str
    start_seconds: float
    duration_seconds: float
    word: str
    confidence: float | None = None

    def __post_init__(self) -> None:
        for name in ("utterance_id", "channel", "word"):
            value = getattr(self, name)
            if value.split() != [value] or value.startswith(";;"):
                raise DataError(f"{name} must be one word, found {value!r}")
        for name in ("start_seconds", "duration_seconds"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise DataError(f"{name} must not be negative, found {value}")
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise DataError(f"confidence must be between 0 and 1, found {self.confidence}")

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.duration_seconds


def read_ctm(path: PathLike) -> dict[str, list[CtmWord]]:
    """The words of each file (of all its channels), in the order of the lines.

    An utterance in which nothing was found has no lines, and is not among the keys.

    Raises:
        DataError: with file and line, if a line has another number of columns or a column that is no such
            value, if a word starts before the one above it, if a file and channel come again after others,
            or on what is not UTF-8; naming the file if it cannot be read.
    """
    words: dict[str, list[CtmWord]] = {}
    order = _Order()
    try:
        for number, line in enumerate(read_lines(path), start=1):
            text = line.removeprefix("\ufeff") if number == 1 else line
            if not text.strip() or text.lstrip().startswith(";;"):
                continue
            try:
                word = _parse(text.split())
                order.check(word)
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from error
            words.setdefault(word.utterance_id, []).append(word)
    except TextError as error:
        raise DataError(str(error)) from error
    return words


def write_ctm(path: PathLike, words: Iterable[CtmWord], decimals: int = 3) -> None:
    """Writes `ctm_lines` of ``words``, atomically."""
    write_text(path, "".join(f"{line}\n" for line in ctm_lines(words, str(path), decimals)))


def ctm_lines(words: Iterable[CtmWord], source: str, decimals: int = 3) -> list[str]:
    """Words in the order given, a line each.

    Times are rounded to ``decimals``, starts and ends rather than durations: words that met before meet
    afterwards. Confidences have four digits.

    Args:
        source: where they come from or go to, for messages.

    Raises:
        DataError: if a word starts before the one above it, or a file and channel come again after others.
    """
    order = _Order()
    lines = []
    for word in words:
        try:
            order.check(word)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
        start = round(word.start_seconds, decimals)
        duration = round(word.end_seconds, decimals) - start
        line = (
            f"{word.utterance_id} {word.channel} {start:.{decimals}f} {duration:.{decimals}f} "
            f"{word.word}"
        )
        lines.append(line if word.confidence is None else f"{line} {word.confidence:.4f}")
    return lines


def files_of_several_channels(words: Mapping[str, Iterable[CtmWord]]) -> set[str]:
    """The files of `read_ctm` that have words in more than one channel."""
    return {name for name, found in words.items() if len({word.channel for word in found}) > 1}


def ctm_texts(
    words: Mapping[str, Iterable[CtmWord]], several_channels: Collection[str] = ()
) -> dict[str, str]:
    """The words of each file as a text, in the order of their starts.

    Args:
        words: of `read_ctm`.
        several_channels: files whose channels are texts of their own, with ids ``file-channel``.

    Raises:
        DataError: if such an id is also that of a file.
    """
    texts: dict[str, list[str]] = {}
    sources: dict[str, tuple[str, str]] = {}
    for name, found in words.items():
        for word in found:
            channel = word.channel if name in several_channels else ""
            key = f"{name}-{channel}" if channel else name
            if sources.setdefault(key, (name, channel)) != (name, channel):
                raise DataError(f"'{key}' is a file, and a channel of another")
            texts.setdefault(key, []).append(word.word)
    return {name: " ".join(found) for name, found in texts.items()}


class _Order:
    """Checks that the words of a file and channel stand together and do not go back in time."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._last: CtmWord | None = None

    def check(self, word: CtmWord) -> None:
        key, last = (word.utterance_id, word.channel), self._last
        if last is None or (last.utterance_id, last.channel) != key:
            if key in self._seen:
                raise DataError(f"file {key[0]} channel {key[1]} comes again after others")
            self._seen.add(key)
        elif word.start_seconds < last.start_seconds:
            raise DataError(
                f"'{word.word}' of {key[0]} starts at {word.start_seconds}, before the word above it "
                f"({last.start_seconds})"
            )
        self._last = word


def _parse(fields: list[str]) -> CtmWord:
    if len(fields) not in (5, 6):
        raise DataError(
            f"expected 'file channel start duration word [confidence]', found {len(fields)} columns"
        )
    numbers = []
    for name, text in zip(_NUMBERS, (*fields[2:4], *fields[5:]), strict=False):
        try:
            numbers.append(None if text == "NA" and name == "confidence" else float(text))
        except ValueError:
            raise DataError(f"{name} must be a number, found '{text}'") from None
    start, duration, *confidence = numbers
    assert start is not None and duration is not None
    return CtmWord(fields[0], fields[1], start, duration, fields[4], *confidence)
