"""Where the native search spends its time: a frame, an active state, an arc, and what comes after.

    python -m benchmarks.search_profile [--utterances 40] [--cache DIR]

Runs one thread over several beams and three degrees of peakiness, and fits the time of the search by least
squares to ``a * frames + b * active states + c * arcs expanded``. Pruning of the lattice (by running with it
and without) and making the `Lattice` are told apart. The clock rate is that of a chain of multiplications and
additions, of four cycles a pair, timed beside it. Last line: one JSON object.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numba
import numpy as np
import torch

from benchmarks.ctc_simulator import SimulatorOptions
from benchmarks.search_inputs import GraphSize, built_graph, default_cache, simulate_test_set
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.native import NativeEngine
from moe_asr.fsa.native import engine as engine_module

NEVER = 10**9


@numba.njit(cache=True)
def _chain(steps: int, factor: int) -> int:
    value = 1
    for _ in range(steps):
        value = value * factor + 1  # a multiplication of three cycles and an addition
    return value


def gigahertz() -> float:
    """Of this core, from operations that wait for one another."""
    _chain(10, 3)
    best = np.inf
    for _ in range(5):
        since = time.perf_counter()
        _chain(50_000_000, 3)
        best = min(best, time.perf_counter() - since)
    return 4 * 50_000_000 / best / 1e9


def measure(
    engine: NativeEngine, utterances: list[torch.Tensor], rounds: int = 3
) -> tuple[float, float, np.ndarray]:
    """Least CPU seconds of searching and of making lattices; and frames, active states and arcs."""
    searching, making, work = np.inf, np.inf, np.zeros(3)
    for _ in range(rounds):
        seconds, work = np.zeros(2), np.zeros(3)
        for log_probs in utterances:
            state = engine.start()
            times = [time.thread_time()]
            engine.advance([state], [log_probs])
            times.append(time.thread_time())
            engine.finish(state)
            times.append(time.thread_time())
            seconds += np.diff(times)
            work += (state.num_steps, state.states_active, state.arcs_expanded)
        searching, making = min(searching, seconds[0]), min(making, seconds[1])
    return float(searching), float(making), work


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    graph = built_graph(GraphSize(args.words, args.sentences), args.cache)
    lg = graph.load("LG")
    frequency = gigahertz()
    rows, times, pruning, making = [], [], 0.0, 0.0
    print("peak  beam  us/frame  active/frame  arcs/frame  pruning %  lattice us/frame")
    interval = engine_module.INTERVAL
    for peakiness, beam in itertools.product((1.0, 0.8, 0.6), (8.0, 12.0, 16.0)):
        options = SimulatorOptions(peakiness=peakiness)
        test_set = simulate_test_set(graph, args.utterances, options, 0)
        utterances = [torch.from_numpy(log_probs) for log_probs in test_set.log_probs]
        engine = NativeEngine(lg, SearchOptions(search_beam=beam, max_active=2000))
        measure(engine, utterances[:1], 1)
        seconds, finishing, work = measure(engine, utterances)
        engine_module.INTERVAL = NEVER
        unpruned = NativeEngine(lg, engine.options)
        engine_module.INTERVAL = interval
        without, _, _ = measure(unpruned, utterances)
        rows.append(work)
        times.append(without)
        pruning += seconds - without
        making += finishing
        frames, active, arcs = work
        print(
            f"{peakiness:4.1f} {beam:5.1f} {seconds / frames * 1e6:9.1f} {active / frames:13.0f} "
            f"{arcs / frames:11.0f} {(1 - without / seconds) * 100:10.0f} {finishing / frames * 1e6:17.2f}"
        )
    work = np.array(rows)
    weights = 1 / np.array(times)  # relative errors count, so that small settings are heard
    fit, *_ = np.linalg.lstsq(work * weights[:, None], np.ones(len(times)), rcond=None)
    names = ("ns_per_frame", "ns_per_active_state", "ns_per_arc")
    result = {name: value * 1e9 for name, value in zip(names, fit, strict=True)}
    result["worst_misfit"] = float(np.abs(work @ fit * weights - 1).max())
    result["ghz"] = frequency
    result["pruning_ns_per_frame"] = pruning / work[:, 0].sum() * 1e9
    result["lattice_ns_per_frame"] = making / work[:, 0].sum() * 1e9
    for name, value in result.items():
        cycles = f"  ({value * frequency:.0f} cycles)" if name.startswith("ns_") else ""
        print(f"{name:22s} {value:10.3f}{cycles}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
