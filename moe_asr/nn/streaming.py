"""The explicit caches of streams that share encoder calls, each stream at its own position.

Legend: N streams, L cached frames (right-aligned), C chunk size, H heads, K head dimension, D model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from moe_asr.nn.masks import valid_mask

_PER_LAYER = ("keys", "values", "convolution")  # the batch is their second axis


@dataclass(frozen=True)
class EncoderState:
    """Everything the encoder keeps of N streams between chunks. States are values: never modified.

    Attributes:
        chunk_size, left_chunks: as the streams were started with; the same for all of them.
        features: (N, B, F) feature frames not yet used up, padded on the right.
        feature_lengths: (N,) how many of them are real.
        keys, values: (layers, N, H, L, K) right-aligned; L is left_chunks * chunk_size, or as long as the
            oldest stream if left_chunks < 0.
        convolution: (layers, N, kernel - 1, D) depthwise inputs before the next frame.
        num_frames: (N,) encoder frames given so far.
        input_finished: (N,) bool, the stream takes no more features.
    """

    chunk_size: int
    left_chunks: int
    features: Tensor
    feature_lengths: Tensor
    keys: Tensor
    values: Tensor
    convolution: Tensor
    num_frames: Tensor
    input_finished: Tensor

    @property
    def num_streams(self) -> int:
        return len(self.num_frames)

    @property
    def finished(self) -> Tensor:
        """(N,) bool, True when a stream's input is finished and its last frame was given."""
        return self.input_finished & (self.feature_lengths == 0)

    @property
    def cache_size(self) -> int:
        """L, cached frames including those before a young stream's start."""
        return self.keys.shape[3]

    @property
    def num_bytes(self) -> int:
        """Memory of all caches, in bytes."""
        tensors = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def cache_mask(self) -> Tensor:
        """(N, L) bool, True at cached frames that exist."""
        index = torch.arange(self.cache_size, device=self.num_frames.device)
        return index[None, :] >= self.cache_size - self.num_frames[:, None]

    def select(self, streams: Sequence[int]) -> "EncoderState":
        """The state of some of the streams, in the given order (leave, reorder)."""
        index = torch.as_tensor(list(streams), dtype=torch.int64, device=self.num_frames.device)
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = value.index_select(int(field.name in _PER_LAYER), index)
        state = replace(self, **changed)
        if self.left_chunks < 0:  # frames that no stream has any more
            needed = int(state.num_frames.max()) if state.num_streams else 0
            drop = state.cache_size - min(needed, state.cache_size)
            state = replace(
                state, keys=state.keys[:, :, :, drop:], values=state.values[:, :, :, drop:]
            )
        return state

    @staticmethod
    def merge(states: Sequence["EncoderState"]) -> "EncoderState":
        """One state of all the streams of ``states``, in order (join).

        Raises:
            ValueError: if they were not started with the same chunk size and left context.
        """
        settings = {(state.chunk_size, state.left_chunks) for state in states}
        if len(settings) != 1:
            raise ValueError(
                f"streams of one batch need one (chunk, left) setting, found {settings}"
            )
        longest = max(state.features.shape[1] for state in states)
        size = max(state.cache_size for state in states)
        merged: dict[str, Any] = {}
        for field in fields(EncoderState):
            values = [getattr(state, field.name) for state in states]
            if not isinstance(values[0], Tensor):
                continue
            pad = torch.nn.functional.pad
            if field.name == "features":
                values = [pad(value, (0, 0, 0, longest - value.shape[1])) for value in values]
            elif field.name in ("keys", "values"):
                values = [pad(value, (0, 0, size - value.shape[3], 0)) for value in values]
            merged[field.name] = torch.cat(values, int(field.name in _PER_LAYER))
        return replace(states[0], **merged)

    def advance(
        self, keys: list[Tensor], values: list[Tensor], histories: list[Tensor], lengths: Tensor
    ) -> "EncoderState":
        """The state with the caches after a chunk.

        Args:
            keys, values: of each layer (N, H, L + C, K).
            histories: of each layer (N, kernel - 1 + C, D).
            lengths: (N,) encoder frames that each stream gave.
        """
        whole = lengths == self.chunk_size  # streams without a whole chunk keep their caches
        kernel = self.convolution.shape[2] + 1
        history = torch.stack(histories)
        history = history[:, :, history.shape[2] - (kernel - 1) :]
        return replace(
            self,
            keys=self._shift(self.keys, keys, whole),
            values=self._shift(self.values, values, whole),
            convolution=torch.where(whole[None, :, None, None], history, self.convolution),
            num_frames=self.num_frames + lengths,
        )

    def buffer(
        self, pending: Tensor, pending_lengths: Tensor, used: Tensor, input_finished: Tensor
    ) -> "EncoderState":
        """The state with the features that a call left over.

        Args:
            pending, pending_lengths: features (N, B, F) before the call's chunk, and how many (N,).
            used: (N,) feature frames that the chunk used up.
            input_finished: (N,).
        """
        features, feature_lengths = _drop_frames(pending, pending_lengths, used)
        return replace(
            self,
            features=features,
            feature_lengths=feature_lengths,
            input_finished=input_finished,
        )

    def _shift(self, old: Tensor, layers: list[Tensor], whole: Tensor) -> Tensor:
        """Appends the chunk where a stream has one; a bounded cache keeps its size."""
        if not bool(whole.any()):
            return old
        grown = layers[0].shape[2]
        kept = self.cache_size
        if self.left_chunks < 0:  # as long as the oldest stream, though streams advance in turn
            kept = min(grown, int((self.num_frames + whole * self.chunk_size).max()))
        full = torch.stack([layer[:, :, grown - kept :] for layer in layers])
        if bool(whole.all()):
            return full
        before = torch.nn.functional.pad(old, (0, 0, max(kept - old.shape[3], 0), 0))
        before = before[:, :, :, before.shape[3] - kept :]
        return torch.where(whole[None, :, None, None, None], full, before)


def append_frames(
    old: Tensor, old_lengths: Tensor, new: Tensor, new_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Appends ragged ``new`` (N, T, F) to ragged ``old`` (N, B, F), both padded on the right."""
    lengths = old_lengths + new_lengths
    longest = int(lengths.max()) if len(lengths) else 0
    both = torch.cat([old, new], dim=1)
    index = torch.arange(longest, device=new.device)[None, :].expand(len(lengths), -1)
    index = torch.where(
        index < old_lengths[:, None], index, index - old_lengths[:, None] + old.shape[1]
    )
    index = index.clamp(max=max(both.shape[1] - 1, 0)).unsqueeze(2).expand(-1, -1, new.shape[2])
    out = both.gather(1, index)
    return out * valid_mask(lengths, longest).unsqueeze(2), lengths


def _drop_frames(frames: Tensor, lengths: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Drops the first ``used`` (N,) of ragged ``frames`` (N, B, F)."""
    left = (lengths - used).clamp(min=0)
    longest = int(left.max()) if len(left) else 0
    index = torch.arange(longest, device=frames.device)[None, :] + used[:, None]
    index = index.clamp(max=max(frames.shape[1] - 1, 0)).unsqueeze(2)
    out = frames.gather(1, index.expand(-1, -1, frames.shape[2]))
    return out * valid_mask(left, longest).unsqueeze(2), left
