"""What each acceleration of the native search costs and brings: WER, oracle WER, speed.

    python -m benchmarks.search_options [--utterances 100] [--beam 16] [--peakiness 1.0] [--cache DIR]

Graph and posteriors are those of ``benchmarks.lattice_search``. All settings take turns on one thread; times
are the least of the rounds. Last line: one JSON object
``{"results": [{"name", "options", "wer", "oracle_wer", "rtf", "speedup", "active_per_frame"}]}``.
"""

import argparse
import json
import os
from pathlib import Path
from time import thread_time
from typing import Any

import kaldialign
import numpy as np
import torch

from benchmarks.ctc_simulator import SimulatorOptions
from benchmarks.search_inputs import (
    GraphSize,
    TestSet,
    built_graph,
    default_cache,
    simulate_test_set,
)
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.oracle import lattice_oracle

ACCELERATIONS: dict[str, dict[str, Any]] = {
    "exact": {},
    "blank_skip 0.999": {"blank_skip": 0.999},
    "blank_skip 0.99": {"blank_skip": 0.99},
    "blank_skip 0.95": {"blank_skip": 0.95},
    "token_beam 12": {"token_beam": 12.0},
    "token_beam 9": {"token_beam": 9.0},
    "token_beam 6": {"token_beam": 6.0},
    "strict 2000": {"strict_max_active": True},
    "strict 1000": {"strict_max_active": True, "max_active": 1000},
    "strict 500": {"strict_max_active": True, "max_active": 500},
    "adapted 500": {"max_active": 500},
    "skip 0.99, beam 9": {"blank_skip": 0.99, "token_beam": 9.0},
    "skip 0.99, beam 12": {"blank_skip": 0.99, "token_beam": 12.0},
}


def search_all(
    engine: NativeEngine, utterances: list[torch.Tensor]
) -> tuple[float, list[Lattice], float]:
    """CPU seconds, lattices, active states a frame of the whole recording (frames left out have none)."""
    since = thread_time()
    lattices, active = [], 0
    for log_probs in utterances:
        state = engine.start()
        engine.advance([state], [log_probs])
        lattices.append(engine.finish(state))
        active += state.states_active
    return thread_time() - since, lattices, active / sum(map(len, utterances))


def accuracy(lattices: list[Lattice], test_set: TestSet) -> tuple[float, float]:
    """WER and lattice oracle WER, percent."""
    errors = np.zeros(2)
    for lattice, reference in zip(lattices, test_set.references, strict=True):
        path = best_path(lattice)
        words = list(path.words) if path is not None else []
        errors += (
            kaldialign.edit_distance(reference, words)["total"],
            lattice_oracle(lattice, reference).errors,
        )
    wer, oracle = (100 * errors / test_set.num_words).tolist()
    return wer, oracle


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--beam", type=float, default=16.0)
    parser.add_argument("--output-beam", type=float, default=8.0)
    parser.add_argument("--peakiness", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    args = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    graph = built_graph(GraphSize(args.words, args.sentences), args.cache)
    options = SimulatorOptions(peakiness=args.peakiness)
    test_set = simulate_test_set(graph, args.utterances, options, 0)
    utterances = [torch.from_numpy(rows) for rows in test_set.log_probs]
    lg = graph.load("LG")
    base = {"search_beam": args.beam, "output_beam": args.output_beam, "max_active": 2000}
    engines = {
        name: NativeEngine(lg, NativeSearchOptions(**{**base, **extra}))
        for name, extra in ACCELERATIONS.items()
    }
    seconds = dict.fromkeys(engines, np.inf)
    found: dict[str, tuple[list[Lattice], float]] = {}
    for _ in range(args.rounds + 1):  # the first warms up
        for name, engine in engines.items():
            spent, lattices, active = search_all(engine, utterances)
            seconds[name] = min(seconds[name], spent)
            found[name] = lattices, active
    print(f"{len(utterances)} utterances, {test_set.num_words} words, search beam {args.beam:g}")
    print(f"{'':20s} WER %  oracle %  speed-up       RTF  active/frame")
    results = []
    for name in engines:
        lattices, active = found[name]
        wer, oracle = accuracy(lattices, test_set)
        row = {
            "name": name,
            "options": {**base, **ACCELERATIONS[name]},
            "wer": round(wer, 3),
            "oracle_wer": round(oracle, 3),
            "rtf": seconds[name] / test_set.seconds,
            "speedup": round(seconds["exact"] / seconds[name], 2),
            "active_per_frame": round(active, 1),
        }
        results.append(row)
        print(
            f"{name:20s} {wer:5.2f} {oracle:9.2f} {row['speedup']:9.2f} {row['rtf']:9.5f} {active:13.0f}"
        )
    print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
