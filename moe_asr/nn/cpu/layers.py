"""The Conformer layers as one kernel, run by all threads of a team on the frames of all streams of a call.

Legend: M frames of a call, those of its segments (utterances, or chunks of streams) one after the other; D
model dimension, H hidden dimension of an expert, E experts, k choices a frame. Row-wise work is shared out by
frame, products by column, attention by segment, head and block of queries; between, threads wait for all.
"""

from moe_asr.nn.cpu.attention import FIRST_ROW, SEGMENT_FIELDS, attend_all, store_all
from moe_asr.nn.cpu.attention import LAYER_FIELDS as ATTENTION_FIELDS
from moe_asr.nn.cpu.attention import NUM_FRAMES as NUM_NEW
from moe_asr.nn.cpu.compiler import compiled_once, float32, kernel, part
from moe_asr.nn.cpu.gemm import ADD, IS_INT8, MATRIX_FIELDS, STORE, multiply, quantize_row
from moe_asr.nn.cpu.memory import cycles, floats, integers, unsigned_bytes
from moe_asr.nn.cpu.mixture import feed_forward, group_by_expert, quantize_rows
from moe_asr.nn.cpu.rows import depthwise, glu, layer_norm, route, silu
from moe_asr.nn.cpu.subsampling import subsample
from moe_asr.nn.cpu.team import barrier

# Columns of the table of layers (num_layers, LAYER_FIELDS) int64: addresses of float32, numbers of matrices.
# A norm is its gain (D,) and then its bias (D,).
(
    MACARON_NORM, MACARON_ROUTER, MACARON_EXPERTS, ATTENTION_NORM, QUERY_KEY_VALUE, ATTENTION_OUTPUT,
    CONVOLUTION_NORM, EXPAND, DEPTHWISE, DEPTHWISE_BIAS, DEPTHWISE_NORM, CONVOLUTION_OUTPUT,
    FEED_FORWARD_NORM, FEED_FORWARD_ROUTER, FEED_FORWARD_EXPERTS, OUTPUT_NORM,
) = range(16)  # fmt: skip
LAYER_FIELDS = 16

# Work memory of a call (WORK_FIELDS,) int64, addresses
(
    X,  # (M, D) float32: the frames, what the layers add to
    NORMED,  # (M, D) float32
    BYTES,  # (M, D padded to fours) uint8: quantised rows ...
    SCALES, ZEROS,  # ... and (M,) float32 of those
    WIDE,  # (M, 3 D) float32
    NARROW,  # (M, D) float32
    EXPERTS, GATES,  # (M k,) int64 and float32
    STARTS,  # (E + 1,) int64
    FRAMES, ROW_GATES,  # (M k,) int64 and float32
    HIDDEN, HIDDEN_BYTES, HIDDEN_SCALES, HIDDEN_ZEROS,  # see `feed_forward`
    IDENTITY,  # (M k,) int64: 0, 1, 2 ...
    ONES,  # (M,) float32
    SCRATCH,  # of each thread
    SPENT,  # (NUM_PHASES,) int64: cycles that the first thread spent in each phase, added up
) = range(20)  # fmt: skip
WORK_FIELDS = 20

PHASES = (
    "subsampling", "norms and routing", "experts", "attention projections", "attention",
    "convolution products", "depthwise convolution",
)  # fmt: skip
(
    SUBSAMPLING, NORMS, MIXTURE, ATTENTION_PRODUCTS, ATTENTION, CONVOLUTION_PRODUCTS, CONVOLUTION
) = range(7)  # fmt: skip
NUM_PHASES = 7

# What a call is about (CALL_FIELDS,) int64
(
    NUM_FRAMES, DIM, NUM_EXPERTS, NUM_CHOSEN, TAPS,
    SCRATCH_STRIDE,  # bytes from one thread's scratch to the next's
    HISTORY_LAYER_BYTES,  # from one layer's histories to the next's
) = range(7)  # fmt: skip
CALL_FIELDS = 7

# Columns of the table of histories (num_segments, HISTORY_FIELDS) int64: what the depthwise
# convolution saw. Its inputs (D,) of a segment lie in a ring of rows.
HISTORY = 0  # address, of the first layer
HISTORY_ROWS = 1  # of the ring, at least taps - 1 and the new frames
HISTORY_FIRST = 2  # row of the first frame that the first new frame sees
HISTORY_FIELDS = 3

EPSILON = 1e-5  # of `torch.nn.LayerNorm`


