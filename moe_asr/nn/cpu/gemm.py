"""Matrix products with packed weights, float32 or int8, with their bias, activation and sum in one pass.

A matrix (K, N) is packed in panels of PANEL columns, each one stream of memory: [panel][k][column] in
float32, [panel][k / 4][column][k % 4] in int8. Panels are shared out among the threads; a panel is multiplied
with tiles of up to ROWS rows, and while it is, the next one is fetched: with few rows a product costs what
reading its weights costs.

int8 (dynamic): weights are symmetric, one scale a column; inputs are quantised to unsigned 8 bits row by row,
x = scale * (q - zero), and y = row scale * column scale * (sum q w - zero * sum w) + bias (Jacob et al.,
arXiv 1712.05877).
"""

from moe_asr.nn.cpu.compiler import compiled_once, float32, int32, kernel
from moe_asr.nn.cpu.memory import floats, integers, small_integers
from moe_asr.nn.cpu.simd import (
    ADD,
    FROM_INT8,
    PANEL,
    ROWS,
    STORE,
    STORE_RELU,
    STORE_SILU,
    finish_tile,
    float_of_bits,
    panel_tile_float32,
    panel_tile_int8,
)

MODES = (STORE, STORE_SILU, STORE_RELU, ADD)  # what becomes of a product

# Columns of a table of matrices (num_matrices, MATRIX_FIELDS) int64
DATA, INPUTS, OUTPUTS, BIAS, SCALES, SUMS, IS_INT8, PANEL_BYTES = range(8)
MATRIX_FIELDS = 8

# Scratch memory of a thread, in bytes: addresses of rows of the input and of the output, scales and zeros of
# input rows, the tile as it comes, and a tile for the last columns
_OUTS_AT = 8 * ROWS
_ROW_SCALES_AT = _OUTS_AT + 8 * ROWS
_ROW_ZEROS_AT = _ROW_SCALES_AT + 4 * ROWS
_TILE_AT = (_ROW_ZEROS_AT + 4 * ROWS + 63) // 64 * 64
_LAST_AT = _TILE_AT + 4 * ROWS * PANEL
SCRATCH_BYTES = _LAST_AT + 4 * ROWS * PANEL

# Two streams of memory at once are fetched faster than one: those of the two halves of the next panel. Only
# where there is one tile and panels are large, that is too early: then weights are fetched shortly before
# they are used.
_LARGE_PANEL = 1 << 17  # bytes
_AHEAD_BYTES = 4096


@kernel
def _swap_last(num_rows, outs, last, width, copies):  # type: ignore[no-untyped-def]
    """Sends the last columns, fewer than a tile's, to ``last``, with what is there if that is needed."""
    for i in range(num_rows):
        if copies:
            to, of = floats(last + i * PANEL * 4, width), floats(outs[i], width)
            for j in range(width):
                to[j] = of[j]
        outs[i] = last + i * PANEL * 4


