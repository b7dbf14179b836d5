"""Texts some places of which may be said in several ways, as sclite's ``{ going to / gonna / @ }``.

Reference and hypothesis are graphs of words then. What is scored is the pair of readings with the fewest
errors; it is found by edit distance between the two graphs, exactly, however many readings there are.
"""

from collections.abc import Iterator, Sequence

from moe_asr.errors import DataError
from moe_asr.evaluate.units import Words, split_text

Reading = tuple[str, ...]
Segment = str | tuple[Reading, ...]  # a word, or its alternatives
Segments = Sequence[Segment]
Arc = tuple[int, str | None]  # the state it leads to, and its unit
MAX_READINGS = 1000  # of one place with alternatives inside alternatives
NOTHING = "@"  # the alternative of saying nothing
SIGNS = ("{", "/", "}")
_ERROR = 1 << 32  # more than a text has units: see `best_readings`


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
    """
    rows, columns = _arcs(reference, unit), _arcs(hypothesis, unit)
    # Costs are errors, and what they have in common less the length of the reference. Arcs lead to states of
    # higher numbers: by the time a pair of states is reached in order, all ways to it have been seen.
    height, width = len(rows) + 1, len(columns) + 1
    infinity = _ERROR * (height + width)
    costs = [[infinity] * width for _ in range(height)]
    back: list[list[tuple[int, int, str | None, str | None]]] = [
        [(0, 0, None, None)] * width for _ in range(height)
    ]
    costs[0][0] = 0
    for i in range(height):
        for j in range(width):
            cost = costs[i][j]
            below: list[Arc] = rows[i] if i < height - 1 else []
            beside: list[Arc] = columns[j] if j < width - 1 else []
            steps: list[tuple[int, int, str | None, str | None]] = [
                *((i, m, None, right) for m, right in beside),
                *((k, j, left, None) for k, left in below),
                *(
                    (k, m, left, right)
                    for k, left in below
                    for m, right in beside
                    if left is not None and right is not None
                ),
            ]
            for k, m, left, right in steps:
                found = cost + (left != right) * _ERROR - (left is not None)
                if found < costs[k][m]:
                    costs[k][m] = found
                    back[k][m] = i, j, left, right
    i, j = height - 1, width - 1
    lefts: list[str] = []
    rights: list[str] = []
    while i or j:
        i, j, left, right = back[i][j]
        lefts += [] if left is None else [left]
        rights += [] if right is None else [right]
    return lefts[::-1], rights[::-1]


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
