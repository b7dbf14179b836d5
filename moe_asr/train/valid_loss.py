"""Losses of a `ModelLosses` as numbers to add up, and their means over a validation set."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from moe_asr.errors import TrainingError
from moe_asr.nn.moe.statistics import RoutingStatistics

PARTS = ("total", "ctc", "attention_l2r", "attention_r2l", "auxiliary")  # of ModelLosses


def compute_losses(model: nn.Module, batch: Any, chunk_size: int | None = None) -> Any:
    """The `ModelLosses` of a batch; ``chunk_size``: see `mean_losses`."""
    options = {} if chunk_size is None else {"chunk_size": chunk_size}
    return model(
        batch.features, batch.feature_lengths, batch.targets, batch.target_lengths, **options
    )


def loss_parts(losses: Any, device: torch.device) -> Tensor:
    """(len(PARTS),) float64 on ``device``, detached."""
    return torch.stack(
        [torch.as_tensor(getattr(losses, part), device=device).detach().double() for part in PARTS]
    )


def mean_losses(
    model: nn.Module,
    batches: Iterable[Any],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    chunk_size: int | None = None,
) -> dict[str, float]:
    """Means per target token over ``batches``, by `PARTS`, in the mode that ``model`` is in.

    Args:
        chunk_size: of the encoder's chunk mask, in its frames; None: full context, in evaluation.

    Raises:
        TrainingError: a loss is not finite, naming the utterances; or there are no batches.
    """
    sums = torch.zeros(len(PARTS), dtype=torch.float64, device=device)
    tokens = 0
    with torch.no_grad():
        for batch in batches:
            batch = batch.to(device)
            with autocast():
                losses = compute_losses(model, batch, chunk_size)
            names = not_finite([batch.utterance_ids], [losses.per_utterance])
            if names:
                raise TrainingError(
                    f"the validation loss is not finite; utterances: {', '.join(names)}"
                )
            sums += loss_parts(losses, device) * int(losses.num_tokens)
            tokens += int(losses.num_tokens)
    if tokens == 0:
        raise TrainingError("the validation set has no batches")
    return dict(zip(PARTS, (sums / tokens).tolist(), strict=True))


def not_finite(utterance_ids: list[list[str]], per_utterance: list[Tensor]) -> list[str]:
    """Those of the ids `[batch][utterance]` whose loss, in `[batch]` (N,), is NaN or infinite."""
    return [
        name
        for names, losses in zip(utterance_ids, per_utterance, strict=True)
        for name, finite in zip(names, torch.isfinite(losses).tolist(), strict=True)
        if not finite
    ]


def routing_values(routing: Mapping[str, RoutingStatistics]) -> dict[str, float]:
    """Share of each expert and entropies, by mixture layer, as scalars."""
    values: dict[str, float] = {}
    for layer, statistics in routing.items():
        values[f"routing/{layer}/router_entropy"] = statistics.router_entropy
        values[f"routing/{layer}/share_entropy"] = statistics.share_entropy
        for expert, share in enumerate(statistics.share.tolist()):
            values[f"routing/{layer}/share/{expert}"] = share
    return values
