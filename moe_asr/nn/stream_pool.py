"""Preallocated encoder caches of many streams, which join and leave at any time and share encoder calls.

`moe_asr.nn.streaming.EncoderState` is the caches of one batch as a value, made anew by every chunk; here each
stream has a slot of one allocation, written in place, and a batch is any choice of slots.

Legend: N streams of a call, C chunk size, L left context in frames, R = L + C frames of a slot's ring,
W feature frames of a chunk, H heads, K head dimension, D model dimension.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from moe_asr.nn.attention import RelativeAttention, relative_positions
from moe_asr.nn.convolution import CausalConvolution
from moe_asr.nn.encoder import ConformerEncoder, ConformerLayer
from moe_asr.nn.masks import valid_mask
from moe_asr.nn.packing import FramePacking
from moe_asr.nn.subsampling import chunk_feature_frames, output_length


class StreamSlots:
    """Who has which slot, and what a stream's next chunk takes: what pools of streams have in common.

    Args:
        factor: feature frames of an encoder frame.
        num_slots: streams at a time.
        chunk_size: C.
        left_chunks: L / C, 0 or more.

    Raises:
        ValueError: on a chunk size or number of slots below 1, or a left context below 0.
    """

    def __init__(self, factor: int, num_slots: int, chunk_size: int, left_chunks: int) -> None:
        if chunk_size < 1 or num_slots < 1 or left_chunks < 0:
            raise ValueError(
                "expected num_slots >= 1, chunk_size >= 1 and left_chunks >= 0, found "
                f"{num_slots}, {chunk_size} and {left_chunks}"
            )
        self.factor, self.num_slots, self.chunk_size = factor, num_slots, chunk_size
        self.left_frames = left_chunks * chunk_size
        self.window, self.step = chunk_feature_frames(chunk_size, factor)
        self._num_frames = np.zeros(num_slots, np.int64)
        self._free = list(range(num_slots))[::-1]

    @property
    def num_bytes(self) -> int:
        """Of all caches."""
        raise NotImplementedError

    @property
    def bytes_per_slot(self) -> int:
        return self.num_bytes // self.num_slots

    @property
    def num_free(self) -> int:
        """Slots that no stream has."""
        return len(self._free)

    def open(self) -> int | None:
        """A slot for a new stream; None if there is none left."""
        if not self._free:
            return None
        slot = self._free.pop()
        self.reset(slot)
        return slot

    def close(self, slot: int) -> None:
        """Gives a slot back."""
        assert slot not in self._free, slot
        self._free.append(slot)

    def reset(self, slot: int) -> None:
        """Forgets what a stream has said: its next chunk is the first of an utterance."""
        self._num_frames[slot] = 0  # so that its keys and values are not seen

    def chunk_frames(self, num_features: int, finished: bool) -> tuple[int, int]:
        """What the next chunk of a stream takes of its waiting features, as in `encode_chunk`.

        Args:
            num_features: feature frames that wait.
            finished: whether no others follow.

        Returns:
            Encoder frames of the chunk, 0 if there is none yet, and the feature frames that it uses up: all
            if nothing can follow.
        """
        available = output_length(num_features, self.factor)
        whole = available >= self.chunk_size
        if whole and not (finished and output_length(num_features - self.step, self.factor) == 0):
            return self.chunk_size, self.step
        if finished:
            return min(available, self.chunk_size), num_features
        return 0, 0

    def encode(self, slots: Sequence[int], features: Sequence[Tensor]) -> list[Tensor]:
        """Encodes the next chunk of each of N streams.

        Args:
            slots: different ones, all open.
            features: for each (W, F), feature frames after normalisation (`U2MoeModel.cmvn`), or less at the
                end of a stream: enough for one encoder frame. Streams that gave less than C frames must be
                reset or closed before they go on.

        Returns:
            For each (C, D) or less, views of one tensor.
        """
        raise NotImplementedError


class StreamPool(StreamSlots):
    """The caches of up to ``num_slots`` streams, all with one chunk size and left context.

    A slot keeps the keys and values of its last R frames in a ring: a chunk is written over the one that has
    left the left context, and nothing is moved. What the relative positions of a chunk come to is computed
    once, so the pool must be made anew if the encoder's weights change.

    Args:
        encoder: in evaluation mode.
        num_slots: streams at a time.
        chunk_size: C.
        left_chunks: L / C, 0 or more.

    Attributes:
        num_bytes: of all caches, allocated at once (what was never written may not be resident yet).
        bytes_per_slot: of one stream's.

    Raises:
        ValueError: on a chunk size or number of slots below 1, or a left context below 0.
    """

    def __init__(
        self, encoder: ConformerEncoder, num_slots: int, chunk_size: int, left_chunks: int
    ) -> None:
        super().__init__(encoder.subsampling.factor, num_slots, chunk_size, left_chunks)
        self.encoder = encoder
        layers = [layer for layer in encoder.layers if isinstance(layer, ConformerLayer)]
        self._layers = layers
        self._attention: list[RelativeAttention] = [layer.attention for layer in layers]
        self._convolution: list[CausalConvolution] = [layer.convolution for layer in layers]
        self._heads, self._head_dim = self._attention[0].num_heads, self._attention[0].head_dim
        self._ring = self.left_frames + chunk_size
        weight = encoder.subsampling.projection.weight
        rows = num_slots * self._heads * self._ring  # [slot][head][frame of the ring]
        self._keys = weight.new_zeros(len(layers), rows, self._head_dim)
        self._values = weight.new_zeros(len(layers), rows, self._head_dim)
        taps = self._convolution[0].kernel - 1
        self._history = weight.new_zeros(len(layers), num_slots, taps, encoder.dim)
        positions = relative_positions(chunk_size, self._ring, encoder.dim, weight.device)
        with torch.no_grad():
            self._distances = [one.distances(positions) for one in self._attention]

    @property
    def num_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self._keys, self._values, self._history))

    def open(self) -> int | None:
        slot = super().open()
        if slot is not None:
            # masked frames have weight 0, but 0 times the NaN of a stream that failed would be NaN
            rows = slice(slot * self._heads * self._ring, (slot + 1) * self._heads * self._ring)
            self._keys[:, rows] = 0.0
            self._values[:, rows] = 0.0
        return slot

    def reset(self, slot: int) -> None:
        super().reset(slot)
        self._history[:, slot] = 0.0

    @torch.no_grad()
    def encode(self, slots: Sequence[int], features: Sequence[Tensor]) -> list[Tensor]:
        chunk, factor = self.chunk_size, self.factor
        lengths = [min(output_length(len(one), factor), chunk) for one in features]
        assert len(set(slots)) == len(slots) and min(lengths) > 0, (slots, lengths)
        padded = self._keys.new_zeros(len(slots), self.window, features[0].shape[1])
        for row, one in enumerate(features):
            padded[row, : min(len(one), self.window)] = one[: self.window]
        device = padded.device
        x = self.encoder.norm_input(self.encoder.subsampling(padded))  # (N, C, D)
        rows = self._rows(np.asarray(slots))
        written, read, is_cached = (torch.from_numpy(array).to(device) for array in rows)
        chunk_lengths = torch.tensor(lengths, device=device)
        mask = torch.cat([is_cached, valid_mask(chunk_lengths, chunk)], 1)
        # made on the CPU: on a GPU, looking for the padding waits for all that was asked before
        packing = FramePacking.from_lengths(torch.tensor(lengths), chunk).to(device)
        index = torch.as_tensor(list(slots), dtype=torch.int64, device=device)
        for number, layer in enumerate(self._layers):
            x = self._run_layer(
                number, layer, x, mask[:, None, None, :], packing, index, written, read
            )
        self._num_frames[list(slots)] += lengths
        return [x[row, :length] for row, length in enumerate(lengths)]

    def _run_layer(
        self, number: int, layer: ConformerLayer, x: Tensor, mask: Tensor, packing: FramePacking,
        slots: Tensor, written: Tensor, read: Tensor,
    ) -> Tensor:  # fmt: skip
        def attend(x: Tensor) -> Tensor:
            attention = self._attention[number]
            query, key, value = attention.project(x)
            keys = self._extend(self._keys[number], key, written, read)
            values = self._extend(self._values[number], value, written, read)
            return attention.attend(query, keys, values, self._distances[number], mask)

        def convolve(x: Tensor) -> Tensor:
            cache = self._history[number]
            out, history = self._convolution[number](x, cache.index_select(0, slots))
            cache.index_copy_(0, slots, history[:, history.shape[1] - cache.shape[1] :])
            return out

        return layer.run(x, packing, attend, convolve)

    def _extend(self, cache: Tensor, new: Tensor, written: Tensor, read: Tensor) -> Tensor:
        """Writes keys or values (N, H, C, K) of a chunk; returns those that it sees (N, H, R, K)."""
        cache.index_copy_(0, written, new.reshape(-1, self._head_dim))
        found = cache.index_select(0, read)
        return found.view(len(new), self._heads, self._ring, self._head_dim)

    def _rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the caches that a chunk of N streams is written to, and reads, in the order of time.

        Returns:
            (N * H * C,) and (N * H * R,) int64, and (N, L) bool: which of the frames before the chunk exist.
        """
        chunk, ring = self.chunk_size, self._ring
        frames = self._num_frames[slots]
        begin = frames % ring  # where the chunk goes: rings are whole chunks
        heads = (slots[:, None] * self._heads + np.arange(self._heads)[None, :]) * ring  # (N, H)
        written = (begin[:, None] + np.arange(chunk)[None, :])[:, None, :]
        order = begin[:, None] - self.left_frames + np.arange(ring)[None, :]  # oldest first
        read = (order % ring)[:, None, :]
        is_cached = np.arange(self.left_frames)[None, :] >= self.left_frames - frames[:, None]
        return (
            (heads[:, :, None] + written).reshape(-1),
            (heads[:, :, None] + read).reshape(-1),
            is_cached,
        )
