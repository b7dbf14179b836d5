"""Threads that run a kernel together."""

import multiprocessing
import threading
import time

import numpy as np
import pytest

from moe_asr.nn.cpu import team as team_module
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.team import TEAM, Team, barrier


@kernel
def _relay(rank, size, sync, rounds, total, seen):  # type: ignore[no-untyped-def]
    """Each round one thread writes, and all read: wrong at once if one runs ahead."""
    for i in range(rounds):
        if i % size == rank:
            total[0] += 1
        barrier(sync, size)
        seen[rank] += total[0] == i + 1
        barrier(sync, size)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_barriers_hold_all_threads(size: int) -> None:
    total, seen = np.zeros(1, np.int64), np.zeros(size, np.int64)
    for _ in range(3):
        total[:] = 0
        seen[:] = 0
        TEAM.run(_relay, size, 500, total, seen)
        assert total[0] == 500
        assert (seen == 500).all()


def test_calls_of_several_threads_at_once() -> None:
    """One has the team, the others go alone; all are right."""
    results: list[bool] = []

    def work() -> None:
        for _ in range(20):
            total, seen = np.zeros(1, np.int64), np.zeros(2, np.int64)
            TEAM.run(_relay, 2, 50, total, seen)
            results.append(bool(total[0] == 50 and seen[0] == 50))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60


def test_an_error_in_a_worker_is_raised() -> None:
    def fail(rank: int, size: int, sync: int) -> None:
        if rank == 1:
            raise ValueError("of the worker")

    team = Team()
    with pytest.raises(ValueError, match="of the worker"):
        team.run(fail, 2)
    total, seen = np.zeros(1, np.int64), np.zeros(2, np.int64)
    team.run(_relay, 2, 10, total, seen)  # it goes on
    assert (seen == 10).all()


def test_all_threads_end_before_an_error_is_raised() -> None:
    """What they work on may be freed then; and none is left behind for the next call to meet."""
    ended: list[int] = []

    def fail(rank: int, size: int, sync: int) -> None:
        if rank == 1:
            raise ValueError("of the worker")
        if rank == 2:
            time.sleep(0.05)
        ended.append(rank)

    with pytest.raises(ValueError, match="of the worker"):
        Team().run(fail, 3)
    assert sorted(ended) == [0, 2]


@pytest.mark.parametrize("begins", [False, True])
def test_interrupted(begins: bool) -> None:
    """By Ctrl-C before or after this thread's part: no other waits for it for ever."""
    team = Team()
    total, seen = np.zeros(1, np.int64), np.zeros(3, np.int64)
    interrupts = [KeyboardInterrupt()]

    def interrupted(rank: int, size: int, *arguments: object) -> None:
        if rank == 0 and not begins and interrupts:
            raise interrupts.pop()
        _relay(rank, size, *arguments)
        if rank == 0 and interrupts:
            raise interrupts.pop()

    with pytest.raises(KeyboardInterrupt):
        team.run(interrupted, 3, 20, total, seen)
    assert total[0] == 20
    assert (seen == 20).all()
    seen[:], total[:] = 0, 0
    team.run(_relay, 3, 20, total, seen)  # it goes on
    assert (seen == 20).all()


def test_interrupted_while_threads_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have begun end, and the next call is right."""
    team = Team()
    total, seen = np.zeros(1, np.int64), np.zeros(3, np.int64)
    interrupts = [KeyboardInterrupt()]
    give = team_module._Worker.give

    def interrupted(worker: team_module._Worker, call: team_module._Call) -> None:
        if call.arguments[0] == 2 and interrupts:
            raise interrupts.pop()
        give(worker, call)

    monkeypatch.setattr(team_module._Worker, "give", interrupted)
    with pytest.raises(KeyboardInterrupt):
        team.run(_relay, 3, 20, total, seen)
    seen[:], total[:] = 0, 0
    team.run(_relay, 3, 20, total, seen)
    assert (seen == 20).all()


def test_fewer_threads_where_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    total, seen = np.zeros(1, np.int64), np.zeros(4, np.int64)
    Team().run(_relay, 4, 20, total, seen)
    assert seen.tolist() == [20, 20, 0, 0]


def _in_child() -> None:
    total, seen = np.zeros(1, np.int64), np.zeros(2, np.int64)
    TEAM.run(_relay, 2, 10, total, seen)
    assert (seen == 10).all()


def test_after_a_fork() -> None:
    _in_child()  # the parent's threads exist
    child = multiprocessing.get_context("fork").Process(target=_in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_after_a_fork_while_a_kernel_runs() -> None:
    """The thread that has the team is not there to give it back: the child makes its own."""
    goes = threading.Event()
    TEAM.run(_relay, 2, 1, *_counts(2))
    child = multiprocessing.get_context("fork").Process(target=_as_a_team)

    def hold(rank: int, size: int, sync: int) -> None:
        goes.wait(60)

    holder = threading.Thread(target=TEAM.run, args=(hold, 2))
    holder.start()
    while not TEAM._lock.locked():
        time.sleep(0.001)
    child.start()
    child.join(60)
    goes.set()
    holder.join()
    assert child.exitcode == 0


def _counts(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(1, np.int64), np.zeros(size, np.int64)


def _as_a_team() -> None:
    total, seen = _counts(2)
    TEAM.run(_relay, 2, 10, total, seen)
    assert seen.tolist() == [10, 10]
