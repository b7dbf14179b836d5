"""Texts some places of which may be said in several ways, as sclite's ``{ going to / gonna / @ }``.

Reference and hypothesis are graphs of words then. What is scored is the pair of readings with the fewest
errors; it is found by edit distance between the two graphs, exactly, however many readings there are.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_asr.errors import DataError
from moe_asr.evaluate.units import Words, split_text

Reading = tuple[str, ...]
Segment = str | tuple[Reading, ...]  # a word, or its alternatives
Segments = Sequence[Segment]
Arc = tuple[int, str | None]  # the state it leads to, and its unit
MAX_READINGS = 1000  # of one place with alternatives inside alternatives
NOTHING = "@"  # the alternative of saying nothing
SIGNS = ("{", "/", "}")
MAX_CELLS = 1 << 27  # of a table of 8 bytes each: texts of 11,000 units


def parse_alternatives(text: str) -> list[Segment]:
    """Words and alternatives of a text in which ``{``, ``/`` and ``}`` stand between spaces.

    Alternatives may hold alternatives. A slash outside of braces is a word.

    Raises:
        DataError: if braces do not match, an alternative is empty (``@`` says nothing), or one place has
            more than `MAX_READINGS` readings.
    """
    words = iter(text.split())
    return list(_parse(words, inside=False)[0])


def _parse(words: Iterator[str], inside: bool) -> tuple[Segments, str]:
    """Segments up to a ``/`` or ``}`` of this level, and that sign."""
    segments: list[Segment] = []
    for word in words:
        if word == "{":
            readings: dict[Reading, None] = {}
            sign = "/"
            while sign == "/":
                one, sign = _parse(words, inside=True)
                if not one:
                    raise DataError("an alternative is empty; '@' is the one of saying nothing")
                readings.update(dict.fromkeys(expand(one)))
            segments.append(tuple(readings))
        elif word == "}" and not inside:
            raise DataError("a '}' has no '{' before it")
        elif word == "}" or (word == "/" and inside):
            return segments, word
        else:
            segments.append(word)
    if inside:
        raise DataError("a '{' has no '}' after it")
    return segments, ""


def expand(segments: Segments) -> list[Reading]:
    """Every reading, without `NOTHING`; `DataError` if there are more than `MAX_READINGS`."""
    readings: list[Reading] = [()]
    for segment in segments:
        ways = ((segment,),) if isinstance(segment, str) else segment
        readings = [
            reading + tuple(word for word in way if word != NOTHING)
            for reading in readings
            for way in ways
        ]
        if len(readings) > MAX_READINGS:
            raise DataError(f"alternatives in alternatives have more than {MAX_READINGS} readings")
    return list(dict.fromkeys(readings))


def best_readings(
    reference: Segments, hypothesis: Segments, unit: str = "word"
) -> tuple[Words, Words]:
    """The readings of both that differ by the fewest errors, as units.

    Of several, those with the longest reference, which make the lowest rate.

    Args:
        reference, hypothesis: of `parse_alternatives`.
        unit: what errors are counted in, a key of `UNITS`.

    Raises:
        DataError: if both are so long that they would need more than a gigabyte.
    """
    from moe_asr.evaluate.alternatives_kernels import best_paths

    ids: dict[str, int] = {}
    left, right = _graph(reference, unit, ids), _graph(hypothesis, unit, ids)
    height, width = (len(graph.splits) - 1 for graph in (left, right))
    if height * width > MAX_CELLS:
        raise DataError(
            f"texts of {height - 1} and {width - 1} units are too long to be scored with alternatives: "
            f"{MAX_CELLS} pairs of them are the most; cut the utterance"
        )
    units = list(ids)
    paths = best_paths(*left, *right)
    readings = [
        [units[number] for number in graph.unit[arcs[::-1]].tolist()]
        for graph, arcs in zip((left, right), paths, strict=True)
    ]
    return readings[0], readings[1]


class _Graph(NamedTuple):
    """Arcs sorted by where they lead, as `alternatives_kernels` takes them."""

    splits: NDArray[np.int64]
    source: NDArray[np.int64]
    unit: NDArray[np.int64]


def _graph(segments: Segments, unit: str, ids: dict[str, int]) -> _Graph:
    """The graph of a text; units that ``ids`` lacks get numbers in it."""
    leaving = _arcs(segments, unit)
    arcs = [
        (to, source, -1 if one is None else ids.setdefault(one, len(ids)))
        for source, row in enumerate(leaving)
        for to, one in row
    ]
    table = np.array(sorted(arcs), np.int64).reshape(-1, 3)
    splits = np.searchsorted(table[:, 0], np.arange(len(leaving) + 2)).astype(np.int64)
    return _Graph(splits, table[:, 1].copy(), table[:, 2].copy())


def _arcs(segments: Segments, unit: str) -> list[list[Arc]]:
    """The arcs that leave each state but the final one: where to, and with which unit or none."""
    arcs: list[list[Arc]] = []
    for segment in segments:
        ways = ((segment,),) if isinstance(segment, str) else segment
        split = [split_text(" ".join(way), unit) for way in ways]
        begin = len(arcs)
        end = begin + 1 + sum(max(0, len(units) - 1) for units in split)
        arcs += [[] for _ in range(end - begin)]
        free = begin + 1
        for units in split:
            state = begin
            for position, one in enumerate(units):
                last = position == len(units) - 1
                arcs[state].append((end if last else free, one))
                if not last:
                    state, free = free, free + 1
            if not units:
                arcs[begin].append((end, None))
    return arcs
