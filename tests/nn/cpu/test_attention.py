"""Attention over ring caches against the torch module, whole utterances and streams."""

import numpy as np
import pytest
import torch

from moe_asr.nn.attention import RelativeAttention, relative_positions
from moe_asr.nn.cpu import attention as kernels
from moe_asr.nn.cpu.simd import LANES, ROWS
from moe_asr.nn.masks import chunk_mask

CPU = torch.device("cpu")
HEADS = 2
DIMS = [2 * LANES + 5, 24, 5]  # of a head: several tiles, no multiples of a vector


def memory(num_bytes: int) -> np.ndarray:
    """Aligned float32 that is NaN: what is used without having been written shows."""
    whole = np.full(num_bytes // 4 + 16, np.nan, np.float32)
    start = -whole.ctypes.data % 64 // 4
    return whole[start : start + num_bytes // 4]


class Layer:
    """A `RelativeAttention` with random biases and its kernels; the output projection is left out.

    Args:
        head_dim: K.
        past, ahead: the distances that it has, in frames.
    """

    def __init__(self, head_dim: int, past: int, ahead: int) -> None:
        self.dim, self.head_dim = HEADS * head_dim, head_dim
        self.module = RelativeAttention(self.dim, HEADS)
        torch.nn.init.normal_(self.module.content_bias)
        torch.nn.init.normal_(self.module.position_bias)
        torch.nn.init.eye_(self.module.output.weight)
        torch.nn.init.zeros_(self.module.output.bias)
        positions = relative_positions(ahead + 1, past + 1, self.dim, CPU)
        self.distances = kernels.pack_distances(self.module.distances(positions))
        self.biases = [
            one.detach().numpy() for one in (self.module.content_bias, self.module.position_bias)
        ]
        self.row = np.zeros(kernels.LAYER_FIELDS, np.int64)
        self.row[kernels.CONTENT_BIAS] = self.biases[0].ctypes.data
        self.row[kernels.POSITION_BIAS] = self.biases[1].ctypes.data
        self.row[kernels.DISTANCES] = self.distances.ctypes.data
        self.row[kernels.DISTANCE_STRIDE] = self.distances.shape[2]
        self.row[kernels.ZERO_INDEX] = past
        self.row[kernels.NUM_HEADS], self.row[kernels.HEAD_DIM] = HEADS, head_dim
        self._caches: list[np.ndarray] = []

    def cache(self, ring: int, num_layers: int = 1) -> np.ndarray:
        made = memory(num_layers * kernels.cache_bytes(HEADS, self.head_dim, ring))
        self._caches.append(made)  # tables know only its address
        return made

    @torch.no_grad()
    def project(self, x: torch.Tensor) -> np.ndarray:
        return self.module.query_key_value(x).numpy()

    @torch.no_grad()
    def expected(self, x: torch.Tensor, chunk: int = -1, left_chunks: int = -1) -> np.ndarray:
        """(S, D) of one whole utterance, by torch."""
        mask = chunk_mask(len(x), chunk, left_chunks, CPU)
        positions = relative_positions(len(x), len(x), self.dim, CPU)
        return self.module(x[None], positions, mask)[0][0].numpy()

    def run(self, qkv: np.ndarray, segments: np.ndarray, size: int = 1) -> np.ndarray:
        """(rows, D) of the kernels; one call for each of ``size`` threads."""
        out = np.full((len(qkv), self.dim), np.nan, np.float32)
        scratch = memory(kernels.scratch_bytes(self.head_dim, int(segments[:, kernels.RING].max())))
        inputs = (self.row, segments, qkv.ctypes.data, qkv.strides[0])
        for rank in range(size):
            kernels.store_all(rank, size, *inputs)
        for rank in range(size):
            kernels.attend_all(
                rank, size, scratch.ctypes.data, *inputs, out.ctypes.data, out.strides[0]
            )
        return out


def segment(
    cache: np.ndarray, ring: int, first: int, num: int, time: int = 0, chunk: int = -1, left: int = -1
) -> list[int]:  # fmt: skip
    row = [0] * kernels.SEGMENT_FIELDS
    row[kernels.FIRST_ROW], row[kernels.NUM_FRAMES], row[kernels.TIME] = first, num, time
    row[kernels.CACHE], row[kernels.RING] = cache.ctypes.data, ring
    row[kernels.CHUNK], row[kernels.LEFT] = chunk, left
    return row


def stream(
    layer: Layer, qkv: np.ndarray, cache: np.ndarray, ring: int, chunk: int, left: int
) -> np.ndarray:
    """(S, D), chunk by chunk."""
    rows = []
    for time in range(0, len(qkv), chunk):
        part = np.ascontiguousarray(qkv[time : time + chunk])
        table = np.array([segment(cache, ring, 0, len(part), time, chunk, left)], np.int64)
        rows.append(layer.run(part, table))
    return np.concatenate(rows)


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("head_dim", DIMS)
def test_whole_utterances_of_full_context(head_dim):
    lengths = [1, ROWS - 1, ROWS, 3 * ROWS + 5, 70]
    layer = Layer(head_dim, 99, 80)  # more distances than needed, not as many on each side
    xs = [torch.randn(length, layer.dim) for length in lengths]
    caches = [layer.cache(length) for length in lengths]
    firsts = np.cumsum([0, *lengths])
    table = [segment(*of) for of in zip(caches, lengths, firsts[:-1], lengths, strict=True)]
    got = layer.run(layer.project(torch.cat(xs)), np.array(table, np.int64))
    for x, first in zip(xs, firsts[:-1], strict=True):
        close(got[first : first + len(x)], layer.expected(x))


@pytest.mark.parametrize("chunk,left_chunks", [(1, 3), (3, 0), (4, -1), (4, 2), (16, 1), (100, 0)])
def test_whole_utterances_under_a_chunk_mask(chunk, left_chunks):
    layer = Layer(24, 60, 60)
    x = torch.randn(57, layer.dim)
    left = left_chunks * chunk if left_chunks >= 0 else -1
    table = np.array([segment(layer.cache(64), 64, 0, 57, 0, chunk, left)], np.int64)
    close(layer.run(layer.project(x), table), layer.expected(x, chunk, left_chunks))


@pytest.mark.parametrize("head_dim", DIMS)
@pytest.mark.parametrize(
    "chunk,left_chunks,more", [(4, 3, 0), (1, 5, 0), (16, 1, 0), (7, 2, 0), (5, 0, 0), (4, 3, 6)]
)
def test_streams_equal_the_chunk_mask(head_dim, chunk, left_chunks, more):
    """Rings go round several times; the last chunk is short; rings of more frames than needed have a gap."""
    left = left_chunks * chunk
    ring = left + chunk + more
    layer = Layer(head_dim, ring - 1, chunk - 1)
    x = torch.randn(3 * ring + max(chunk // 2, 1), layer.dim)
    got = stream(layer, layer.project(x), layer.cache(ring), ring, chunk, left)
    close(got, layer.expected(x, chunk, left_chunks))


def test_several_chunks_at_a_time_over_the_end_of_a_ring():
    layer = Layer(24, 30, 30)
    x = torch.randn(48, layer.dim)
    qkv, cache, ring = layer.project(x), layer.cache(28), 28
    rows = []
    for time in range(0, 48, 12):
        part = np.ascontiguousarray(qkv[time : time + 12])
        table = np.array([segment(cache, ring, 0, 12, time, 3, 6)], np.int64)
        rows.append(layer.run(part, table))
    close(np.concatenate(rows), layer.expected(x, 3, 2))


def test_threads_share_the_work_of_segments_of_all_kinds():
    layer = Layer(24, 50, 50)
    x = torch.randn(64, layer.dim)
    qkv, cache = layer.project(x), layer.cache(12)
    past = stream(layer, qkv[:16], cache, 12, 4, 8)
    assert np.isfinite(past).all()
    table = np.array(
        [
            segment(cache, 12, 16, 3, 16, 4, 8),
            segment(layer.cache(40), 40, 20, 40),
            segment(layer.cache(1), 1, 62, 1),
        ],
        np.int64,
    )
    alone = layer.run(qkv, table)
    written = np.isfinite(alone).all(1)
    assert written.tolist() == [16 <= i < 19 or 20 <= i < 60 or i == 62 for i in range(64)]
    close(alone[16:19], layer.expected(x[:19], 4, 2)[16:])
    close(alone[20:60], layer.expected(x[20:60]))
    for size in (2, 3, 40):
        np.testing.assert_array_equal(layer.run(qkv, table, size), alone)


def test_layers_have_their_own_caches():
    layer = Layer(24, 11, 3)
    offset = kernels.cache_bytes(HEADS, layer.head_dim, 12)
    cache = layer.cache(12, 2)
    xs = torch.randn(2, 30, layer.dim)
    for number, x in enumerate(xs):  # what the second writes must leave the first as it was
        layer.row[kernels.CACHE_OFFSET] = number * offset
        stream(layer, layer.project(x), cache, 12, 4, 8)
        if number == 0:
            kept = cache[: offset // 4].copy()
    np.testing.assert_array_equal(cache[: offset // 4], kept)
    layer.row[kernels.CACHE_OFFSET] = 0
    more = torch.randn(4, layer.dim)
    # the stream's 30 frames end in a short chunk: go on from frame 28
    table = np.array([segment(cache, 12, 0, 4, 28, 4, 8)], np.int64)
    expected = layer.expected(torch.cat([xs[0, :28], more]), 4, 2)[28:]
    close(layer.run(layer.project(more), table), expected)


def test_scores_of_any_size():
    """The largest score is subtracted: exp() of these would overflow, or all be zero."""
    layer = Layer(24, 40, 40)
    for factor in (200.0, -200.0):
        with torch.no_grad():
            layer.module.content_bias.copy_(factor * torch.ones(HEADS, 24))
        x = torch.randn(30, layer.dim)
        table = np.array([segment(layer.cache(30), 30, 0, 30)], np.int64)
        got = layer.run(layer.project(x), table)
        np.testing.assert_allclose(got, layer.expected(x), rtol=1e-3, atol=1e-3)


def test_nan_stays_in_its_stream_and_is_not_hidden():
    layer = Layer(24, 40, 40)
    x = torch.randn(40, layer.dim)
    qkv = layer.project(x)
    qkv[3, layer.dim] = np.nan  # a key of the first
    table = np.array(
        [segment(layer.cache(20), 20, 0, 20), segment(layer.cache(20), 20, 20, 20)], np.int64
    )
    got = layer.run(qkv, table)
    assert np.isnan(got[:20, :24]).all()
    close(got[20:], layer.expected(x[20:]))


def test_a_cache_that_failed_needs_no_cleaning():
    layer = Layer(24, 15, 3)
    x = torch.randn(50, layer.dim)
    got = stream(layer, layer.project(x), layer.cache(16), 16, 4, 12)  # NaN everywhere before
    close(got, layer.expected(x, 4, 3))


@pytest.mark.parametrize("past,ahead", [(4, 0), (4, 9), (0, 3)])
def test_distances_are_padded_for_whole_vectors(past, ahead):
    layer = Layer(5, past, ahead)
    num = past + ahead + 1
    assert layer.distances.shape[:2] == (HEADS, 5)
    assert layer.distances.shape[2] >= num + LANES - 1
    assert not layer.distances[:, :, num:].any()
    positions = relative_positions(1, 1, layer.dim, CPU)  # distance 0
    zero = layer.module.distances(positions)[:, :, 0].detach().numpy()
    np.testing.assert_allclose(layer.distances[:, :, past], zero, rtol=1e-6, atol=1e-7)
