"""Relative attention, `moe_asr.nn.attention.RelativeAttention.attend`, in float32 memory with ring caches.

A segment is the new frames of one utterance or stream; their queries, keys and values lie in rows of one
buffer. `store_all` writes keys and values to the segment's cache, `attend_all` goes from its queries to the
cache. A cache holds the frames of one layer: the frame at time t is at t % ring,

    keys    [head][head_dim][key_stride(ring)]      columns are times: the second matrix of queries x keys
    values  [head][ring][value_stride(head_dim)]    rows are times: the second matrix of weights x values

and nothing is moved or packed again. A whole utterance is a segment at time 0 with a ring of at least its
length. A cache needs no initial values: what was not written is never used.

A query sees the frames of its chunk, as far as the segment goes, and those before it within the left context.
Chunks are counted from the segment's first frame.

Legend: H heads, K dimension of a head, D = H K.
"""

import math

import numpy as np
from torch import Tensor

from moe_asr.nn.cpu.compiler import compiled_once, float32, kernel
from moe_asr.nn.cpu.memory import floats, integers
from moe_asr.nn.cpu.simd import (
    LANES,
    PANEL,
    ROWS,
    add_row,
    exp_row,
    narrow_tile_float32,
)
from moe_asr.nn.cpu.workspace import round_up

# Columns of a table of segments (num_segments, SEGMENT_FIELDS) int64
FIRST_ROW = 0  # of its frames in the buffers of queries, keys and values, and of results
NUM_FRAMES = 1  # new ones, at least 1
TIME = 2  # of the first new frame
CACHE = 3  # address of its `cache_bytes`, of the first layer; a multiple of 64
RING = 4  # frames of the cache, at least NUM_FRAMES and those of the past that they see
CHUNK = 5  # frames of a chunk; <= 0: all new frames are one
LEFT = 6  # frames of left context before a chunk; < 0: all
SEGMENT_FIELDS = 8

# A layer (LAYER_FIELDS,) int64
CONTENT_BIAS, POSITION_BIAS = 0, 1  # addresses of (H, K) float32
DISTANCES = 2  # address of `pack_distances`' array
DISTANCE_STRIDE = 3  # its last dimension
ZERO_INDEX = 4  # where in it a key has the time of the query
CACHE_OFFSET = 5  # bytes from the first layer's caches to this one's
NUM_HEADS, HEAD_DIM = 6, 7
LAYER_FIELDS = 8

_LINE = 16  # floats of a cache line


@kernel
def _row_length(number):  # type: ignore[no-untyped-def]
    """``number`` floats in whole lines, with which a column of a matrix does not fall into few cache sets."""
    lines = (number + _LINE - 1) // _LINE
    return (lines + 1 if lines % 8 == 0 else lines) * _LINE


def key_stride(ring: int) -> int:
    """Floats of a row of a key cache."""
    return int(_row_length(ring))


def value_stride(head_dim: int) -> int:
    """Floats of a row of a value cache."""
    return round_up(head_dim, LANES)


def cache_bytes(num_heads: int, head_dim: int, ring: int) -> int:
    """Bytes of the cache of one segment and layer, keys then values; a multiple of 64."""
    keys = head_dim * key_stride(ring)
    values = ring * value_stride(head_dim)
    return 4 * round_up(num_heads * (keys + values), _LINE)


def scratch_bytes(head_dim: int, ring: int) -> int:
    """Bytes of a thread's scratch memory for segments with rings of up to ``ring`` frames."""
    queries = 2 * ROWS * head_dim
    rows = ROWS * (int(_row_length(ring)) + int(_row_length(ring + ROWS)))
    return 8 * 2 * ROWS + 4 * (2 * ROWS * PANEL + queries + rows) + 64


def reach(segments: np.ndarray) -> int:
    """From how few frames away on no key is looked at, with the queries of one tile; see `pack_distances`.

    Args:
        segments: (num_segments, SEGMENT_FIELDS) int64.
    """
    ring, chunk, left = segments[:, RING], segments[:, CHUNK], segments[:, LEFT]
    near = np.minimum(
        left + np.maximum(chunk, ROWS), ring
    )  # a tile has several chunks, or part of one
    return int(np.where((chunk > 0) & (left >= 0), near, ring).max())


def pack_distances(distances: Tensor) -> np.ndarray:
    """The distances of a layer as the kernels read them.

    Args:
        distances: (H, K, P) float32 of `RelativeAttention.distances` for ``relative_positions(Tq, Tk, D)``,
            where index Tk - 1 is a key at the time of its query (ZERO_INDEX) and the index grows with the
            time of the key. Queries must see no farther back than Tk - 1 frames, and ahead than Tq - 1.

    Returns:
        (H, K, DISTANCE_STRIDE) float32, rows longer than P by at least LANES - 1 zeros: tiles read whole
        vectors, from any index of 0..P - 1 on.
    """
    heads, dim, num = distances.shape
    packed = np.zeros((heads, dim, int(_row_length(num + LANES - 1))), np.float32)
    packed[:, :, :num] = distances.detach().numpy()
    return packed


