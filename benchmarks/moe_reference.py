"""The encoder as it is usually written in PyTorch: what `benchmarks.moe_rtf` compares with.

The function is that of `ConformerEncoder`, with its weights, in the manner of WeNet and ESPnet: modules of
``nn.Linear``; queries, keys, values and positions projected one by one at every call; scores of content and
of position made as whole tensors, shifted by padding; a Python loop over experts, each of two ``nn.Linear``,
that gathers its frames with `torch.where` and adds with `index_add_`; caches concatenated at every chunk;
streams as a dimension of the batch. All products are torch's own, on packed batches of the size they come in.

Legend: N streams or utterances, T frames, L cached frames, D model dimension, H heads, K head dimension.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_asr.nn.attention import RelativeAttention, relative_positions
from moe_asr.nn.convolution import CausalConvolution
from moe_asr.nn.encoder import ConformerEncoder, ConformerLayer
from moe_asr.nn.masks import valid_mask
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.subsampling import output_lengths


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer with copies of ``weight`` (out, in) and ``bias`` (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


class PlainFeedForward(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, layer: MixtureFeedForward, expert: int = 0) -> None:
        super().__init__()
        self.first = _linear(layer.w1[expert].t(), layer.b1[expert])
        self.activation = nn.SiLU()
        self.second = _linear(layer.w2[expert].t(), layer.b2[expert])

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.second(self.activation(self.first(x)))


class PlainMixture(nn.Module):
    """A loop over experts; each is run on the frames that chose it."""

    def __init__(self, layer: MixtureFeedForward) -> None:
        super().__init__()
        assert layer.router is not None
        self.num_chosen = layer.num_chosen
        self.router = _linear(layer.router, None)
        self.experts = nn.ModuleList(
            PlainFeedForward(layer, expert) for expert in range(layer.num_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        frames = x.reshape(-1, x.shape[-1])
        logits, chosen = self.router(frames).topk(self.num_chosen, dim=1)
        gates = logits.softmax(1)
        out = torch.zeros_like(frames)
        for number, expert in enumerate(self.experts):
            rows, choice = torch.where(chosen == number)
            out.index_add_(0, rows, gates[rows, choice, None] * expert(frames[rows]))
        return out.view_as(x)


class PlainAttention(nn.Module):
    """Self-attention with relative positions (Transformer-XL), unfused."""

    def __init__(self, attention: RelativeAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        weights = attention.query_key_value.weight.chunk(3)
        biases = attention.query_key_value.bias.chunk(3)
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.position = _linear(attention.position.weight, None)
        self.output = _linear(attention.output.weight, attention.output.bias)
        self.content_bias = nn.Parameter(attention.content_bias.detach().clone())
        self.position_bias = nn.Parameter(attention.position_bias.detach().clone())

    def _heads(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, H, K)."""
        return x.view(x.shape[0], -1, self.num_heads, self.head_dim)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """From (N, T, D) to the cache, keys and values (N, H, L, K), and itself.

        Args:
            positions: (1, L + 2 T - 1, D), of `relative_positions`.
            mask: (N, 1, 1, L + T) bool, True may be attended to; None: all.

        Returns:
            (N, T, D), and the cache with these frames.
        """
        query = self._heads(self.query(x))
        key = self._heads(self.key(x)).transpose(1, 2)  # (N, H, T, K)
        value = self._heads(self.value(x)).transpose(1, 2)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        distances = self._heads(self.position(positions)).transpose(1, 2)  # (1, H, P, K)
        by_content = (query + self.content_bias).transpose(1, 2)
        by_position = (query + self.position_bias).transpose(1, 2)
        scores = torch.matmul(by_content, key.transpose(-2, -1))
        shifted = _shift(torch.matmul(by_position, distances.transpose(-2, -1)))
        scores = (scores + shifted[..., : key.shape[2]]) / math.sqrt(self.head_dim)
        if mask is not None:
            scores = scores.masked_fill(~mask, -float("inf"))
        weights = scores.softmax(-1)
        out = torch.matmul(weights, value).transpose(1, 2).contiguous()  # (N, T, H, K)
        return self.output(out.view(x.shape)), (key, value)


def _shift(raw: Tensor) -> Tensor:
    """By distance (N, H, T, P) to by key, in the first P - T + 1 columns: padding and a view."""
    num, heads, frames, distances = raw.shape
    padded = torch.cat([raw.new_zeros(num, heads, frames, 1), raw], dim=-1)
    return padded.view(num, heads, distances + 1, frames)[:, :, 1:].reshape(raw.shape)


