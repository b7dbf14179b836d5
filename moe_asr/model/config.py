"""The model's configuration and its presets, by name."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from moe_asr.config import from_dict, to_dict
from moe_asr.errors import ConfigError
from moe_asr.nn.masks import DynamicChunk
from moe_asr.nn.subsampling import output_length


@dataclass(frozen=True)
class ModelConfig:
    """A U2++ MoE model.

    Attributes:
        vocab_size: tokens, blank (0) and sos/eos (1) included.
        num_features: bins of the fbank.
        dim, num_heads: model dimension and attention heads of encoder and decoders.
        hidden_dim: of one feed-forward expert.
        num_experts, num_chosen: E and k of every feed-forward layer; 1 and 1 is the dense model.
        encoder_layers, left_to_right_layers, right_to_left_layers: numbers of layers.
        kernel: taps of the causal depthwise convolutions.
        subsampling, subsampling_channels: factor 4, 6 or 8, and convolution channels.
        dropout, attention_dropout: probabilities.
        ctc_weight: share of the CTC loss; the rest is the attention decoders'.
        reverse_weight: share of the right-to-left decoder in the attention loss.
        label_smoothing: of the attention losses.
        load_balance_weight, z_loss_weight: auxiliary routing losses (the paper has none).
        dynamic_chunk: chunk sizes and left contexts drawn in training.
    """

    vocab_size: int
    num_features: int = 80
    dim: int = 128
    num_heads: int = 4
    hidden_dim: int = 192
    num_experts: int = 8
    num_chosen: int = 2
    encoder_layers: int = 5
    left_to_right_layers: int = 1
    right_to_left_layers: int = 1
    kernel: int = 15
    subsampling: int = 4
    subsampling_channels: int = 32
    dropout: float = 0.1
    attention_dropout: float = 0.0
    ctc_weight: float = 0.3
    reverse_weight: float = 0.3
    label_smoothing: float = 0.1
    load_balance_weight: float = 0.0
    z_loss_weight: float = 0.0
    dynamic_chunk: DynamicChunk = field(default_factory=DynamicChunk)

    def __post_init__(self) -> None:
        for name in (
            "num_features", "dim", "num_heads", "hidden_dim", "num_experts", "encoder_layers",
            "kernel", "subsampling_channels",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.vocab_size < 3:
            raise ValueError(f"vocab_size must be at least 3, found {self.vocab_size}")
        if self.left_to_right_layers < 0 or self.right_to_left_layers < 0:
            raise ValueError("numbers of decoder layers must not be negative")
        if not 1 <= self.num_chosen <= self.num_experts:
            raise ValueError(
                f"num_chosen must be in 1..num_experts ({self.num_experts}), found {self.num_chosen}"
            )
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if self.dim % 2:
            raise ValueError(f"dim must be even, found {self.dim}")
        if self.subsampling not in (4, 6, 8):
            raise ValueError(f"subsampling must be 4, 6 or 8, found {self.subsampling}")
        if output_length(self.num_features, self.subsampling) < 1:
            raise ValueError(
                f"subsampling by {self.subsampling} needs more than {self.num_features} num_features"
            )
        for name in ("ctc_weight", "reverse_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], found {getattr(self, name)}")
        for name in ("dropout", "attention_dropout", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), found {getattr(self, name)}")
        for name in ("load_balance_weight", "z_loss_weight"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and not negative, found {getattr(self, name)}"
                )
        if self.ctc_weight < 1.0 and self.left_to_right_layers == 0:
            raise ValueError("ctc_weight < 1 needs a left-to-right decoder")
        if self.ctc_weight < 1.0 and self.reverse_weight > 0 and self.right_to_left_layers == 0:
            raise ValueError("reverse_weight > 0 needs a right-to-left decoder")


PRESETS: dict[str, Callable[..., ModelConfig]] = {}


def _register(build: Callable[..., ModelConfig]) -> Callable[..., ModelConfig]:
    PRESETS[build.__name__] = build
    return build


@_register
def tiny(vocab_size: int = 32) -> ModelConfig:
    """For tests: two encoder layers, four experts."""
    return ModelConfig(
        vocab_size, dim=32, num_heads=2, hidden_dim=48, num_experts=4, encoder_layers=2, kernel=7,
        subsampling_channels=8,
    )  # fmt: skip


@_register
def small(vocab_size: int = 32) -> ModelConfig:
    """For the recipes on two cores: about 5.8 million parameters, 2.3 million of them used by a frame."""
    return ModelConfig(vocab_size)


@_register
def dense_225m(vocab_size: int = 7000) -> ModelConfig:
    """The paper's baseline by size: 225 million parameters, no mixture."""
    return ModelConfig(
        vocab_size, dim=640, num_heads=8, hidden_dim=2560, num_experts=1, num_chosen=1,
        encoder_layers=15, left_to_right_layers=3, right_to_left_layers=3, subsampling_channels=640,
    )  # fmt: skip


@_register
def moe_1b(vocab_size: int = 7000) -> ModelConfig:
    """`dense_225m` with every feed-forward layer a top-2 mixture of 8: the paper's MoE-1B."""
    return replace(dense_225m(vocab_size), num_experts=8, num_chosen=2)


@_register
def dense_1b(vocab_size: int = 7000) -> ModelConfig:
    """A dense model of the size of `moe_1b`."""
    return replace(
        dense_225m(vocab_size), dim=1024, num_heads=16, hidden_dim=8192, encoder_layers=20
    )


def preset(name: str, **overrides: Any) -> ModelConfig:
    """The preset ``name`` with some fields replaced.

    Raises:
        ConfigError: on an unknown preset or field, naming the nearest valid one.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"unknown preset '{name}'{hint} (known: {', '.join(PRESETS)})")
    return from_dict(ModelConfig, {**to_dict(PRESETS[name]()), **overrides}, f"preset {name}")
