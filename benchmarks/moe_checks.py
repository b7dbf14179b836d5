"""The targets of the encoder's speed, and what was measured of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.encoder_cells import OURS, REFERENCE, Key
from benchmarks.moe_rows import Row

NEAR = 1.6  # a cell's time over its limit


@dataclass(frozen=True)
class Check:
    """A target: ``value`` is to be at most ``target``.

    Attributes:
        value: None where it was not measured.
        limit: what it would be if our cells took no longer than their limits; None where that says nothing.
    """

    name: str
    value: float | None
    target: float
    limit: float | None = None

    @property
    def ok(self) -> bool | None:
        """None where it was not measured."""
        return None if self.value is None else self.value <= self.target

    def line(self) -> str:
        """Of a table."""
        value = "not measured" if self.value is None else f"{self.value:.3f}"
        verdict = {True: "yes", False: "NO", None: "-"}[self.ok]
        limit = "" if self.limit is None else f" (at the limits: {self.limit:.3f})"
        return f"{verdict:4}{value:>13} <= {self.target:<6.3g} {self.name}{limit}"

    def markdown(self) -> str:
        """A row of a table with a column more for the limit."""
        value, limit = ("" if x is None else f"{x:.3g}" for x in (self.value, self.limit))
        verdict = {True: "yes", False: "no", None: "not measured"}[self.ok]
        return f"| {self.name} | {value} | {self.target:.3g} | {verdict} | {limit} |"

    def json(self) -> dict[str, Any]:
        """Rounded."""
        value, limit = (None if x is None else round(x, 4) for x in (self.value, self.limit))
        target = round(self.target, 4)
        return {"name": self.name, "value": value, "target": target, "ok": self.ok, "limit": limit}


def make_checks(rows: Sequence[Row], measured: Mapping[str, float]) -> list[Check]:
    """The targets; those of speed are with one thread, but for the first, which is of all our cells.

    Args:
        measured: ``peak_gb`` and ``load_seconds`` of `benchmarks.model_loading`, if they were measured.
    """
    by_key = {row.key: row for row in rows}

    def cell(
        preset: str, precision: str, mode: str, streams: int = 1, engine: str = OURS
    ) -> Row | None:
        return by_key.get(Key(preset, precision, mode, streams, 1, engine))

    def ratio(name: str, row: Row | None, base: Row | None, target: float) -> Check:
        if row is None or base is None:
            return Check(name, None, target)
        at_best = base.rtf if base.key.engine == REFERENCE else base.roofline_rtf
        return Check(name, row.rtf / base.rtf, target, row.roofline_rtf / at_best)

    def rtf(name: str, row: Row | None, target: float) -> Check:
        if row is None:
            return Check(name, None, target)
        return Check(name, row.rtf, target, row.roofline_rtf)

    moe, dense = cell("moe_1b", "fp32", "offline10"), cell("dense_225m", "fp32", "offline10")
    moe_chunk, dense_chunk = (
        cell(preset, "fp32", "chunk16") for preset in ("moe_1b", "dense_225m")
    )
    eight, eight_chunk = (cell("moe_1b", "int8", mode) for mode in ("offline10", "chunk16"))
    plain_dense = cell("dense_225m", "fp32", "offline10", engine=REFERENCE)
    plain_chunk = cell("moe_1b", "fp32", "chunk16", engine=REFERENCE)
    moe_16, dense_16 = (cell(name, "fp32", "chunk16", 16) for name in ("moe_1b", "dense_225m"))
    worst = max((row.ratio for row in rows if row.key.engine == OURS), default=None)
    return [
        Check("time over its limit, of the worst cell", worst, NEAR),
        ratio("10 s, fp32: moe_1b / reference dense_225m", moe, plain_dense, 1.0),
        ratio("10 s, fp32: moe_1b / dense_225m", moe, dense, 1.55),
        ratio("chunk 16 x 1, fp32: moe_1b / reference moe_1b", moe_chunk, plain_chunk, 0.45),
        ratio("chunk 16 x 16, fp32: moe_1b / dense_225m", moe_16, dense_16, 1.6),
        ratio("chunk 16 x 1: int8 moe_1b / fp32 dense_225m", eight_chunk, dense_chunk, 1.0),
        ratio("10 s: int8 moe_1b / fp32 dense_225m", eight, dense, 0.6),
        rtf("chunk 16 x 1: RTF of int8 moe_1b", eight_chunk, 1 / 3),
        rtf("10 s: RTF of int8 moe_1b", eight, 1 / 3),
        Check("peak memory of a loaded int8 moe_1b, GB", measured.get("peak_gb"), 1.6),
        Check("loading it from a warm disk cache, s", measured.get("load_seconds"), 5.0),
    ]
