"""The parameters of the step with the lowest validation loss, without what training needs besides.

``checkpoints/best-00001000.safetensors`` is the model's state dict, ``best-00001000.json`` its step,
loss, size and CRC-32. The JSON file comes last: without it there is no best model.
"""

import re
from collections.abc import Collection
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.files import PathLike, atomic_path, read_json, write_json
from moe_asr.model.directory import read_tensors
from moe_asr.train.checkpoint import checksum, finite_state

PATTERN = re.compile(r"best-(\d{8,})\.(safetensors|json)")


def save_best(parent: PathLike, model: nn.Module, step: int, valid_loss: float) -> Path:
    """Writes the model as the best one so far; those of other steps stay, see `keep_best`.

    Raises:
        TrainingError: a parameter or buffer is not finite; nothing is written.
    """
    state = finite_state(model, step)
    path = Path(parent) / f"best-{step:08d}.safetensors"
    with atomic_path(path) as temporary:
        save_file(state, str(temporary))
    write_json(
        path.with_suffix(".json"), {"step": step, "valid_loss": valid_loss, **checksum(path)}
    )
    return path


def list_best(parent: PathLike) -> dict[int, Path]:
    """The best models that are there, by step, in the order of the steps."""
    found = {}
    for path in Path(parent).glob("best-*.json"):
        match = PATTERN.fullmatch(path.name)
        if match and path.with_suffix(".safetensors").exists():
            found[int(match[1])] = path.with_suffix(".safetensors")
    return dict(sorted(found.items()))


def read_best(parent: PathLike) -> tuple[Path, dict[str, Tensor]]:
    """The file and the parameters of the newest best model, which is that of the lowest loss.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = list_best(parent)
    if not found:
        raise CheckpointError(f"{parent}: no best model; the run has not been validated")
    path = list(found.values())[-1]
    try:
        values = read_json(path.with_suffix(".json"))
        written = {key: values[key] for key in ("size", "crc32")}
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path.with_suffix('.json')}: damaged: {error!r}") from error
    if checksum(path) != written:
        raise CheckpointError(f"{path}: damaged: {checksum(path)}, {written} was written")
    return path, read_tensors(path)


def keep_best(parent: PathLike, steps: Collection[int | None]) -> None:
    """Deletes the best models of all other ``steps``, and what killed runs left half-written."""
    for path in Path(parent).glob("best-*.*"):
        match = PATTERN.fullmatch(path.name)
        if match and int(match[1]) not in steps:
            path.unlink()
    for path in Path(parent).glob(".best-*.*"):
        if path.is_file():
            path.unlink()
