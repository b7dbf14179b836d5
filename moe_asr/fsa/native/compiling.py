"""Compiling the kernels before they are needed, and saying how long it took."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_asr.fsa.native import lattice_kernels, layout, search_kernels
from moe_asr.fsa.native.pieces import trace
from moe_asr.fsa.native.store import Store, Workspace

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompileReport:
    """How the kernels came to be.

    Attributes:
        seconds: until all were ready.
        num_compiled: kernels that were compiled; the others came from numba's cache on disk.
        cache_path: where numba keeps them.
    """

    seconds: float
    num_compiled: int
    cache_path: str


@functools.cache
def warm_up() -> CompileReport:
    """Compiles the kernels, or loads them from numba's cache: a few seconds, or a few tenths, once a process.

    What is compiled stays in ``__pycache__``, or where NUMBA_CACHE_DIR says.
    """
    since = time.perf_counter()
    store = _search_two_frames(None)
    extra = np.zeros(store.num_states, np.float32)
    lattice_kernels.mark_alive(0, store.newest, np.float32(1.0), store.arrays, extra)
    trace(store, store.newest, 0)
    lattice_kernels.last_common_step(
        store.newest, store.arrays, np.full(store.num_states, -1, np.int32)
    )
    functions = [
        search_kernels.search_steps,
        lattice_kernels.prune_steps,
        lattice_kernels.force_merge,
        lattice_kernels.mark_alive,
        lattice_kernels.trace_back,
        lattice_kernels.last_common_step,
        lattice_kernels.drop_steps,
    ]
    return _report("search", since, _num_misses(functions))


@functools.cache
def warm_up_with_context() -> CompileReport:
    """The same for the versions of the kernels that listen for contextual phrases."""
    since = time.perf_counter()
    functions = [
        search_kernels.search_steps,
        lattice_kernels.prune_steps,
        lattice_kernels.force_merge,
        lattice_kernels.drop_steps,
    ]
    before = _num_misses(functions)
    symbol, class_of = np.zeros(0, np.uint32), np.zeros(1, np.uint32)
    following, gain = np.zeros((1, 1), np.uint32), np.zeros((1, 1), np.float32)
    _search_two_frames(
        (symbol, class_of, following, gain, np.zeros(1, np.float32), np.zeros(1, np.uint8))
    )
    return _report("search with phrases", since, _num_misses(functions) - before)


def _num_misses(functions: Sequence[Any]) -> int:
    """How many of the versions of kernels were compiled, for numba's cache did not have them."""
    return sum(sum(function.stats.cache_misses.values()) for function in functions)


def _search_two_frames(context: tuple[np.ndarray, ...] | None) -> Store:
    """Of a graph without arcs, with what is done at intervals."""
    no_arcs = np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32)
    graph = (np.array([[0, 0, 0, 0]], np.uint32), np.full(1, -np.inf, np.float32), *no_arcs)
    store = Store((0, 0, 0, -np.inf, 0.0), None if context is None else 0)
    workspace = Workspace(1, 1, 0)
    limits = np.ones(layout.NUM_LIMITS, np.float64)
    rows, frames = np.zeros((2, 1), np.float32), np.arange(1, 3)
    search_kernels.search_steps(
        rows, frames, 0, layout.STANDARD, graph, limits,
        workspace.arrays, store.arrays, store.counts, np.ones(1),
        None if context is None else (context, store.context, workspace.context, np.float32(0)),
    )  # fmt: skip
    lattice_kernels.prune_steps(np.float32(1.0), False, store.arrays, store.counts, store.gains)
    lattice_kernels.drop_steps(0, store.arrays, store.counts, store.gains)
    lattice_kernels.force_merge(store.arrays, store.counts, store.context_states)
    return store


def _report(name: str, since: float, num_compiled: int) -> CompileReport:
    report = CompileReport(
        seconds=time.perf_counter() - since,
        num_compiled=num_compiled,
        cache_path=str(search_kernels.search_steps.stats.cache_path),
    )
    if report.num_compiled:
        _LOGGER.info(
            "compiled the %s in %.1f s; it is kept in %s", name, report.seconds, report.cache_path
        )
    return report
