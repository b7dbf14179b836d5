"""How the speed of moe_1b depends on how its routers share out the frames.

    python -m benchmarks.routing_balance [--loads even,zipf,hot] [--modes offline10,chunk16] [--streams 1,16]
        [--threads 1] [--rounds 5] [--picture FILE]

The models differ in their routers only (`benchmarks.router_loads`). Loads: ``even``; ``zipf``, shares that
fall like 1 / rank; ``steep``, like 1 / rank ** 2; ``hot``, every frame chooses the same two experts. What
each load came to is measured: the shares and their entropy (1: even), means of all layers, and how many of a
layer's experts a call uses. Cells are measured in turns, as by `benchmarks.moe_rtf`, with their limits.

The work is the same for all loads, but not what is read: in streams, a call with few frames reads fewer
weights the less even the load is. ``--picture`` draws RTF over entropy. Last line: one JSON object
``{"routing": [{"load", "entropy", "shares", "experts_used", and the keys of a cell}]}``. A model more takes
4.2 GB.
"""

import argparse
import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.encoder_cells import Cell, measure, warm_up
from benchmarks.encoder_plan import MODES, PRECISIONS, Plan
from benchmarks.moe_rows import HEADER, Row
from benchmarks.roofline import Peaks, Probe, make_probes
from benchmarks.router_loads import even_load, hot_load, zipf_load
from benchmarks.second_pass import whole_numbers
from moe_asr.files import atomic_path

PRESET, NUM_EXPERTS, NUM_CHOSEN = "moe_1b", 8, 2
LOADS: dict[str, Callable[[], list[float]]] = {
    "even": lambda: even_load(NUM_EXPERTS),
    "zipf": lambda: zipf_load(NUM_EXPERTS, NUM_CHOSEN),
    "steep": lambda: zipf_load(NUM_EXPERTS, NUM_CHOSEN, 2.0),
    "hot": lambda: hot_load(NUM_EXPERTS, NUM_CHOSEN),
}
DEFAULT_LOADS = ["even", "zipf", "hot"]


@dataclass(frozen=True)
class Balance:
    """Measured cells of each load, by its name, and what the machine can do, by number of threads."""

    cells: dict[str, list[Cell]]
    peaks: dict[int, Peaks]

    def json(self) -> list[dict[str, Any]]:
        """One object for each cell of each load."""
        found = []
        for name, cells in self.cells.items():
            for cell in cells:
                assert cell.load is not None
                values = {
                    "load": name,
                    "entropy": round(cell.load.entropy, 4),
                    "shares": [round(share, 4) for share in cell.load.shares],
                }
                found.append({**values, **Row.of(cell, self.peaks[cell.key.threads]).json()})
        return found

    def text(self) -> str:
        """A table for each load, and what the load is."""
        lines = []
        for name, cells in self.cells.items():
            lines += ["", f"load {name}", HEADER]
            for cell in cells:
                assert cell.load is not None
                shares = " ".join(f"{100 * share:.0f}" for share in cell.load.shares)
                line = Row.of(cell, self.peaks[cell.key.threads]).line()
                lines.append(
                    f"{line}; entropy {cell.load.entropy:.3f}, {cell.load.used:.1f} experts a layer, "
                    f"shares {shares} %"
                )
        return "\n".join(lines)

    def markdown(self) -> str:
        """A row for each load, with the RTFs of its cells and the times their limits that these are."""
        first = [cell.key for cell in next(iter(self.cells.values()))]
        names = [f"{k.precision} {k.mode} x {k.streams}, threads {k.threads}" for k in first]
        lines = [
            f"| `{PRESET}`, load | entropy | shares, % | {' | '.join(names)} |",
            "|---|---:|---|" + "---:|" * len(names),
        ]
        for name, cells in self.cells.items():
            load = cells[0].load
            assert load is not None
            shares = " ".join(f"{100 * share:.0f}" for share in load.shares)
            rows = [Row.of(cell, self.peaks[cell.key.threads]) for cell in cells]
            rtfs = " | ".join(f"{row.rtf:.3f} ({row.ratio:.2f})" for row in rows)
            lines.append(f"| {name} | {load.entropy:.2f} | {shares} | {rtfs} |")
        return "\n".join(lines)

    def draw(self, path: Path) -> None:
        """RTF over the entropy of the load, a line for each cell."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 4.5))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for same in zip(*self.cells.values(), strict=True):
            points = sorted((one.load.entropy, one.rtf) for one in same if one.load is not None)
            key = same[0].key
            label = f"{key.mode}, {key.streams} streams, {key.precision}, threads {key.threads}"
            axes.plot(
                *zip(*points, strict=True), marker="o", label=label.replace("1 streams", "1 stream")
            )
        axes.set_xlabel("entropy of the experts' shares (1: an even load)")
        axes.set_ylabel("RTF")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        axes.set_title(f"{PRESET}: {', '.join(self.cells)}", fontsize=10)
        figure.tight_layout()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)


def balance_cells(
    precisions: Sequence[str], rounds: int, at_least_seconds: float, seed: int = 0,
    loads: Sequence[str] = DEFAULT_LOADS, modes: Sequence[str] = ("offline10", "chunk16"),
    streams: Sequence[int] = (1, 16), threads: Sequence[int] = (1,), probes: Sequence[Probe] = (),
) -> Balance:  # fmt: skip
    """Builds one model for each load and measures them in turns."""
    plan = Plan([PRESET], precisions, modes, streams, threads, seed=seed)
    cells: dict[str, list[Cell]] = {}
    for name in loads:
        cells[name] = plan.build(LOADS[name]())
        gc.collect()
    everything = [cell for same in cells.values() for cell in same]
    warm_up(everything)
    peaks = measure(everything, probes or make_probes(), rounds, at_least_seconds)
    return Balance(cells, peaks)


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks.moe_rtf import some_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loads", type=some_of(list(LOADS)), default=DEFAULT_LOADS)
    parser.add_argument("--precisions", type=some_of(list(PRECISIONS)), default=list(PRECISIONS))
    parser.add_argument("--modes", type=some_of(MODES), default=["offline10", "chunk16"])
    parser.add_argument("--streams", type=whole_numbers, default=[1, 16])
    parser.add_argument("--threads", type=whole_numbers, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--cell-seconds", type=float, default=0.5, help="least time of a round's cell"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="draw RTF over entropy to this file")
    args = parser.parse_args(arguments)
    balance = balance_cells(
        args.precisions, args.rounds, args.cell_seconds, args.seed, args.loads, args.modes, args.streams,
        args.threads,
    )  # fmt: skip
    print(balance.text())
    if args.picture:
        balance.draw(args.picture)
    print(json.dumps({"routing": balance.json()}))


if __name__ == "__main__":
    main()
