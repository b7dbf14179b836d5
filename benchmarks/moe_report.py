"""What `benchmarks.moe_rtf` says: a table of cells against their limits, checks of its targets, JSON."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.encoder_cells import OURS, REFERENCE, Cell
from benchmarks.moe_checks import make_checks
from benchmarks.moe_rows import HEADER, Row
from benchmarks.roofline import READING, Peaks
from moe_asr.errors import ConfigError
from moe_asr.files import read_text, write_text
from moe_asr.nn.cpu.layers import PHASES

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

# where the time goes is told of these cells, with one thread
_PHASES_OF = (("offline10", 1), ("chunk16", 1), ("chunk16", 16))


def rows_of(cells: Iterable[Cell], peaks: Mapping[int, Peaks]) -> list[Row]:
    """What was measured, against the peaks (by number of threads) of the same rounds."""
    return [Row.of(cell, peaks[cell.key.threads]) for cell in cells]


class Report:
    """All rows of a run.

    Args:
        rows: in the order of the table, see `rows_of`.
        peaks: of the same run, by number of threads.
        measured: further figures that have targets, see `make_checks`.
    """

    def __init__(
        self, rows: Sequence[Row], peaks: Mapping[int, Peaks], measured: Mapping[str, float]
    ) -> None:
        self.rows, self.peaks, self.measured = list(rows), peaks, measured
        self.checks = make_checks(self.rows, measured)

    @property
    def ours(self) -> list[Row]:
        return [row for row in self.rows if row.key.engine == OURS]

    def text(self) -> str:
        """The table, what the machine can do, where time goes, the cells farthest from limits, the checks."""
        lines = [HEADER, *(row.line() for row in self.rows), ""]
        lines += [
            f"{limit}, threads {threads}, {unit}: {found}"
            for limit, unit, threads, found in self._probes()
        ]
        if self._with_phases():
            names = "".join(f"{name:>24}" for name in PHASES)
            lines += ["", f"{'where the time goes, %':30}{names}"]
        for row in self._with_phases():
            assert row.phases is not None
            shares = "".join(f"{100 * row.phases[name]:>24.1f}" for name in PHASES)
            lines.append(f"{row.key.preset:11}{row.key.precision:5}{row.where:14}{shares}")
        worst = sorted(self.ours, key=lambda row: row.ratio, reverse=True)[:10]
        lines += ["", "farthest from the limit:"]
        lines += [f"  {row.ratio:.2f}  {row.name}, bound by {row.bound}" for row in worst]
        lines += ["", *notes(self.rows), "", *(check.line() for check in self.checks)]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same for a page of documentation, with a table of RTFs for each number of threads."""
        lines = ["| target | value | at most | met | at the limits |", "|---|---:|---:|---|---:|"]
        lines += [check.markdown() for check in self.checks]
        lines += ["", "| limit | threads | probes |", "|---|---:|---|"]
        for limit, unit, threads, found in self._probes():
            lines.append(f"| {limit}, {unit} | {threads} | {found} |")
        for threads in sorted(self.peaks):
            lines += ["", *self._rtfs(threads)]
        if self._with_phases():
            lines += ["", f"| share of the time, % | {' | '.join(PHASES)} |"]
            lines.append("|---|" + "---:|" * len(PHASES))
        for row in self._with_phases():
            assert row.phases is not None
            shares = " | ".join(f"{100 * row.phases[name]:.0f}" for name in PHASES)
            lines.append(f"| `{row.key.preset}` {row.key.precision}, {row.where} | {shares} |")
        return "\n".join([*lines, "", *notes(self.rows)]).rstrip()

    def json(self) -> dict[str, Any]:
        """The last line."""
        return {
            "cells": [row.json() for row in self.ours],
            "reference": [row.json() for row in self.rows if row.key.engine == REFERENCE],
            "checks": [check.json() for check in self.checks],
            "peaks": {str(threads): peaks.json() for threads, peaks in self.peaks.items()},
            **self.measured,
        }

    def _probes(self) -> list[tuple[str, str, int, str]]:
        """Limit, unit, number of threads, and what each probe found."""
        return [
            (
                limit,
                "GB/s" if limit == READING else "GFLOP/s",
                threads,
                ", ".join(f"{name} {rate:g}" for name, rate in sorted(probes.items())),
            )
            for threads, peaks in sorted(self.peaks.items())
            for limit, probes in peaks.json().items()
        ]

    def _with_phases(self) -> list[Row]:
        return [
            row
            for row in self.rows
            if row.phases and row.key.threads == 1 and (row.key.mode, row.key.streams) in _PHASES_OF
        ]

    def _rtfs(self, threads: int) -> list[str]:
        """RTF, and how many times its limit that is: a row for each mode, a column for each model."""
        rows = [row for row in self.rows if row.key.threads == threads]
        columns = list(dict.fromkeys((r.key.preset, r.key.precision, r.key.engine) for r in rows))
        columns.sort(key=lambda column: column[2])  # the reference's last
        names = [
            f"`{preset}` {precision}{' (reference)' if engine == REFERENCE else ''}"
            for preset, precision, engine in columns
        ]
        lines = [
            f"| {threads} thread{'s' if threads > 1 else ''} | {' | '.join(names)} |",
            "|---|" + "---:|" * len(columns),
        ]
        for where in dict.fromkeys(row.where for row in rows):
            found = {
                (
                    row.key.preset,
                    row.key.precision,
                    row.key.engine,
                ): f"{row.rtf:.3f} ({row.ratio:.2f})"
                for row in rows
                if row.where == where
            }
            lines.append(f"| {where} | {' | '.join(found.get(c, '') for c in columns)} |")
        return lines


def write_section(path: Path, text: str) -> None:
    """Puts ``text`` between `BEGIN` and `END` of a file that has these lines; another one becomes ``text``.

    Raises:
        ConfigError: if the file has one of the lines, but not the other after it.
    """
    before, after = "", ""
    if path.exists():
        lines = read_text(path).split("\n")
        begin, end = (lines.index(mark) if mark in lines else -1 for mark in (BEGIN, END))
        if (begin >= 0 or end >= 0) and not 0 <= begin < end:
            raise ConfigError(f"{path}: expected a line '{BEGIN}', and '{END}' after it")
        if begin >= 0:
            before = "\n".join([*lines[: begin + 1], "", ""])
            after = "\n".join(["", "", *lines[end:]])
    write_text(path, f"{before}{text}{after}" if before else f"{text}\n")


def notes(rows: Sequence[Row]) -> list[str]:
    """What has to be said about them."""
    below = [row for row in rows if row.ratio < 1.0]
    if not below:
        return []
    largest = max(row.weight_mb for row in below)
    return [
        f"Cells below their limit (a ratio below 1): {len(below)}. The limit reads all weights from memory; "
        f"those of a small model (here up to {largest:.0f} MB a call) stay in the last-level cache, at least "
        "in part, from call to call. And peaks are medians, too."
    ]