class PlainConvolution(nn.Module):
    """Linear, GLU, depthwise convolution, LayerNorm, SiLU, linear."""

    def __init__(self, convolution: CausalConvolution) -> None:
        super().__init__()
        self.expand = _linear(convolution.expand.weight, convolution.expand.bias)
        self.depthwise = convolution.depthwise
        self.norm, self.activation = convolution.norm, nn.SiLU()
        self.output = _linear(convolution.output.weight, convolution.output.bias)
        self.history = convolution.kernel - 1

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, T, D) after a cache (N, D, kernel - 1) -> (N, T, D), and the next cache."""
        x = nn.functional.glu(self.expand(x), dim=-1).transpose(1, 2)  # (N, D, T)
        if cache is None:
            x = nn.functional.pad(x, (self.history, 0))
        else:
            x = torch.cat([cache, x], dim=2)
        cache = x[:, :, x.shape[2] - self.history :]
        x = self.depthwise(x).transpose(1, 2)
        return self.output(self.activation(self.norm(x))), cache


class PlainLayer(nn.Module):
    """One layer of the Conformer."""

    def __init__(self, layer: ConformerLayer) -> None:
        super().__init__()
        self.norm_macaron, self.norm_attention = layer.norm_macaron, layer.norm_attention
        self.norm_convolution, self.norm_feed_forward = (
            layer.norm_convolution,
            layer.norm_feed_forward,
        )
        self.norm_output = layer.norm_output
        self.feed_forward_macaron = _feed_forward(layer.feed_forward_macaron)
        self.feed_forward = _feed_forward(layer.feed_forward)
        self.attention = PlainAttention(layer.attention)
        self.convolution = PlainConvolution(layer.convolution)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, cache: "LayerCache | None"
    ) -> tuple[Tensor, "LayerCache"]:
        """(N, T, D) -> (N, T, D), and the caches with these frames."""
        x = x + 0.5 * self.feed_forward_macaron(self.norm_macaron(x))
        attended, attention_cache = self.attention(
            self.norm_attention(x), positions, mask, cache.attention if cache else None
        )
        x = x + attended
        convolved, convolution_cache = self.convolution(
            self.norm_convolution(x), cache.convolution if cache else None
        )
        x = x + convolved
        x = x + 0.5 * self.feed_forward(self.norm_feed_forward(x))
        return self.norm_output(x), LayerCache(attention_cache, convolution_cache)


def _feed_forward(layer: MixtureFeedForward) -> nn.Module:
    return PlainFeedForward(layer) if layer.router is None else PlainMixture(layer)


@dataclass(frozen=True)
class LayerCache:
    """Keys and values (N, H, L, K), and the depthwise convolution's last inputs (N, D, kernel - 1)."""

    attention: tuple[Tensor, Tensor]
    convolution: Tensor

    def last(self, num_frames: int) -> "LayerCache":
        """With no more than ``num_frames`` keys and values."""
        key, value = (one[:, :, max(one.shape[2] - num_frames, 0) :] for one in self.attention)
        return LayerCache((key, value), self.convolution)

    def streams(self, num: int) -> "LayerCache":
        """Of the first ``num`` streams."""
        key, value = (one[:num].clone() for one in self.attention)
        return LayerCache((key, value), self.convolution[:num].clone())


class PlainEncoder(nn.Module):
    """`ConformerEncoder` with copies of its large weights, for inference.

    Args:
        encoder: what it is to be like; its small modules are taken over.
    """

    def __init__(self, encoder: ConformerEncoder) -> None:
        super().__init__()
        self.dim = encoder.dim
        self.subsampling, self.norm_input = encoder.subsampling, encoder.norm_input
        self.layers = nn.ModuleList(
            PlainLayer(layer) for layer in encoder.layers if isinstance(layer, ConformerLayer)
        )
        self._positions: dict[tuple[int, int], Tensor] = {}
        self.eval()

    def _embedding(self, num_queries: int, num_keys: int) -> Tensor:
        """(1, num_keys + num_queries - 1, D), sines and cosines computed once."""
        key = (num_queries, num_keys)
        if key not in self._positions:
            self._positions[key] = relative_positions(*key, self.dim, torch.device("cpu"))[None]
        return self._positions[key]

    @torch.no_grad()
    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F) and (N,) -> (N, S, D) with full context, zeros at padded frames, and lengths (N,)."""
        x = self.norm_input(self.subsampling(features))
        num_frames = x.shape[1]
        lengths = output_lengths(feature_lengths, self.subsampling.factor)
        valid = valid_mask(lengths, num_frames)
        mask = None if bool(valid.all()) else valid[:, None, None, :]
        positions = self._embedding(num_frames, num_frames)
        for layer in self.layers:
            x, _ = layer(x, positions, mask, None)
        return x.masked_fill(~valid[:, :, None], 0.0), lengths

    @torch.no_grad()
    def encode_chunk(
        self, features: Tensor, caches: list[LayerCache] | None, left_frames: int
    ) -> tuple[Tensor, list[LayerCache]]:
        """Encodes the next chunk of N streams that go in step.

        Args:
            features: (N, W, F), those of a chunk with the receptive field before its end.
            caches: of each layer; None: this is the first chunk.
            left_frames: left context.

        Returns:
            (N, T, D), and the new caches.
        """
        x = self.norm_input(self.subsampling(features))
        num_cached = caches[0].attention[0].shape[2] if caches else 0
        positions = self._embedding(x.shape[1], num_cached + x.shape[1])
        kept = []
        for number, layer in enumerate(self.layers):
            x, cache = layer(x, positions, None, caches[number] if caches else None)
            kept.append(cache.last(left_frames))
        return x, kept
