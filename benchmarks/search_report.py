"""The search benchmark's table, its JSON object, and what is compared with what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.search_run import Job, Quality, Speed

K2_REFERENCE_ACTIVE = 2000  # what native is to be compared with at


@dataclass(frozen=True)
class Row:
    """A job with its figures.

    Attributes:
        job, quality, speed: see there.
        rtf: wall time of the search over the duration of the audio.
        oracle_is_best_path: whether the engine makes no lattices.
    """

    job: Job
    quality: Quality
    speed: Speed
    rtf: float
    oracle_is_best_path: bool

    @property
    def wer(self) -> float:
        return self.quality.accuracy.wer

    @property
    def oracle_wer(self) -> float:
        return self.quality.accuracy.oracle_wer

    def json(self) -> dict[str, Any]:
        """Plain values, rounded."""
        peak, arcs = self.quality.peak_bytes, self.speed.arcs_per_second
        num_arcs, search = self.quality.accuracy.num_arcs, self.quality.search_bytes
        return {
            "engine": self.job.engine,
            "settings": self.job.setting,
            "rtf": round(self.rtf, 6),
            "wer": round(self.wer, 3),
            "oracle_wer": round(self.oracle_wer, 3),
            "arcs_per_second": None if arcs is None else round(arcs),
            "peak_mb": None if peak is None else peak >> 20,
            "search_mb": None if search is None else search >> 20,
            "cpu_seconds": round(self.speed.cpu_seconds, 3),
            "spread": round(self.speed.spread, 3),
            "oracle_is_best_path": self.oracle_is_best_path,
            "arcs_per_lattice": None if num_arcs is None else round(num_arcs),
            "utterances_without_path": self.quality.accuracy.num_empty,
            "total_score": round(self.quality.total_score, 2),
        }


def format_table(rows: Sequence[Row]) -> str:
    """One line a job."""
    lines = [
        f"{'engine':<15}{'RTF':>9}{'x real time':>13}{'WER %':>8}{'oracle %':>10}{'score':>11}"
        f"{'arcs a lattice':>16}{'M arcs/s':>10}{'peak MB':>9}{'search MB':>11}{'spread':>8}  settings"
    ]
    for row in rows:
        values = row.json()
        arcs, expanded = values["arcs_per_lattice"], values["arcs_per_second"]
        oracle = "-" if row.oracle_is_best_path else f"{row.oracle_wer:.2f}"
        settings = " ".join(f"{name}={value:g}" for name, value in row.job.setting.items())
        lines.append(
            f"{row.job.engine:<15}{row.rtf:>9.5f}{1 / row.rtf:>13.0f}{row.wer:>8.2f}{oracle:>10}"
            f"{row.quality.total_score:>11.1f}{'-' if arcs is None else arcs:>16}"
            f"{'-' if expanded is None else format(expanded / 1e6, '.1f'):>10}"
            f"{'-' if values['peak_mb'] is None else values['peak_mb']:>9}"
            f"{'-' if values['search_mb'] is None else values['search_mb']:>11}"
            f"{row.speed.spread:>8.2f}  {settings}"
        )
    return "\n".join(lines)


def k2_reference(rows: Sequence[Row]) -> Row | None:
    """k2 at ``max_active`` 2000 and its widest search beam, all frames given; None if it did not run."""
    found = [
        row
        for row in rows
        if row.job.engine == "k2"
        and row.job.setting["max_active"] == K2_REFERENCE_ACTIVE
        and not _skips(row)
    ]
    return max(found, key=lambda row: row.job.setting.get("search_beam", 0.0), default=None)


def _skips(row: Row) -> bool:
    return "blank_skip" in row.job.setting


def faster_reference(rows: Sequence[Row], skipping: bool = False) -> Row | None:
    """The setting at which `FasterDecoder` is to be compared: its fastest of those that lose nothing.

    That is, whose WER is no worse than k2's reference; if there are none or k2 did not run, the fastest of
    those with the best WER of this decoder. All frames are given to it, or (``skipping``) those that
    ``blank_skip`` leaves.
    """
    mine = [row for row in rows if row.job.engine == "faster" and _skips(row) == skipping]
    if not mine:
        return None
    k2 = k2_reference(rows)
    good = [row for row in mine if k2 is not None and row.wer <= k2.wer]
    if not good:
        best = min(row.wer for row in mine)
        good = [row for row in mine if row.wer <= best]
    return min(good, key=lambda row: row.rtf)


def fastest_no_worse(rows: Sequence[Row], peer: Row, engine: str = "native") -> Row | None:
    """The fastest setting of an engine whose WER and oracle WER are no worse than the peer's, if any."""
    good = [
        row
        for row in rows
        if row.job.engine == engine and row.wer <= peer.wer and row.oracle_wer <= peer.oracle_wer
    ]
    return min(good, key=lambda row: row.rtf, default=None)


def comparisons(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each row of a peer, the fastest native setting that is no worse, and how much faster it is."""
    found = []
    for peer in rows:
        if peer.job.engine == "native":
            continue
        ours = fastest_no_worse(rows, peer)
        found.append(
            {
                "peer": peer.job.engine,
                "peer_settings": peer.job.setting,
                "native_settings": None if ours is None else ours.job.setting,
                "speedup": None if ours is None else round(peer.rtf / ours.rtf, 2),
            }
        )
    return found


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The JSON object; a speed-up is None where the peer, or a native setting no worse, is missing.

    Those called ``exact`` are of native settings without accelerations. For those called ``same_frames``
    the peer is given the frames that native's ``blank_skip`` leaves; the peers of all others read all frames.
    """
    result: dict[str, Any] = {"results": [row.json() for row in rows]}
    for name, peer in (("k2", k2_reference(rows)), ("faster", faster_reference(rows))):
        ours = fastest_no_worse(rows, peer) if peer is not None else None
        known = peer is not None and ours is not None
        result[f"speedup_vs_{name}"] = round(peer.rtf / ours.rtf, 2) if known else None
        result[f"{name}_settings"] = peer.job.setting if peer is not None else None
        result[f"native_settings_vs_{name}"] = ours.job.setting if ours is not None else None
        plain = [row for row in rows if not _skips(row)]
        exact = fastest_no_worse(plain, peer) if peer is not None else None
        known = peer is not None and exact is not None
        result[f"speedup_vs_{name}_exact"] = round(peer.rtf / exact.rtf, 2) if known else None
    skipping_k2 = next((row for row in rows if row.job.engine == "k2" and _skips(row)), None)
    for name, peer in (("k2", skipping_k2), ("faster", faster_reference(rows, skipping=True))):
        ours = fastest_no_worse(rows, peer) if peer is not None else None
        known = peer is not None and ours is not None
        result[f"speedup_vs_{name}_same_frames"] = round(peer.rtf / ours.rtf, 2) if known else None
    result["comparisons"] = comparisons(rows)
    return result
