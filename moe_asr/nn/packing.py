"""Frames of a padded batch as one list without the padding, and back.

Mixture layers see only packed frames, so that padding is never routed, counted or computed.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from moe_asr.nn.masks import valid_mask


@dataclass
class FramePacking:
    """How the (N, T) positions of one padded batch map to M valid frames.

    Attributes:
        valid: (M,) positions of the valid frames in the flattened (N * T); None if there is no padding.
        unpack: (N * T,) the row of each position in the packed frames with one zero row appended.
        auxiliary_losses: scalars that mixture layers add while training (empty without them).
    """

    valid: Tensor | None = None
    unpack: Tensor | None = None
    auxiliary_losses: list[Tensor] = field(default_factory=list)

    @staticmethod
    def from_lengths(lengths: Tensor, max_length: int) -> "FramePacking":
        """Packing of sequences with ``lengths`` (N,) padded on the right to ``max_length``."""
        mask = valid_mask(lengths, max_length).flatten()
        valid = mask.nonzero().squeeze(1)
        if valid.numel() == mask.numel():
            return FramePacking()
        unpack = torch.full_like(mask, 0, dtype=torch.int64) + valid.numel()
        unpack[valid] = torch.arange(valid.numel(), device=valid.device)
        return FramePacking(valid, unpack)

    def to(self, device: torch.device) -> "FramePacking":
        """The same on another device."""
        valid, unpack = (None if t is None else t.to(device) for t in (self.valid, self.unpack))
        return FramePacking(valid, unpack, self.auxiliary_losses)

    def pack(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (M, D)."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.valid is None else flat.index_select(0, self.valid)

    def scatter(self, packed: Tensor, like: Tensor) -> Tensor:
        """(M, D) -> the shape (N, T, D) of ``like``, zero at padded positions."""
        if self.unpack is None:
            return packed.view(like.shape)
        rows = torch.cat([packed, packed.new_zeros(1, packed.shape[1])])
        return rows.index_select(0, self.unpack).view(like.shape)
