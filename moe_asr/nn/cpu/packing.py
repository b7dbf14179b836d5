"""Weights put in the order in which the tiles of `moe_asr.nn.cpu.gemm` read them.

A panel is PANEL columns: [k][column] in float32, [k / 4][column][k % 4] in int8, where the four bytes are one
word. Weights come column by column, as those of ``nn.Linear`` (out, in), whose words are then transposed, or
row by row, as those of experts (in, out).
"""

import numpy as np

from moe_asr.nn.cpu.compiler import int32, kernel
from moe_asr.nn.cpu.memory import small_integers, unsigned_bytes
from moe_asr.nn.cpu.simd import (
    PANEL,
    panel_tile_int8,
)

_BLOCK = 16  # words of a column that are transposed at a time: one line of the cache


def pack_float32(weight: np.ndarray, out: np.ndarray) -> None:
    """(K, N) float32, any strides -> panels in ``out`` (num_panels * K * PANEL,), zeros after column N."""
    inputs, outputs = weight.shape
    if 0 in weight.shape:
        out[:] = 0.0
        return
    columns = weight.T
    if columns.strides[1] == 4 and columns.strides[0] >= 4 * inputs:
        _transpose(columns.ctypes.data, columns.strides[0], inputs, outputs, out.ctypes.data)
        return
    rows = weight if _is_row_major(weight) else np.ascontiguousarray(weight)
    _copy(rows.ctypes.data, rows.strides[0], inputs, outputs, out.ctypes.data)


def pack_int8(weight: np.ndarray, out: np.ndarray, sums: np.ndarray) -> None:
    """(K, N) int8, any strides -> panels in ``out``, and the sum of each column in ``sums`` (padded)."""
    inputs, outputs = weight.shape
    if 0 in weight.shape:
        out[:], sums[:] = 0, 0.0
        return
    fours = (inputs + 3) // 4
    columns = weight.T
    if columns.strides[1] == 1 and columns.strides[0] >= inputs:
        if inputs % 4 or columns.strides[0] % 4 or columns.ctypes.data % 4:
            columns = _padded(columns, outputs, 4 * fours)
        _transpose(columns.ctypes.data, columns.strides[0], fours, outputs, out.ctypes.data)
    else:
        rows = weight
        if inputs % 4 or not _is_row_major(rows):
            rows = _padded(rows, 4 * fours, outputs)
        _interleave(rows.ctypes.data, rows.strides[0], fours, outputs, out.ctypes.data)
    ones, totals = np.ones(4 * fours, np.uint8), np.empty(PANEL, np.int32)
    address = np.array([ones.ctypes.data])
    _sum_columns(
        out.ctypes.data, fours, -(-outputs // PANEL), address.ctypes.data, totals.ctypes.data, sums
    )


def _is_row_major(weight: np.ndarray) -> bool:
    size = weight.itemsize
    return weight.strides[1] == size and weight.strides[0] >= size * weight.shape[1]


def _padded(weight: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    whole = np.zeros((num_rows, num_columns), weight.dtype)
    whole[: weight.shape[0], : weight.shape[1]] = weight
    return whole


@kernel
def _transpose(source, stride, words, columns, out):  # type: ignore[no-untyped-def]
    """``columns`` rows of 32-bit words, ``stride`` bytes apart -> panels [word][column]."""
    for panel in range(-(-columns // PANEL)):
        width = min(PANEL, columns - panel * PANEL)
        to = small_integers(out + panel * words * PANEL * 4, words * PANEL)
        for begin in range(0, words, _BLOCK):
            size = min(_BLOCK, words - begin)
            for j in range(width):
                column = small_integers(source + (panel * PANEL + j) * stride + 4 * begin, size)
                at = begin * PANEL + j
                for k in range(size):
                    to[at + k * PANEL] = column[k]
            for j in range(width, PANEL):
                at = begin * PANEL + j
                for k in range(size):
                    to[at + k * PANEL] = 0


@kernel
def _copy(source, stride, words, columns, out):  # type: ignore[no-untyped-def]
    """``words`` rows of 32-bit columns, ``stride`` bytes apart -> panels [word][column]."""
    for panel in range(-(-columns // PANEL)):
        width = min(PANEL, columns - panel * PANEL)
        for k in range(words):
            row = small_integers(source + k * stride + panel * PANEL * 4, width)
            to = small_integers(out + (panel * words + k) * PANEL * 4, PANEL)
            for j in range(width):
                to[j] = row[j]
            for j in range(width, PANEL):
                to[j] = 0


@kernel
def _interleave(source, stride, fours, columns, out):  # type: ignore[no-untyped-def]
    """Four times ``fours`` rows of bytes, ``stride`` apart -> panels [four rows][column][row]."""
    for panel in range(-(-columns // PANEL)):
        width = min(PANEL, columns - panel * PANEL)
        for k in range(fours):
            at = source + 4 * k * stride + panel * PANEL
            first, second = unsigned_bytes(at, width), unsigned_bytes(at + stride, width)
            third = unsigned_bytes(at + 2 * stride, width)
            fourth = unsigned_bytes(at + 3 * stride, width)
            to = small_integers(out + (panel * fours + k) * PANEL * 4, PANEL)
            for j in range(width):
                low = int32(int32(first[j]) | int32(int32(second[j]) << 8))
                high = int32(int32(third[j]) | int32(int32(fourth[j]) << 8))
                to[j] = int32(low | int32(high << 16))
            for j in range(width, PANEL):
                to[j] = 0


@kernel
def _sum_columns(packed, fours, num_panels, ones, totals, sums):  # type: ignore[no-untyped-def]
    """The sum of each column: its product with ones. ``ones`` is the address of their address."""
    found = small_integers(totals, PANEL)
    for panel in range(num_panels):
        at = packed + panel * fours * PANEL * 4
        panel_tile_int8(1, ones, fours, at, totals, at + 4096, 2 * PANEL, 4 * PANEL)
        for j in range(PANEL):
            sums[panel * PANEL + j] = found[j]
