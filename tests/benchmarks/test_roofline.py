"""Probes do what their amounts say, and limits are put together as defined."""

import numpy as np
import pytest
import torch

from benchmarks import roofline
from benchmarks.encoder_work import Work
from benchmarks.roofline import FLOAT_PRODUCT, INT8_PRODUCT, READING, Peaks
from moe_asr.nn.cpu.simd import PANEL
from moe_asr.nn.cpu.team import TEAM
from moe_asr.nn.cpu.workspace import Slabs

PEAKS = Peaks.of(
    {
        (FLOAT_PRODUCT, "one"): [90.0, 100.0, 500.0],
        (FLOAT_PRODUCT, "other"): [80.0],
        (INT8_PRODUCT, "one"): [400.0],
        (READING, "one"): [5.0],
        (READING, "other"): [10.0, 9.0, 11.0],
    }
)


def test_limits_are_the_best_medians() -> None:
    assert PEAKS.best(FLOAT_PRODUCT) == 100.0
    assert PEAKS.best(READING) == 10.0


def test_precisions_take_their_time_one_after_the_other() -> None:
    flops, reading = PEAKS.seconds(Work(50.0, 200.0, 30.0))
    assert flops == pytest.approx(50 / 100 + 200 / 400)
    assert reading == pytest.approx(3.0)


def test_float32_alone_needs_no_int8_peak() -> None:
    peaks = Peaks({(FLOAT_PRODUCT, "one"): 100.0, (READING, "one"): 10.0})
    assert peaks.seconds(Work(50.0, 0.0, 30.0)) == pytest.approx((0.5, 3.0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_compiled_sum_reads_everything(threads: int) -> None:
    values, sums = np.arange(1000, dtype=np.float32), np.zeros(4, np.float32)
    TEAM.run(roofline._sum_all, threads, values.ctypes.data, len(values), sums)
    assert sums.sum() == values.sum()
    assert (sums[:threads] > 0).all() and (sums[threads:] == 0).all()


def test_rates_are_amounts_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.5])
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: next(times))
    given: list[int] = []
    before = torch.get_num_threads()
    assert roofline.Probe(READING, "one", 100.0, given.append).rate(2) == 40.0
    torch.set_num_threads(before)
    assert given == [2]


def test_calls_of_a_probe_are_repeated_as_those_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cold call would give a lower limit than what is held against it."""
    times = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: next(times))
    probe = roofline.Probe(READING, "one", 100.0, lambda threads: None)
    assert probe.rate(torch.get_num_threads(), 8.0) == 50.0


@pytest.mark.parametrize("threads", [1, 2])
def test_the_product_of_a_row_reads_everything(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    run = TEAM.run
    monkeypatch.setattr(
        roofline.TEAM, "run", lambda *given: (run(*given), found.append(given[-2].sum()))
    )
    memory = np.arange(1024 * 7 * PANEL, dtype=np.float32) % 5 + 1
    probe = roofline._own_reading(memory)
    probe.run(threads)
    assert probe.amount == memory.nbytes and found == [memory.sum()] * 2


def test_what_is_read_is_on_pages_like_those_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """On small pages less is read a second, and every cell would seem nearer to its limit."""
    taken = []
    take = Slabs.take
    monkeypatch.setattr(
        Slabs, "take", lambda self, size: taken.append(take(self, size)) or taken[-1]
    )
    monkeypatch.setattr(roofline, "BUFFER_BYTES", 1 << 20)
    probes = {probe.name: probe for probe in roofline._reading()}
    assert [len(one) for one in taken] == [1 << 20]
    values = taken[0].view(np.float32)
    assert (values == 1.0).all() and all(probe.limit == READING for probe in probes.values())
    values[: len(values) // 2] = 0.0
    probes["copy"].run(1)
    assert (values == 1.0).all()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_own_products_are_as_large_as_they_say(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    run = TEAM.run

    def record(function, threads, *arguments):  # type: ignore[no-untyped-def]
        run(function, threads, *arguments)
        called.append(arguments)

    monkeypatch.setattr(roofline.TEAM, "run", record)
    probe = roofline._own_product(precision)
    probe.run(2)
    first, second = ([*arguments][-2].copy() for arguments in called)
    matrix, index = called[0][2], called[0][7]
    assert probe.amount == 2.0 * len(index) * matrix[1] * matrix[2]
    assert len(first) == len(index) * matrix[2]
    assert np.isfinite(first).all() and np.array_equal(first, second) and (first != 0).mean() > 0.99
