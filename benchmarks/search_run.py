"""Runs engines: one in a process of its own, for accuracy and memory; all in turns, for time."""

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.search_engines import Engine, Setting, engine_class
from benchmarks.search_inputs import TestSet
from benchmarks.search_scoring import Accuracy, accuracy
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.memory import PeakMeter

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}


@dataclass(frozen=True)
class Job:
    """An engine at one setting."""

    engine: str
    setting: Setting

    def __str__(self) -> str:
        shown = (f"{name}={value:g}" for name, value in self.setting.items())
        return f"{self.engine} {' '.join(shown)}"


@dataclass(frozen=True)
class Quality:
    """What one process found out about a job.

    Attributes:
        accuracy: over the whole test set.
        total_score: of the best paths, natural log; those of utterances without one left out.
        peak_bytes: most physical memory of the process, from its start: reading and converting the graph
            included; None where that cannot be told.
        search_bytes: most of it while searching, the converted graph and the posteriors included.
    """

    accuracy: Accuracy
    total_score: float
    peak_bytes: int | None
    search_bytes: int | None


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Holds this process and those it starts to one core: k2 has threads that nobody asked for."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure_quality(job: Job, graph: Path, test_set: Path) -> Quality:
    """Runs a job on a saved graph and test set in a process of its own.

    Raises:
        RuntimeError: with what the process wrote, if it fails.
    """
    command = [sys.executable, "-m", "benchmarks.search_run", job.engine]
    command += [json.dumps(job.setting), str(graph), str(test_set)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{job}: the process ended with {done.returncode}:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Quality(Accuracy(**found.pop("accuracy")), **found)


@dataclass(frozen=True)
class Speed:
    """Of one job, medians over rounds.

    Attributes:
        seconds, cpu_seconds: a round, that is one search of the whole test set.
        spread: the largest time of a round over the smallest.
        arcs_per_second: that were expanded; None if the engine does not tell.
    """

    seconds: float
    cpu_seconds: float
    spread: float
    arcs_per_second: float | None


def measure_speed(
    jobs: Sequence[Job],
    graphs: Callable[[str], DecodingGraph],
    test_set: TestSet,
    rounds: int,
    progress: Callable[[str], None],
) -> dict[str, Speed]:
    """Times all jobs in turns, so that whatever else the machine does meets all of them.

    Args:
        jobs: each with its own text (``str``).
        graphs: the graph of a kind.
        test_set: searched whole by every job in every round.
        rounds: after a first one over two utterances, which loads and compiles.
        progress: gets a line now and then.

    Returns:
        By the text of the job.
    """
    torch.set_num_threads(1)  # what the environment says is read when torch is imported
    found: list[Any] | None = None
    made: dict[str, Engine] = {}
    walls: dict[str, list[float]] = {str(job): [] for job in jobs}
    cpus: dict[str, list[float]] = {str(job): [] for job in jobs}
    arcs: dict[str, int | None] = {}
    for number in range(rounds + 1):
        part = test_set if number else test_set.first(2)
        start_of_round = time.perf_counter()
        for job in jobs:
            if job.engine not in made:
                made[job.engine] = engine_class(job.engine)()
            engine = made[job.engine]
            engine.prepare(graphs(engine.graph_kind), job.setting)
            loaded = engine.load(part.log_probs)
            found = None  # what the job before it found is not freed in this one's time
            gc.collect()
            start, cpu_start = time.perf_counter(), time.process_time()
            found = engine.search(loaded)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            assert found, job
            if number:
                walls[str(job)].append(seconds)
                cpus[str(job)].append(cpu_seconds)
                arcs[str(job)] = engine.arcs_expanded()
        name = f"round {number} of {rounds}" if number else "warm-up"
        progress(f"{name}: {time.perf_counter() - start_of_round:.0f} s")
    speeds = {}
    for name, times in walls.items():
        seconds, expanded = statistics.median(times), arcs[name]
        speeds[name] = Speed(
            seconds,
            statistics.median(cpus[name]),
            max(times) / min(times),
            None if expanded is None else expanded / seconds,
        )
    return speeds


def main(arguments: Sequence[str] | None = None) -> None:
    """The process of `measure_quality`; its last line is JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("engine")
    parser.add_argument("setting", type=json.loads)
    parser.add_argument("graph", type=Path)
    parser.add_argument("test_set", type=Path)
    args = parser.parse_args(arguments)
    meter = PeakMeter()
    engine = engine_class(args.engine)()
    test_set = TestSet.load(args.test_set)
    engine.prepare(DecodingGraph.load(args.graph), args.setting)
    loaded = engine.load(test_set.log_probs)
    gc.collect()
    loading_peak = meter.peak_bytes()
    meter = PeakMeter()
    found = engine.search(loaded)
    search_peak = meter.peak_bytes()
    known = loading_peak is not None and search_peak is not None
    decoded = engine.results(found)
    quality = Quality(
        accuracy(test_set.references, decoded),
        sum(one.score for one in decoded if one.score is not None),
        max(loading_peak, search_peak) if known else None,
        search_peak,
    )
    result: dict[str, Any] = asdict(quality)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
