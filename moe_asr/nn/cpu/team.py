"""Threads that run one kernel together, and wait for one another inside it.

A kernel that is run by a team of n threads is called n times at once, with ranks 0..n-1; between its phases
it calls `barrier`. The threads hold no GIL while they do, wait actively for a moment and then let others run.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.simd import atomic_add, atomic_load, atomic_store, pause

_SPINS = 2000  # pauses before a waiting thread offers its core, each some 40 to 140 cycles

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@kernel
def barrier(sync, size):  # type: ignore[no-untyped-def]
    """Waits until all ``size`` threads are here. ``sync``: address of the team's two int64."""
    if size == 1:
        return
    generation = atomic_load(sync + 64)
    if atomic_add(sync, 1) == size - 1:
        atomic_store(sync, 0)
        atomic_add(sync + 64, 1)
        return
    spins = 0
    while atomic_load(sync + 64) == generation:
        pause()
        spins += 1
        if spins >= _SPINS:
            _sched_yield()


class Team:
    """Worker threads that wait for kernels; one kernel at a time.

    Threads are started when first needed and again after a fork. They are daemons.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._pid = os.getpid()

    def run(self, function: Callable[..., Any], num_threads: int, *arguments: Any) -> None:
        """Calls ``function(rank, size, sync, *arguments)`` in ``num_threads`` threads, this one included.

        If another thread has the team at this moment, this one runs the kernel alone (size 1).

        Args:
            function: a compiled kernel. What it raises in a worker is raised here.
        """
        sync = np.zeros(16, np.int64)
        if num_threads <= 1 or not self._lock.acquire(blocking=False):
            function(0, 1, sync.ctypes.data, *arguments)
            return
        try:
            if self._pid != os.getpid():  # threads do not survive a fork
                self._workers, self._pid = [], os.getpid()
            while len(self._workers) < num_threads - 1:
                self._workers.append(_Worker())
            workers = self._workers[: num_threads - 1]
            for rank, worker in enumerate(workers, 1):
                worker.start(function, (rank, num_threads, sync.ctypes.data, *arguments))
            function(0, num_threads, sync.ctypes.data, *arguments)
            for worker in workers:
                worker.wait()
        finally:
            self._lock.release()


class _Worker:
    """One thread that calls what it is given."""

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._call: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._loop, name="moe_asr-cpu", daemon=True).start()

    def start(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._call = (function, arguments)
        self._go.release()

    def wait(self) -> None:
        self._done.acquire()
        self._call = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _loop(self) -> None:
        while True:
            self._go.acquire()
            assert self._call is not None
            function, arguments = self._call
            try:
                function(*arguments)
            except BaseException as error:  # noqa: B036 - raised where it is waited for
                self._error = error
            self._done.release()


TEAM = Team()
