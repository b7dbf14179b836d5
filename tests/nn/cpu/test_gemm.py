"""Products with packed weights, against float64 and against integers."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from moe_asr.nn.cpu import gemm, simd
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.matrices import PackedMatrices
from moe_asr.nn.cpu.simd import PANEL, ROWS
from moe_asr.nn.quantization import dequantize, quantize

SHAPES = [(1, 5, 3), (ROWS, 33, PANEL), (ROWS + 1, 40, 2 * PANEL + 7), (3 * ROWS + 2, 64, 70)]


def _weights(inputs: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(inputs, outputs, generator=generator) * inputs**-0.5
    return weight, torch.randn(outputs, generator=generator)


def _quantised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, inputs = x.shape
    values = np.zeros((rows, -(-inputs // 4) * 4), np.uint8)
    scales, zeros = np.zeros((2, rows), np.float32)
    for i in range(rows):
        scales[i], zeros[i] = gemm.quantize_row(x[i], values[i], inputs)
    return values, scales, zeros


def _multiply(
    matrices: PackedMatrices, x: np.ndarray, mode: int, out: np.ndarray, x_index: np.ndarray,
    out_index: np.ndarray, gates: np.ndarray, first: int, num_rows: int, size: int = 1,
) -> None:  # fmt: skip
    values, scales, zeros = _quantised(x)
    source = values if matrices.precision == "int8" else x
    scratch = np.zeros(gemm.SCRATCH_BYTES + 64, np.uint8)
    for rank in range(size):
        gemm.multiply(
            rank, size, scratch.ctypes.data, matrices.table()[0], mode, source.ctypes.data,
            source.strides[0], scales, zeros, x_index, first, num_rows, out.reshape(-1),
            out.shape[1], out_index, gates,
        )  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_products(rows: int, inputs: int, outputs: int, precision: str) -> None:
    """Every mode, with rows gathered and scattered, from several threads, and nothing else touched."""
    weight, bias = _weights(inputs, outputs)
    matrices = PackedMatrices(precision)
    matrices.add(weight, bias)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows + 3, inputs)).astype(np.float32)
    x_index = np.concatenate([[0], rng.permutation(rows + 3)])[: rows + 1]
    out_index = np.concatenate([[0], rng.permutation(rows + 5)])[: rows + 1]
    gates = rng.normal(size=rows + 1).astype(np.float32)
    exact_x, exact_weight = x.astype(np.float64), weight.double().numpy()
    if precision == "int8":  # what the quantised numbers stand for, exactly
        values, scales, zeros = _quantised(x)
        real = values[:, :inputs].astype(np.float64) - zeros[:, None]
        exact_x = real * scales[:, None]
        exact_weight = dequantize(*quantize(weight.t())).t().double().numpy()
    y = (exact_x @ exact_weight + bias.double().numpy())[x_index[1:]]
    before = rng.normal(size=(rows + 5, outputs)).astype(np.float32)
    for mode, expected in (
        (simd.STORE, y),
        (simd.STORE_SILU, y / (1.0 + np.exp(-y))),
        (simd.STORE_RELU, np.maximum(y, 0.0)),
        (simd.ADD, before[out_index[1:]] + gates[1:, None] * y),
    ):
        for size in (1, 3):
            out = before.copy()
            _multiply(matrices, x, mode, out, x_index, out_index, gates, 1, rows, size)
            wanted = before.copy().astype(np.float64)
            wanted[out_index[1:]] = expected
            np.testing.assert_allclose(out, wanted, rtol=2e-5, atol=2e-5)


def test_quantised_rows_are_near() -> None:
    """Within half a step, zero exactly, the padding at zero; constant, empty and one-sided rows too."""
    rng = np.random.default_rng(2)
    rows = [
        rng.normal(size=37), np.zeros(37), np.full(37, 3.0), np.full(37, -2.5), np.abs(rng.normal(size=37)),
        np.concatenate([np.zeros(36), [1e-30]]), np.array([1e20] + [-1.0] * 36),
    ]  # fmt: skip
    for row in rows:
        x = row.astype(np.float32)
        values, scales, zeros = _quantised(x[None])
        real = (values[0].astype(np.float64) - zeros[0]) * scales[0]
        assert np.abs(real[:37] - x).max() <= 0.5001 * scales[0] + 1e-37
        assert (real[37:] == 0.0).all()
        assert (real[:37][x == 0.0] == 0.0).all()


@kernel
def _tiles(rows, count, weights, out):  # type: ignore[no-untyped-def]
    simd.panel_tile_int8(5, rows, count, weights, out, weights, 0, 0)
    simd.panel_tile_int8_portable(5, rows, count, weights, out + 20 * PANEL, weights, 0, 0)


def test_int8_tiles_are_exact_with_and_without_dot_products() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (5, 48)).astype(np.uint8)
    weight = rng.integers(-127, 128, (48, PANEL)).astype(np.int8)
    x[0], weight[:, 0], weight[:, 1] = 255, 127, -127  # sums of pairs beyond 16 bits
    packed = np.ascontiguousarray(weight.reshape(12, 4, PANEL).transpose(0, 2, 1))
    rows = np.array([row.ctypes.data for row in x], np.int64)
    out = np.zeros((2, 5, PANEL), np.int32)
    _tiles(rows.ctypes.data, 12, packed.ctypes.data, out.ctypes.data)
    expected = x.astype(np.int64) @ weight.astype(np.int64)
    np.testing.assert_array_equal(out[0], expected)
    np.testing.assert_array_equal(out[1], expected)


@kernel
def _exponentials(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = simd.exp(x[i])


def test_exp() -> None:
    x = np.concatenate([np.linspace(-87.3, 88.0, 20001), [0.0, -1e-30, -500.0, 500.0]])
    x = x.astype(np.float32)
    out = np.empty_like(x)
    _exponentials(x, out)
    exact = np.exp(np.clip(x, np.float32(-87.33655), np.float32(88.0)).astype(np.float64))
    assert (np.abs(out / exact - 1.0) < 4e-7).all()


def test_nan_goes_through() -> None:
    """A row that is not finite spoils itself, and no other."""
    weight, bias = _weights(16, PANEL)
    for precision in ("float32", "int8"):
        matrices = PackedMatrices(precision)
        matrices.add(weight, bias)
        x = np.ones((4, 16), np.float32)
        x[1, 3], x[2, 5] = np.nan, np.inf
        index, gates = np.arange(4), np.ones(4, np.float32)
        for mode in (simd.STORE, simd.STORE_SILU, simd.STORE_RELU, simd.ADD):
            out = np.zeros((4, PANEL), np.float32)
            _multiply(matrices, x, mode, out, index, index, gates, 0, 4)
            assert np.isfinite(out[[0, 3]]).all()
            assert not np.isfinite(out[1]).any()


_WITH_LESS = """
import runpy, sys
from moe_asr.nn.cpu import simd
assert (simd.LANES, simd.DOT) == (4, ""), (simd.LANES, simd.DOT)
tests = runpy.run_path(sys.argv[1])
tests["test_exp"]()
tests["test_int8_tiles_are_exact_with_and_without_dot_products"]()
for shape in tests["SHAPES"]:
    for precision in ("float32", "int8"):
        tests["test_products"](*shape, precision)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="which vectors there are is of x86")
def test_vectors_are_as_wide_as_numba_may_use_them() -> None:
    """Wider ones end the process: LLVM has no code for them."""
    environment = os.environ | {"NUMBA_CPU_NAME": "generic"}
    done = subprocess.run(
        [sys.executable, "-c", _WITH_LESS, __file__],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
