"""A model on disk: ``config.yaml``, ``model.safetensors``, tokenizer files. Loading runs no code."""

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
from moe_asr.model.storage import FLOAT32, pack, read_stored, unpack
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.tokenizer import Tokenizer, load_tokenizer

CONFIG, WEIGHTS = "config.yaml", "model.safetensors"


@dataclass
class LoadedModel:
    """A model ready for inference (eval mode), with what is needed around it.

    Attributes:
        storage: how its weights are stored, one of `moe_asr.model.storage.STORAGES`; here they are float32.
    """

    model: U2MoeModel
    tokenizer: Tokenizer
    fbank_options: FbankOptions
    storage: str = FLOAT32


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


def load_model_dir(directory: PathLike, device: str = "cpu") -> LoadedModel:
    """Reads what `save_model_dir` wrote.

    Raises:
        ConfigError: if ``config.yaml`` is absent or has an unknown key or a wrong value.
        CheckpointError: if the weights are damaged, stored in a way that is not known here, or not those of
            the configured architecture.
        TextError: if the tokenizer's files do not hold together.
    """
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
    model = U2MoeModel(config)
    path = directory / WEIGHTS
    weights, storage = unpack(*read_stored(path), str(path))
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
    expected = model.state_dict()
    problems: list[str] = []
    problems += [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    for name, value in tensors.items():
        if name not in expected:
            continue
        if value.shape != expected[name].shape:
            problems.append(
                f"{name}: {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
            )
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            problems.append(f"{name}: not finite")
    if problems:
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        listed = "; ".join(problems[:4])
        raise CheckpointError(f"{source}: not a checkpoint of this architecture: {listed}{more}")
    model.load_state_dict(tensors)
