"""Exact n-best and oracle on a lattice of 100,000 arcs, beside k2's sampled n-best where k2 is installed.

    python -m benchmarks.nbest [--beam 9.875] [--rounds 5] [--oracles 1000]

The lattice is that of `benchmarks.ctc_lattice`. Times are the least of some rounds, one thread, results as
Python objects included; memory is the growth of the process while the first of them ran. k2 draws random
paths, ten times as many as are wanted, with scores scaled as icefall does (0.5) and higher: how many differ
in their words, and how many of these are among the true n best.
Last line: one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.ctc_lattice import CtcLattice, make_ctc_lattices
from moe_asr.fsa.k2_module import import_k2, k2_of_arrays
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.memory import PeakMeter
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.oracle import lattice_oracle, nbest_oracle

COUNTS = (1, 10, 100, 1000)
SMALL_BEAM = 5.7  # 10,000 arcs
NBEST_SCALES = (0.5, 1.0, 2.0)


def measure(work: Callable[[], Any], rounds: int) -> tuple[Any, dict[str, float]]:
    """What ``work`` returns; the least of its seconds, and the megabytes it took."""
    meter = PeakMeter()
    seconds = []
    for number in range(rounds):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
        if number == 0:
            growth = meter.growth_bytes()
    megabytes = -1.0 if growth is None else growth / 2**20
    return result, {"seconds": min(seconds), "peak_mb": round(megabytes, 1)}


def exact(example: CtcLattice, rounds: int) -> list[dict[str, Any]]:
    """Both units, every n."""
    rows = []
    for unit in ("word", "token"):
        for n in COUNTS:
            paths, figures = measure(
                lambda n=n, unit=unit: nbest(example.lattice, n, unit), rounds
            )  # fmt: skip
            words = [path.words for path in paths]
            rows.append(
                {
                    "engine": "exact",
                    "unit": unit,
                    "n": n,
                    "distinct": len(paths),
                    "among_n_best": len(paths),
                    "oracle_errors": nbest_oracle(words, example.reference)[1].errors,
                    **figures,
                }
            )
    return rows


def sampled(example: CtcLattice, rounds: int) -> list[dict[str, Any]]:
    """k2's random paths, by scale."""
    k2 = import_k2()
    lattice = example.lattice
    fsa = k2_of_arrays(
        lattice.src, lattice.dst, lattice.token, lattice.acoustic + lattice.graph,
        lattice.word_row_splits, lattice.words,
    )  # fmt: skip
    best = [path.words for path in nbest(lattice, max(COUNTS))]

    def draw(scale: float, num_paths: int) -> set[tuple[int, ...]]:
        fsas = k2.create_fsa_vec(
            [fsa]
        )  # a new one: its forward and backward scores are part of the work
        fsas.scores = fsas.scores * scale
        paths = k2.random_paths(fsas, use_double_scores=True, num_paths=num_paths)
        words = fsas.aux_labels.index(paths)
        words = words.remove_axis(words.num_axes - 2)
        return {tuple(path) for path in words.tolist()[0]}

    rows = []
    for n in COUNTS[1:]:
        for scale in NBEST_SCALES:
            torch.manual_seed(0)
            found, figures = measure(lambda scale=scale, n=n: draw(scale, 10 * n), rounds)
            rows.append(
                {
                    "engine": f"k2, scale {scale}",
                    "unit": "word",
                    "n": n,
                    "distinct": len(found),
                    "among_n_best": len(found.intersection(best[:n])),
                    "oracle_errors": nbest_oracle(list(found), example.reference)[1].errors,
                    **figures,
                }
            )
    return rows


def oracles(examples: list[CtcLattice], repeats: int) -> list[dict[str, Any]]:
    """Of each lattice ``repeats`` times."""
    rows = []
    for example in examples:

        def work(lattice: Lattice = example.lattice, reference: list[int] = example.reference):
            for _ in range(repeats):
                found = lattice_oracle(lattice, reference)
            return found

        found, figures = measure(work, 1)
        rows.append(
            {
                "arcs": example.lattice.num_arcs,
                "reference_words": len(example.reference),
                "errors": found.errors,
                "lattices": repeats,
                **figures,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beam", type=float, default=9.875, help="of the lattice; 100,000 arcs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--oracles", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    small, example = make_ctc_lattices([SMALL_BEAM, args.beam])
    lattice = example.lattice
    print(
        f"{lattice.num_arcs} arcs, {lattice.num_states} states, {lattice.num_frames} frames, "
        f"{len(example.reference)} words, beam {example.beam}"
    )
    start = time.perf_counter()
    nbest(small.lattice, 1)
    lattice_oracle(small.lattice, small.reference)
    compile_seconds = time.perf_counter() - start
    print(f"first calls, compiling or loading what was compiled: {compile_seconds:.1f} s\n")

    results = exact(example, args.rounds)
    try:
        results += sampled(example, args.rounds)
    except ImportError as error:
        print(f"without k2: {error}\n")
    print(
        f"{'engine':<18}{'unit':<7}{'n':>6}{'distinct':>10}{'among n best':>14}"
        f"{'oracle errors':>15}{'seconds':>10}{'peak MB':>9}"
    )
    for row in results:
        print(
            f"{row['engine']:<18}{row['unit']:<7}{row['n']:>6}{row['distinct']:>10}"
            f"{row['among_n_best']:>14}{row['oracle_errors']:>15}{row['seconds']:>10.4f}"
            f"{row['peak_mb']:>9}"
        )
    rows = oracles([small], args.oracles) + oracles([example], max(1, args.oracles // 10))
    for row in rows:
        print(
            f"\nlattice oracle, {row['lattices']} lattices of {row['arcs']} arcs: "
            f"{row['seconds']:.2f} s, {row['errors']} errors in {row['reference_words']} words, "
            f"{row['peak_mb']} MB"
        )
    summary = {
        "arcs": lattice.num_arcs,
        "beam": example.beam,
        "compile_seconds": compile_seconds,
        "results": results,
        "oracle": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
