"""Threads that run a kernel together."""

import multiprocessing
import threading

import numpy as np
import pytest

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
