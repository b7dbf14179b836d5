"""Convolutional subsampling of features in time, by 4, 6 or 8, without padding in time."""

import torch
from torch import Tensor, nn

# factor -> (kernel, stride) of each convolution, the same in time and frequency
_LAYERS = {4: [(3, 2), (3, 2)], 6: [(3, 2), (5, 3)], 8: [(3, 2), (3, 2), (3, 2)]}


class ConvSubsampling(nn.Module):
    """Strided 2-d convolutions with ReLU, then a linear layer to the model dimension.

    Output frame j depends on feature frames j * factor .. j * factor + receptive_field - 1 only, so
    that streaming needs no more than ``receptive_field - factor`` frames kept between chunks.

    Args:
        num_features: F, bins of the features.
        channels: of the convolutions.
        dim: of the output.
        factor: 4, 6 or 8.

    Raises:
        ValueError: on another factor, or too few feature bins for it.
    """

    def __init__(self, num_features: int, channels: int, dim: int, factor: int = 4) -> None:
        super().__init__()
        if factor not in _LAYERS:
            raise ValueError(f"subsampling must be one of {sorted(_LAYERS)}, found {factor}")
        self.factor, self.num_features = factor, num_features
        self.receptive_field = receptive_field(factor)
        layers: list[nn.Module] = []
        in_channels = 1
        for kernel, stride in _LAYERS[factor]:
            layers += [nn.Conv2d(in_channels, channels, kernel, stride), nn.ReLU()]
            in_channels = channels
        self.convolutions = nn.Sequential(*layers)
        bins = output_length(num_features, factor)
        if bins < 1:
            raise ValueError(f"subsampling by {factor} needs more than {num_features} feature bins")
        self.projection = nn.Linear(channels * bins, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(N, T, F) -> (N, output_length(T), D). An input too short for one frame gives none."""
        num, frames, _ = features.shape
        if output_length(frames, self.factor) < 1:
            return features.new_zeros(num, 0, self.projection.out_features)
        x = self.convolutions(features.unsqueeze(1))  # (N, C, T', F')
        x = x.transpose(1, 2).flatten(2)  # (N, C, T', F') -> (N, T', C, F') -> (N, T', C * F')
        return self.projection(x)


def output_length(num_frames: int, factor: int) -> int:
    """Frames that subsampling makes of ``num_frames`` feature frames."""
    for kernel, stride in _LAYERS[factor]:
        num_frames = max((num_frames - kernel) // stride + 1, 0)
    return num_frames


def output_lengths(num_frames: Tensor, factor: int) -> Tensor:
    """`output_length` of a tensor of lengths."""
    for kernel, stride in _LAYERS[factor]:
        quotient = torch.div(num_frames - kernel, stride, rounding_mode="floor")
        num_frames = (quotient + 1).clamp(min=0)
    return num_frames


def receptive_field(factor: int) -> int:
    """Feature frames that one output frame sees."""
    field, step = 1, 1
    for kernel, stride in _LAYERS[factor]:
        field, step = field + (kernel - 1) * step, step * stride
    return field


def chunk_feature_frames(chunk_size: int, factor: int) -> tuple[int, int]:
    """Feature frames that complete the first chunk of ``chunk_size`` outputs, and each later one."""
    return receptive_field(factor) + (chunk_size - 1) * factor, chunk_size * factor
