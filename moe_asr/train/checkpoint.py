"""Checkpoints of everything a run needs to go on: written atomically, checked, read without pickle.

``checkpoints/step-00001000/`` holds
    model.safetensors       the model's state dict
    optimizer.safetensors   per-parameter optimiser state, named ``<parameter>/<entry>``
    random.safetensors      torch's generator states
    state.json              the other generators, the trainer's state, the run's config, the CRC-32
                            of these, and the size and CRC-32 of the three files
It is filled under a hidden name, ``state.json`` last, and renamed when it is complete and on the
disk; so a directory without a ``state.json`` is one that was never finished, and is ignored.
Format 1 had no CRC-32 of ``state.json``'s own values; it is still read.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from moe_asr.errors import CheckpointError, TrainingError
from moe_asr.files import PathLike, write_json
from moe_asr.model.directory import load_weights, read_tensors
from moe_asr.train.random_state import get_random_state, set_random_state

FORMAT, FORMAT_WITHOUT_CRC = 2, 1
MODEL, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random.safetensors"
FILES = (MODEL, OPTIMIZER, RANDOM)
STATE = "state.json"
ASIDE = ".old.tmp"  # ends the hidden name of a checkpoint while another takes its place


@dataclass
class TrainState:
    """Where a run stands. ``epoch`` and ``batch_in_epoch`` (batches consumed) place the sampler.

    The schedule needs nothing but ``step`` and ``minutes``. ``valid_step`` is that of the last
    validation.
    """

    step: int = 0
    epoch: int = 0
    batch_in_epoch: int = 0
    minutes: float = 0.0
    best_valid_loss: float | None = None
    best_step: int | None = None
    valid_step: int | None = None


def save_checkpoint(
    parent: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    extra: Mapping[str, Any],
) -> Path:
    """Writes ``parent/step-<step>`` atomically and returns it; an existing one is replaced.

    Args:
        extra: JSON values to store besides (gradient scaler, open sums, config); see `restore`.

    Raises:
        TrainingError: a parameter or buffer is not finite; nothing is written.
    """
    parent = Path(parent)
    model_state = finite_state(model, state.step)
    target = parent / f"step-{state.step:08d}"
    temporary = parent / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    random_tensors, random_values = get_random_state()
    files = {
        MODEL: model_state,
        OPTIMIZER: _optimizer_tensors(model, optimizer),
        RANDOM: random_tensors,
    }
    sums = {}
    for name, tensors in files.items():
        save_file(tensors, str(temporary / name))
        _sync(temporary / name)
        sums[name] = checksum(temporary / name)
    values = {"state": vars(state), "random": random_values, "extra": dict(extra)}
    write_json(
        temporary / STATE,
        {"format": FORMAT, "files": sums, "crc32": _crc_of_values(values), **values},
    )
    _sync(temporary)
    aside = parent / f".{target.name}{ASIDE}"
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        os.replace(target, aside)
    os.replace(temporary, target)
    _sync(parent)
    shutil.rmtree(aside, ignore_errors=True)
    return target


def finite_state(model: nn.Module, step: int) -> dict[str, Tensor]:
    """The model's state dict on the CPU, as safetensors takes it.

    Raises:
        TrainingError: a parameter or buffer is not finite.
    """
    state = _separate(model.state_dict())
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"step {step}: {name} is no longer finite; not saved")
    return state


def restore(
    path: PathLike, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> "tuple[TrainState, dict[str, Any]]":
    """Puts a checkpoint into ``model``, ``optimizer`` and the random generators.

    Returns:
        The trainer's state and the ``extra`` values of `save_checkpoint`.

    Raises:
        CheckpointError: damaged (naming the file, and an older sound checkpoint), or of another
            architecture (naming the first tensor that differs, with both shapes).
    """
    path = Path(path)
    values = verify(path)
    load_weights(model, read_tensors(path / MODEL), str(path / MODEL))
    if optimizer is not None:
        _restore_optimizer(model, optimizer, read_tensors(path / OPTIMIZER), path / OPTIMIZER)
    set_random_state(read_tensors(path / RANDOM), values["random"])
    return TrainState(**values["state"]), values["extra"]


def list_checkpoints(parent: PathLike) -> list[Path]:
    """The finished checkpoints of a run, the oldest first; unfinished ones are not listed."""
    found = []
    if Path(parent).is_dir():
        for path in Path(parent).iterdir():
            if re.fullmatch(r"step-\d{8,}", path.name) and (path / STATE).exists():
                found.append(path)
    return sorted(found, key=_step_of)


def remove_checkpoint(path: Path) -> None:
    """Deletes a checkpoint such that a kill half-way leaves nothing that looks like one."""
    hidden = path.with_name(f".{path.name}.deleted.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    os.replace(path, hidden)
    shutil.rmtree(hidden)


def remove_unfinished(parent: PathLike) -> None:
    """Deletes what killed runs left half-written or half-deleted.

    A checkpoint that was set aside for one that never came gets its name back.
    """
    if Path(parent).is_dir():
        for path in Path(parent).glob(f".*{ASIDE}"):
            target = path.with_name(path.name[1 : -len(ASIDE)])
            if not target.exists() and (path / STATE).exists():
                os.replace(path, target)
        for path in Path(parent).glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def verify(path: PathLike, files: Sequence[str] = FILES) -> dict[str, Any]:
    """The contents of ``state.json``, after checking that it and ``files`` are as they were written.

    Raises:
        CheckpointError: naming the damaged file and the newest older checkpoint that is sound.
    """
    path = Path(path)
    problem = _damage(path, files)
    if problem is None:
        return dict(json.loads((path / STATE).read_text(encoding="utf-8")))
    message = f"{problem}; the checkpoint {path} is damaged"
    if re.fullmatch(r"step-\d+", path.name):
        older = [
            other for other in list_checkpoints(path.parent) if _step_of(other) < _step_of(path)
        ]
        sound = next((other for other in reversed(older) if _damage(other, files) is None), None)
        if sound is not None:
            message += f". Remove it (and any between) to resume from {sound}"
        else:
            message += " and there is no older one to resume from"
    raise CheckpointError(message)


def read_model_state(path: PathLike) -> dict[str, Tensor]:
    """The model's state dict of a checkpoint, on the CPU; the optimiser's file is not looked at.

    Raises:
        CheckpointError: ``model.safetensors`` or ``state.json`` is damaged.
    """
    verify(path, [MODEL])
    return read_tensors(Path(path) / MODEL)


def read_extra(path: PathLike) -> dict[str, Any]:
    """The ``extra`` values of a checkpoint, whose tensors are not looked at.

    Raises:
        CheckpointError: ``state.json`` is damaged.
    """
    return dict(verify(path, [])["extra"])


def _step_of(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])


def _damage(path: Path, files: Sequence[str]) -> str | None:
    """What is wrong with a checkpoint's ``state.json`` or ``files``, or None."""
    try:
        values = json.loads((path / STATE).read_text(encoding="utf-8"))
        expected = {name: dict(values["files"][name]) for name in files}
        TrainState(**values["state"])
        if values["format"] not in (FORMAT, FORMAT_WITHOUT_CRC):
            return f"{path / STATE}: format {values['format']}, expected {FORMAT}"
        found = _crc_of_values({name: values[name] for name in ("state", "random", "extra")})
        if values["format"] == FORMAT or "crc32" in values:
            if values["crc32"] != found:
                return f"{path / STATE}: crc32 is {found}, {values['crc32']} was written"
    except OSError as error:
        return f"{path / STATE}: cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError) as error:
        return f"{path / STATE}: not the state of a checkpoint: {error!r}"
    for name, wanted in expected.items():
        try:
            sums = checksum(path / name)
        except OSError as error:
            return f"{path / name}: cannot be read: {error.strerror}"
        for key in ("size", "crc32"):
            if sums[key] != wanted.get(key):
                return f"{path / name}: {key} is {sums[key]}, {wanted.get(key)} was written"
    return None


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies where needed: safetensors refuses tensors that share memory (tied weights)."""
    result: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        key = (tensor.data_ptr(), tensor.numel() > 0)
        result[name] = tensor.clone() if key in seen else tensor
        seen.add(key)
    return result


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return _separate(
        {
            f"{names[parameter]}/{entry}": value
            for parameter, values in optimizer.state.items()
            for entry, value in values.items()
        }
    )


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], source: Path
) -> None:
    parameters = dict(model.named_parameters())
    index: dict[nn.Parameter, int] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            index[parameter] = len(index)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        if name not in parameters or parameters[name] not in index:
            raise CheckpointError(f"{source}: '{name}' is not a trained parameter of this model")
        shape = tuple(parameters[name].shape)
        if value.ndim > 0 and tuple(value.shape) != shape:
            raise CheckpointError(
                f"{source}: '{key}' is {tuple(value.shape)}, the parameter is {shape}"
            )
        state.setdefault(index[parameters[name]], {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def checksum(path: Path) -> dict[str, int]:
    """Size and CRC-32 of a file."""
    size, crc = 0, 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 22), b""):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return {"size": size, "crc32": crc}


def _crc_of_values(values: Mapping[str, Any]) -> int:
    """CRC-32 of JSON values, the same before they are written and after they are read."""
    plain = json.loads(json.dumps(values))  # tuples become lists, keys strings
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def _sync(path: Path) -> None:
    """Flushes a file or a directory's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
