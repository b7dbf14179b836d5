"""Which frame may attend to which: padding, chunks, left context; and the draw of both in training."""

from dataclasses import dataclass

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """``lengths`` (N,) -> (N, max_length) bool, True inside each sequence."""
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def chunk_mask(num_frames: int, chunk_size: int, left_chunks: int, device: torch.device) -> Tensor:
    """(num_frames, num_frames) bool: True where frame i (row) may attend to frame j (column).

    A frame sees its whole chunk and ``left_chunks`` chunks before it. ``chunk_size`` <= 0 is full
    context; ``left_chunks`` < 0 is all of the past.
    """
    if chunk_size <= 0:
        return torch.ones(num_frames, num_frames, dtype=torch.bool, device=device)
    chunk = torch.arange(num_frames, device=device) // chunk_size
    mask = chunk[None, :] <= chunk[:, None]
    if left_chunks >= 0:
        mask &= chunk[None, :] >= chunk[:, None] - left_chunks
    return mask


@dataclass(frozen=True)
class DynamicChunk:
    """The distribution of chunk size and left context in training (U2++, arXiv 2106.05642, §2.3).

    Attributes:
        full_context_probability: share of batches that see the whole utterance.
        max_chunk_size: chunk sizes are uniform in 1..max_chunk_size, in subsampled frames.
        all_left_probability: of the chunked batches, the share with unlimited left context; the
            others draw the number of left chunks uniformly from 0 to what the batch has.
    """

    full_context_probability: float = 0.5
    max_chunk_size: int = 25
    all_left_probability: float = 0.5

    def __post_init__(self) -> None:
        for name in ("full_context_probability", "all_left_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], found {getattr(self, name)}")
        if self.max_chunk_size < 1:
            raise ValueError(f"max_chunk_size must be at least 1, found {self.max_chunk_size}")

    def draw(self, num_frames: int) -> tuple[int, int]:
        """(chunk_size, left_chunks) for one batch, from torch's CPU generator."""
        uniform = torch.rand(4).tolist()
        if uniform[0] < self.full_context_probability:
            return -1, -1
        chunk_size = 1 + int(uniform[1] * self.max_chunk_size)
        if uniform[2] < self.all_left_probability:
            return chunk_size, -1
        return chunk_size, int(uniform[3] * ((num_frames - 1) // chunk_size + 1))
