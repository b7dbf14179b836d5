"""Slow, independent references and small builders shared by the tests of `moe_asr.nn` and `model`."""

import math

import torch
from torch import Tensor

from moe_asr.model.config import ModelConfig
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.masks import DynamicChunk
from moe_asr.nn.moe.layer import MixtureFeedForward

VOCAB = 11


def small_config(**overrides) -> ModelConfig:
    """Two layers of dimension 16 over 20 feature bins, four experts, no dropout."""
    values = {
        "vocab_size": VOCAB, "num_features": 20, "dim": 16, "num_heads": 2, "hidden_dim": 24,
        "num_experts": 4, "num_chosen": 2, "encoder_layers": 2, "kernel": 5,
        "subsampling_channels": 4, "dropout": 0.0, "dynamic_chunk": DynamicChunk(),
    }  # fmt: skip
    return ModelConfig(**{**values, **overrides})


def make_model(**overrides) -> U2MoeModel:
    """A model in eval mode whose zero-initialised parameters and statistics are random instead.

    Parameters that start at zero would hide their own errors.
    """
    model = U2MoeModel(small_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if bool((parameter == 0).all()):
                parameter.normal_()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.add_(0.2 * torch.randn_like(module.weight))
                module.bias.add_(0.2 * torch.randn_like(module.bias))
    num_features = model.config.num_features
    model.cmvn.set(torch.randn(num_features), 0.5 + torch.rand(num_features))
    return model


def padded(sequences: list[Tensor], garbage: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sequences (T_n, F) -> (N, T, F) padded with random numbers of size ``garbage``, and lengths."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = max(len(sequence) for sequence in sequences)
    out = garbage * torch.randn(len(sequences), longest, sequences[0].shape[1])
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out, lengths


def expert_output(x_D: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation: str):
    """One frame through one expert."""
    h_H = x_D @ w1 + b1
    h_H = h_H * torch.sigmoid(h_H) if activation == "silu" else h_H.clamp(min=0.0)
    return h_H @ w2 + b2


def mixture_by_hand(layer: MixtureFeedForward, x_TD: Tensor) -> Tensor:
    """The mixture frame by frame and choice by choice, with autograd's own gradients."""
    weights = (layer.w1, layer.b1, layer.w2, layer.b2)
    out = []
    for x_D in x_TD:
        if layer.router is None:
            out.append(expert_output(x_D, *(w[0] for w in weights), layer.activation))
            continue
        logits = [torch.dot(row, x_D) for row in layer.router]
        ranked = sorted(range(len(logits)), key=lambda e: float(logits[e].detach()), reverse=True)
        chosen = ranked[: layer.num_chosen]
        total = sum(logits[e].exp() for e in chosen)
        y_D = torch.zeros_like(x_D)
        for e in chosen:
            gate = logits[e].exp() / total
            y_D = y_D + gate * expert_output(x_D, *(w[e] for w in weights), layer.activation)
        out.append(y_D)
    return torch.stack(out) if out else x_TD.new_zeros(x_TD.shape)


def sinusoid(position: float, dim: int) -> Tensor:
    """The embedding of one position, element by element."""
    values = []
    for index in range(dim):
        angle = position / 10000.0 ** (2 * (index // 2) / dim)
        values.append(math.sin(angle) if index % 2 == 0 else math.cos(angle))
    return torch.tensor(values, dtype=torch.float64)


def may_attend(i: int, j: int, chunk_size: int, left_chunks: int) -> bool:
    """The definition of the chunk mask, for query i and key j."""
    if chunk_size <= 0:
        return True
    first = 0 if left_chunks < 0 else (i // chunk_size - left_chunks) * chunk_size
    return first <= j < (i // chunk_size + 1) * chunk_size
