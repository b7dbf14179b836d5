"""All engines at all of their settings, on one test set: what the search benchmark's table is made of."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from benchmarks.search_engines import Engine, engine_class
from benchmarks.search_inputs import BuiltGraph, TestSet
from benchmarks.search_report import Row
from benchmarks.search_run import Job, measure_quality, measure_speed
from moe_asr.fsa.graph import DecodingGraph

_ROUNDS, _QUICK_ROUNDS = 3, 1
_TUNED_ON = 8  # utterances


def run_suite(
    names: Sequence[str], graph: BuiltGraph, test_set: TestSet, quick: bool = False
) -> list[Row]:
    """Runs the engines that can run here; prints which cannot, and progress to stderr.

    Args:
        names: of engines.
        graph: its files are read by every process.
        test_set: all of it is searched by all.
        quick: a few settings, and one round.
    """
    loaded = cache(graph.load)
    jobs: list[Job] = []
    classes: dict[str, type[Engine]] = {}
    for name in names:
        classes[name] = engine_class(name)
        reason = classes[name].why_not()
        if reason is not None:
            print(f"{name} is left out: {reason}")
            continue
        jobs += _jobs(classes[name], loaded, test_set, quick)
    qualities = {}
    with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:
        posteriors = Path(folder) / "posteriors.npz"
        test_set.save(posteriors)
        for job in jobs:
            path = graph.path(classes[job.engine].graph_kind)
            quality = qualities[str(job)] = measure_quality(job, path, posteriors)
            _progress(f"{job}: WER {quality.accuracy.wer:.2f} %")
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    speeds = measure_speed(jobs, loaded, test_set, rounds, _progress)
    rows = []
    for job in jobs:
        rtf = speeds[str(job)].seconds / test_set.seconds
        no_lattices = not classes[job.engine].makes_lattices
        rows.append(Row(job, qualities[str(job)], speeds[str(job)], rtf, no_lattices))
    return rows


def _jobs(
    kind: type[Engine], graphs: Callable[[str], DecodingGraph], test_set: TestSet, quick: bool
) -> list[Job]:
    tuned = kind().tune(graphs(kind.graph_kind), test_set.first(_TUNED_ON).log_probs)
    if tuned:
        _progress(f"{kind.name}: fastest with {tuned}")
    return [Job(kind.name, {**setting, **tuned}) for setting in kind.settings(quick)]


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
