"""Puts a training run together from its YAML file and manifests, and exports its result."""

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from moe_asr.audio.cmvn import CmvnStats
from moe_asr.audio.fbank import FbankOptions
from moe_asr.config import from_dict, to_dict
from moe_asr.data.batch import Batch
from moe_asr.data.config import DataConfig
from moe_asr.data.dataset import make_dataloader
from moe_asr.data.manifests import read_cuts
from moe_asr.data.validation import validate_cuts
from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.files import PathLike, read_yaml, write_yaml
from moe_asr.model.config import ModelConfig, preset
from moe_asr.model.directory import load_weights, save_model_dir
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.subsampling import output_length
from moe_asr.text.tokenizer import Tokenizer, load_tokenizer
from moe_asr.train.average import average_checkpoints, last_checkpoints
from moe_asr.train.best import read_best
from moe_asr.train.checkpoint import list_checkpoints, read_extra, remove_unfinished
from moe_asr.train.config import TrainConfig
from moe_asr.train.loop import CHECKPOINTS, Trainer
from moe_asr.train.random_state import seed_everything

CONFIG, TOKENIZER = "config.yaml", "tokenizer"
CACHED_SECONDS = 3600.0  # validation sets up to this long keep their batches in memory (115 MB)
ARCHITECTURE = {  # the keys of `ModelConfig` that decide which tensors there are, or what they do
    f"model.{name}"
    for name in (
        "vocab_size", "num_features", "dim", "num_heads", "hidden_dim", "num_experts", "num_chosen",
        "encoder_layers", "left_to_right_layers", "right_to_left_layers", "kernel", "subsampling",
        "subsampling_channels",
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a training run depends on besides its data."""

    model: ModelConfig
    train: TrainConfig
    features: FbankOptions = dataclasses.field(default_factory=FbankOptions)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)


def read_run_config(path: PathLike, overrides: Sequence[str], vocab_size: int) -> RunConfig:
    """Reads the sections ``model``, ``features``, ``data`` and ``train`` of a YAML file.

    Args:
        path: in it, ``model`` names a ``preset`` and overrides any of its fields.
        overrides: ``section.key=value``, the value in YAML; they win over the file.
        vocab_size: of the tokenizer.

    Raises:
        ConfigError: an unknown section or key, or a wrong value; the file is named.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected the sections model, features, data, train")
    for override in overrides:
        _apply_override(values, override)
    model = values.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("preset"), str):
        raise ConfigError(f"{path}: the section model must name a preset, as in 'preset: small'")
    fields = {key: value for key, value in model.items() if key != "preset"}
    if fields.setdefault("vocab_size", vocab_size) != vocab_size:
        raise ConfigError(
            f"{path}: vocab_size is {fields['vocab_size']}, the tokenizer has {vocab_size} tokens"
        )
    try:
        values = {**values, "model": to_dict(preset(model["preset"], **fields))}
    except ConfigError as error:
        raise ConfigError(f"{path}: model: {error}") from error
    config = from_dict(RunConfig, values, str(path))
    if config.model.num_features != config.features.num_bins:
        raise ConfigError(
            f"{path}: the model takes {config.model.num_features} features, "
            f"features.num_bins is {config.features.num_bins}"
        )
    return config


def prepare_training(
    config: RunConfig,
    train_manifest: PathLike,
    dev_manifest: PathLike,
    tokenizer: Tokenizer,
    cmvn: CmvnStats,
    output_dir: PathLike,
    allow_changes: bool = False,
) -> Trainer:
    """A `Trainer` at its start, or where the run in ``output_dir`` stopped.

    Sets torch's threads. Writes ``config.yaml`` and ``tokenizer/`` to ``output_dir``.

    Args:
        allow_changes: continue a run although its ``train`` or ``data`` section, or a key of
            ``model`` that is not of its architecture, is another now.

    Raises:
        CheckpointError: the run in ``output_dir`` is of another architecture, or damaged.
        ConfigError: it has another config otherwise, or other data; the keys that differ are named.
        DataError: a manifest cannot be read, or has cuts that cannot be trained on.
    """
    output_dir = Path(output_dir)
    if config.train.num_threads is not None:
        torch.set_num_threads(config.train.num_threads)
    frames = partial(output_length, factor=config.model.subsampling)
    speed = max(config.data.speed_factors)
    train_cuts, dev_cuts = read_cuts(train_manifest), read_cuts(dev_manifest)
    validate_cuts(train_cuts, tokenizer, config.features, frames, speed, str(train_manifest))
    _, dev_seconds = validate_cuts(
        dev_cuts, tokenizer, config.features, frames, manifest=str(dev_manifest)
    )
    inputs = {
        "train": digest(train_manifest),
        "dev": digest(dev_manifest),
        "cmvn": hashlib.sha256(cmvn.mean.tobytes() + cmvn.inv_std.tobytes()).hexdigest(),
        "tokens": digest_of_symbols(
            [tokenizer.tokens.symbol(i) for i in range(tokenizer.vocab_size)]
        ),
    }
    run_config = {**to_dict(config), "inputs": inputs}
    remove_unfinished(output_dir / CHECKPOINTS)
    previous = list_checkpoints(output_dir / CHECKPOINTS)
    if previous:
        _check_same_run(read_extra(previous[-1])["config"], run_config, previous[-1], allow_changes)
    elif allow_changes:
        raise CheckpointError(f"{output_dir}: no checkpoint to resume from")
    write_yaml(output_dir / CONFIG, to_dict(config))
    tokenizer.save(output_dir / TOKENIZER)

    loader = partial(
        make_dataloader,
        tokenizer=tokenizer,
        fbank_options=config.features,
        config=config.data,
        frames_after_subsampling=frames,
        pin_memory=resolve_device(config.train.device).type == "cuda",
    )

    def make_epoch(epoch: int, skip_batches: int) -> Iterable[Batch]:
        return loader(
            train_cuts,
            epoch=epoch,
            training=True,
            skip_batches=skip_batches,
            manifest=str(train_manifest),
        )

    cached: list[Batch] = []

    def make_valid() -> Iterable[Batch]:
        batches = cached or loader(dev_cuts, training=False, manifest=str(dev_manifest))
        if not cached and dev_seconds <= CACHED_SECONDS:
            # copies: what a loader process sends holds open files for as long as it lives
            cached.extend(batch.clone() for batch in batches)
            return cached
        return batches

    trainer = Trainer(
        build_model(config, cmvn),
        config.train,
        make_epoch,
        output_dir,
        make_valid,
        run_config=run_config,
    )
    trainer.resume()
    return trainer


def build_model(config: RunConfig, cmvn: CmvnStats) -> U2MoeModel:
    """The model with its first parameters, those of ``train.seed``, on ``train.device``."""
    seed_everything(config.train.seed)
    model = U2MoeModel(config.model)
    try:
        model.cmvn.set(torch.as_tensor(cmvn.mean), torch.as_tensor(cmvn.inv_std))
    except ValueError as error:
        raise ConfigError(f"the CMVN statistics do not fit the model: {error}") from error
    return model.to(resolve_device(config.train.device))


def export_model(
    run_dir: PathLike, output_dir: PathLike, last: int | None = None, best: bool = False
) -> list[Path]:
    """Averages the last checkpoints of a run into a model directory; returns what is in it.

    Args:
        last: how many; None: the run's ``average_last``, or all there are if they are fewer.
        best: export the parameters of the lowest validation loss instead.

    Raises:
        CheckpointError: there are not that many, or no best ones, or they are damaged.
    """
    run_dir = Path(run_dir)
    available = list_checkpoints(run_dir / CHECKPOINTS)
    if not available:
        raise CheckpointError(f"{run_dir / CHECKPOINTS}: no checkpoints")
    values = dict(read_extra(available[-1])["config"])
    values.pop("inputs", None)
    config = from_dict(RunConfig, values, str(available[-1]))
    if best:
        path, weights = read_best(run_dir / CHECKPOINTS)
        paths = [path]
    else:
        if last is None:
            last = min(config.train.average_last, len(available))
        paths = last_checkpoints(run_dir / CHECKPOINTS, last)
        weights = average_checkpoints(paths)
    model = U2MoeModel(config.model)
    load_weights(model, weights, str(paths[-1]))
    save_model_dir(output_dir, model, load_tokenizer(run_dir / TOKENIZER), config.features)
    return paths


def digest(path: PathLike) -> str:
    """SHA-256 of a manifest's text, whether it is compressed or not."""
    opener = gzip.open if str(path).endswith(".gz") else open
    hasher = hashlib.sha256()
    with opener(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            hasher.update(block)
    return hasher.hexdigest()


def digest_of_symbols(symbols: Sequence[str]) -> str:
    """SHA-256 of the tokenizer's symbols in the order of their ids."""
    return hashlib.sha256(json.dumps(list(symbols)).encode()).hexdigest()


def resolve_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one. Raises `ConfigError` if ``cuda`` is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device is cuda, but torch finds no GPU")
    return torch.device(name)


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value")
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: '{key}' is a value, not a section")
    try:
        values[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error


def _check_same_run(
    there: Mapping[str, Any], here: Mapping[str, Any], checkpoint: Path, allow_changes: bool
) -> None:
    old, new = _flatten(there), _flatten(here)
    if isinstance(old.get("inputs.tokens"), list):  # as in checkpoints of format 1
        old["inputs.tokens"] = digest_of_symbols(old["inputs.tokens"])
    differences = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not differences:
        return

    def listed(keys: Sequence[str]) -> str:
        parts = [f"{key} is {old.get(key)!r} there and {new.get(key)!r} now" for key in keys[:5]]
        more = f"; and {len(keys) - 5} more" if len(keys) > 5 else ""
        return "; ".join(parts) + more

    architecture = [key for key in differences if key in ARCHITECTURE]
    if architecture:
        raise CheckpointError(f"{checkpoint}: of another architecture: {listed(architecture)}")
    fixed = [key for key in differences if not key.startswith(("model.", "train.", "data."))]
    if fixed:
        raise ConfigError(f"{checkpoint}: of another run: {listed(fixed)}; use another --output")
    if not allow_changes:
        what = (
            "other model settings"
            if any(key.startswith("model.") for key in differences)
            else "another config"
        )
        raise ConfigError(
            f"{checkpoint}: the run was started with {what}: {listed(differences)}. "
            "Use another --output, or --resume to continue it with the new one"
        )


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [_flatten(item, f"{name}.{key}" if name else key) for key, item in value.items()]
        return {key: item for part in items for key, item in part.items()}
    return {name: value}
