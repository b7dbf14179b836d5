"""What differs between torch versions from 1.13 on, in one place."""

import inspect
from typing import Any

import torch


def torch_version() -> tuple[int, int]:
    """(major, minor) of the torch that runs."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """What autocast computes matrix products in on this kind of device; None outside autocast."""
    if hasattr(torch, "get_autocast_dtype"):  # torch 2.4 and later
        enabled = torch.is_autocast_enabled(device_type)  # type: ignore[call-arg,unused-ignore]
        return torch.get_autocast_dtype(device_type) if enabled else None
    if device_type == "cuda" and torch.is_autocast_enabled():
        return torch.get_autocast_gpu_dtype()
    if device_type == "cpu" and torch.is_autocast_cpu_enabled():
        return torch.get_autocast_cpu_dtype()
    return None


def has_bf16_autocast(device_type: str) -> bool:
    """Whether a whole model trains under bf16 autocast: before 2.0 LayerNorm on a CPU did not."""
    return device_type != "cpu" or torch_version() >= (2, 0)


def has_fused_adamw(device_type: str) -> bool:
    """Whether AdamW has a fused implementation: on CUDA from 2.0 on, on a CPU from 2.4 on."""
    if "fused" not in inspect.signature(torch.optim.AdamW.__init__).parameters:
        return False
    return device_type == "cuda" or torch_version() >= (2, 4)


def cuda_grad_scaler(enabled: bool) -> Any:
    """A `GradScaler` for CUDA; one that is not enabled does nothing."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)
