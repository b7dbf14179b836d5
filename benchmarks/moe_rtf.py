"""The encoder's speed: real-time factors of the presets against what the machine can do, and a plain encoder.

    python -m benchmarks.moe_rtf [--quick] [--presets dense_225m,moe_1b,dense_1b] [--modes offline10,chunk16]
        [--streams 1,4,16] [--threads 1,2] [--rounds 5] [--markdown FILE] [--work-dir DIR]

Encoders only, with random weights from a seed and random features after CMVN; routers are set so that experts
have about equal loads (`benchmarks.routing_balance` has other loads). Cells: float32 and int8, offline of
10 and 30 seconds with full context, and streams in chunks of 4 to 32 encoder frames of 40 ms with the left
context that the recogniser keeps by default (128 frames), in steady state. Everything is measured in
turns, in another order each round: all cells, the reference's, and the probes of the machine
(`benchmarks.roofline`); figures are medians of rounds. A call that is short is repeated within a round.
dense_1b is compared with nothing but its limit: it comes after the others, with probes of its own, so that
less memory is taken.

``rtf`` is seconds of work for a second of audio, of all streams together. ``roofline_rtf`` is its limit: the
larger of the FLOPs at the measured peaks of matrix products (int8 and float32 ones each at their own, one
after the other) and of the bytes of weights, read once a call, at the measured rate of reading memory
(`benchmarks.encoder_work`). The reference is `benchmarks.moe_reference`, float32.

The last line is one JSON object: ``{"cells": [{"preset", "precision", "mode", "streams", "threads", "rtf",
"roofline_rtf", ...}], "reference": [the same], "checks": [{"name", "value", "target", "ok"}], "peaks",
"routing", ...}``. ``--quick``: what the checks need, with one thread. Nothing else should run meanwhile;
it takes about 18 GB.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.encoder_cells import measure, warm_up
from benchmarks.encoder_plan import MODES, PRECISIONS, STREAMS, Plan
from benchmarks.model_loading import loading_costs
from benchmarks.moe_report import Report, rows_of, write_section
from benchmarks.moe_rows import Row
from benchmarks.roofline import Peaks, Probe, make_probes
from benchmarks.routing_balance import balance_cells
from benchmarks.second_pass import whole_numbers

SIZES = ("dense_225m", "moe_1b", "dense_1b")
LARGEST = "dense_1b"  # measured by itself
REFERENCES = frozenset(
    (preset, mode, streams)
    for preset in ("dense_225m", "moe_1b")
    for mode, streams in (("offline10", 1), ("offline30", 1), ("chunk16", 1), ("chunk16", 16))
)
QUICK = {
    "presets": ["dense_225m", "moe_1b"], "modes": ["offline10", "chunk16"], "streams": [1, 16],
    "threads": [1], "rounds": 3,
}  # fmt: skip


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Parses a comma-separated choice."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [one for one in chosen if one not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not in {', '.join(known)}")
        return chosen

    return parse


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a subset, within four minutes")
    parser.add_argument("--presets", type=some_of(SIZES))
    parser.add_argument("--precisions", type=some_of(list(PRECISIONS)), default=list(PRECISIONS))
    parser.add_argument("--modes", type=some_of(MODES))
    parser.add_argument("--streams", type=whole_numbers)
    parser.add_argument("--threads", type=whole_numbers)
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--cell-seconds", type=float, default=0.5, help="least time of a round's cell"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="keeps the int8 moe_1b that is loaded")
    parser.add_argument("--no-loading", action="store_true", help="do not load an int8 moe_1b")
    parser.add_argument("--no-routing", action="store_true", help="leave other loads out")
    parser.add_argument(
        "--markdown",
        type=Path,
        help="put the tables there: between its marks, if it has them, or as the whole file",
    )
    args = parser.parse_args(arguments)
    full = {
        "presets": list(SIZES), "modes": list(MODES), "streams": list(STREAMS), "threads": [1, 2],
        "rounds": 5,
    }  # fmt: skip
    for name, value in (QUICK if args.quick else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.no_routing = args.no_routing or args.quick or "moe_1b" not in args.presets
    return args


def measure_loading(work_dir: Path | None) -> dict[str, float]:
    """Before anything else takes memory: the int8 moe_1b is made in 6 GB."""
    if work_dir is not None:
        return loading_costs(work_dir, "moe_1b")
    with tempfile.TemporaryDirectory() as folder:
        return loading_costs(Path(folder), "moe_1b")


def measure_presets(
    args: argparse.Namespace, presets: Sequence[str], probes: Sequence[Probe]
) -> tuple[list[Row], dict[int, Peaks]]:
    """All cells of some presets, interleaved with one another and the probes; their memory is given back."""
    plan = Plan(
        presets, args.precisions, args.modes, args.streams, args.threads, REFERENCES, args.seed
    )
    cells = plan.build()
    warm_up(cells)
    peaks = measure(cells, probes, args.rounds, args.cell_seconds)
    rows = rows_of(cells, peaks)
    del cells, plan
    gc.collect()
    return rows, peaks


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    measured = {} if args.no_loading else measure_loading(args.work_dir)
    rows: list[Row] = []
    peaks: dict[int, Peaks] = {}
    probes = make_probes()
    others = [one for one in args.presets if one != LARGEST]
    # all at once would take 23 GB, and nothing is compared between the two
    for presets in (others, [one for one in args.presets if one == LARGEST]):
        if presets:
            found, limits = measure_presets(args, presets, probes)
            rows += found
            peaks = peaks or limits
    report = Report(rows, peaks, measured)
    print(report.text())
    result, tables = report.json(), report.markdown()
    if not args.no_routing:
        balance = balance_cells(
            args.precisions, args.rounds, args.cell_seconds, args.seed, probes=probes
        )
        result["routing"] = balance.json()
        tables += "\n\n" + balance.markdown()
        print(balance.text())
    if args.markdown:
        write_section(args.markdown, tables)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
