"""Matrix products with packed weights, float32 or int8, with their bias, activation and sum in one pass.

A matrix (K, N) is packed in panels of PANEL columns, each one stream of memory: [panel][k][column] in
float32, [panel][k / 4][column][k % 4] in int8. Panels are shared out among the threads; a panel is multiplied
with tiles of up to ROWS rows, and while it is, the next one is fetched: with few rows a product costs what
reading its weights costs.

int8 (dynamic): weights are symmetric, one scale a column; inputs are quantised to unsigned 8 bits row by row,
x = scale * (q - zero), and y = row scale * column scale * (sum q w - zero * sum w) + bias (Jacob et al.,
arXiv 1712.05877).
"""

from moe_asr.nn.cpu.compiler import float32, int32, kernel
from moe_asr.nn.cpu.simd import (
    PANEL,
    ROWS,
    exp,
    floats,
    integers,
    small_integers,
    tile_float32,
    tile_int8,
)

# Columns of a table of matrices (num_matrices, MATRIX_FIELDS) int64
DATA, INPUTS, OUTPUTS, BIAS, SCALES, SUMS, IS_INT8, PANEL_BYTES = range(8)
MATRIX_FIELDS = 8

# What becomes of a product y
STORE, STORE_SILU, STORE_RELU, ADD = range(4)  # out = y, silu(y), relu(y); out += gate * y

# Scratch memory of a thread, in bytes: row addresses, the tile as it comes, and as float32
_TILE_AT = 8 * ROWS
_FLOAT_TILE_AT = _TILE_AT + 4 * ROWS * PANEL
SCRATCH_BYTES = _FLOAT_TILE_AT + 4 * ROWS * PANEL + 64

_AHEAD_BYTES = 4096  # how far ahead of its use a tile that is alone fetches its weights
_L2 = 2  # prefetches go to the second-level cache


