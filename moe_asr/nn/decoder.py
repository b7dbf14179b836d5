"""The attention decoders of U2++: one from left to right, one from right to left.

Legend: N utterances, U tokens, S encoder frames, D model dimension, C vocabulary.
"""

import math

import torch
from torch import Tensor, nn

from moe_asr.nn.attention import Attention, sinusoids
from moe_asr.nn.encoder import MixtureOptions
from moe_asr.nn.masks import valid_mask
from moe_asr.nn.packing import FramePacking


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
        x = x + self.dropout(self.self_attention(normed, normed, mask))
        x = x + self.dropout(self.source_attention(self.norm_source(x), memory, memory_mask))
        return x + self.feed_forward(self.norm_feed_forward(x), packing)


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
