"""What `benchmarks.moe_rtf` says: a table of cells against their limits, checks of its targets, JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.encoder_cells import OURS, REFERENCE, Cell, Key
from benchmarks.roofline import Peaks

NEAR = 1.6  # a cell's time over its limit
HEADER = (
    f"{'':10}{'preset':12}{'prec.':6}{'mode':10}{'streams':>7}{'threads':>8}{'ms':>9}{'RTF':>9}{'limit':>9}"
    f"{'ratio':>7}{'GFLOP':>8}{'GFLOP/s':>9}{'MB':>7}{'GB/s':>7}  bound by"
)
MARKDOWN_HEADER = (
    "| preset | precision | mode | streams | threads | RTF | limit | ratio | GFLOP/s | GB/s | bound by |\n"
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True)
class Row:
    """A measured cell.

    Attributes:
        rtf: seconds of work for a second of audio.
        roofline_rtf: the least that it could be: the larger of the time that the FLOPs take at the measured
            peaks, and of the time that reading the weights takes.
        bound: which of the two: "FLOPs" or "bytes".
        seconds: of a call.
        spread: (largest - least) / median over the rounds.
        gflop, weight_mb: of a call.
        used: experts of a layer that it chooses, on average.
    """

    key: Key
    rtf: float
    roofline_rtf: float
    bound: str
    seconds: float
    spread: float
    gflop: float
    weight_mb: float
    used: float | None

    @staticmethod
    def of(cell: Cell, peaks: Peaks) -> "Row":
        flops, reading = peaks.seconds(cell.work)
        return Row(
            cell.key, cell.rtf, max(flops, reading) / cell.audio_seconds,
            "FLOPs" if flops >= reading else "bytes", cell.seconds,
            (max(cell.rounds) - min(cell.rounds)) / cell.seconds,
            cell.work.flops / 1e9, cell.work.weight_bytes / 1e6,
            None if cell.load is None else cell.load.used,
        )  # fmt: skip

    @property
    def ratio(self) -> float:
        """Time over the limit."""
        return self.rtf / self.roofline_rtf

    @property
    def name(self) -> str:
        key = self.key
        return f"{key.preset} {key.precision} {key.mode} x {key.streams}, threads {key.threads}"

    def line(self) -> str:
        """Under `HEADER`."""
        key = self.key
        return (
            f"{key.engine:10}{key.preset:12}{key.precision:6}{key.mode:10}{key.streams:>7}"
            f"{key.threads:>8}{1e3 * self.seconds:>9.1f}{self.rtf:>9.4f}{self.roofline_rtf:>9.4f}"
            f"{self.ratio:>7.2f}{self.gflop:>8.1f}{self.gflop / self.seconds:>9.1f}"
            f"{self.weight_mb:>7.0f}{self.weight_mb / 1e3 / self.seconds:>7.1f}  {self.bound}"
        )

    def markdown(self) -> str:
        """Under `MARKDOWN_HEADER`."""
        key = self.key
        mark = " (reference)" if key.engine == REFERENCE else ""
        values = (
            f"`{key.preset}`{mark}", key.precision, key.mode, key.streams, key.threads,
            f"{self.rtf:.4f}", f"{self.roofline_rtf:.4f}", f"{self.ratio:.2f}",
            f"{self.gflop / self.seconds:.0f}", f"{self.weight_mb / 1e3 / self.seconds:.1f}", self.bound,
        )  # fmt: skip
        return f"| {' | '.join(map(str, values))} |"

    def json(self) -> dict[str, Any]:
        key = self.key
        return {
            "preset": key.preset,
            "precision": key.precision,
            "mode": key.mode,
            "streams": key.streams,
            "threads": key.threads,
            "rtf": round(self.rtf, 5),
            "roofline_rtf": round(self.roofline_rtf, 5),
            "ratio": round(self.ratio, 3),
            "bound": self.bound,
            "ms": round(1e3 * self.seconds, 3),
            "spread": round(self.spread, 3),
            "gflop": round(self.gflop, 3),
            "gflops": round(self.gflop / self.seconds, 2),
            "weight_mb": round(self.weight_mb, 2),
            "gbs": round(self.weight_mb / 1e3 / self.seconds, 2),
            "experts_used": None if self.used is None else round(self.used, 2),
        }


@dataclass(frozen=True)
class Check:
    """A target, ``value`` at most ``target``; None where it was not measured."""

    name: str
    value: float | None
    target: float

    @property
    def ok(self) -> bool | None:
        return None if self.value is None else self.value <= self.target

    def line(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.3f}"
        verdict = {True: "yes", False: "NO", None: "-"}[self.ok]
        return f"{verdict:4}{value:>13} <= {self.target:<6.3g} {self.name}"

    def markdown(self) -> str:
        value = "" if self.value is None else f"{self.value:.3g}"
        verdict = {True: "yes", False: "no", None: "not measured"}[self.ok]
        return f"| {self.name} | {value} | {self.target:.3g} | {verdict} |"

    def json(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 4)
        return {"name": self.name, "value": value, "target": round(self.target, 4), "ok": self.ok}


class Report:
    """All rows of a run, sorted as the table is.

    Args:
        cells: measured.
        peaks: of the same run, by number of threads.
        measured: further figures that have targets, see `checks`.
    """

    def __init__(
        self, cells: Iterable[Cell], peaks: Mapping[int, Peaks], measured: Mapping[str, float]
    ) -> None:
        self.peaks, self.measured = peaks, measured
        self.rows = [Row.of(cell, peaks[cell.key.threads]) for cell in cells]
        self._by_key = {row.key: row for row in self.rows}

    @property
    def ours(self) -> list[Row]:
        return [row for row in self.rows if row.key.engine == OURS]

    @property
    def references(self) -> list[Row]:
        return [row for row in self.rows if row.key.engine == REFERENCE]

    def _rtf(
        self, preset: str, precision: str, mode: str, streams: int, engine: str
    ) -> float | None:
        row = self._by_key.get(Key(preset, precision, mode, streams, 1, engine))
        return None if row is None else row.rtf

    def checks(self) -> list[Check]:
        """The targets; those of speed are with one thread, but for the first, which is of all cells."""

        def moe(precision: str, mode: str, streams: int = 1) -> float | None:
            return self._rtf("moe_1b", precision, mode, streams, OURS)

        def dense(mode: str, streams: int = 1, engine: str = OURS) -> float | None:
            return self._rtf("dense_225m", "fp32", mode, streams, engine)

        plain_moe = self._rtf("moe_1b", "fp32", "chunk16", 1, REFERENCE)
        worst = max((row.ratio for row in self.ours), default=None)
        return [
            Check("time over its limit, of the worst cell", worst, NEAR),
            Check(
                "offline10 fp32: moe_1b / reference dense_225m",
                _over(moe("fp32", "offline10"), dense("offline10", engine=REFERENCE)), 1.0,
            ),
            Check(
                "offline10 fp32: moe_1b / dense_225m",
                _over(moe("fp32", "offline10"), dense("offline10")), 1.55,
            ),
            Check(
                "chunk16 x 1 fp32: moe_1b / reference moe_1b",
                _over(moe("fp32", "chunk16"), plain_moe), 0.45,
            ),
            Check(
                "chunk16 x 16 fp32: moe_1b / dense_225m",
                _over(moe("fp32", "chunk16", 16), dense("chunk16", 16)), 1.6,
            ),
            Check(
                "chunk16 x 1: int8 moe_1b / fp32 dense_225m",
                _over(moe("int8", "chunk16"), dense("chunk16")), 1.0,
            ),
            Check(
                "offline10: int8 moe_1b / fp32 dense_225m",
                _over(moe("int8", "offline10"), dense("offline10")), 0.6,
            ),
            Check("chunk16 x 1: RTF of int8 moe_1b", moe("int8", "chunk16"), 1 / 3),
            Check("offline10: RTF of int8 moe_1b", moe("int8", "offline10"), 1 / 3),
            Check("peak memory of a loaded int8 moe_1b, GB", self.measured.get("peak_gb"), 1.6),
            Check("loading it from a warm disk cache, s", self.measured.get("load_seconds"), 5.0),
        ]  # fmt: skip

    def text(self) -> str:
        """The table, what the machine can do, the cells farthest from their limits, the checks."""
        lines = [HEADER, *(row.line() for row in self.rows), ""]
        for threads, peaks in sorted(self.peaks.items()):
            for limit, probes in peaks.json().items():
                found = ", ".join(f"{name} {rate:g}" for name, rate in probes.items())
                unit = "GB/s" if limit == "reading" else "GFLOP/s"
                lines.append(f"{limit}, threads {threads}, {unit}: {found}")
        worst = sorted(self.ours, key=lambda row: row.ratio, reverse=True)[:10]
        lines += ["", "farthest from the limit:"]
        lines += [f"  {row.ratio:.2f}  {row.name}, bound by {row.bound}" for row in worst]
        lines += ["", *notes(self.rows), "", *(check.line() for check in self.checks())]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same for a page of documentation."""
        lines = ["| limit | threads | probes |", "|---|---:|---|"]
        for threads, peaks in sorted(self.peaks.items()):
            for limit, probes in peaks.json().items():
                unit = "GB/s" if limit == "reading" else "GFLOP/s"
                found = ", ".join(f"{name} {rate:g}" for name, rate in probes.items())
                lines.append(f"| {limit}, {unit} | {threads} | {found} |")
        lines += ["", "| target | value | at most | met |", "|---|---:|---:|---|"]
        lines += [check.markdown() for check in self.checks()]
        lines += ["", MARKDOWN_HEADER, *(row.markdown() for row in self.rows)]
        return "\n".join([*lines, "", *notes(self.rows)])

    def json(self) -> dict[str, Any]:
        """The last line."""
        return {
            "cells": [row.json() for row in self.ours],
            "reference": [row.json() for row in self.references],
            "checks": [check.json() for check in self.checks()],
            "peaks": {str(threads): peaks.json() for threads, peaks in self.peaks.items()},
            **self.measured,
        }


def _over(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base


def notes(rows: Sequence[Row]) -> list[str]:
    """What has to be said about them."""
    below = [row for row in rows if row.ratio < 1.0]
    if not below:
        return []
    largest = max(row.weight_mb for row in below)
    return [
        f"{len(below)} cells are below their limit (ratio below 1): the limit is that of memory and the "
        f"best product of large matrices, and weights of a small model (here up to {largest:.0f} MB a call) "
        "stay in the last-level cache from call to call."
    ]
