"""Praat's TextGrid files, in the long text format: tiers of labelled intervals.

(Format: "TextGrid file formats" of the Praat manual, Boersma and Weenink.) Written in UTF-8; read in UTF-8 or
UTF-16, which Praat writes as well.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from moe_asr.errors import DataError
from moe_asr.files import PathLike, write_text

_DECIMALS = 6
# a string with doubled quotes, a free-standing number, or a flag; all other words are comments
_VALUE = re.compile(
    r'"((?:[^"]|"")*)"|(?<!\S)([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?!\S)|(<exists>)'
)
_TOP = ["ooTextFile", "TextGrid"]


@dataclass(frozen=True)
class Interval:
    """A stretch of time with a label; '' where nothing is said."""

    start_seconds: float
    end_seconds: float
    label: str


def fill_gaps(intervals: Iterable[Interval], duration_seconds: float) -> list[Interval]:
    """With intervals of the label '' wherever there is none, from 0 to the duration, as Praat wants it.

    Times are rounded to microseconds. What has no length then gets a microsecond, and its neighbours make
    room for it.

    Raises:
        DataError: if intervals overlap, go back in time, or are not within the duration; or if it does not
            have a microsecond for each.
    """
    step, duration = 10.0**-_DECIMALS, round(duration_seconds, _DECIMALS)
    intervals = list(intervals)
    filled: list[Interval] = []
    time = least = 0.0
    for number, interval in enumerate(intervals):
        start, end = interval.start_seconds, interval.end_seconds
        if not least - step <= start <= end <= duration + step:
            raise DataError(
                f"interval '{interval.label}' from {start} to {end} s: expected one between {least} and "
                f"{duration} s"
            )
        least = end
        # the last time at which there is room for this one and those that follow
        latest = round(duration - (len(intervals) - number) * step, _DECIMALS)
        if latest < time:
            raise DataError(f"{len(intervals)} intervals are too many for {duration} s")
        start = min(max(round(start, _DECIMALS), time), latest)
        end = min(max(round(end, _DECIMALS), start + step), latest + step)
        end = round(end, _DECIMALS)
        if start > time:
            filled.append(Interval(time, start, ""))
        filled.append(Interval(start, end, interval.label))
        time = end
    if time < duration:
        filled.append(Interval(time, duration, ""))
    return filled


def write_textgrid(
    path: PathLike, tiers: Mapping[str, Iterable[Interval]], duration_seconds: float
) -> None:
    """Writes tiers of intervals, atomically; gaps become intervals of their own.

    Args:
        path: of the file.
        tiers: by name.
        duration_seconds: of the utterance, positive.

    Raises:
        DataError: naming the file and the tier, see `fill_gaps`.
    """
    if not 0.5 * 10.0**-_DECIMALS < duration_seconds < math.inf:
        raise DataError(f"{path}: the duration must be positive, found {duration_seconds}")
    end = _number(duration_seconds)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
    ]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        try:
            filled = fill_gaps(intervals, duration_seconds)
        except DataError as error:
            raise DataError(f"{path}: tier '{name}': {error}") from error
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {end}",
            f"        intervals: size = {len(filled)}",
        ]
        for place, interval in enumerate(filled, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {_number(interval.start_seconds)}",
                f"            xmax = {_number(interval.end_seconds)}",
                f"            text = {_quoted(interval.label)}",
            ]
    write_text(path, "\n".join(lines) + "\n")


def read_textgrid(path: PathLike) -> tuple[dict[str, list[Interval]], float]:
    """The tiers of intervals by name, gaps included, and the end of the file's time in seconds.

    Reads the long format and the short one, which has the same values without their names.

    Raises:
        DataError: naming the file: it cannot be read, is no TextGrid, has a tier of points or a second tier
            of a name, or something else stands where a value is expected.
    """
    values = _Values(path)
    if [values.text(), values.text()] != _TOP:
        raise DataError(f"{path}: not a TextGrid")
    values.number()
    duration = values.number()
    values.flag()
    tiers: dict[str, list[Interval]] = {}
    for _ in range(values.count()):
        kind, name = values.text(), values.text()
        if kind != "IntervalTier":
            raise DataError(f"{path}: tier '{name}' is a {kind}; expected an IntervalTier")
        if name in tiers:
            raise DataError(f"{path}: a second tier '{name}'")
        values.number(), values.number()
        tiers[name] = [
            Interval(values.number(), values.number(), values.text()) for _ in range(values.count())
        ]
    return tiers, duration


class _Values:
    """The values of a file in their order: free-standing numbers, quoted strings, flags."""

    def __init__(self, path: PathLike) -> None:
        self._path = path
        try:
            content = Path(path).read_bytes()
            wide = content[:2] in (b"\xfe\xff", b"\xff\xfe")
            text = content.decode("utf-16" if wide else "utf-8-sig")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: neither UTF-8 nor UTF-16: {error}") from error
        self._found = _VALUE.finditer(text)

    def _next(self, group: int, expected: str) -> str:
        match = next(self._found, None)
        if match is None:
            raise DataError(f"{self._path}: expected {expected}, found the end of the file")
        if match[group] is None:
            line = match.string.count("\n", 0, match.start()) + 1
            raise DataError(f"{self._path}:{line}: expected {expected}, found {match[0]}")
        return match[group]

    def text(self) -> str:
        return self._next(1, "a quoted string").replace('""', '"')

    def number(self) -> float:
        return float(self._next(2, "a number"))

    def count(self) -> int:
        text = self._next(2, "a count")
        if not text.isdecimal():
            raise DataError(f"{self._path}: expected a count, found {text}")
        return int(text)

    def flag(self) -> None:
        self._next(3, "<exists>")


def _number(seconds: float) -> str:
    text = f"{seconds:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return text or "0"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
