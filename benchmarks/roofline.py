"""The machine's limits, measured: matrix products by precision and thread count, and reading of memory.

A limit is the best of several probes, each the median of all its measurements, which are made in turns with
what is to be compared with the limit:

- float32 products: `torch.mm` (its BLAS library's) of square matrices, and this package's own tiles;
- int8 products: torch's dynamically quantised linear layer (its library's, where it has one; quantising the
  input is part of it), and this package's own tiles;
- reading: `torch.sum`, a compiled sum, and a copy (what is read and what is written count), over a buffer
  of 1 GiB, much more than caches hold.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.encoder_work import Work
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.gemm import SCRATCH_BYTES, STORE, multiply
from moe_asr.nn.cpu.matrices import FLOAT32, INT8, PackedMatrices
from moe_asr.nn.cpu.simd import floats
from moe_asr.nn.cpu.team import TEAM, barrier

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

    def rate(self, threads: int) -> float:
        """FLOPs or bytes per second of one call; torch's thread count is ``threads`` afterwards."""
        torch.set_num_threads(threads)
        since = time.perf_counter()
        self.run(threads)
        return self.amount / (time.perf_counter() - since)


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
        scratch = np.empty(threads * _SCRATCH + 64, np.uint8)
        start = -(-scratch.ctypes.data // 64) * 64
        TEAM.run(
            _multiply_all, threads, start, _SCRATCH, matrix, x.ctypes.data, x.strides[0], scales,
            zeros, index, out, outputs,
        )  # fmt: skip

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
    buffer = torch.ones(BUFFER_BYTES // 4)
    half = len(buffer) // 2
    sums = np.zeros(1024, np.float32)

    def torch_sum(threads: int) -> None:
        buffer.sum()

    def own_sum(threads: int) -> None:
        TEAM.run(_sum_all, threads, buffer.data_ptr(), len(buffer), sums)

    def copy(threads: int) -> None:
        buffer[:half].copy_(buffer[half:])

    own_sum(1)
    return [
        Probe(READING, "torch.sum", BUFFER_BYTES, torch_sum),
        Probe(READING, "own sum", BUFFER_BYTES, own_sum),
        Probe(READING, "copy", BUFFER_BYTES, copy),
    ]


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
