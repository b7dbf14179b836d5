"""Threads that run one kernel together, and wait for one another inside it.

A kernel that is run by a team of n threads is called n times at once, with ranks 0..n-1; between its phases
it calls `barrier`. The threads hold no GIL while they do, wait actively for a moment and then let others run.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof, types
from numba.core.dispatcher import Dispatcher

from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.memory import atomic_add, atomic_load, atomic_store, pause

_SPINS = 2000  # pauses before a waiting thread offers its core, each some 40 to 140 cycles

_GENERATION = 64  # bytes from the count of threads at a barrier to the number of barriers passed

_yield = types.ExternalFunction(
    "SwitchToThread" if os.name == "nt" else "sched_yield", types.int32()
)


@kernel
def barrier(sync, size):  # type: ignore[no-untyped-def]
    """Waits until all ``size`` threads are here. ``sync``: address of the team's two int64."""
    if size == 1:
        return
    generation = atomic_load(sync + _GENERATION)
    if atomic_add(sync, 1) == size - 1:
        atomic_store(sync, 0)
        atomic_add(sync + _GENERATION, 1)
        return
    spins = 0
    while atomic_load(sync + _GENERATION) == generation:
        pause()
        spins += 1
        if spins >= _SPINS:
            _yield()


class Team:
    """Worker threads that wait for kernels; one kernel at a time.

    Threads are started when first needed and again after a fork. They are daemons.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begins anew: threads do not survive a fork, and one that held the lock will not give it back."""
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []

    def run(self, function: Callable[..., Any], num_threads: int, *arguments: Any) -> None:
        """Calls ``function(rank, size, sync, *arguments)`` in ``num_threads`` threads, this one included.

        If another thread has the team at this moment, this one runs the kernel alone (size 1); where the
        system gives fewer threads, it runs in those. It has ended in all of them when this returns or raises,
        Ctrl-C included, so that its memory may then be freed.

        Args:
            function: a compiled kernel. What it raises in a worker is raised here.
        """
        sync = np.zeros(16, np.int64)
        if num_threads <= 1 or not self._lock.acquire(blocking=False):
            function(0, 1, sync.ctypes.data, *arguments)
            return
        try:
            size = min(self._start_workers(num_threads - 1) + 1, num_threads)
            shared = (size, sync.ctypes.data, *arguments)
            if isinstance(function, Dispatcher) and not function.overloads:
                # while nobody waits for this thread: it takes seconds, in which it may be stopped
                function.compile(tuple(typeof(one) for one in (0, *shared)))
            calls = [_Call(function, (rank, *shared)) for rank in range(1, size)]
            try:
                self._hand_out(calls)
                function(0, *shared)
                self._wait(calls)
            except BaseException:
                # A signal may end this thread's part before its kernel began, and others would wait in
                # theirs for it: then all is done, for nothing. A kernel that began has passed a barrier.
                self._hand_out(calls)
                if sync[_GENERATION // 8] == 0:
                    with contextlib.suppress(Exception):
                        function(0, *shared)
                self._wait(calls)
                raise
            for call in calls:
                if call.error is not None:
                    raise call.error
        finally:
            self._lock.release()

    def _start_workers(self, number: int) -> int:
        """Starts workers until there are ``number``, or no more can be; returns how many there are."""
        while len(self._workers) < number:
            try:
                self._workers.append(_Worker())
            except RuntimeError:  # "can't start new thread"
                break
        return len(self._workers)

    def _hand_out(self, calls: "list[_Call]") -> None:
        for worker, call in zip(self._workers, calls, strict=False):
            worker.give(call)

    def _wait(self, calls: "list[_Call]") -> None:
        for call in calls:
            call.ended.wait()


class _Call:
    """What a worker is to run, once."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments
        self.begun, self.ended = False, _Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        if self.begun:  # given twice
            return
        self.begun = True
        try:
            self.function(*self.arguments)
        except BaseException as error:  # noqa: B036 - raised where it is waited for
            self.error = error
        self.ended.set()


class _Event:
    """`threading.Event` for one thread that waits, in one step of the interpreter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        with self._lock:
            pass


class _Worker:
    """One thread that runs the calls it is given."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        threading.Thread(target=self._loop, name="moe_asr-cpu", daemon=True).start()

    def give(self, call: _Call) -> None:
        """Runs a call; it may be given again, which does nothing."""
        self._calls.put(call)

    def _loop(self) -> None:
        while True:
            self._calls.get().run()


TEAM = Team()
