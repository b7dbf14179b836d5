"""Learning-rate schedules, by name: a warm-up multiplied by a decay.

A schedule gives the factor on the peak learning rate as a pure function of how far training is, so
a resumed run needs nothing but its step and its used minutes to continue it.
"""

import math
from collections.abc import Callable

# (step, progress, warmup_steps, final_factor) -> factor in [0, 1] after the warm-up.
# `step` counts updates from 1; `progress` in [0, 1] is the part of the budget used before it.
Decay = Callable[[int, float, int, float], float]


def inverse_sqrt(step: int, progress: float, warmup_steps: int, final_factor: float) -> float:
    """sqrt(warmup / step) after the warm-up (the Transformer's schedule); ignores the budget."""
    return max(math.sqrt(max(warmup_steps, 1) / max(step, warmup_steps, 1)), final_factor)


def cosine(step: int, progress: float, warmup_steps: int, final_factor: float) -> float:
    """Half a cosine over the budget, from 1 down to ``final_factor``."""
    return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def linear(step: int, progress: float, warmup_steps: int, final_factor: float) -> float:
    """A straight line over the budget, from 1 down to ``final_factor``."""
    return 1.0 - (1.0 - final_factor) * progress


SCHEDULES: dict[str, Decay] = {"inverse_sqrt": inverse_sqrt, "cosine": cosine, "linear": linear}


def learning_rate_factor(
    name: str, step: int, progress: float, warmup_steps: int, final_factor: float
) -> float:
    """The factor on the peak learning rate for optimiser step ``step`` (counted from 1).

    The warm-up rises linearly and reaches 1 at step ``warmup_steps``; the decay ``name`` of
    `SCHEDULES` multiplies it. ``progress`` is clamped to [0, 1].
    """
    assert step >= 1, step
    warmup = min(1.0, step / max(warmup_steps, 1))
    return warmup * SCHEDULES[name](step, min(max(progress, 0.0), 1.0), warmup_steps, final_factor)
