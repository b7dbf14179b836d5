"""Caches of streams that a `PackedEncoder` encodes: `moe_asr.nn.stream_pool.StreamPool` for its kernels.

Nothing of a stream is ever moved: keys, values and the convolutions' inputs lie in rings that the kernels
write to and read from in place. One call encodes the next chunks of any of the streams, which share one pass
over the weights.

Legend: N streams of a call, C chunk size, L left context in frames, W feature frames of a chunk, F feature
bins, D model dimension.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from moe_asr.nn.cpu import attention
from moe_asr.nn.cpu import layers as L
from moe_asr.nn.cpu.workspace import Slabs
from moe_asr.nn.stream_pool import StreamSlots
from moe_asr.nn.subsampling import output_length

if TYPE_CHECKING:
    from moe_asr.nn.cpu.encoder import PackedEncoder


class PackedStreamPool(StreamSlots):
    """The caches of up to ``num_slots`` streams, all with one chunk size and left context."""

    def __init__(
        self, encoder: "PackedEncoder", num_slots: int, chunk_size: int, left_chunks: int
    ) -> None:
        super().__init__(encoder.factor, num_slots, chunk_size, left_chunks)
        self.encoder = encoder
        shape = encoder.shape
        self._ring = self.left_frames + chunk_size
        self._cache_bytes = attention.cache_bytes(shape.num_heads, encoder.head_dim, self._ring)
        cache_bytes = shape.num_layers * num_slots * self._cache_bytes
        self._caches = Slabs().take(cache_bytes)  # [layer][slot]
        self._distances = encoder.chunk_distances(chunk_size, self._ring)
        rows = shape.kernel - 1 + chunk_size
        self._histories = np.zeros((shape.num_layers, num_slots, rows, shape.dim), np.float32)

    @property
    def num_bytes(self) -> int:
        return self._caches.nbytes + self._histories.nbytes

    def reset(self, slot: int) -> None:
        super().reset(slot)
        self._histories[:, slot] = 0.0  # keys and values of before are never read

    def encode(self, slots: Sequence[int], features: Sequence[Tensor]) -> list[Tensor]:
        """As `StreamSlots.encode`.

        Raises:
            ValueError: on slots that the pool has not, and on features as of `PackedEncoder.forward`.
        """
        if not set(slots) <= set(range(self.num_slots)):
            raise ValueError(f"expected slots of 0..{self.num_slots - 1}, found {list(slots)}")
        lengths = [min(output_length(len(one), self.factor), self.chunk_size) for one in features]
        assert len(set(slots)) == len(slots) and min(lengths) > 0, (slots, lengths)
        index = np.asarray(slots, np.int64)
        frames = self._num_frames[index]
        segments = np.zeros((len(index), attention.SEGMENT_FIELDS), np.int64)
        segments[:, attention.TIME] = frames
        segments[:, attention.CACHE] = self._caches.ctypes.data + index * self._cache_bytes
        segments[:, attention.RING] = self._ring
        segments[:, attention.LEFT] = self.left_frames
        layer, slot, row = self._histories.strides[:3]
        histories = np.zeros((len(index), L.HISTORY_FIELDS), np.int64)
        histories[:, L.HISTORY] = self._histories.ctypes.data + index * slot
        histories[:, L.HISTORY_ROWS] = slot // row
        histories[:, L.HISTORY_FIRST] = frames % (slot // row)
        encoded = self.encoder.run(
            features, lengths, segments, histories, self._cache_bytes * self.num_slots, layer,
            self._distances,
        )  # fmt: skip
        self._num_frames[index] += lengths
        return list(encoded.split(lengths))
