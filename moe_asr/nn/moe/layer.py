"""The feed-forward layer of the model: a top-k mixture of E experts; E = 1 is the dense layer.

U2++ MoE (arXiv 2404.16407, §2): a bias-free linear router, the k largest logits of each frame, softmax
over those k, and the weighted sum of their experts' outputs. No auxiliary loss unless asked for.
"""

import math

import torch
from torch import Tensor, nn

from moe_asr.nn.moe.experts import ACTIVATIONS, grouped_feed_forward
from moe_asr.nn.moe.losses import load_balance_loss, z_loss
from moe_asr.nn.moe.statistics import RoutingStatistics
from moe_asr.nn.packing import FramePacking
from moe_asr.torch_versions import autocast_dtype


def choose_experts(x: Tensor, router: Tensor, num_chosen: int) -> tuple[Tensor, Tensor, Tensor]:
    """(M, D) -> logits (M, E) float32, gates (M, k) float32 summing to 1, experts (M, k) int64."""
    with torch.autocast(x.device.type, enabled=False):
        logits = nn.functional.linear(x.float(), router.float())
        chosen, experts = logits.topk(num_chosen, dim=1)
        return logits, chosen.softmax(1), experts


class MixtureFeedForward(nn.Module):
    """x -> sum over the frame's k experts of gate * (act(x W1 + b1) W2 + b2), then dropout.

    Expert weights are stacked: ``w1`` (E, D, H), ``b1`` (E, H), ``w2`` (E, H, D), ``b2`` (E, D);
    ``router`` is (E, D) and absent when E = 1.

    Args:
        dim: D.
        hidden_dim: H of one expert.
        num_experts: E.
        num_chosen: k, 1 <= k <= E.
        activation: "silu" or "relu".
        dropout: probability on the output.
        load_balance_weight, z_loss_weight: weights of the auxiliary losses (0: none).

    Raises:
        ValueError: if k is not in [1, E] or the activation is unknown.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        num_experts: int = 8,
        num_chosen: int = 2,
        activation: str = "silu",
        dropout: float = 0.0,
        load_balance_weight: float = 0.0,
        z_loss_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= num_chosen <= num_experts:
            raise ValueError(f"num_chosen must be in 1..{num_experts}, found {num_chosen}")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, found {activation!r}"
            )
        self.num_experts, self.num_chosen, self.activation = num_experts, num_chosen, activation
        self.load_balance_weight, self.z_loss_weight = load_balance_weight, z_loss_weight
        self.w1 = nn.Parameter(torch.empty(num_experts, dim, hidden_dim))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden_dim))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden_dim, dim))
        self.b2 = nn.Parameter(torch.empty(num_experts, dim))
        if num_experts > 1:
            self.router = nn.Parameter(torch.empty(num_experts, dim))
        else:
            self.register_parameter("router", None)
        self.dropout = nn.Dropout(dropout)
        self.statistics: RoutingStatistics | None = None
        self.reset_parameters()

    @property
    def hidden_dim(self) -> int:
        """H of one expert."""
        return self.w1.shape[2]

    def reset_parameters(self) -> None:
        """As ``nn.Linear`` for each expert: uniform in +-1 / sqrt(fan in)."""
        for weight, bias in ((self.w1, self.b1), (self.w2, self.b2)):
            bound = 1.0 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if self.router is not None:
            bound = 1.0 / math.sqrt(self.router.shape[1])
            nn.init.uniform_(self.router, -bound, bound)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The experts of each frame (M, D), see `choose_experts`."""
        assert self.router is not None
        return choose_experts(x, self.router, self.num_chosen)

    def forward(self, x: Tensor, packing: FramePacking) -> Tensor:
        """(N, T, D) -> (N, T, D); padded positions give zero and are neither routed nor counted."""
        frames = packing.pack(x)
        if self.router is None:
            hidden = nn.functional.linear(frames, self.w1[0].t(), self.b1[0])
            hidden = ACTIVATIONS[self.activation][0](hidden)
            out = nn.functional.linear(hidden, self.w2[0].t(), self.b2[0])
        else:
            logits, gates, experts = self.route(frames)
            if self.statistics is not None:
                self.statistics.update(logits, experts)
            if self.training:
                self._add_auxiliary_losses(logits, experts, packing)
            weights = [frames, gates, self.w1, self.b1, self.w2, self.b2]
            dtype = autocast_dtype(x.device.type)
            if dtype is not None:
                weights = [tensor.to(dtype) for tensor in weights]
            frames, gates, w1, b1, w2, b2 = weights
            out = grouped_feed_forward(
                frames, gates.to(frames.dtype), experts, w1, b1, w2, b2, self.activation
            )
        return packing.scatter(self.dropout(out), x)

    def _add_auxiliary_losses(self, logits: Tensor, experts: Tensor, packing: FramePacking) -> None:
        if len(logits) == 0:
            return
        if self.load_balance_weight:
            loss = self.load_balance_weight * load_balance_loss(logits, experts)
            packing.auxiliary_losses.append(loss)
        if self.z_loss_weight:
            packing.auxiliary_losses.append(self.z_loss_weight * z_loss(logits))

    def extra_repr(self) -> str:
        _, dim, hidden = self.w1.shape
        return f"{dim} -> {hidden} -> {dim}, experts={self.num_experts}, chosen={self.num_chosen}"