@kernel
def _fill_rows(rows, first, stride, num_rows):  # type: ignore[no-untyped-def]
    """The addresses of rows ``stride`` bytes apart, an even number of them, for the tiles."""
    for i in range(num_rows):
        rows[i] = first + i * stride
    rows[num_rows - 1 + num_rows % 2] = rows[num_rows - 1]


@kernel
def _products(num_rows, rows, count, weights, step, num_vectors, out, out_stride, ahead):  # type: ignore[no-untyped-def]  # fmt: skip
    """Rows times ``num_vectors`` * LANES columns, to rows of ``out`` that are ``out_stride`` bytes apart.

    Fetches as much memory as it reads, from ``ahead`` on.
    """
    for v in range(0, num_vectors, 2):
        at = 4 * LANES * v
        width = min(num_vectors - v, 2)
        narrow_tile_float32(
            num_rows,
            width,
            rows,
            count,
            weights + at,
            step,
            out + at,
            out_stride,
            ahead + at * count,
        )


@kernel
def _visible(segment, frame):  # type: ignore[no-untyped-def]
    """Times [low, high) that new frame ``frame`` of a segment sees."""
    chunk = segment[CHUNK] if segment[CHUNK] > 0 else segment[NUM_FRAMES]
    begin = frame // chunk * chunk
    high = segment[TIME] + min(begin + chunk, segment[NUM_FRAMES])
    low = max(segment[TIME] + begin - segment[LEFT], 0) if segment[LEFT] >= 0 else 0
    return low, high


@kernel
def _num_tiles(segment):  # type: ignore[no-untyped-def]
    """How many tiles of up to ROWS queries a segment has: parts of a chunk, or several whole chunks.

    Returns:
        Tiles, tiles of a group, and frames of a group.
    """
    num = segment[NUM_FRAMES]
    chunk = min(segment[CHUNK], num) if segment[CHUNK] > 0 else num
    group = chunk if chunk >= ROWS else ROWS // chunk * chunk
    parts = (group + ROWS - 1) // ROWS
    return (num + group - 1) // group * parts, parts, group


