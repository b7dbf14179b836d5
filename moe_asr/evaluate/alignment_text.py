"""Alignments as text: reference, hypothesis, and S, D or I under an error."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from moe_asr.evaluate.units import PLURALS, UNITS
from moe_asr.evaluate.wer import UtteranceScore, WerReport

GAP = "***"


def format_report(report: WerReport) -> str:
    """Totals, then the alignment of each utterance."""
    total = report.total
    wrong = sum(score.counts.errors > 0 for score in report.utterances.values())
    lines = [
        f"{UNITS[report.unit]} {total.wer:.2f} %: {total.errors} errors in "
        f"{total.reference_length} {PLURALS[report.unit]} "
        f"({total.substitutions} substitutions, {total.deletions} deletions, "
        f"{total.insertions} insertions); {wrong} of {len(report.utterances)} utterances "
        "have errors"
    ]
    for name, score in report.utterances.items():
        lines += ["", *format_alignment(name, score, report.unit)]
    return "\n".join(lines) + "\n"


def format_alignment(name: str, score: UtteranceScore, unit: str = "word") -> list[str]:
    """Lines of a readable alignment."""
    counts = score.counts
    return [
        f"{name}: {counts.substitutions} sub, {counts.deletions} del, {counts.insertions} ins, "
        f"{counts.reference_length} {PLURALS[unit]}",
        *_rows(score),
    ]


def _rows(score: UtteranceScore) -> Iterator[str]:
    references, hypotheses, marks = ["  ref"], ["  hyp"], ["  err"]
    for reference, hypothesis in score.alignment:
        if reference == hypothesis:
            assert reference is not None
            references.append(reference)
            hypotheses.append(reference)
            marks.append(" " * columns(reference))
            continue
        mark = "I" if reference is None else "D" if hypothesis is None else "S"
        left, right = reference or GAP, hypothesis or GAP
        room = columns(left) - columns(right)
        references.append(left + " " * -room)
        hypotheses.append(right + " " * room)
        marks.append(mark + " " * (max(columns(left), columns(right)) - 1))
    for row in (references, hypotheses, marks):
        yield " ".join(row).rstrip()


@lru_cache(1 << 16)
def columns(text: str) -> int:
    """How wide a terminal shows ``text``: Chinese characters take two columns, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(char) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