@compiled_once(16)
def _multiply(
    rank, size, scratch, matrix_at, mode, x, x_stride, row_scales, row_zeros, x_index_at, first,
    num_rows, out, out_stride, out_index_at, gates,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """`multiply`, with addresses of arrays."""
    matrix = integers(matrix_at, MATRIX_FIELDS)
    inputs, outputs, data = matrix[INPUTS], matrix[OUTPUTS], matrix[DATA]
    is_int8, panel_bytes = matrix[IS_INT8] != 0, matrix[PANEL_BYTES]
    num_panels = (outputs + PANEL - 1) // PANEL
    num_tiles = (num_rows + ROWS - 1) // ROWS
    rows, outs = integers(scratch, ROWS), integers(scratch + _OUTS_AT, ROWS)
    tile_scales = floats(scratch + _ROW_SCALES_AT, ROWS)
    tile_zeros = floats(scratch + _ROW_ZEROS_AT, ROWS)
    tile, last = scratch + _TILE_AT, scratch + _LAST_AT
    count = (inputs + 3) // 4 if is_int8 else inputs
    x_index = integers(x_index_at, first + num_rows)
    out_index = integers(out_index_at, first + num_rows)
    for panel in range(rank * num_panels // size, (rank + 1) * num_panels // size):
        weights = data + panel * panel_bytes
        columns = panel * PANEL
        width = min(PANEL, outputs - columns)
        for t in range(num_tiles):
            begin, end = t * num_rows // num_tiles, (t + 1) * num_rows // num_tiles
            tile_rows = end - begin
            for i in range(tile_rows):
                at = first + begin + i
                row = x_index[at]
                rows[i] = x + row * x_stride
                outs[i] = out + (out_index[at] * out_stride + columns) * 4
                if is_int8:
                    tile_scales[i] = floats(row_scales + 4 * row, 1)[0]
                    tile_zeros[i] = floats(row_zeros + 4 * row, 1)[0]
            if num_tiles == 1 and panel_bytes > _LARGE_PANEL:
                ahead, far, ahead_step = weights + _AHEAD_BYTES, 2 * PANEL, 4 * PANEL
            else:  # each tile of this panel fetches its share of both halves of the next
                far = panel_bytes // 2
                ahead = weights + panel_bytes + far * t // num_tiles
                ahead_step = 2 * PANEL // num_tiles
            if is_int8:
                panel_tile_int8(tile_rows, scratch, count, weights, tile, ahead, far, ahead_step)
            else:
                panel_tile_float32(tile_rows, scratch, count, weights, tile, ahead, far, ahead_step)
            if width < PANEL:
                _swap_last(tile_rows, outs, last, width, mode == ADD)
            finish_tile(
                mode + FROM_INT8 if is_int8 else mode, tile_rows, tile,
                scratch + _ROW_SCALES_AT, scratch + _ROW_ZEROS_AT,
                matrix[SCALES] + 4 * columns, matrix[SUMS] + 4 * columns,
                matrix[BIAS] + 4 * columns, scratch + _OUTS_AT, gates + 4 * (first + begin),
            )  # fmt: skip
            if width < PANEL:
                for i in range(tile_rows):
                    at = out_index[first + begin + i] * out_stride + columns
                    to, of = floats(out + 4 * at, width), floats(last + i * PANEL * 4, width)
                    for j in range(width):
                        to[j] = of[j]


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
        out, out_stride: 1-d float32; row i of the product goes to out_index[first + i] * out_stride.
        out_index: int64.
        gates: float32, gates[first + i] is row i's factor when the mode is ADD.
    """
    _multiply(
        rank, size, scratch, matrix.ctypes.data, mode, x, x_stride, row_scales.ctypes.data,
        row_zeros.ctypes.data, x_index.ctypes.data, first, num_rows, out.ctypes.data, out_stride,
        out_index.ctypes.data, gates.ctypes.data,
    )  # fmt: skip


@kernel
def _ordered(bits):  # type: ignore[no-untyped-def]
    """The bits of a float32 as an int32 that compares as it does, and back."""
    return int32(bits ^ int32(int32(bits >> int32(31)) & int32(0x7FFFFFFF)))


@kernel
def quantize_row(x, out, num_inputs):  # type: ignore[no-untyped-def]
    """Quantises a row x (num_inputs,) to unsigned 8 bits; returns its (scale, zero).

    ``out`` is filled to a multiple of four with the zero point. A row of zeros has scale 0; one with a NaN
    has scale NaN.
    """
    # as integers, because the compiler does not vectorise the extremes of floats that may be NaN
    keys = small_integers(x.ctypes.data, num_inputs)
    lowest, highest = int32(0), int32(0)
    for i in range(num_inputs):
        key = _ordered(keys[i])
        lowest = min(lowest, key)
        highest = max(highest, key)
    low, high = float_of_bits(_ordered(lowest)), float_of_bits(_ordered(highest))
    scale = (high - low) / float32(255.0)
    inverse = float32(1.0) / scale if scale > float32(0.0) else float32(0.0)
    zero = float32(int32(-low * inverse + float32(0.5)))
    offset = zero + float32(0.5)
    for i in range(num_inputs):
        out[i] = min(int32(x[i] * inverse + offset), int32(255))  # a zero may be rounded up
    for i in range(num_inputs, (num_inputs + 3) // 4 * 4):
        out[i] = int32(zero)
    return scale, zero
