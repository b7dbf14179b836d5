"""Averages of the parameters of several checkpoints of one run."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from moe_asr.errors import CheckpointError
from moe_asr.files import PathLike
from moe_asr.train.checkpoint import list_checkpoints, read_model_state


def average_checkpoints(paths: Sequence[PathLike]) -> dict[str, Tensor]:
    """The mean of the checkpoints' model state dicts, on the CPU.

    Floating tensors are summed in float64 and cast back to their dtype; integer ones (counters) are
    taken from the last path. Two state dicts are in memory at a time.

    Raises:
        CheckpointError: no path, damaged parameters, or two of different architectures.
    """
    if not paths:
        raise CheckpointError("no checkpoints to average")
    sums: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for path in paths:
        previous, state = state, read_model_state(path)
        if previous:
            for name in list(previous) + [name for name in state if name not in previous]:
                shapes = [
                    tuple(s[name].shape) if name in s else "absent" for s in (previous, state)
                ]
                if shapes[0] != shapes[1]:
                    raise CheckpointError(
                        f"{path} and {paths[0]} are of different architectures: '{name}' is "
                        f"{shapes[1]} and {shapes[0]}"
                    )
        for name, tensor in state.items():
            if tensor.is_floating_point():
                sums[name] = sums[name] + tensor if name in sums else tensor.to(torch.float64)
    return {
        name: (sums[name] / len(paths)).to(tensor.dtype) if name in sums else tensor
        for name, tensor in state.items()
    }


def last_checkpoints(parent: PathLike, count: int) -> list[Path]:
    """The newest ``count`` finished checkpoints under ``parent``, the oldest first.

    Raises:
        CheckpointError: there are fewer than ``count``.
    """
    found = list_checkpoints(parent)
    if count < 1 or len(found) < count:
        raise CheckpointError(f"{parent}: {count} checkpoints wanted, {len(found)} found")
    return found[-count:]
