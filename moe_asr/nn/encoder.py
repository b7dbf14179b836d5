"""The Conformer encoder: one set of weights for full context, for a chunk mask, and for streams.

Legend: N streams or utterances, T feature frames, S subsampled frames, D model dimension, C chunk size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_asr.nn.attention import RelativeAttention, relative_positions
from moe_asr.nn.convolution import CausalConvolution
from moe_asr.nn.masks import chunk_mask, valid_mask
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.packing import FramePacking
from moe_asr.nn.streaming import EncoderState, append_frames
from moe_asr.nn.subsampling import ConvSubsampling, output_lengths


@dataclass(frozen=True)
class MixtureOptions:
    """The feed-forward layers: ``num_experts`` of ``hidden_dim``, of which a frame takes ``num_chosen``."""

    hidden_dim: int
    num_experts: int = 8
    num_chosen: int = 2
    load_balance_weight: float = 0.0
    z_loss_weight: float = 0.0

    def build(self, dim: int, activation: str, dropout: float) -> MixtureFeedForward:
        """One layer of model dimension ``dim``."""
        return MixtureFeedForward(
            dim,
            self.hidden_dim,
            self.num_experts,
            self.num_chosen,
            activation,
            dropout,
            self.load_balance_weight,
            self.z_loss_weight,
        )


class ConformerLayer(nn.Module):
    """Half feed-forward, relative attention, causal convolution, half feed-forward, LayerNorm."""

    def __init__(
        self, dim: int, num_heads: int, mixture: MixtureOptions, kernel: int, dropout: float,
        attention_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm_macaron = nn.LayerNorm(dim)
        self.feed_forward_macaron = mixture.build(dim, "silu", dropout)
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, num_heads, attention_dropout)
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = CausalConvolution(dim, kernel)
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = mixture.build(dim, "silu", dropout)
        self.norm_output = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        packing: FramePacking,
        attention_cache: tuple[Tensor, Tensor] | None = None,
        convolution_cache: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, S, D) -> (N, S, D), keys, values and convolution history with their caches included."""
        kept: list[Tensor] = []

        def attend(x: Tensor) -> Tensor:
            attended, *caches = self.attention(x, positions, mask, attention_cache)
            kept.extend(caches)
            return attended

        def convolve(x: Tensor) -> Tensor:
            convolved, history = self.convolution(x, convolution_cache)
            kept.append(history)
            return convolved

        out = self.run(x, packing, attend, convolve)
        keys, values, history = kept
        return out, keys, values, history

    def run(
        self,
        x: Tensor,
        packing: FramePacking,
        attend: Callable[[Tensor], Tensor],
        convolve: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The layer (N, S, D) -> (N, S, D) around its attention and convolution, whatever caches they use."""
        x = x + 0.5 * self.feed_forward_macaron(self.norm_macaron(x), packing)
        x = x + self.dropout(attend(self.norm_attention(x)))
        x = x + self.dropout(convolve(self.norm_convolution(x)))
        x = x + 0.5 * self.feed_forward(self.norm_feed_forward(x), packing)
        return self.norm_output(x)


class ConformerEncoder(nn.Module):
    """Subsampling and a stack of `ConformerLayer`.

    Args:
        num_features: F of the input.
        dim, num_heads, num_layers, kernel: D, H, layers, taps of the depthwise convolutions.
        mixture: the feed-forward layers.
        subsampling, subsampling_channels: see `ConvSubsampling`.
        dropout, attention_dropout: probabilities.
    """

    def __init__(
        self,
        num_features: int,
        dim: int,
        num_heads: int,
        num_layers: int,
        mixture: MixtureOptions,
        kernel: int = 15,
        subsampling: int = 4,
        subsampling_channels: int = 32,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.subsampling = ConvSubsampling(num_features, subsampling_channels, dim, subsampling)
        self.norm_input = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, num_heads, mixture, kernel, dropout, attention_dropout)
            for _ in range(num_layers)
        )

    def forward(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        chunk_size: int = -1,
        left_chunks: int = -1,
    ) -> tuple[Tensor, Tensor, FramePacking]:
        """Encodes whole utterances.

        Args:
            features: (N, T, F), padded on the right.
            feature_lengths: (N,) int64.
            chunk_size: in subsampled frames; <= 0 is full context.
            left_chunks: chunks of left context; < 0 is all.

        Returns:
            (N, S, D) with zeros at padded frames, lengths (N,), and the packing with auxiliary losses.
        """
        x = self.dropout(self.norm_input(self.subsampling(features)))
        lengths = output_lengths(feature_lengths, self.subsampling.factor)
        num_frames = x.shape[1]
        if num_frames == 0:
            return x, lengths, FramePacking()
        packing = FramePacking.from_lengths(lengths, num_frames)
        valid = valid_mask(lengths, num_frames)
        mask = None if packing.valid is None else valid[:, None, None, :]
        if chunk_size > 0:
            chunks = chunk_mask(num_frames, chunk_size, left_chunks, x.device)
            mask = chunks if mask is None else mask & chunks
        positions = relative_positions(num_frames, num_frames, self.dim, x.device)
        for layer in self.layers:
            x, _, _, _ = layer(x, positions, mask, packing)
        return x.masked_fill(~valid.unsqueeze(2), 0.0), lengths, packing

    def init_stream(self, num_streams: int, chunk_size: int, left_chunks: int = -1) -> EncoderState:
        """The state of ``num_streams`` streams before their first frame.

        Raises:
            ValueError: if ``chunk_size`` < 1.
        """
        if chunk_size < 1:
            raise ValueError(f"a stream needs a chunk size of at least 1, found {chunk_size}")
        layer = self.layers[0]
        assert isinstance(layer, ConformerLayer)
        attention, convolution = layer.attention, layer.convolution
        weight = self.subsampling.projection.weight
        kept = left_chunks * chunk_size if left_chunks >= 0 else 0
        shape = (len(self.layers), num_streams, attention.num_heads, kept, attention.head_dim)
        num_features = self.subsampling.num_features
        counts = torch.zeros(num_streams, dtype=torch.int64, device=weight.device)
        return EncoderState(
            chunk_size=chunk_size,
            left_chunks=left_chunks,
            features=weight.new_zeros(num_streams, 0, num_features),
            feature_lengths=counts,
            keys=weight.new_zeros(shape),
            values=weight.new_zeros(shape),
            convolution=weight.new_zeros(
                len(self.layers), num_streams, convolution.kernel - 1, self.dim
            ),
            num_frames=counts.clone(),
            input_finished=counts.bool(),
        )

    def encode_chunk(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        state: EncoderState,
        is_last: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """Takes new features of every stream and encodes the next chunk of those that have one.

        A stream that has not yet the frames of a whole chunk gives none and keeps its features, unless
        its input is finished: then it gives what is left. At most one chunk a call: a stream that was
        fed more gives the rest in later calls (with no new features), until `EncoderState.finished`.

        Args:
            features: (N, T, F) new feature frames, padded on the right.
            feature_lengths: (N,) how many of them each stream brings, 0 allowed.
            state: of the same N streams.
            is_last: (N,) bool, True when a stream's features end here; None: no stream ends.

        Returns:
            (N, C, D) with zeros after each length, lengths (N,), and the new state.
        """
        chunk, factor = state.chunk_size, self.subsampling.factor
        finished = state.input_finished
        if bool((finished & (feature_lengths > 0)).any()):
            stream = int((finished & (feature_lengths > 0)).nonzero()[0])
            raise ValueError(f"stream {stream} of the batch was finished and cannot take features")
        if is_last is not None:
            finished = finished | is_last
        pending, pending_lengths = append_frames(
            state.features, state.feature_lengths, features, feature_lengths
        )
        available = output_lengths(pending_lengths, factor)
        whole = available >= chunk
        lengths = torch.where(whole, chunk, torch.where(finished, available, 0))
        rest = output_lengths(pending_lengths - chunk * factor, factor)  # after a whole chunk
        used = torch.where(finished & ~(whole & (rest > 0)), pending_lengths, lengths * factor)
        if not bool((lengths > 0).any()):  # nothing to encode yet
            nothing = pending.new_zeros(len(lengths), chunk, self.dim)
            return nothing, lengths, state.buffer(pending, pending_lengths, used, finished)
        window = (chunk - 1) * factor + self.subsampling.receptive_field
        if pending.shape[1] < window:
            pending = nn.functional.pad(pending, (0, 0, 0, window - pending.shape[1]))
        x = self.norm_input(self.subsampling(pending[:, :window]))  # (N, C, D)
        positions = relative_positions(chunk, state.cache_size + chunk, self.dim, x.device)
        mask = torch.cat([state.cache_mask(), valid_mask(lengths, chunk)], dim=1)[:, None, None, :]
        packing = FramePacking.from_lengths(lengths, chunk)
        keys, values, histories = [], [], []
        for index, layer in enumerate(self.layers):
            cache = (state.keys[index], state.values[index])
            x, key, value, history = layer(
                x, positions, mask, packing, cache, state.convolution[index]
            )
            keys.append(key)
            values.append(value)
            histories.append(history)
        x = x.masked_fill(~valid_mask(lengths, chunk).unsqueeze(2), 0.0)
        state = state.advance(keys, values, histories, lengths)
        return x, lengths, state.buffer(pending, pending_lengths, used, finished)
