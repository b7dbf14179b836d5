"""Routers that share out frames among experts as wanted, in a model with random weights.

Inputs of a router are LayerNorm's outputs, which have much in common: with random weights, most frames go to
the few experts whose rows happen to lie along the mean. A trained model's load is more even (with a load
balancing loss, or without, as in the paper), so here each row is first made orthogonal to the mean; then as
much of the mean is added again as gives each expert its share.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moe_asr.nn.encoder import ConformerEncoder
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.packing import FramePacking

STEPS = 300


def even_load(num_experts: int) -> list[float]:
    """The same share for all."""
    return [1.0 / num_experts] * num_experts


def zipf_load(num_experts: int, num_chosen: int, exponent: float = 1.0) -> list[float]:
    """Shares that fall like 1 / rank ** exponent, but none above 1 / num_chosen, the most there can be."""
    weights = [float(rank) ** -exponent for rank in range(1, num_experts + 1)]
    shares = [weight / sum(weights) for weight in weights]
    capped = 0
    while shares[capped] > 1.0 / num_chosen + 1e-9:
        capped += 1
        rest = 1.0 - capped / num_chosen
        tail = sum(weights[capped:])
        shares = [1.0 / num_chosen] * capped + [rest * w / tail for w in weights[capped:]]
    return shares


def hot_load(num_experts: int, num_chosen: int) -> list[float]:
    """Every frame chooses the same experts."""
    return [1.0 / num_chosen] * num_chosen + [0.0] * (num_experts - num_chosen)


def fit_router(router: Tensor, frames: Tensor, shares: Sequence[float], num_chosen: int) -> Tensor:
    """A router near to ``router`` (E, D) with which ``frames`` (M, D) choose experts in these ``shares``.

    Args:
        shares: of each expert, 1 together, none above 1 / num_chosen.
    """
    frames = frames.double()
    mean = frames.mean(0)
    direction = mean / mean.square().sum()
    rows = router.double()
    rows = rows - torch.outer(rows @ mean, direction)
    logits, along = frames @ rows.t(), frames @ direction
    wanted = torch.tensor(shares, dtype=torch.float64)
    spread = float(logits.std())
    never = wanted == 0.0
    biases = torch.where(never, -100.0 * spread, 0.0).double()
    least = 0.5 / (len(frames) * num_chosen)  # stands for a share of none
    for step in range(STEPS):
        chosen = (logits + along[:, None] * biases).topk(num_chosen, dim=1)[1]
        share = torch.bincount(chosen.flatten(), minlength=len(wanted)).double() / chosen.numel()
        change = (wanted.clamp(min=least) / share.clamp(min=least)).log()
        rate = 0.5 * spread / (1.0 + step / 30.0)
        biases += torch.where(never, torch.zeros_like(change), rate * change)
    return (rows + torch.outer(biases, direction)).to(router)


@contextmanager
def _before_mixtures(encoder: nn.Module, call) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """``call(layer, frames (M, D))`` before each mixture layer runs."""

    def hook(layer: MixtureFeedForward, inputs: tuple[Tensor, FramePacking]) -> None:
        call(layer, inputs[1].pack(inputs[0]))

    layers = [
        one
        for one in encoder.modules()
        if isinstance(one, MixtureFeedForward) and one.router is not None
    ]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def set_loads(encoder: ConformerEncoder, features: Tensor, shares: Sequence[float]) -> None:
    """Changes the routers of all layers so that the load is that of ``shares`` for ``features`` (N, T, F).

    Which expert has which share is drawn anew for each layer, by torch's generator. One pass: a layer's
    router is set before the layer is run, so that those after it see what comes of that.
    """

    def fit(layer: MixtureFeedForward, frames: Tensor) -> None:
        assert layer.router is not None
        order = torch.randperm(layer.num_experts)
        mine = torch.tensor(shares)[order].tolist()
        layer.router.copy_(fit_router(layer.router, frames, mine, layer.num_chosen))

    with _before_mixtures(encoder, fit):
        encoder(features, torch.full((len(features),), features.shape[1]))
