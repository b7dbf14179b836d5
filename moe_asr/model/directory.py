"""A model on disk: ``config.yaml``, ``model.safetensors``, tokenizer files. Loading runs no code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from moe_asr.audio.fbank import FbankOptions
from moe_asr.config import from_dict, to_dict
from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.files import PathLike, atomic_path, read_yaml, sort_safetensors_header, write_yaml
from moe_asr.model.config import ModelConfig
from moe_asr.model.meta import build_on_meta
from moe_asr.model.storage import FLOAT32, INT8, pack, read_stored, unpack
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.tokenizer import Tokenizer, load_tokenizer

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"
TORCH = "torch"  # modules of torch in float32
PRECISIONS = (TORCH, FLOAT32, INT8)  # the others: of packed weights


@dataclass
class LoadedModel:
    """A model ready for inference (eval mode), with what is needed around it.

    Attributes:
        storage: how its weights are stored, one of `moe_asr.model.storage.STORAGES`.
        precision: of its weights here, packed for inference on CPUs: "float32" or "int8"; None is torch's
            float32, which can be trained and saved too.
    """

    model: U2MoeModel
    tokenizer: Tokenizer
    fbank_options: FbankOptions
    storage: str = FLOAT32
    precision: str | None = None


def save_model_dir(
    directory: PathLike,
    model: U2MoeModel,
    tokenizer: Tokenizer,
    fbank_options: FbankOptions,
    storage: str = FLOAT32,
) -> None:
    """Writes the model directory; ``config.yaml`` comes last, so that a directory with one is complete.

    Args:
        storage: of the large matrices, one of `moe_asr.model.storage.STORAGES`.

    Raises:
        ConfigError: on an unknown ``storage``.
        CheckpointError: naming the tensor that cannot be stored so.
    """
    tensors, metadata = pack(model, storage)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).unlink(missing_ok=True)  # of a model that is being replaced
    tokenizer.save(directory)
    with atomic_path(directory / WEIGHTS) as temporary:
        save_file(tensors, str(temporary), metadata=metadata)
        sort_safetensors_header(temporary)
    write_yaml(
        directory / CONFIG, {"model": to_dict(model.config), "features": to_dict(fbank_options)}
    )


def load_model_dir(
    directory: PathLike, device: str = "cpu", precision: str | None = None
) -> LoadedModel:
    """Reads what `save_model_dir` wrote.

    Args:
        device: where the model goes.
        precision: None or "torch" for modules of torch in float32. "float32" or "int8": for inference on the
            CPU only, with weights packed in that precision, straight from the file, whatever is stored in it
            (docs/quantization.md).

    Raises:
        ConfigError: if ``config.yaml`` is absent or has an unknown key or a wrong value; on an unknown
            ``precision``, or one with another device than the CPU.
        CheckpointError: if the weights are damaged, stored in a way that is not known here, or not those of
            the configured architecture.
        TextError: if the tokenizer's files do not hold together.
    """
    if precision == TORCH:
        precision = None
    if precision is not None:
        _check_precision(precision, device)
    directory = Path(directory)
    values = read_yaml(directory / CONFIG)
    source = str(directory / CONFIG)
    if not isinstance(values, dict) or set(values) != {"model", "features"}:
        found = sorted(map(str, values)) if isinstance(values, dict) else values
        raise ConfigError(f"{source}: expected the sections 'features' and 'model', found {found}")
    config = from_dict(ModelConfig, values["model"], source)
    options = from_dict(FbankOptions, values["features"], source)
    tokenizer = load_tokenizer(directory)
    if tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, "
            f"the model {config.vocab_size} outputs"
        )
    if options.num_bins != config.num_features:
        raise CheckpointError(
            f"{source}: features have {options.num_bins} bins, the model takes {config.num_features}"
        )
    path = directory / WEIGHTS
    if precision is not None:
        from moe_asr.model.mapped import MappedWeights
        from moe_asr.model.packed import packed_model

        mapped = MappedWeights(path)
        _check_size(config, mapped.shapes, source, str(path))
        packed = packed_model(config, mapped, precision)
        return LoadedModel(packed, tokenizer, options, mapped.storage, precision)
    weights, storage = unpack(*read_stored(path), str(path))
    _check_size(config, weights, source, str(path))
    model = U2MoeModel(config)
    load_weights(model, weights, str(path))
    return LoadedModel(model.to(device).eval(), tokenizer, options, storage)


def read_tensors(path: PathLike) -> dict[str, Tensor]:
    """All tensors of a safetensors file; `CheckpointError` naming it if it is absent or damaged."""
    return read_stored(path)[0]


def load_weights(model: torch.nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copies ``tensors`` into ``model``.

    Raises:
        CheckpointError: naming the tensors that are missing, unexpected, of another shape or not
            finite; the model is then unchanged.
    """
    problems = _differences(model.state_dict(), tensors)
    problems += [
        f"{name}: not finite"
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    _raise_problems(problems, source)
    model.load_state_dict(tensors)


def _check_precision(precision: str, device: str) -> None:
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}")
    if torch.device(device).type != "cpu":
        raise ConfigError(
            f"precision {precision} is for the CPU: on {device} a model is of torch's modules"
        )


def _check_size(
    config: ModelConfig, tensors: Mapping[str, Tensor], config_source: str, source: str
) -> None:
    """Holds a configuration against the weights that there are, before it takes memory, however large."""
    num_layers = config.encoder_layers + config.left_to_right_layers + config.right_to_left_layers
    if num_layers > len(tensors):
        _raise_problems([f"{len(tensors)} tensors for {num_layers} layers"], source)
    try:
        expected = build_on_meta(config).state_dict()
    except RuntimeError as error:
        raise ConfigError(f"{config_source}: model: there is no such model: {error}") from error
    _raise_problems(_differences(expected, tensors), source)


def _differences(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Where names and shapes are others."""
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name}: {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in tensors.items()
        if name in expected and value.shape != expected[name].shape
    ]
    return problems


def _raise_problems(problems: Sequence[str], source: str) -> None:
    if problems:
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        listed = "; ".join(problems[:4])
        raise CheckpointError(f"{source}: not a checkpoint of this architecture: {listed}{more}")