@kernel
def _float_tile(num_rows, rows, count, weights, out, ahead, ahead_step):  # type: ignore[no-untyped-def]
    """A tile of 1..ROWS rows and PANEL columns; numba needs its number of rows as a constant."""
    step = 4 * PANEL
    if num_rows == 1:
        tile_float32(1, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 2:
        tile_float32(2, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 3:
        tile_float32(3, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 4:
        tile_float32(4, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 5:
        tile_float32(5, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 6:
        tile_float32(6, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 7:
        tile_float32(7, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 8:
        tile_float32(8, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 9:
        tile_float32(9, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 10:
        tile_float32(10, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 11:
        tile_float32(11, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 12:
        tile_float32(12, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)


@kernel
def _int8_tile(num_rows, rows, count, weights, out, ahead, ahead_step):  # type: ignore[no-untyped-def]
    """A tile of 1..ROWS rows and PANEL columns; numba needs its number of rows as a constant."""
    step = 4 * PANEL
    if num_rows == 1:
        tile_int8(1, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 2:
        tile_int8(2, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 3:
        tile_int8(3, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 4:
        tile_int8(4, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 5:
        tile_int8(5, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 6:
        tile_int8(6, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 7:
        tile_int8(7, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 8:
        tile_int8(8, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 9:
        tile_int8(9, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 10:
        tile_int8(10, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 11:
        tile_int8(11, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)
    elif num_rows == 12:
        tile_int8(12, 2, _L2, rows, count, weights, step, out, ahead, ahead_step)


@kernel
def _to_float(tile, out, num_rows, columns, scales, sums, row_scales, row_zeros, row_index, first):  # type: ignore[no-untyped-def]  # fmt: skip
    """The float32 values of an int8 tile, without the bias."""
    for i in range(num_rows):
        row = row_index[first + i]
        scale, zero = row_scales[row], row_zeros[row]
        for j in range(PANEL):
            total = float32(tile[i * PANEL + j]) - zero * sums[columns + j]
            out[i * PANEL + j] = scale * scales[columns + j] * total


@kernel
def _finish(mode, tile, num_rows, columns, width, bias, out, out_stride, out_index, first, gates):  # type: ignore[no-untyped-def]  # fmt: skip
    """Bias, activation or gate; then to the output."""
    for i in range(num_rows):
        at = out_index[first + i] * out_stride + columns
        to = out[at : at + width]
        start = i * PANEL
        if mode == STORE:
            for j in range(width):
                to[j] = tile[start + j] + bias[columns + j]
        elif mode == STORE_SILU:
            for j in range(PANEL):
                y = tile[start + j] + bias[columns + j]
                tile[start + j] = y / (float32(1.0) + exp(-y))
            for j in range(width):
                to[j] = tile[start + j]
        elif mode == STORE_RELU:
            for j in range(width):
                to[j] = max(tile[start + j] + bias[columns + j], float32(0.0))
        else:
            gate = gates[first + i]
            for j in range(width):
                to[j] += gate * (tile[start + j] + bias[columns + j])


@kernel
def multiply(
    rank, size, scratch, matrix, mode, x, x_stride, row_scales, row_zeros, x_index, first, num_rows,
    out, out_stride, out_index, gates,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """This thread's panels of the product of some rows with a matrix.

    Args:
        rank, size: this thread of how many.
        scratch: address of its SCRATCH_BYTES.
        matrix: (MATRIX_FIELDS,) int64.
        mode: STORE, STORE_SILU, STORE_RELU or ADD.
        x, x_stride: address of the input's row 0 and bytes between rows: float32, or unsigned 8-bit with
            ``row_scales`` and ``row_zeros`` (float32, of each row), padded to a multiple of four.
        x_index: int64; row i of the product is row x_index[first + i] of the input ...
        first, num_rows: ... for i < num_rows.
        out, out_stride: (..., ) float32 output; row i goes to out_index[first + i] * out_stride.
        out_index: int64.
        gates: float32, gates[first + i] is row i's factor when the mode is ADD.
    """
    inputs, outputs, data = matrix[INPUTS], matrix[OUTPUTS], matrix[DATA]
    is_int8, panel_bytes = matrix[IS_INT8] != 0, matrix[PANEL_BYTES]
    num_panels = (outputs + PANEL - 1) // PANEL
    padded = num_panels * PANEL
    bias = floats(matrix[BIAS], padded)
    num_tiles = (num_rows + ROWS - 1) // ROWS
    rows = integers(scratch, ROWS)
    tile = floats(scratch + _FLOAT_TILE_AT, ROWS * PANEL)
    int8_tile = small_integers(scratch + _TILE_AT, ROWS * PANEL)
    scales, sums = floats(matrix[SCALES], padded), floats(matrix[SUMS], padded)
    count = (inputs + 3) // 4 if is_int8 else inputs
    for panel in range(rank * num_panels // size, (rank + 1) * num_panels // size):
        weights = data + panel * panel_bytes
        columns = panel * PANEL
        width = min(PANEL, outputs - columns)
        for t in range(num_tiles):
            begin, end = t * num_rows // num_tiles, (t + 1) * num_rows // num_tiles
            tile_rows = end - begin
            for i in range(tile_rows):
                rows[i] = x + x_index[first + begin + i] * x_stride
            if num_tiles == 1:
                ahead, ahead_step = weights + _AHEAD_BYTES, 4 * PANEL
            else:  # each tile of this panel fetches its share of the next
                ahead = weights + panel_bytes + panel_bytes * t // num_tiles
                ahead_step = 4 * PANEL // num_tiles
            if is_int8:
                _int8_tile(
                    tile_rows, scratch, count, weights, scratch + _TILE_AT, ahead, ahead_step
                )
                _to_float(
                    int8_tile, tile, tile_rows, columns, scales, sums, row_scales, row_zeros,
                    x_index, first + begin,
                )  # fmt: skip
            else:
                _float_tile(
                    tile_rows, scratch, count, weights, scratch + _FLOAT_TILE_AT, ahead, ahead_step
                )
            _finish(
                mode, tile, tile_rows, columns, width, bias, out, out_stride, out_index,
                first + begin, gates,
            )  # fmt: skip


@kernel
def quantize_row(x, out, num_inputs):  # type: ignore[no-untyped-def]
    """Quantises a row x (num_inputs,) to unsigned 8 bits; returns its (scale, zero).

    ``out`` is filled to a multiple of four with the zero point. A row of zeros has scale 0.
    """
    low, high = float32(0.0), float32(0.0)
    for i in range(num_inputs):
        low = x[i] if x[i] < low else low
        high = x[i] if x[i] > high else high
    scale = (high - low) / float32(255.0)
    inverse = float32(1.0) / scale if scale > float32(0.0) else float32(0.0)
    zero = float32(int32(-low * inverse + float32(0.5)))
    offset = zero + float32(0.5)
    for i in range(num_inputs):
        out[i] = int32(x[i] * inverse + offset)
    for i in range(num_inputs, (num_inputs + 3) // 4 * 4):
        out[i] = int32(zero)
    return scale, zero


@kernel
def pack_float32(weight, out):  # type: ignore[no-untyped-def]
    """(K, N) float32, any strides -> panels in ``out`` (num_panels * K * PANEL,), zeros after column N."""
    inputs, outputs = weight.shape
    for panel in range((outputs + PANEL - 1) // PANEL):
        width = min(PANEL, outputs - panel * PANEL)
        for k in range(inputs):
            at = (panel * inputs + k) * PANEL
            for j in range(width):
                out[at + j] = weight[k, panel * PANEL + j]
            for j in range(width, PANEL):
                out[at + j] = 0.0


@kernel
def pack_int8(weight, out, sums):  # type: ignore[no-untyped-def]
    """(K, N) int8, any strides -> panels in ``out``, and the sum of each column in ``sums`` (padded)."""
    inputs, outputs = weight.shape
    fours = (inputs + 3) // 4
    for panel in range((outputs + PANEL - 1) // PANEL):
        for j in range(PANEL):
            sums[panel * PANEL + j] = 0.0
        for k in range(4 * fours):
            at = (panel * fours + k // 4) * PANEL * 4 + k % 4
            for j in range(PANEL):
                column = panel * PANEL + j
                if k < inputs and column < outputs:
                    value = weight[k, column]
                    out[at + 4 * j] = value
                    sums[column] += value
                else:
                    out[at + 4 * j] = 0
