"""Symmetric 8-bit weights with one scale for each output channel, and what they stand for.

w is q = round(w / s) with s = max |w| / 127 over the channel, so that s * q is within s / 2 of w, and y = x W
is (x Q) with its columns scaled by s (Krishnamoorthi, arXiv 1806.08342, section 3).
"""

import torch
from torch import Tensor

LARGEST = 127  # the most negative value, -128, is not used


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values and scales of a matrix, one scale for each output channel.

    Args:
        weight: (out, in), or (E, in, out) for E stacked experts; finite.

    Returns:
        int8 of the same shape, in -127..127, and float32 scales, (out,) or (E, out); a channel of zeros has
        scale 0.
    """
    axis = 1 if weight.ndim == 3 else -1  # the inputs, over which a channel sums
    weight = weight.float()
    scale = weight.abs().amax(axis) / LARGEST
    step = torch.where(scale > 0.0, scale, torch.ones_like(scale)).unsqueeze(axis)
    values = torch.round(weight / step).clamp_(-LARGEST, LARGEST)
    return values.to(torch.int8), scale


def dequantize(values: Tensor, scale: Tensor) -> Tensor:
    """The float32 weights of what `quantize` gave."""
    return values.float() * scale.unsqueeze(1 if values.ndim == 3 else -1)
