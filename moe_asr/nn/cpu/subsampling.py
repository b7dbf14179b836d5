"""`ConvSubsampling` on CPUs: its convolutions as sums of matrix products, without copies of their windows.

Activations are [time][bin][channel], so that what a filter sees at one of its times is one stretch of memory:
a convolution is, for each of these times, one product with windows as rows, and their sum. A row of a product
is named by the *position* (time, bin) where its window begins; a time has ``pitch`` positions, its bins and
room for the padding of int8 rows. In int8 all positions of a time share one scale.

Output frames of all segments are computed in blocks, so that work memory does not grow with their length, and
many rows share a reading of the weights. Each output depends on its own features only, to the bit,
whatever the block, the number of threads, or the other segments.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from moe_asr.nn.cpu.compiler import float32, kernel, part
from moe_asr.nn.cpu.first_convolution import first_convolution, relu
from moe_asr.nn.cpu.gemm import multiply, quantize_row
from moe_asr.nn.cpu.matrices import INT8, PackedMatrices, WeightSource
from moe_asr.nn.cpu.memory import floats, integers, unsigned_bytes
from moe_asr.nn.cpu.simd import (
    ADD,
    STORE,
)
from moe_asr.nn.cpu.team import barrier
from moe_asr.nn.quantization import quantize
from moe_asr.nn.subsampling import _LAYERS

# Columns of a table of segments (num_segments, SEGMENT_FIELDS) int64: address of the features (T, F) float32
# and bytes between their rows, T, and the row of the output that takes the first frame
FEATURES, FEATURES_STRIDE, NUM_FRAMES, OUT_ROW = range(4)
SEGMENT_FIELDS = 4

_BLOCK_BYTES = 8 << 20  # of the first convolution's output in a block, in float32
_BLOCK_ROWS = 192  # rows of a product whose input and output stay in the second-level cache
_PRODUCT_INPUTS = 2048  # about the inputs of one product of the projection, for the same reason

# A plan: these, then of each convolution its fields
(
    _NUM_LAYERS, _CHANNELS, _NUM_FEATURES, _DIM, _IS_INT8, _PROJECTION, _FIRST_WEIGHT, _FIRST_BIAS,
    _STEP, _MORE, _MAX_TIMES, _NUM_PARTS,
) = range(12)  # fmt: skip
_LAYERS_AT = 12
_KERNEL, _STRIDE, _BINS, _PITCH, _MATRIX = range(5)
_LAYER_FIELDS = 5

# The head of the work memory: these, then of each convolution its fields
(
    _BYTES, _OUT_LENGTH, _CAPACITY, _SEGMENT, _FRAME, _FRAMES, _ROWS_FROM, _ROWS_STRIDE, _GATES,
    _PROJECTED, _PROJECTED_TO, _FLOAT_ROWS,
) = range(12)  # fmt: skip
_BUFFERS_AT = 12
# times in the block; addresses of float32 and uint8 activations, scales and zeros of positions; windows
_TIMES, _FLOATS, _QUANTISED, _SCALES, _ZEROS, _WINDOWS, _WINDOWS_TO = range(7)
_BUFFER_FIELDS = 7
_HEAD_BYTES = 512


@part
def _layer(plan, layer, field):  # type: ignore[no-untyped-def]
    return plan[_LAYERS_AT + layer * _LAYER_FIELDS + field]


@part
def _buffer(head, layer, field):  # type: ignore[no-untyped-def]
    return head[_BUFFERS_AT + layer * _BUFFER_FIELDS + field]


@kernel
def _output_frames(plan, num_frames):  # type: ignore[no-untyped-def]
    """`moe_asr.nn.subsampling.output_length`."""
    for layer in range(plan[_NUM_LAYERS]):
        kernel_size, stride = _layer(plan, layer, _KERNEL), _layer(plan, layer, _STRIDE)
        num_frames = max((num_frames - kernel_size) // stride + 1, 0)
    return num_frames


@part
def _take(head, field, at, num_bytes):  # type: ignore[no-untyped-def]
    """Notes an address for a buffer; returns where the next may begin."""
    head[field] = at
    return at + (num_bytes + 63) // 64 * 64


@kernel
def _lay_out(plan, segments, num_threads, work, head):  # type: ignore[no-untyped-def]
    """Fills the head with the places of all buffers, for blocks as large as these segments make use of."""
    total, out_rows = 0, 0
    for s in range(len(segments)):
        frames = _output_frames(plan, segments[s, NUM_FRAMES])
        if frames > 0:
            total += frames * plan[_STEP] + plan[_MORE]
            out_rows = max(out_rows, segments[s, OUT_ROW] + frames)
    num_blocks = max((total + plan[_MAX_TIMES] - 1) // plan[_MAX_TIMES], 1)
    # blocks of one size; where one ends within a segment, the next begins with times of this one
    capacity = total
    if num_blocks > 1:
        even = (total + num_blocks - 1) // num_blocks + plan[_STEP] + plan[_MORE]
        capacity = min(even, plan[_MAX_TIMES])
    head[_CAPACITY], head[_OUT_LENGTH] = capacity, out_rows * plan[_DIM]
    head[_SEGMENT], head[_FRAME] = 0, 0
    channels = plan[_CHANNELS]
    at = work + _HEAD_BYTES
    at = _take(head, _ROWS_FROM, at, 8 * capacity)
    at = _take(head, _ROWS_STRIDE, at, 8 * capacity)
    at = _take(head, _GATES, at, 4 * capacity * _layer(plan, 0, _BINS))
    at = _take(head, _PROJECTED, at, 8 * capacity)
    at = _take(head, _PROJECTED_TO, at, 8 * capacity)
    row_bytes = (4 * _layer(plan, 0, _PITCH) * channels + 63) // 64 * 64
    at = _take(head, _FLOAT_ROWS, at, num_threads * row_bytes if plan[_IS_INT8] else 0)
    for layer in range(plan[_NUM_LAYERS]):
        if layer > 0:
            capacity //= _layer(plan, layer, _STRIDE)
        field = _BUFFERS_AT + layer * _BUFFER_FIELDS
        positions = capacity * _layer(plan, layer, _PITCH)
        windows = capacity * _layer(plan, layer, _BINS) if layer > 0 else 0
        is_float = layer > 0 or not plan[_IS_INT8]
        quantised = positions if plan[_IS_INT8] else 0
        at = _take(head, field + _FLOATS, at, 4 * positions * channels if is_float else 0)
        at = _take(head, field + _QUANTISED, at, quantised * channels)
        at = _take(head, field + _SCALES, at, 4 * quantised)
        at = _take(head, field + _ZEROS, at, 4 * quantised)
        at = _take(head, field + _WINDOWS, at, 8 * windows)
        at = _take(head, field + _WINDOWS_TO, at, 8 * windows)
    head[_BYTES] = at - work


@kernel
def _next_block(plan, segments, head):  # type: ignore[no-untyped-def]
    """Plans the next frames: where their features are, the windows of each product, where they go."""
    num_layers = plan[_NUM_LAYERS]
    capacity = head[_CAPACITY]
    first_stride = _layer(plan, 0, _STRIDE)
    rows_from = integers(head[_ROWS_FROM], capacity)
    rows_stride = integers(head[_ROWS_STRIDE], capacity)
    projected = integers(head[_PROJECTED], capacity)
    projected_to = integers(head[_PROJECTED_TO], capacity)
    head[_FRAMES] = 0
    for layer in range(num_layers):
        head[_BUFFERS_AT + layer * _BUFFER_FIELDS + _TIMES] = 0
    while head[_SEGMENT] < len(segments):
        segment = segments[head[_SEGMENT]]
        begin = head[_FRAME]
        left = _output_frames(plan, segment[NUM_FRAMES]) - begin
        if left <= 0:
            head[_SEGMENT], head[_FRAME] = head[_SEGMENT] + 1, 0
            continue
        used = _buffer(head, 0, _TIMES)
        frames = min((capacity - used - plan[_MORE]) // plan[_STEP], left)
        if frames <= 0:
            break
        head[_FRAME] = begin + frames
        # the first convolution
        times = frames * plan[_STEP] + plan[_MORE]
        for t in range(times):
            feature_frame = (begin * plan[_STEP] + t) * first_stride
            rows_from[used + t] = segment[FEATURES] + feature_frame * segment[FEATURES_STRIDE]
            rows_stride[used + t] = segment[FEATURES_STRIDE]
        head[_BUFFERS_AT + _TIMES] = used + times
        # the others: windows of this piece's times
        for layer in range(1, num_layers):
            stride, bins = _layer(plan, layer, _STRIDE), _layer(plan, layer, _BINS)
            pitch = _layer(plan, layer, _PITCH)
            from_pitch = _layer(plan, layer - 1, _PITCH)
            done = _buffer(head, layer, _TIMES)
            times = (times - _layer(plan, layer, _KERNEL)) // stride + 1
            windows = integers(_buffer(head, layer, _WINDOWS), (done + times) * bins)
            windows_to = integers(_buffer(head, layer, _WINDOWS_TO), (done + times) * bins)
            for t in range(times):
                for b in range(bins):
                    row = (done + t) * bins + b
                    windows[row] = (used + stride * t) * from_pitch + stride * b
                    windows_to[row] = (done + t) * pitch + b
            head[_BUFFERS_AT + layer * _BUFFER_FIELDS + _TIMES] = done + times
            used = done
        # the projection
        for t in range(frames):
            projected[used + t] = (used + t) * _layer(plan, num_layers - 1, _PITCH)
            projected_to[used + t] = segment[OUT_ROW] + begin + t
        head[_FRAMES] += frames


@kernel
def _quantise(plan, head, layer, time, x):  # type: ignore[no-untyped-def]
    """Quantises the activations ``x`` (bins * channels,) of one time; all its positions get their scale."""
    pitch, channels = _layer(plan, layer, _PITCH), plan[_CHANNELS]
    to = _buffer(head, layer, _QUANTISED) + time * pitch * channels
    scale, zero = quantize_row(x, unsigned_bytes(to, pitch * channels), len(x))
    scales = floats(_buffer(head, layer, _SCALES) + 4 * time * pitch, pitch)
    zeros = floats(_buffer(head, layer, _ZEROS) + 4 * time * pitch, pitch)
    for p in range(pitch):
        scales[p] = scale
        zeros[p] = zero


@kernel
def _products(rank, size, scratch, plan, matrices, head, layer, out):  # type: ignore[no-untyped-def]
    """This thread's channels of a later convolution, before ReLU; after the last one, of the projection."""
    channels, from_pitch = plan[_CHANNELS], _layer(plan, layer - 1, _PITCH)
    if layer < plan[_NUM_LAYERS]:
        num_rows = _buffer(head, layer, _TIMES) * _layer(plan, layer, _BINS)
        windows, windows_to = _buffer(head, layer, _WINDOWS), _buffer(head, layer, _WINDOWS_TO)
        out, out_stride = _buffer(head, layer, _FLOATS), channels
        out_length = _buffer(head, layer, _TIMES) * _layer(plan, layer, _PITCH) * channels
        num_products, first = _layer(plan, layer, _KERNEL), _layer(plan, layer, _MATRIX)
    else:
        num_rows, windows, windows_to = head[_FRAMES], head[_PROJECTED], head[_PROJECTED_TO]
        out_stride, out_length = plan[_DIM], head[_OUT_LENGTH]
        num_products, first = plan[_NUM_PARTS], plan[_PROJECTION]
    x, stride = _buffer(head, layer - 1, _FLOATS), 4 * channels
    if plan[_IS_INT8]:
        x, stride = _buffer(head, layer - 1, _QUANTISED), channels
    positions = _buffer(head, layer - 1, _TIMES) * from_pitch
    num_blocks = (num_rows + _BLOCK_ROWS - 1) // _BLOCK_ROWS
    for block in range(num_blocks):
        begin, end = block * num_rows // num_blocks, (block + 1) * num_rows // num_blocks
        for k in range(num_products):
            # positions from a window's beginning to its time k, or to part k of the bins that are projected
            ahead = k * from_pitch
            if layer == plan[_NUM_LAYERS]:
                ahead = k * _layer(plan, layer - 1, _BINS) // num_products
            scales = floats(_buffer(head, layer - 1, _SCALES) + 4 * ahead, positions - ahead)
            zeros = floats(_buffer(head, layer - 1, _ZEROS) + 4 * ahead, positions - ahead)
            multiply(
                rank, size, scratch, matrices[first + k], STORE if k == 0 else ADD,
                x + ahead * stride, stride, scales, zeros, integers(windows, num_rows), begin,
                end - begin, floats(out, out_length), out_stride, integers(windows_to, num_rows),
                floats(head[_GATES], num_rows),
            )  # fmt: skip


