"""What the routers do: share of each expert and entropy of each layer, collected and drawn."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from moe_asr.errors import ConfigError
from moe_asr.files import PathLike, atomic_path


@dataclass
class RoutingStatistics:
    """Running sums of one mixture layer.

    Attributes:
        assignments: (E,) float64, how often each expert was chosen.
        entropy_sum: sum over frames of the entropy (nats) of the softmax over all experts.
        num_frames: frames seen; padding is never among them.
    """

    assignments: Tensor
    entropy_sum: float = 0.0
    num_frames: int = 0

    def update(self, logits: Tensor, experts: Tensor) -> None:
        """Adds the frames of one call: ``logits`` (M, E), ``experts`` (M, k)."""
        log_p = logits.detach().double().log_softmax(1)
        counts = torch.bincount(experts.flatten(), minlength=logits.shape[1])
        self.assignments += counts.to(self.assignments)
        self.entropy_sum += float(-(log_p.exp() * log_p).sum())
        self.num_frames += logits.shape[0]

    @property
    def share(self) -> Tensor:
        """(E,) share of the assignments, summing to 1 (zeros before the first frame)."""
        return self.assignments / self.assignments.sum().clamp(min=1.0)

    @property
    def router_entropy(self) -> float:
        """Mean entropy of a frame's routing distribution, in nats, in [0, log E]."""
        return self.entropy_sum / max(self.num_frames, 1)

    @property
    def share_entropy(self) -> float:
        """Entropy of `share` over log E: 1 is a perfectly even load, 0 one expert for everything."""
        share = self.share[self.share > 0]
        if len(self.assignments) == 1:
            return 1.0
        return float(-(share * share.log()).sum()) / math.log(len(self.assignments))


@contextmanager
def collect_routing(model: nn.Module) -> Iterator[dict[str, RoutingStatistics]]:
    """Collects statistics of every mixture layer of ``model`` while the block runs.

    Yields the dictionary {layer name: statistics}, filled as frames pass.

    Raises:
        ConfigError: if it is a packed model, whose encoder routes in compiled code.
    """
    if getattr(model, "is_packed", False):
        raise ConfigError(
            "a packed encoder does not tell its routing: load the model without a precision"
        )
    layers: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "statistics") and getattr(module, "num_experts", 1) > 1
    }
    before: dict[str, RoutingStatistics | None] = {n: m.statistics for n, m in layers.items()}
    collected = {}
    for name, layer in layers.items():
        zeros = torch.zeros(layer.num_experts, dtype=torch.float64)
        layer.statistics = collected[name] = RoutingStatistics(zeros)
    try:
        yield collected
    finally:
        for name, layer in layers.items():
            layer.statistics = before[name]


def draw_routing(statistics: dict[str, RoutingStatistics], path: PathLike) -> None:
    """Draws a heat map of expert shares, a row a layer with its entropy, to ``path`` (PNG or SVG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not statistics:
        raise ValueError("no routing statistics to draw: the model has no mixture layers")
    shares = torch.stack([item.share for item in statistics.values()]).numpy()
    labels = [f"{name}  ({item.share_entropy:.2f})" for name, item in statistics.items()]
    figure = Figure(figsize=(2.5 + 0.7 * shares.shape[1], 1.5 + 0.28 * len(labels)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, aspect="auto", cmap="viridis", vmin=0.0)
    axes.set_yticks(range(len(labels)))
    axes.set_yticklabels(labels, fontsize=7)
    axes.set_xticks(range(shares.shape[1]))
    axes.set_xlabel("expert")
    axes.set_title("share of assignments (evenness of load)", fontsize=9)
    figure.colorbar(image)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
