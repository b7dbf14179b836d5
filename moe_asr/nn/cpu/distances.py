"""What queries are multiplied with for the distance of a key, of all layers: computed once for all calls."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_asr.nn.attention import relative_positions
from moe_asr.nn.cpu.attention import pack_distances

_FIRST_RANGE = 128  # frames; doubled when a call needs more
_LARGEST_RANGE = 2048  # a table that reaches farther is given back after its call


@dataclass(frozen=True)
class DistanceTable:
    """Of all layers, for keys less than ``reach`` frames away.

    Attributes:
        arrays: of each layer, see `pack_distances`.
    """

    reach: int
    arrays: list[np.ndarray]

    @property
    def zero_index(self) -> int:
        """Where a key has the time of its query."""
        return self.reach - 1

    @property
    def stride(self) -> int:
        """Floats of a row."""
        return int(self.arrays[0].shape[2])


class Distances:
    """The table, as large as any call needed it so far.

    Args:
        weights: of each layer, ``RelativeAttention.position.weight`` (D, D) float32.
        num_heads: H.
    """

    def __init__(self, weights: list[Tensor], num_heads: int) -> None:
        self._weights, self._num_heads = weights, num_heads
        self._table: DistanceTable | None = None
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Of weights and table."""
        table = self._table.arrays if self._table is not None else []
        weights = sum(weight.numel() * weight.element_size() for weight in self._weights)
        return weights + sum(array.nbytes for array in table)

    def get(self, reach: int) -> DistanceTable:
        """The table for keys less than ``reach`` frames away, or farther."""
        with self._lock:
            if self._table is not None and self._table.reach >= reach:
                return self._table
            size = _FIRST_RANGE
            while size < reach:
                size *= 2
            table = self._compute(size if size <= _LARGEST_RANGE else reach)
            if table.reach <= _LARGEST_RANGE:
                self._table = table
            return table

    @torch.no_grad()
    def _compute(self, reach: int) -> DistanceTable:
        dim = self._weights[0].shape[0]
        positions = relative_positions(reach, reach, dim, torch.device("cpu"))  # (P, D)
        arrays = []
        for weight in self._weights:
            distances = torch.mm(positions, weight.t()).view(
                -1, self._num_heads, dim // self._num_heads
            )
            arrays.append(pack_distances(distances.permute(1, 2, 0)))  # (P, H, K) -> (H, K, P)
        return DistanceTable(reach, arrays)