@part
def _table(address, rows, columns):  # type: ignore[no-untyped-def]
    return integers(address, rows * columns).reshape((rows, columns))


@part
def _spent(rank, work, phase, since):  # type: ignore[no-untyped-def]
    """Notes what the first thread spent since a time in a phase; returns the time."""
    now = cycles()
    if rank == 0:
        integers(work[SPENT], NUM_PHASES)[phase] += now - since
    return now


@kernel
def norm_rows(rank, size, x, norm, out, dim, is_int8, bytes_at, scales, zeros, num_rows):  # type: ignore[no-untyped-def]  # fmt: skip
    """LayerNorm of this thread's share of rows, and what a product takes of them."""
    padded = (dim + 3) // 4 * 4
    for i in range(rank * num_rows // size, (rank + 1) * num_rows // size):
        at = out + 4 * dim * i
        layer_norm(x + 4 * dim * i, norm, norm + 4 * dim, float32(EPSILON), at, dim)
        if is_int8:
            to = unsigned_bytes(bytes_at + padded * i, padded)
            scales[i], zeros[i] = quantize_row(floats(at, dim), to, dim)


@compiled_once(11)
def _mixture(
    rank, size, sync, scratch, norm, router, first_matrix, matrices_at, num_matrices, work_at, call_at,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """x += 0.5 * feed-forward(LayerNorm(x)); tables are given by their addresses."""
    matrices = _table(matrices_at, num_matrices, MATRIX_FIELDS)
    work, call = integers(work_at, WORK_FIELDS), integers(call_at, CALL_FIELDS)
    now = cycles()
    num_frames, dim = call[NUM_FRAMES], call[DIM]
    num_experts, num_chosen = call[NUM_EXPERTS], call[NUM_CHOSEN]
    num_assignments = num_frames * num_chosen
    is_int8 = matrices[first_matrix, IS_INT8] != 0
    scales, zeros = floats(work[SCALES], num_frames), floats(work[ZEROS], num_frames)
    norm_rows(
        rank,
        size,
        work[X],
        norm,
        work[NORMED],
        dim,
        is_int8,
        work[BYTES],
        scales,
        zeros,
        num_frames,
    )
    starts = integers(work[STARTS], num_experts + 1)
    frames = integers(work[FRAMES], num_assignments)
    row_gates = floats(work[ROW_GATES], num_assignments)
    if router != 0:
        begin, end = rank * num_frames // size, (rank + 1) * num_frames // size
        route(
            work[NORMED] + 4 * dim * begin, 4 * dim, end - begin, router, dim, num_experts,
            num_chosen, work[EXPERTS] + 8 * num_chosen * begin, work[GATES] + 4 * num_chosen * begin,
        )  # fmt: skip
        barrier(sync, size)
    if rank == 0:
        if router != 0:
            group_by_expert(
                integers(work[EXPERTS], num_assignments), floats(work[GATES], num_assignments),
                num_chosen, float32(0.5), starts, frames, row_gates,
            )  # fmt: skip
        else:
            starts[0], starts[1] = 0, num_frames
            for i in range(num_frames):
                frames[i], row_gates[i] = i, float32(0.5)
    barrier(sync, size)
    now = _spent(rank, work, NORMS, now)
    feed_forward(
        rank, size, sync, scratch, matrices, first_matrix,
        work[BYTES] if is_int8 else work[NORMED], (dim + 3) // 4 * 4 if is_int8 else 4 * dim,
        scales, zeros, starts, frames, row_gates, work[HIDDEN], work[HIDDEN_BYTES],
        floats(work[HIDDEN_SCALES], num_assignments), floats(work[HIDDEN_ZEROS], num_assignments),
        integers(work[IDENTITY], num_assignments), floats(work[X], num_frames * dim), dim,
    )  # fmt: skip
    barrier(sync, size)
    _spent(rank, work, MIXTURE, now)


@kernel
def _product(rank, size, scratch, matrix, mode, x, out, width, work, call):  # type: ignore[no-untyped-def]
    """Frames ``x`` (M, D), or the quantised rows if it is int8, times a matrix: to ``out`` (M, width)."""
    num_frames, dim = call[NUM_FRAMES], call[DIM]
    is_int8 = matrix[IS_INT8] != 0
    identity = integers(work[IDENTITY], num_frames)
    multiply(
        rank, size, scratch, matrix, mode, work[BYTES] if is_int8 else x,
        (dim + 3) // 4 * 4 if is_int8 else 4 * dim, floats(work[SCALES], num_frames),
        floats(work[ZEROS], num_frames), identity, 0, num_frames, floats(out, num_frames * width),
        width, identity, floats(work[ONES], num_frames),
    )  # fmt: skip


@compiled_once(13)
def _convolution(
    rank, size, sync, scratch, number, layer_at, matrices_at, num_matrices, segments_at, num_segments,
    histories_at, work_at, call_at,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """x += convolution module(LayerNorm(x))."""
    layer, matrices = (
        integers(layer_at, LAYER_FIELDS),
        _table(matrices_at, num_matrices, MATRIX_FIELDS),
    )
    segments = _table(segments_at, num_segments, SEGMENT_FIELDS)
    histories = _table(histories_at, num_segments, HISTORY_FIELDS)
    work, call = integers(work_at, WORK_FIELDS), integers(call_at, CALL_FIELDS)
    now = cycles()
    num_frames, dim = call[NUM_FRAMES], call[DIM]
    expand, output = matrices[layer[EXPAND]], matrices[layer[CONVOLUTION_OUTPUT]]
    is_int8 = output[IS_INT8] != 0
    scales, zeros = floats(work[SCALES], num_frames), floats(work[ZEROS], num_frames)
    norm_rows(
        rank, size, work[X], layer[CONVOLUTION_NORM], work[NORMED], dim, is_int8, work[BYTES],
        scales, zeros, num_frames,
    )  # fmt: skip
    barrier(sync, size)
    now = _spent(rank, work, NORMS, now)
    _product(rank, size, scratch, expand, STORE, work[NORMED], work[WIDE], 2 * dim, work, call)
    barrier(sync, size)
    now = _spent(rank, work, CONVOLUTION_PRODUCTS, now)
    begin, end = rank * num_frames // size, (rank + 1) * num_frames // size
    before, row_bytes = call[TAPS] - 1, 4 * dim
    offset = number * call[HISTORY_LAYER_BYTES]
    for s in range(len(segments)):
        first, count = segments[s, FIRST_ROW], segments[s, NUM_NEW]
        history, ring = histories[s, HISTORY] + offset, histories[s, HISTORY_ROWS]
        for i in range(max(begin, first), min(end, first + count)):
            row = (histories[s, HISTORY_FIRST] + before + i - first) % ring
            glu(work[WIDE] + 8 * dim * i, history + row * row_bytes, dim)
    barrier(sync, size)
    padded = (dim + 3) // 4 * 4
    for s in range(len(segments)):
        first, count = segments[s, FIRST_ROW], segments[s, NUM_NEW]
        history, ring = histories[s, HISTORY] + offset, histories[s, HISTORY_ROWS]
        low, high = max(begin, first), min(end, first + count)
        if low >= high:
            continue
        depthwise(
            history, ring, row_bytes, (histories[s, HISTORY_FIRST] + low - first) % ring,
            layer[DEPTHWISE], layer[DEPTHWISE_BIAS], work[NARROW] + low * row_bytes, row_bytes,
            high - low, call[TAPS], dim,
        )  # fmt: skip
        for i in range(low, high):
            at, norm = work[NARROW] + i * row_bytes, layer[DEPTHWISE_NORM]
            layer_norm(at, norm, norm + row_bytes, float32(EPSILON), at, dim)
            silu(at, dim)
            if is_int8:
                to = unsigned_bytes(work[BYTES] + padded * i, padded)
                scales[i], zeros[i] = quantize_row(floats(at, dim), to, dim)
    barrier(sync, size)
    now = _spent(rank, work, CONVOLUTION, now)
    _product(rank, size, scratch, output, ADD, work[NARROW], work[X], dim, work, call)
    barrier(sync, size)
    _spent(rank, work, CONVOLUTION_PRODUCTS, now)


@compiled_once(12)
def _attention(
    rank, size, sync, scratch, layer_at, of_attention_at, matrices_at, num_matrices, segments_at,
    num_segments, work_at, call_at,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """x += attention(LayerNorm(x))."""
    layer, matrices = (
        integers(layer_at, LAYER_FIELDS),
        _table(matrices_at, num_matrices, MATRIX_FIELDS),
    )
    of_attention = integers(of_attention_at, ATTENTION_FIELDS)
    segments = _table(segments_at, num_segments, SEGMENT_FIELDS)
    work, call = integers(work_at, WORK_FIELDS), integers(call_at, CALL_FIELDS)
    now = cycles()
    num_frames, dim = call[NUM_FRAMES], call[DIM]
    query_key_value, output = matrices[layer[QUERY_KEY_VALUE]], matrices[layer[ATTENTION_OUTPUT]]
    is_int8 = output[IS_INT8] != 0
    scales, zeros = floats(work[SCALES], num_frames), floats(work[ZEROS], num_frames)
    norm_rows(
        rank, size, work[X], layer[ATTENTION_NORM], work[NORMED], dim, is_int8, work[BYTES], scales,
        zeros, num_frames,
    )  # fmt: skip
    barrier(sync, size)
    now = _spent(rank, work, NORMS, now)
    _product(
        rank, size, scratch, query_key_value, STORE, work[NORMED], work[WIDE], 3 * dim, work, call
    )
    barrier(sync, size)
    now = _spent(rank, work, ATTENTION_PRODUCTS, now)
    store_all(rank, size, of_attention, segments, work[WIDE], 12 * dim)
    barrier(sync, size)
    attend_all(
        rank, size, scratch, of_attention, segments, work[WIDE], 12 * dim, work[NARROW], 4 * dim
    )
    barrier(sync, size)
    now = _spent(rank, work, ATTENTION, now)
    if is_int8:
        quantize_rows(
            rank, size, work[NARROW], 4 * dim, dim, 0, num_frames, work[BYTES],
            (dim + 3) // 4 * 4, scales, zeros,
        )  # fmt: skip
        barrier(sync, size)
    _product(rank, size, scratch, output, ADD, work[NARROW], work[X], dim, work, call)
    barrier(sync, size)
    _spent(rank, work, ATTENTION_PRODUCTS, now)


@kernel
def encode(
    rank, size, sync, plan, inputs, subsampling_work, norm_input, layers, of_attention, matrices,
    segments, histories, work, call,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Subsamples features to work[X] (M, D), normalises, and runs all layers there.

    Args:
        rank, size, sync: of `Team.run`.
        plan, inputs, subsampling_work: see `subsample`.
        norm_input: address of a norm.
        layers: (num_layers, LAYER_FIELDS) int64.
        of_attention: (num_layers, attention.LAYER_FIELDS) int64.
        matrices: table of matrices.
        segments: (num_segments, attention.SEGMENT_FIELDS) int64.
        histories: (num_segments, HISTORY_FIELDS) int64.
        work: (WORK_FIELDS,) int64, with IDENTITY and ONES filled.
        call: (CALL_FIELDS,) int64.
    """
    scratch = work[SCRATCH] + rank * call[SCRATCH_STRIDE]
    num_frames, dim = call[NUM_FRAMES], call[DIM]
    scales, zeros = floats(work[SCALES], num_frames), floats(work[ZEROS], num_frames)
    now = cycles()
    subsample(rank, size, sync, scratch, plan, matrices, inputs, subsampling_work, work[X])
    _spent(rank, work, SUBSAMPLING, now)
    # in place: the first norm of the first layer is of the same rows, by the same thread
    norm_rows(rank, size, work[X], norm_input, work[X], dim, False, 0, scales, zeros, num_frames)
    matrices_at, num_matrices = matrices.ctypes.data, len(matrices)
    segments_at, num_segments = segments.ctypes.data, len(segments)
    work_at, call_at = work.ctypes.data, call.ctypes.data
    for number in range(len(layers)):
        layer, layer_at = layers[number], layers.ctypes.data + 8 * LAYER_FIELDS * number
        _mixture(
            rank, size, sync, scratch, layer[MACARON_NORM], layer[MACARON_ROUTER],
            layer[MACARON_EXPERTS], matrices_at, num_matrices, work_at, call_at,
        )  # fmt: skip
        _attention(
            rank, size, sync, scratch, layer_at,
            of_attention.ctypes.data + 8 * ATTENTION_FIELDS * number, matrices_at, num_matrices,
            segments_at, num_segments, work_at, call_at,
        )  # fmt: skip
        _convolution(
            rank, size, sync, scratch, number, layer_at, matrices_at, num_matrices, segments_at,
            num_segments, histories.ctypes.data, work_at, call_at,
        )  # fmt: skip
        _mixture(
            rank, size, sync, scratch, layer[FEED_FORWARD_NORM], layer[FEED_FORWARD_ROUTER],
            layer[FEED_FORWARD_EXPERTS], matrices_at, num_matrices, work_at, call_at,
        )  # fmt: skip
        norm_rows(
            rank,
            size,
            work[X],
            layer[OUTPUT_NORM],
            work[X],
            dim,
            False,
            0,
            scales,
            zeros,
            num_frames,
        )
    barrier(sync, size)
