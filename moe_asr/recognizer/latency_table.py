"""Latency reports as tables, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from moe_asr.recognizer.latency import PERCENTILES, STAGES, WORD_TIMES

_ROWS = {
    "appearance": "first shown",
    "stability": "shown for good",
    "stable_prefix": "in the stable prefix",
    "final": "final result",
}


def format_latency(reports: Mapping[int, Mapping[str, Any]], frame_seconds: float) -> str:
    """Three tables: times in ms, words that change, real-time factors.

    Args:
        reports: `LatencyReport.figures` by chunk size.
        frame_seconds: of an encoder frame.
    """
    columns = ["mean", *(f"p{percent}" for percent in PERCENTILES), "max"]
    times, changes, factors = [], [], []
    for size, figures in reports.items():
        chunk = f"{size} ({1000.0 * size * frame_seconds:.0f} ms)"
        measured = [(f"word: {_ROWS[name]}", figures["words_ms"][name]) for name in WORD_TIMES]
        measured.append(("endpoint after the last word", figures["endpoint_ms"]))
        measured.append(("finalisation", figures["finalisation_ms"]))
        for name, found in measured:
            cells = ["-" if found is None else f"{found[column]:.0f}" for column in columns]
            times.append([chunk, name, *cells])
        changes.append([chunk, *_changes(figures)])
        rtf = figures["rtf"]
        factors.append([chunk, *(f"{rtf[name]:.4f}" for name in (*STAGES, "other", "total"))])
    return "\n\n".join(
        [
            _table(["chunk", "ms", *columns], times, 2),
            _table(
                ["chunk", "WER %", "words shown", "changed %", "by the first pass %",
                 "by the second pass %", "stable words changed %", "early endpoints"],
                changes, 1,
            ),
            _table(
                ["chunk", *(f"RTF {name.replace('_', ' ')}" for name in (*STAGES, "other", "total"))],
                factors, 1,
            ),
        ]
    )  # fmt: skip


def _changes(figures: Mapping[str, Any]) -> list[str]:
    revisions = figures["revisions"]
    names = ("changed", "changed_by_first_pass", "changed_by_second_pass")
    shares = [revisions[f"{name}_share"] for name in names]
    shares.append(revisions["stable_changed_by_second_pass_share"])
    return [
        "-" if figures["wer"] is None else f"{figures['wer']:.2f}",
        str(revisions["shown"]),
        *("-" if share is None else f"{100.0 * share:.1f}" for share in shares),
        str(figures["early_endpoints"]),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], num_left: int) -> str:
    """A Markdown table whose columns line up; all but the first ``num_left`` to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        " | ".join(
            cell.ljust(width) if i < num_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
    rule = " | ".join(
        "-" * width if i < num_left else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    )
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
