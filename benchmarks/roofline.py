"""The machine's limits, measured: matrix products by precision and thread count, and reading of memory.

A limit is the best of several probes, each the median of its rounds, which are made in turns with what is to
be compared with the limit, and like it: repeated for a while, of which the median counts.

- float32 products: `torch.mm` (its BLAS library's) of square matrices, and this package's own tiles;
- int8 products: torch's dynamically quantised linear layer (its library's, where it has one; quantising the
  input is part of it), and this package's own tiles;
- reading: `torch.sum`, a compiled sum, a copy (what is read and what is written count), and a product of one
  row by this package's tiles, over a buffer of 1 GiB, much more than caches hold, on huge pages as the packed
  weights are.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.encoder_work import Work
from moe_asr.nn.cpu import gemm
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.gemm import SCRATCH_BYTES, STORE, multiply
from moe_asr.nn.cpu.matrices import FLOAT32, INT8, PackedMatrices
from moe_asr.nn.cpu.memory import floats
from moe_asr.nn.cpu.simd import (
    PANEL,
)
from moe_asr.nn.cpu.team import TEAM, barrier
from moe_asr.nn.cpu.workspace import Slabs

BUFFER_BYTES = 1 << 30
SQUARES = (1024, 1536, 2048)
INT8_SQUARE = 2048
FLOAT_PRODUCT, INT8_PRODUCT, READING = "float32 products", "int8 products", "reading"
_SCRATCH = -(-SCRATCH_BYTES // 64) * 64


@dataclass(frozen=True)
class Probe:
    """One way to find a limit.

    Attributes:
        limit: which: `FLOAT_PRODUCT`, `INT8_PRODUCT` or `READING`.
        name: of the way.
        amount: FLOPs or bytes of a call.
        run: makes a call with so many threads.
    """

    limit: str
    name: str
    amount: float
    run: Callable[[int], None]

    def rate(self, threads: int, at_least_seconds: float = 0.0) -> float:
        """FLOPs or bytes per second, the median of calls for so long, one at least.

        torch's thread count is ``threads`` afterwards.
        """
        torch.set_num_threads(threads)
        seconds: list[float] = []
        while not seconds or sum(seconds) < at_least_seconds:
            since = time.perf_counter()
            self.run(threads)
            seconds.append(time.perf_counter() - since)
        return self.amount / statistics.median(seconds)


def make_probes() -> list[Probe]:
    """All probes that work here; they hold about 1.3 GB."""
    probes = [_torch_product(size) for size in SQUARES]
    probes += [_own_product(FLOAT32), _own_product(INT8)]
    try:
        probes.append(_torch_int8_product())
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        warnings.warn(f"no int8 products of torch: {error}", stacklevel=1)
    return probes + _reading()


def _torch_product(size: int) -> Probe:
    a, b, out = torch.randn(3, size, size)

    def run(threads: int) -> None:
        torch.mm(a, b, out=out)

    return Probe(FLOAT_PRODUCT, f"torch.mm {size}", 2.0 * size**3, run)


def _torch_int8_product() -> Probe:
    size = INT8_SQUARE
    x, weight = torch.randn(2, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they will go; until then they are a probe
        quantized = torch.quantize_per_channel(
            weight, torch.full((size,), 0.03), torch.zeros(size, dtype=torch.int64), 0, torch.qint8
        )
        packed = torch.ops.quantized.linear_prepack(quantized, torch.zeros(size))

    def run(threads: int) -> None:
        torch.ops.quantized.linear_dynamic(x, packed, False)

    run(1)
    return Probe(INT8_PRODUCT, f"torch int8 {size}", 2.0 * size**3, run)


@kernel
def _multiply_all(  # type: ignore[no-untyped-def]
    rank, size, sync, scratch, scratch_bytes, matrix, x, x_stride, scales, zeros, index, out, width
):
    multiply(
        rank, size, scratch + rank * scratch_bytes, matrix, STORE, x, x_stride, scales, zeros, index,
        0, len(index), out, width, index, scales,
    )  # fmt: skip
    barrier(sync, size)


def _multiply_rows(
    threads: int, matrix: np.ndarray, x: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
    index: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """All rows of x by all threads; ``out`` is their products one after the other."""
    scratch = np.empty(threads * _SCRATCH + 64, np.uint8)
    start = -(-scratch.ctypes.data // 64) * 64
    TEAM.run(
        _multiply_all, threads, start, _SCRATCH, matrix, x.ctypes.data, x.strides[0], scales, zeros,
        index, out, int(matrix[gemm.OUTPUTS]),
    )  # fmt: skip


def _own_product(precision: str) -> Probe:
    rows, inputs, outputs = 1008, 1024, 2048
    rng = np.random.default_rng(0)
    matrices = PackedMatrices(precision)
    weight = torch.from_numpy(rng.standard_normal((inputs, outputs), np.float32))
    matrices.add(weight, None)
    matrix = matrices.table()[0]
    is_int8 = precision == INT8
    x: np.ndarray = rng.standard_normal((rows, inputs), np.float32)
    if is_int8:
        x = rng.integers(0, 256, (rows, inputs), np.uint8)
    scales, zeros = np.ones((2, rows), np.float32)
    index, out = np.arange(rows), np.empty(rows * outputs, np.float32)

    def run(threads: int) -> None:
        assert len(matrices)  # what the addresses point to lives on
        _multiply_rows(threads, matrix, x, scales, zeros, index, out)

    run(1)
    limit = INT8_PRODUCT if is_int8 else FLOAT_PRODUCT
    return Probe(limit, f"own tiles {precision}", 2.0 * rows * inputs * outputs, run)


@kernel
def _sum_all(rank, size, sync, address, length, sums):  # type: ignore[no-untyped-def]
    begin, end = rank * length // size, (rank + 1) * length // size
    part = floats(address + 4 * begin, end - begin)
    total = part[0]
    for i in range(1, end - begin):
        total += part[i]
    sums[rank] = total
    barrier(sync, size)


def _reading() -> list[Probe]:
    memory = Slabs().take(BUFFER_BYTES).view(np.float32)
    memory[:] = 1.0
    buffer = torch.from_numpy(memory)
    half = len(buffer) // 2
    sums = np.zeros(1024, np.float32)

    def torch_sum(threads: int) -> None:
        buffer.sum()

    def own_sum(threads: int) -> None:
        TEAM.run(_sum_all, threads, memory.ctypes.data, len(memory), sums)

    def copy(threads: int) -> None:
        buffer[:half].copy_(buffer[half:])

    own_sum(1)
    return [
        Probe(READING, "torch.sum", BUFFER_BYTES, torch_sum),
        Probe(READING, "own sum", BUFFER_BYTES, own_sum),
        Probe(READING, "copy", BUFFER_BYTES, copy),
        _own_reading(memory),
    ]


def _own_reading(memory: np.ndarray) -> Probe:
    """A product of one row with a matrix that is all of some memory."""
    inputs = 1024
    outputs = len(memory) // inputs // PANEL * PANEL
    nothing = np.zeros(outputs, np.float32)
    matrix = np.zeros(gemm.MATRIX_FIELDS, np.int64)
    matrix[gemm.DATA], matrix[gemm.PANEL_BYTES] = memory.ctypes.data, 4 * inputs * PANEL
    matrix[gemm.INPUTS], matrix[gemm.OUTPUTS] = inputs, outputs
    matrix[[gemm.BIAS, gemm.SCALES, gemm.SUMS]] = nothing.ctypes.data
    x, one, index = np.ones((1, inputs), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)
    out = np.empty(outputs, np.float32)

    def run(threads: int) -> None:
        assert len(memory) >= len(nothing)  # what the addresses point to lives on
        _multiply_rows(threads, matrix, x, one, one, index, out)

    run(1)
    return Probe(READING, "own product of a row", 4.0 * inputs * outputs, run)


@dataclass(frozen=True)
class Peaks:
    """What was measured with one number of threads: (limit, probe) -> FLOPs or bytes per second."""

    rates: Mapping[tuple[str, str], float]

    @staticmethod
    def of(measured: Mapping[tuple[str, str], list[float]]) -> "Peaks":
        """The medians of what all calls of each probe gave."""
        return Peaks({key: statistics.median(values) for key, values in measured.items()})

    def best(self, limit: str) -> float:
        """The limit itself."""
        return max(rate for (of, _), rate in self.rates.items() if of == limit)

    def seconds(self, work: Work) -> tuple[float, float]:
        """The least time that the FLOPs of a call take, and the least that reading its weights takes."""
        flops = work.float_flops / self.best(FLOAT_PRODUCT)
        if work.int8_flops:
            flops += work.int8_flops / self.best(INT8_PRODUCT)
        return flops, work.weight_bytes / self.best(READING)

    def json(self) -> dict[str, dict[str, float]]:
        """GFLOP/s and GB/s of all probes by limit."""
        found: dict[str, dict[str, float]] = {}
        for (limit, name), rate in self.rates.items():
            found.setdefault(limit, {})[name] = round(rate / 1e9, 2)
        return found
