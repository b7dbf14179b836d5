"""What queries are multiplied with for the distance of a key, of all layers: computed once for all calls."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_asr.nn.attention import sinusoids
from moe_asr.nn.cpu.attention import pack_distances
from moe_asr.nn.cpu.workspace import Slabs
from moe_asr.nn.quantization import dequantize

_FIRST_RANGE = 128  # frames; doubled when a call needs more
_ROWS = 128  # distances of which a product is computed
_LARGEST_RANGE = 2048  # a table that reaches farther is given back after its call


@dataclass(frozen=True)
class DistanceTable:
    """Of all layers, for keys up to ``zero_index`` frames before their query, and as many as asked after it.

    Attributes:
        zero_index: where a key has the time of its query.
        arrays: of each layer, see `pack_distances`.
    """

    zero_index: int
    arrays: list[np.ndarray]

    @property
    def stride(self) -> int:
        """Floats of a row."""
        return int(self.arrays[0].shape[2])


class Distances:
    """The table, as large as any call needed it so far.

    Args:
        weights: of each layer, ``RelativeAttention.position.weight`` (D, D): float32 and None, or int8 and
            its scales.
        num_heads: H.
    """

    def __init__(self, weights: list[tuple[Tensor, Tensor | None]], num_heads: int) -> None:
        self._weights, self._num_heads = weights, num_heads
        self._table: DistanceTable | None = None
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Of weights and table."""
        table = self._table.arrays if self._table is not None else []
        weights = sum(weight.numel() * weight.element_size() for weight, _ in self._weights)
        return weights + sum(array.nbytes for array in table)

    def get(self, reach: int) -> DistanceTable:
        """The table for keys less than ``reach`` frames away, before or after, or farther."""
        with self._lock:
            if self._table is not None and self._table.zero_index >= reach - 1:
                return self._table
            size = _FIRST_RANGE
            while size < reach:
                size *= 2
            size = size if size <= _LARGEST_RANGE else reach
            table = self.of(size, size)
            if size <= _LARGEST_RANGE:
                self._table = table
            return table

    @torch.no_grad()
    def of(self, num_queries: int, num_keys: int) -> DistanceTable:
        """The table for queries that are the last of the keys, and no larger: what a chunk sees."""
        dim = self._weights[0][0].shape[0]
        # Sines and sums may be rounded otherwise in tensors of another shape, or in other rows: a distance
        # is always in the same row of the same shape, and no result depends on the size of the table.
        past, ahead = (-(-number // _ROWS) * _ROWS for number in (num_keys, num_queries))
        distances = torch.arange(past - 1, -ahead - 1, -1)  # as `relative_positions`, and some more
        blocks = [sinusoids(block, dim) for block in distances.split(_ROWS)]
        memory, arrays = Slabs(), []
        for values, scale in self._weights:
            weight = values if scale is None else dequantize(values, scale)
            product = torch.cat([torch.mm(block, weight.t()) for block in blocks])
            product = product[past - num_keys : past + num_queries - 1]  # (P, D)
            product = product.view(-1, self._num_heads, dim // self._num_heads)
            packed = pack_distances(product.permute(1, 2, 0))  # (P, H, K) -> (H, K, P)
            kept = memory.take(packed.nbytes).view(np.float32).reshape(packed.shape)
            kept[:] = packed
            arrays.append(kept)
        return DistanceTable(num_keys - 1, arrays)
