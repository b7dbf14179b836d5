"""A line of the encoder's speed table: what a cell took, and the least that it could take."""

from dataclasses import dataclass
from typing import Any

from benchmarks.encoder_cells import Cell, Key
from benchmarks.roofline import Peaks
from moe_asr.nn.cpu.layers import PHASES

HEADER = (
    f"{'':10}{'preset':12}{'prec.':6}{'mode':10}{'streams':>7}{'threads':>8}{'ms':>9}{'RTF':>9}{'limit':>9}"
    f"{'ratio':>7}{'GFLOP':>8}{'GFLOP/s':>9}{'MB':>7}{'GB/s':>7}  bound by"
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
        phases: share of each in the time of our calls, by name.
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
    phases: dict[str, float] | None

    @staticmethod
    def of(cell: Cell, peaks: Peaks) -> "Row":
        flops, reading = peaks.seconds(cell.work)
        return Row(
            cell.key, cell.rtf, max(flops, reading) / cell.audio_seconds,
            "FLOPs" if flops >= reading else "bytes", cell.seconds,
            (max(cell.rounds) - min(cell.rounds)) / cell.seconds,
            cell.work.flops / 1e9, cell.work.weight_bytes / 1e6,
            None if cell.load is None else cell.load.used, phase_shares(cell),
        )  # fmt: skip

    @property
    def ratio(self) -> float:
        """Time over the limit."""
        return self.rtf / self.roofline_rtf

    @property
    def where(self) -> str:
        """Mode and streams."""
        key = self.key
        if key.mode.startswith("offline"):
            return f"{key.mode.removeprefix('offline')} s"
        return f"{key.mode.replace('chunk', 'chunk ')} x {key.streams}"

    @property
    def name(self) -> str:
        key = self.key
        return f"{key.preset} {key.precision} {self.where}, threads {key.threads}"

    def line(self) -> str:
        """Under `HEADER`."""
        key = self.key
        return (
            f"{key.engine:10}{key.preset:12}{key.precision:6}{key.mode:10}{key.streams:>7}"
            f"{key.threads:>8}{1e3 * self.seconds:>9.1f}{self.rtf:>9.4f}{self.roofline_rtf:>9.4f}"
            f"{self.ratio:>7.2f}{self.gflop:>8.1f}{self.gflop / self.seconds:>9.1f}"
            f"{self.weight_mb:>7.0f}{self.weight_mb / 1e3 / self.seconds:>7.1f}  {self.bound}"
        )

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
            "phases": self.phases,
            "experts_used": None if self.used is None else round(self.used, 2),
        }


def phase_shares(cell: Cell) -> dict[str, float] | None:
    """Of the time of a cell's calls, where it is known where that went."""
    if cell.phases is None or cell.phases.sum() == 0:
        return None
    shares = cell.phases / cell.phases.sum()
    return {name: round(float(share), 4) for name, share in zip(PHASES, shares, strict=True)}
