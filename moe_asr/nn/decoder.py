"""The attention decoders of U2++: one from left to right, one from right to left.

Legend: N utterances, U tokens, S encoder frames, D model dimension, C vocabulary, H heads, K = D / H, B
hypotheses of an utterance, P nodes of a tree of tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_asr.nn.attention import Attention, sinusoids
from moe_asr.nn.encoder import MixtureOptions
from moe_asr.nn.masks import valid_mask
from moe_asr.nn.packing import FramePacking

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class DecoderSource:
    """What a decoder attends to in the encoder's output, layer by layer: computed once for all hypotheses.

    Attributes:
        keys_values: of each layer, keys and values (N, H, S, K).
        mask: (N, 1, 1, S) bool, True inside each utterance.
    """

    keys_values: tuple[KeysValues, ...]
    mask: Tensor

    def keep(self, utterances: Tensor) -> "DecoderSource":
        """Only these utterances."""
        pairs = tuple((key[utterances], value[utterances]) for key, value in self.keys_values)
        return DecoderSource(pairs, self.mask[utterances])


@dataclass(frozen=True, eq=False)
class DecoderCache:
    """Keys and values of the tokens that hypotheses have so far, layer by layer: (N, B, H, U, K) each."""

    keys_values: tuple[KeysValues, ...]

    def select(self, index: Tensor) -> "DecoderCache":
        """Hypotheses ``index`` (N, B'), of those of the same utterance."""
        utterance = torch.arange(len(index), device=index.device)[:, None]
        return DecoderCache(
            tuple(
                (key[utterance, index], value[utterance, index]) for key, value in self.keys_values
            )
        )

    def keep(self, utterances: Tensor) -> "DecoderCache":
        """Only these utterances."""
        pairs = tuple((key[utterances], value[utterances]) for key, value in self.keys_values)
        return DecoderCache(pairs)


class DecoderLayer(nn.Module):
    """Pre-norm Transformer decoder layer with a mixture as its feed-forward."""

    def __init__(
        self, dim: int, num_heads: int, mixture: MixtureOptions, dropout: float,
        attention_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm_self = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, num_heads, attention_dropout)
        self.norm_source = nn.LayerNorm(dim)
        self.source_attention = Attention(dim, num_heads, attention_dropout)
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = mixture.build(dim, "relu", dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor | None,
        packing: FramePacking,
    ) -> Tensor:  # fmt: skip
        """(N, U, D) -> (N, U, D); ``mask`` (N or 1, 1, U, U), ``memory_mask`` (N, 1, 1, S)."""
        normed = self.norm_self(x)
        own = self.self_attention.keys_values(normed)
        source = self.source_attention.keys_values(memory)
        return self.attend(x, normed, own, mask, source, memory_mask, packing)

    def attend(
        self, x: Tensor, normed: Tensor, own: KeysValues, mask: Tensor | None, source: KeysValues,
        memory_mask: Tensor | None, packing: FramePacking,
    ) -> Tensor:  # fmt: skip
        """What the layer makes of some positions.

        Args:
            x, normed: (N, U', D), and ``norm_self(x)``.
            own: of all positions that ``mask`` (broadcastable to (N, 1, U', U)) speaks of.
            source: of the encoder output.
            packing: of the positions in ``x``.
        """
        x = x + self.dropout(self.self_attention.attend(normed, *own, mask))
        normed = self.norm_source(x)
        x = x + self.dropout(self.source_attention.attend(normed, *source, memory_mask))
        return x + self.feed_forward(self.norm_feed_forward(x), packing)

    def step(
        self, x: Tensor, own: KeysValues | None, source: KeysValues, memory_mask: Tensor,
        packing: FramePacking,
    ) -> tuple[Tensor, KeysValues]:  # fmt: skip
        """The next token of B hypotheses: (N, B, D) -> (N, B, D), and ``own`` with their keys and values."""
        num, beam, dim = x.shape
        normed = self.norm_self(x).view(num * beam, 1, dim)
        key, value = (
            part.view(num, beam, *part.shape[1:])
            for part in self.self_attention.keys_values(normed)
        )
        if own is not None:
            key, value = torch.cat([own[0], key], 3), torch.cat([own[1], value], 3)
        attended = self.self_attention.attend(normed, key.flatten(0, 1), value.flatten(0, 1), None)
        x = x + attended.view(num, beam, dim)
        x = x + self.source_attention.attend(self.norm_source(x), *source, memory_mask)
        return x + self.feed_forward(self.norm_feed_forward(x), packing), (key, value)


class TransformerDecoder(nn.Module):
    """Embedding, positions, a stack of `DecoderLayer`, and the output layer, in one direction.

    Which direction is the caller's: the right-to-left decoder is fed reversed tokens.

    Args:
        vocab_size: C.
        dim, num_heads, num_layers: D, heads, layers.
        mixture: the feed-forward layers.
        dropout, attention_dropout: probabilities.
    """

    def __init__(
        self, vocab_size: int, dim: int, num_heads: int, num_layers: int, mixture: MixtureOptions,
        dropout: float = 0.1, attention_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(vocab_size, dim)
        nn.init.normal_(self.embedding.weight, std=1.0 / math.sqrt(dim))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, mixture, dropout, attention_dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, vocab_size)

    def forward(
        self, tokens: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor,
        packing: FramePacking | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits of the token after each position.

        Args:
            tokens: (N, U) int64, starting with sos, padded with any valid id.
            token_lengths: (N,).
            memory: (N, S, D) encoder output.
            memory_lengths: (N,).
            packing: of the token positions, made here if None.

        Returns:
            (N, U, C).
        """
        num_tokens = tokens.shape[1]
        if packing is None:
            packing = self.pack(token_lengths, tokens)
        x = self.embedding(tokens) * math.sqrt(self.dim)
        positions = sinusoids(torch.arange(num_tokens, device=tokens.device), self.dim)
        x = self.dropout(x + positions.to(x.dtype))
        causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x.device).tril()
        memory_mask = valid_mask(memory_lengths, memory.shape[1])[:, None, None, :]
        for layer in self.layers:
            x = layer(x, causal, memory, memory_mask, packing)
        return self.output(self.norm(x))

    @staticmethod
    def pack(token_lengths: Tensor, tokens: Tensor) -> FramePacking:
        """The packing of ``tokens`` (N, U) with ``token_lengths`` (N,) for `forward`."""
        return FramePacking.from_lengths(token_lengths, tokens.shape[1])

    def source(self, memory: Tensor, memory_lengths: Tensor) -> DecoderSource:
        """What `step` attends to, of the encoder's output (N, S, D)."""
        pairs = []
        for layer in self.layers:
            key, value = layer.source_attention.keys_values(memory)
            pairs.append((key.contiguous(), value.contiguous()))  # else every step copies them
        return DecoderSource(
            tuple(pairs), valid_mask(memory_lengths, memory.shape[1])[:, None, None, :]
        )

    def step(
        self, tokens: Tensor, position: int, cache: DecoderCache | None, source: DecoderSource
    ) -> tuple[Tensor, DecoderCache]:
        """One token further, in eval mode.

        Args:
            tokens: (N, B) int64, the last token of each hypothesis, sos at first.
            position: how many tokens came before.
            cache: of the steps before; None at position 0.
            source: of N utterances.

        Returns:
            (N, B, C) logits of the next token, and the cache with this one.
        """
        place = torch.tensor([position], device=tokens.device)
        x = self.embedding(tokens) * math.sqrt(self.dim)
        x = x + sinusoids(place, self.dim).to(x.dtype)
        packing, pairs = FramePacking(), []
        for number, (layer, keys_values) in enumerate(
            zip(self.layers, source.keys_values, strict=True)
        ):
            own = None if cache is None else cache.keys_values[number]
            x, pair = layer.step(x, own, keys_values, source.mask, packing)
            pairs.append(pair)
        return self.output(self.norm(x)), DecoderCache(tuple(pairs))

    def tree_states(
        self, tokens: Tensor, depths: Tensor, ends: Tensor, sizes: Tensor, memory: Tensor,
        memory_lengths: Tensor, block_size: int,
    ) -> Tensor:  # fmt: skip
        """What the decoder makes of trees of tokens: every prefix that sequences share is computed once.

        The nodes of a tree are in preorder, so that node k is an ancestor of node q, or q itself, if and only
        if k <= q < ends[k]. A node attends to its ancestors and to its utterance's frames.

        Args:
            tokens: (N, P) int64; node 0 is sos; padded on the right with any valid id.
            depths: (N, P) int64, 0 of node 0.
            ends: (N, P) int64, the node after the last descendant; anything in the padding.
            sizes: (N,) nodes of each tree.
            memory, memory_lengths: (N, S, D) and (N,), the encoder's output; a layer's keys and values of it
                are made once for all nodes.
            block_size: nodes of a tree that go through a layer at a time; bounds the memory.

        Returns:
            (N, P, D), ready for the output layer.
        """
        num_nodes = tokens.shape[1]
        table = sinusoids(torch.arange(num_nodes, device=tokens.device), self.dim)  # none is deeper
        x = self.embedding(tokens) * math.sqrt(self.dim)
        x = x + table.to(x.dtype)[depths]
        node = torch.arange(num_nodes, device=tokens.device)
        blocks = [slice(i, min(i + block_size, num_nodes)) for i in range(0, num_nodes, block_size)]
        packings = [
            FramePacking.from_lengths(
                (sizes - block.start).clamp(0, block.stop - block.start), block.stop - block.start
            )
            for block in blocks
        ]
        memory_mask = valid_mask(memory_lengths, memory.shape[1])[:, None, None, :]
        for layer in self.layers:
            normed = layer.norm_self(x)
            key, value = layer.self_attention.keys_values(normed)
            source = layer.source_attention.keys_values(memory)
            parts = []
            for block, packing in zip(blocks, packings, strict=True):
                query, seen = node[block, None], node[: block.stop]
                # (N, block, nodes up to its end)
                mask = (seen <= query) & (query < ends[:, None, : block.stop])
                own = key[:, :, : block.stop], value[:, :, : block.stop]
                parts.append(
                    layer.attend(
                        x[:, block], normed[:, block], own, mask[:, None], source, memory_mask, packing
                    )
                )  # fmt: skip
            x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return self.norm(x)