@kernel
def subsample(rank, size, sync, scratch, plan, matrices, segments, work, out):  # type: ignore[no-untyped-def]
    """Subsamples some segments of features; all threads call it.

    Args:
        rank, size, sync: this thread of how many, and their team's memory (see `team.barrier`).
        scratch: address of this thread's `gemm.SCRATCH_BYTES`.
        plan: `PackedSubsampling.plan`.
        matrices: the table of its `PackedMatrices`.
        segments: (num_segments, SEGMENT_FIELDS) int64. One too short for an output frame gives none.
        work: address of `PackedSubsampling.work_bytes`, best at a multiple of 64.
        out: address of (rows, D) float32; frame j of a segment becomes row OUT_ROW + j.
    """
    head = integers(work, _HEAD_BYTES // 8)
    channels, is_int8 = plan[_CHANNELS], plan[_IS_INT8] != 0
    bins, pitch = _layer(plan, 0, _BINS), _layer(plan, 0, _PITCH)
    if rank == 0:
        _lay_out(plan, segments, size, work, head)
        gates = floats(head[_GATES], head[_CAPACITY] * bins)
        gates[:] = float32(1.0)
    while True:
        if rank == 0:
            _next_block(plan, segments, head)
        barrier(sync, size)
        if head[_FRAMES] == 0:
            break
        times = _buffer(head, 0, _TIMES)
        rows_from = integers(head[_ROWS_FROM], times)
        rows_stride = integers(head[_ROWS_STRIDE], times)
        for t in range(rank * times // size, (rank + 1) * times // size):
            if is_int8:
                row = head[_FLOAT_ROWS] + rank * ((4 * pitch * channels + 63) // 64 * 64)
            else:
                row = _buffer(head, 0, _FLOATS) + 4 * t * pitch * channels
            first_convolution(
                rows_from[t], rows_stride[t], plan[_FIRST_WEIGHT], plan[_FIRST_BIAS], row, bins,
                channels,
            )  # fmt: skip
            if is_int8:
                _quantise(plan, head, 0, t, floats(row, bins * channels))
        barrier(sync, size)
        for layer in range(1, plan[_NUM_LAYERS] + 1):
            _products(rank, size, scratch, plan, matrices, head, layer, out)
            barrier(sync, size)
            if layer == plan[_NUM_LAYERS]:  # that was the projection
                break
            times, width = _buffer(head, layer, _TIMES), _layer(plan, layer, _BINS) * channels
            for t in range(rank * times // size, (rank + 1) * times // size):
                at = 4 * t * _layer(plan, layer, _PITCH) * channels
                x = floats(_buffer(head, layer, _FLOATS) + at, width)
                for i in range(width):
                    x[i] = relu(x[i])
                if is_int8:
                    _quantise(plan, head, layer, t, x)
            barrier(sync, size)


class PackedSubsampling:
    """The packed weights of a `ConvSubsampling` and the plan with which `subsample` uses them.

    Args:
        source: has ``NAME.convolutions.0.weight`` and so on; the later convolutions and the projection are
            matrices, of int8 ones each filter has one scale.
        matrices: takes the weights; in int8, the first convolution stays float32.
        num_features: F, bins of the features.
        factor: 4, 6 or 8, as checked by `ConvSubsampling`.
        name: of the layer in the source.

    Attributes:
        plan: for `subsample`; valid as long as this object.
        num_bytes: of what is not in ``matrices``.
    """

    def __init__(
        self, source: WeightSource, matrices: PackedMatrices, num_features: int, factor: int,
        name: str = "subsampling",
    ) -> None:  # fmt: skip
        layers = _LAYERS[factor]
        assert layers[0] == (3, 2), layers  # what `first_convolution` computes
        first = source.tensor(f"{name}.convolutions.0.weight")
        bias = source.tensor(f"{name}.convolutions.0.bias")
        channels = first.shape[0]
        # (C, 1, 3, 3) -> (3, 3, C)
        self._first = np.array(first[:, 0].permute(1, 2, 0).numpy(), np.float32, order="C")
        self._bias = np.array(bias.numpy(), np.float32)
        self.num_bytes = self._first.nbytes + self._bias.nbytes
        fields: list[int] = []
        bins = num_features
        for index, (kernel_size, stride) in enumerate(layers):
            bins = (bins - kernel_size) // stride + 1
            matrix = -1
            if index > 0:
                convolution = f"{name}.convolutions.{2 * index}"
                matrix = _add_convolution(source, matrices, convolution, channels, kernel_size)
            fields += [kernel_size, stride, bins, bins + -(-3 // channels), matrix]
        assert bins >= 1, (num_features, factor)
        projection = len(matrices)
        num_parts = _add_projection(source, matrices, f"{name}.projection", channels, bins)
        dim = source.tensor(f"{name}.projection.bias").shape[0]
        step, times = 1, 1  # of the first convolution: from one output frame to the next, in one
        for kernel_size, stride in layers[:0:-1]:
            step, times = step * stride, (times - 1) * stride + kernel_size
        max_times = max(_BLOCK_BYTES // (4 * channels * fields[_PITCH]), times)
        addresses = [self._first.ctypes.data, self._bias.ctypes.data]
        self.plan = np.array(
            [len(layers), channels, num_features, dim, matrices.precision == INT8, projection,
             *addresses, step, times - step, max_times, num_parts, *fields],
            np.int64,
        )  # fmt: skip

    def work_bytes(self, lengths: Sequence[int], num_threads: int = 1) -> int:
        """Work memory that `subsample` needs for segments of these lengths, in feature frames."""
        segments = np.zeros((len(lengths), SEGMENT_FIELDS), np.int64)
        segments[:, NUM_FRAMES] = lengths
        head = np.zeros(_HEAD_BYTES // 8, np.int64)
        _lay_out(self.plan, segments, num_threads, 0, head)
        return int(head[_BYTES])


def _add_convolution(
    source: WeightSource, matrices: PackedMatrices, name: str, channels: int, kernel_size: int
) -> int:
    """Packs a convolution, one matrix for each time of its filters; returns the number of the first."""
    weight, scale = source.matrix(f"{name}.weight")
    if matrices.precision == INT8 and scale is None:
        weight, scale = quantize(weight.reshape(channels, -1))
    weight = weight.reshape(channels, channels, kernel_size, kernel_size)
    bias: Tensor | None = source.tensor(f"{name}.bias")
    first = len(matrices)
    for time in range(kernel_size):
        # (out, in, bin) -> (out, bin * in)
        matrix = weight[:, :, time].transpose(1, 2).reshape(channels, -1)
        matrices.add(matrix.t(), bias, scale)
        bias = None
    return first


def _add_projection(
    source: WeightSource, matrices: PackedMatrices, name: str, channels: int, bins: int
) -> int:
    """Packs the projection, one matrix for each part of the bins; returns their number."""
    weight, scale = source.matrix(f"{name}.weight")
    if matrices.precision == INT8 and scale is None:
        weight, scale = quantize(weight)
    bias: Tensor | None = source.tensor(f"{name}.bias")
    weight = weight.reshape(len(weight), channels, bins)
    num_parts = min(-(-channels * bins // _PRODUCT_INPUTS), bins)
    for number in range(num_parts):
        begin, end = number * bins // num_parts, (number + 1) * bins // num_parts
        # (out, channel, bin) -> (out, bin * channel)
        matrix = weight[:, :, begin:end].transpose(1, 2).reshape(len(weight), -1)
        matrices.add(matrix.t(), bias, scale)
        bias = None
    return num_parts
