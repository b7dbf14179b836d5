"""Auxiliary routing losses. The paper trains without any; they are options."""

import torch
from torch import Tensor


def load_balance_loss(logits: Tensor, experts: Tensor) -> Tensor:
    """E * sum_e f_e * p_e (Switch Transformer, arXiv 2101.03961, eq. 4); 1 when perfectly balanced.

    Args:
        logits: (M, E) router logits.
        experts: (M, k) chosen experts.

    f_e is the share of the M * k assignments that went to expert e, p_e the mean softmax probability.
    """
    num_experts = logits.shape[1]
    share = torch.bincount(experts.flatten(), minlength=num_experts).to(torch.float32)
    share = share / max(experts.numel(), 1)
    probability = logits.float().softmax(1).mean(0)
    return num_experts * torch.dot(share, probability)


def z_loss(logits: Tensor) -> Tensor:
    """Mean over frames of logsumexp(logits)^2 (ST-MoE, arXiv 2202.08906, eq. 5)."""
    return logits.float().logsumexp(1).square().mean()
