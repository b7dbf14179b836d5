"""Global mean and variance normalisation, inside the model so that it travels with the weights."""

import torch
from torch import Tensor, nn


class GlobalCmvn(nn.Module):
    """(x - mean) * inv_std with fixed statistics, saved as buffers.

    They are the identity until `set`, or a checkpoint, replaces them.

    Args:
        num_features: F.
    """

    mean: Tensor
    inv_std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("inv_std", torch.ones(num_features))

    def set(self, mean: Tensor, inv_std: Tensor) -> None:
        """Replaces the statistics by (F,) tensors; ValueError unless both are finite and of that shape."""
        values = {
            "mean": torch.as_tensor(mean, dtype=torch.float32),
            "inv_std": torch.as_tensor(inv_std, dtype=torch.float32),
        }
        for name, value in values.items():
            if value.shape != self.mean.shape or not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"CMVN {name}: expected {tuple(self.mean.shape)} finite values, "
                    f"found shape {tuple(value.shape)}"
                )
        self.mean.copy_(values["mean"])
        self.inv_std.copy_(values["inv_std"])

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        return (x - self.mean) * self.inv_std