@kernel
def _tile_frames(segment, tile, parts, group):  # type: ignore[no-untyped-def]
    """[begin, end) of a tile's new frames; it may be empty in the last group, which may be shorter."""
    first = tile // parts * group
    part = tile % parts
    length = min(group, segment[NUM_FRAMES] - first)
    begin = (part * length // parts + 1) // 2 * 2  # even, as tiles are
    end = min(((part + 1) * length // parts + 1) // 2 * 2, length)
    return first + begin, first + end


@kernel
def _cost(segment, begin, end):  # type: ignore[no-untyped-def]
    """What a tile of queries costs, in pairs of queries and keys."""
    if begin == end:
        return 0
    return (end - begin) * (_visible(segment, end - 1)[1] - _visible(segment, begin)[0])


@kernel
def _clear(scores, begin, end, ring):  # type: ignore[no-untyped-def]
    """Sets the columns of times [begin, end) to zero."""
    column = begin % ring
    for _ in range(end - begin):
        scores[column] = float32(0.0)
        column = column + 1 if column + 1 < ring else 0


@kernel
def _softmax(scores, positions, low, high, first, ring):  # type: ignore[no-untyped-def]
    """Adds the terms of position to scores at the columns of times [low, high); exp(score - highest) of all.

    Args:
        scores: address of a row of scores by column of the cache.
        positions: address of a row of scores by time, from time ``first`` on.

    Returns:
        The sum of the exponentials.
    """
    column = low % ring
    num = min(high - low, ring - column)
    rest = high - low - num  # on from column 0
    left, right = scores + 4 * column, scores
    at = positions + 4 * (low - first)
    highest = add_row(left, at, num, float32(-math.inf))
    highest = add_row(right, at + 4 * num, rest, highest)
    return exp_row(left, num, highest) + exp_row(right, rest, highest)


@kernel
def _scale_queries(num_rows, qkv, qkv_stride, bias, dim, scale, out):  # type: ignore[no-untyped-def]
    """(query + bias) * scale of some rows, to (num_rows, K)."""
    for i in range(num_rows):
        row, to = floats(qkv + i * qkv_stride, dim), floats(out + 4 * dim * i, dim)
        for k in range(dim):
            to[k] = (row[k] + bias[k]) * scale


@compiled_once(10)
def attend(scratch, layer_at, segment_at, head, begin, end, qkv, qkv_stride, out, out_stride):  # type: ignore[no-untyped-def]  # fmt: skip
    """Attention of one head from new frames [begin, end) of a segment, at most ROWS; see `attend_all`.

    Args:
        layer_at, segment_at: addresses of a layer and of a segment.
    """
    layer, segment = integers(layer_at, LAYER_FIELDS), integers(segment_at, SEGMENT_FIELDS)
    dim, num_heads, ring = layer[HEAD_DIM], layer[NUM_HEADS], segment[RING]
    num_rows = end - begin
    low, high = _visible(segment, begin)[0], _visible(segment, end - 1)[1]
    columns, steps = _row_length(ring), (dim + LANES - 1) // LANES * LANES
    keys = segment[CACHE] + layer[CACHE_OFFSET] + 4 * head * dim * columns
    values = segment[CACHE] + layer[CACHE_OFFSET] + 4 * num_heads * dim * columns
    values += 4 * head * ring * steps
    score_stride, position_stride = 4 * columns, 4 * _row_length(ring + ROWS)
    tile_at = (scratch + 16 * ROWS + 63) // 64 * 64
    more_at = tile_at + 4 * ROWS * PANEL
    scores = more_at + 4 * ROWS * PANEL
    positions = scores + ROWS * score_stride
    queries = positions + ROWS * position_stride
    rows = integers(scratch, ROWS)
    sums = floats(scratch + 8 * ROWS, ROWS)

    query_at = qkv + (segment[FIRST_ROW] + begin) * qkv_stride + 4 * head * dim
    scale = float32(1.0 / math.sqrt(dim))
    _fill_rows(rows, queries, 4 * dim, num_rows)
    bias = floats(layer[POSITION_BIAS] + 4 * head * dim, dim)
    _scale_queries(num_rows, query_at, qkv_stride, bias, dim, scale, queries)
    distances = low - (segment[TIME] + end - 1) + layer[ZERO_INDEX]  # the tile's first
    num_vectors = (high - low + num_rows - 1 + LANES - 1) // LANES
    step = 4 * layer[DISTANCE_STRIDE]
    at = layer[DISTANCES] + head * dim * step + 4 * distances
    _products(num_rows, scratch, dim, at, step, num_vectors, positions, position_stride, keys)
    next_at = at + dim * step  # distances of the next head

    bias = floats(layer[CONTENT_BIAS] + 4 * head * dim, dim)
    _scale_queries(num_rows, query_at, qkv_stride, bias, dim, scale, queries)
    column, num = low % ring, high - low
    is_split = column + num > ring
    first = 0 if is_split else column // LANES * LANES
    num_vectors = ((ring if is_split else column + num) - first + LANES - 1) // LANES
    _products(
        num_rows, scratch, dim, keys + 4 * first, 4 * columns, num_vectors, scores + 4 * first,
        score_stride, values,
    )  # fmt: skip

    for i in range(num_rows):
        row = scores + i * score_stride
        from_time, to_time = _visible(segment, begin + i)
        by_distance = positions + i * position_stride + 4 * (num_rows - 1 - i)
        sums[i] = _softmax(row, by_distance, from_time, to_time, low, ring)
        _clear(floats(row, ring), low, from_time, ring)
        _clear(floats(row, ring), to_time, high, ring)

    if num == ring:
        column, is_split = 0, False
    length = ring - column if is_split else num
    out_at = out + (segment[FIRST_ROW] + begin) * out_stride + 4 * head * dim
    tile, more = floats(tile_at, ROWS * PANEL), floats(more_at, ROWS * PANEL)
    for k in range(0, dim, PANEL):
        num_vectors = 2 if dim - k > LANES else 1
        width = num_vectors * LANES
        at, ahead = values + 4 * (column * steps + k), next_at + 4 * k * num
        _fill_rows(rows, scores + 4 * column, score_stride, num_rows)
        narrow_tile_float32(
            num_rows, num_vectors, scratch, length, at, 4 * steps, tile_at, 4 * width, ahead
        )
        if is_split:
            at, ahead = values + 4 * k, ahead + 4 * width * length
            _fill_rows(rows, scores, score_stride, num_rows)
            narrow_tile_float32(
                num_rows,
                num_vectors,
                scratch,
                num - length,
                at,
                4 * steps,
                more_at,
                4 * width,
                ahead,
            )
            for i in range(num_rows * width):
                tile[i] += more[i]
        width_out = min(width, dim - k)
        for i in range(num_rows):
            to = floats(out_at + i * out_stride + 4 * k, width_out)
            factor = float32(1.0) / sums[i]
            for j in range(width_out):
                to[j] = factor * tile[i * width + j]


@kernel
def attend_all(rank, size, scratch, layer, segments, qkv, qkv_stride, out, out_stride):  # type: ignore[no-untyped-def]  # fmt: skip
    """This thread's share of the attention from the new frames of all segments, after `store_all` of all.

    Args:
        rank, size: this thread of how many.
        scratch: address of its `scratch_bytes`.
        layer: (LAYER_FIELDS,) int64.
        segments: (num_segments, SEGMENT_FIELDS) int64.
        qkv, qkv_stride: address and bytes between rows of (..., 3 D) float32: a frame's query, key and value,
            each (H, K), not scaled, without the biases of content and position.
        out, out_stride: address and bytes between rows of (..., D) float32: what is found, (H, K), before the
            projection of the output; in rows as those of ``qkv``.
    """
    layer_at, segments_at = layer.ctypes.data, segments.ctypes.data
    num_heads = layer[NUM_HEADS]
    total = 0
    for s in range(len(segments)):
        num_tiles, parts, group = _num_tiles(segments[s])
        for t in range(num_tiles):
            begin, end = _tile_frames(segments[s], t, parts, group)
            total += num_heads * _cost(segments[s], begin, end)
    mine, beyond = rank * total // size, (rank + 1) * total // size
    done = 0
    for s in range(len(segments)):
        segment = segments[s]
        num_tiles, parts, group = _num_tiles(segment)
        for head in range(num_heads):
            for t in range(num_tiles):
                begin, end = _tile_frames(segment, t, parts, group)
                if begin < end and mine <= done < beyond:
                    attend(
                        scratch, layer_at, segments_at + 8 * SEGMENT_FIELDS * s, head, begin, end, qkv,
                        qkv_stride, out, out_stride,
                    )  # fmt: skip
                done += _cost(segment, begin, end)


@kernel
def _transpose(rows, row_stride, num_rows, out, out_stride, dim):  # type: ignore[no-untyped-def]
    """(num_rows, dim) -> (dim, num_rows), strides in bytes."""
    for first in range(0, num_rows, _LINE):
        width = min(_LINE, num_rows - first)
        for k in range(dim):
            to = floats(out + k * out_stride + 4 * first, width)
            at = rows + first * row_stride + 4 * k
            for i in range(width):
                to[i] = floats(at + i * row_stride, 1)[0]


@compiled_once(5)
def store_keys_values(layer_at, segment_at, head, qkv, qkv_stride):  # type: ignore[no-untyped-def]
    """Writes the keys and values of a segment's new frames for one head to its cache; see `store_all`.

    Args:
        layer_at, segment_at: addresses of a layer and of a segment.
    """
    layer, segment = integers(layer_at, LAYER_FIELDS), integers(segment_at, SEGMENT_FIELDS)
    dim, num_heads, ring = layer[HEAD_DIM], layer[NUM_HEADS], segment[RING]
    columns, steps = _row_length(ring), (dim + LANES - 1) // LANES * LANES
    keys = segment[CACHE] + layer[CACHE_OFFSET] + 4 * head * dim * columns
    values = segment[CACHE] + layer[CACHE_OFFSET] + 4 * num_heads * dim * columns
    values += 4 * head * ring * steps
    key_at = qkv + segment[FIRST_ROW] * qkv_stride + 4 * (num_heads + head) * dim
    value_at = key_at + 4 * num_heads * dim
    column = segment[TIME] % ring
    num = min(segment[NUM_FRAMES], ring - column)
    _transpose(key_at, qkv_stride, num, keys + 4 * column, 4 * columns, dim)
    rest = segment[NUM_FRAMES] - num
    _transpose(key_at + num * qkv_stride, qkv_stride, rest, keys, 4 * columns, dim)
    for i in range(segment[NUM_FRAMES]):
        row = column + i if i < num else i - num
        to, value = floats(values + 4 * row * steps, dim), floats(value_at + i * qkv_stride, dim)
        for k in range(dim):
            to[k] = value[k]


@kernel
def store_all(rank, size, layer, segments, qkv, qkv_stride):  # type: ignore[no-untyped-def]
    """This thread's share of writing the keys and values of all segments' new frames to their caches.

    Args:
        rank, size, layer, segments, qkv, qkv_stride: as of `attend_all`.
    """
    num_heads = layer[NUM_HEADS]
    layer_at, segments_at = layer.ctypes.data, segments.ctypes.data
    num_items = len(segments) * num_heads
    for item in range(rank * num_items // size, (rank + 1) * num_items // size):
        segment_at = segments_at + 8 * SEGMENT_FIELDS * (item // num_heads)
        store_keys_values(layer_at, segment_at, item % num_heads, qkv, qkv_stride)
