"""The convolution module of the Conformer, causal, with a cache for streaming."""

import torch
from torch import Tensor, nn


class CausalConvolution(nn.Module):
    """Pointwise, GLU, causal depthwise convolution, LayerNorm, SiLU, pointwise (arXiv 2005.08100, §2.2).

    LayerNorm stands in for BatchNorm, as in U2++: its result does not depend on the batch or on how the
    audio was cut into chunks. Frame t sees frames t - kernel + 1 .. t.

    Args:
        dim: D.
        kernel: taps of the depthwise convolution.
    """

    def __init__(self, dim: int, kernel: int = 15) -> None:
        super().__init__()
        if kernel < 1:
            raise ValueError(f"kernel must be at least 1, found {kernel}")
        self.kernel = kernel
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.activation = nn.SiLU()
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolves frames after the cached ones.

        Args:
            x: (N, T, D).
            cache: (N, kernel - 1, D), the depthwise inputs before ``x``; zeros at the start of a stream
                and when None.

        Returns:
            (N, T, D), and the depthwise inputs (N, kernel - 1 + T, D), cache included.
        """
        x = nn.functional.glu(self.expand(x), dim=-1)
        if cache is None:
            cache = x.new_zeros(x.shape[0], self.kernel - 1, x.shape[2])
        history = torch.cat([cache, x], dim=1)
        x = self.depthwise(history.transpose(1, 2)).transpose(1, 2)  # (N, D, T) -> (N, T, D)
        return self.output(self.activation(self.norm(x))), history
