"""Multi-head attention: with relative positions and a cache (encoder), and plain (decoders).

Legend: N batch, H heads, Tq queries, Tk keys, P = Tk + Tq - 1 relative distances, K = D / H.
"""

import math

import torch
from torch import Tensor, nn


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (T, dim) of real-valued ``positions`` (T,): sines even, cosines odd."""
    rate = torch.exp(
        torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device)
        * (-math.log(10000.0) / dim)
    )
    angle = positions.to(torch.float32)[:, None] * rate[None, :]
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :dim]


def relative_positions(num_queries: int, num_keys: int, dim: int, device: torch.device) -> Tensor:
    """(P, dim) embedding of query-key distances num_keys - 1, ..., -(num_queries - 1), in that order.

    The last query and the last key are at the same time: distance 0.
    """
    distance = torch.arange(num_keys - 1, -num_queries, -1, device=device)
    return sinusoids(distance, dim)


class _RelativeShift(torch.autograd.Function):
    """scores[..., i, j] = raw[..., i, Tq - 1 - i + j]: one strided copy each way."""

    @staticmethod
    def forward(ctx, raw):  # type: ignore[no-untyped-def]
        raw = raw.contiguous()
        ctx.shape = raw.shape
        return _RelativeShift._view(raw).contiguous()

    @staticmethod
    def _view(raw: Tensor) -> Tensor:
        num, heads, queries, distances = raw.shape
        keys = distances - queries + 1
        size = (num, heads, queries, keys)
        stride = (heads * queries * distances, queries * distances, distances - 1, 1)
        return raw.as_strided(size, stride, raw.storage_offset() + queries - 1)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        out = grad.new_zeros(ctx.shape)
        _RelativeShift._view(out).copy_(grad)
        return out


def relative_shift(raw: Tensor) -> Tensor:
    """Scores by distance (N, H, Tq, P) -> scores by key (N, H, Tq, Tk) (Transformer-XL, appendix B)."""
    return _RelativeShift.apply(raw)


def _attend(scores: Tensor, mask: Tensor | None, value: Tensor, dropout: nn.Dropout) -> Tensor:
    """Softmax of (N, H, Tq, Tk) under ``mask`` (broadcastable, True = may attend), times the values."""
    if mask is not None:
        scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    weights = dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype))
    out = torch.matmul(weights, value)  # (N, H, Tq, K)
    return out.transpose(1, 2).flatten(2)  # (N, Tq, H, K) -> (N, Tq, D)


class RelativeAttention(nn.Module):
    """Self-attention with Transformer-XL relative positions (arXiv 1901.02860), as in the Conformer.

    Args:
        dim: D, divisible by ``num_heads``.
        num_heads: H.
        dropout: probability on the attention weights.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by {num_heads} heads")
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.position = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attends from ``x`` to the cache and to itself.

        Args:
            x: (N, Tq, D).
            positions: (P, D) of `relative_positions(Tq, Tk, D)`.
            mask: bool, broadcastable to (N, 1, Tq, Tk); True may attend.
            cache: keys and values of earlier frames, each (N, H, L, K), right-aligned; Tk = L + Tq.

        Returns:
            (N, Tq, D), and keys and values (N, H, Tk, K), cache included.
        """
        query, key, value = self.project(x)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        return self.attend(query, key, value, self.distances(positions), mask), key, value

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, Tq, D) -> queries, keys and values of these frames, each (N, H, Tq, K)."""
        num, frames, _ = x.shape
        qkv = self.query_key_value(x).view(num, frames, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (3, N, H, Tq, K)
        return query, key, value

    def distances(self, positions: Tensor) -> Tensor:
        """(P, D) of `relative_positions` -> (H, K, P): what a query is multiplied with, by distance."""
        distance = self.position(positions.to(self.position.weight.dtype))
        return distance.view(-1, self.num_heads, self.head_dim).permute(1, 2, 0)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, distances: Tensor, mask: Tensor | None
    ) -> Tensor:
        """From queries (N, H, Tq, K) to keys and values (N, H, Tk, K) -> (N, Tq, D); mask as above."""
        scale = 1.0 / math.sqrt(self.head_dim)
        by_content = (query + self.content_bias[:, None]) * scale
        by_position = (query + self.position_bias[:, None]) * scale
        scores = torch.matmul(by_content, key.transpose(2, 3))  # (N, H, Tq, Tk)
        raw = torch.matmul(by_position, distances)  # (N, H, Tq, P)
        scores = scores + relative_shift(raw)
        return self.output(_attend(scores, mask, value, self.dropout))


class Attention(nn.Module):
    """Scaled dot-product attention of the decoders, over themselves or over the encoder.

    Args:
        dim, num_heads, dropout: as for `RelativeAttention`.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by {num_heads} heads")
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Attends from ``x`` (N, Tq, D) to ``source`` (N, Tk, D) -> (N, Tq, D); mask as above."""
        return self.attend(x, *self.keys_values(source), mask)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, H, Tk, K) of ``source`` (N, Tk, D), for any number of `attend`."""
        num, frames, _ = source.shape
        key_value = self.key_value(source).view(num, frames, 2, self.num_heads, self.head_dim)
        key, value = key_value.permute(2, 0, 3, 1, 4)  # (2, N, H, Tk, K)
        return key, value

    def attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """From ``x`` (N, Tq, D) to keys and values (N, H, Tk, K) -> (N, Tq, D)."""
        num, queries, _ = x.shape
        query = self.query(x).view(num, queries, self.num_heads, self.head_dim).transpose(1, 2)
        scores = torch.matmul(query / math.sqrt(self.head_dim), key.transpose(2, 3))
        return self.output(_attend(scores, mask, value, self.dropout))
