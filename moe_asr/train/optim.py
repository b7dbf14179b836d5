"""AdamW with weight decay where it belongs, mixed precision, gradient norms."""

import contextlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from moe_asr.errors import ConfigError
from moe_asr.torch_versions import cuda_grad_scaler, has_bf16_autocast, has_fused_adamw
from moe_asr.train.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: tensors of two or more dimensions decay; biases, norms, other 1-d ones do not.

    Biases of two dimensions (by head: ``content_bias``, ``position_bias``; by expert: ``b1``,
    ``b2``) never decay either. Frozen parameters are left out.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = re.fullmatch(r"(.*_)?bias|b\d+", name.rsplit(".", 1)[-1]) is not None
            is_free = parameter.ndim < 2 or is_bias
            (free if is_free else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; the fused implementation where this torch has it.

    Fused, a 5M-parameter model of 400 tensors updates in 6 ms instead of 22 ms on one CPU thread.
    """
    options: dict[str, Any] = {}
    device = next(model.parameters()).device
    if has_fused_adamw(device.type):
        options["fused"] = True
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        **options,
    )


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The forward pass's autocast context for "fp32" (none), "bf16" or "fp16" (GPU only)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"precision fp16 needs a GPU, the device is {device}; use bf16 or fp32")
    if precision == "bf16" and not has_bf16_autocast(device.type):
        raise ConfigError("precision bf16 on a CPU needs torch 2.0 or later; use fp32")
    return torch.autocast(
        device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    )


def make_grad_scaler(precision: str) -> Any:
    """A `GradScaler`, which does nothing unless ``precision`` is "fp16"."""
    return cuda_grad_scaler(precision == "fp16")


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients the optimiser would use, parameters without one left out."""
    return [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]


def global_norm(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients as one vector: a scalar on their device, not read back."""
    assert grads, "no parameter has a gradient"
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))


def scale_(grads: list[Tensor], factor: float) -> None:
    """Multiplies all gradients in place."""
    torch._foreach_mul_(grads, factor)
