"""How weights are stored in a model directory: as float32, or in a half or a quarter of the bytes.

``int8`` is symmetric, one scale for each output channel: w is stored as q = round(w / s) with
s = max |w| / 127 over the channel, so that s * q is within s / 2 of w, and y = x W is (x Q) with its columns
scaled by s. That is what integer matrix products with a scale for each channel take (Jacob et al., arXiv
1712.05877, without a zero point; Krishnamoorthi, arXiv 1806.08342, section 3). Only the large matrices are
stored so, see `matrices_of`; the rest stays float32.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.files import PathLike
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.quantization import LARGEST, dequantize, quantize

FLOAT32, FLOAT16, INT8 = STORAGES = ("float32", "float16", "int8")
SCALE = ".scale"  # the scales of tensor NAME are tensor NAME.scale
_KEY, _VERSION_KEY, _VERSION = "moe_asr.storage", "moe_asr.storage_version", "1"


def matrices_of(model: nn.Module) -> list[str]:
    """The names of the tensors that are stored in fewer bits: where nearly all weights are.

    They are the weights of linear layers (out, in) and embeddings (V, D), and the stacked ones of experts,
    (E, D, H) and (E, H, D). Routers, norms, biases, convolutions and CMVN are not among them: they are small,
    and a router's decision may hang on a small difference.
    """
    names = []
    for prefix, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            names.append(f"{prefix}.weight")
        elif isinstance(module, MixtureFeedForward):
            names += [f"{prefix}.w1", f"{prefix}.w2"]
    return names


def pack(model: nn.Module, storage: str = FLOAT32) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of the safetensors file that stores a model's weights.

    Raises:
        ConfigError: on an unknown ``storage``.
        CheckpointError: naming the tensor that cannot be stored so: not finite, or beyond float16.
    """
    if storage not in STORAGES:
        raise ConfigError(f"storage must be one of {', '.join(STORAGES)}, found {storage!r}")
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    if storage == FLOAT32:
        return tensors, describe(storage)
    for name in matrices_of(model):
        weight = tensors[name]
        if not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{name}: not finite")
        if storage == FLOAT16:
            tensors[name] = weight.half()
            if not bool(torch.isfinite(tensors[name]).all()):
                raise CheckpointError(f"{name}: {float(weight.abs().max()):g} is beyond float16")
        else:
            assert name + SCALE not in tensors, f"{name + SCALE} is a tensor of the model"
            tensors[name], tensors[name + SCALE] = quantize(weight)
    return tensors, describe(storage)


def describe(storage: str) -> dict[str, str]:
    """What the metadata of a file says of how its weights are stored."""
    said = {} if storage == FLOAT32 else {_KEY: storage, _VERSION_KEY: _VERSION}
    return {"format": "pt", **said}


def read_stored(path: PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors as they are in a safetensors file, and its metadata.

    Raises:
        CheckpointError: naming the file, if it is absent or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, SafetensorError, ValueError, RuntimeError, AttributeError) as error:
        # AttributeError: a type that this torch has not
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def unpack(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str
) -> tuple[dict[str, Tensor], str]:
    """The float32 tensors of what `pack` made, and how they were stored.

    Args:
        source: the file, for messages.

    Raises:
        CheckpointError: naming file and tensor: as of `stored_weights` and `check_int8`.
    """
    names, storage = stored_weights(tensors, metadata, source)
    weights = {}
    for name in names:
        value = tensors[name]
        if value.dtype == torch.int8:
            check_int8(value, tensors[name + SCALE], f"{source}: {name}")
            weights[name] = dequantize(value, tensors[name + SCALE])
        else:
            weights[name] = value.float() if value.is_floating_point() else value
    return weights, storage


def stored_weights(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str
) -> tuple[list[str], str]:
    """The names of the weights in a file, and how they are stored.

    Args:
        tensors: all that it has; only types and shapes are looked at, they may be on ``meta``.
        source: the file, for messages.

    Raises:
        CheckpointError: naming file and tensor: an unknown way or version, int8 without scales or scales
            without int8, scales of another shape.
    """
    storage = metadata.get(_KEY, FLOAT32)
    if storage not in STORAGES:
        raise CheckpointError(
            f"{source}: stored as {storage!r}, this version reads {', '.join(STORAGES)}"
        )
    if storage != FLOAT32 and metadata.get(_VERSION_KEY) != _VERSION:
        raise CheckpointError(
            f"{source}: stored as {storage}, version {metadata.get(_VERSION_KEY)!r}, this code reads "
            f"{_VERSION}"
        )
    names = []
    for name, value in tensors.items():
        if value.dtype == torch.int8:
            if storage != INT8:
                raise CheckpointError(
                    f"{source}: {name}: int8 in a file that is stored as {storage}"
                )
            if name + SCALE not in tensors:
                raise CheckpointError(f"{source}: {name}: int8, but there is no {name + SCALE}")
            _check_shapes(value, tensors[name + SCALE], f"{source}: {name}")
            names.append(name)
        elif storage == INT8 and name.endswith(SCALE):
            of = tensors.get(name[: -len(SCALE)])
            if of is None or of.dtype != torch.int8:
                raise CheckpointError(f"{source}: {name}: scales of nothing that is int8")
        else:
            names.append(name)
    return names, storage


def _check_shapes(values: Tensor, scale: Tensor, what: str) -> None:
    if values.ndim not in (2, 3):
        raise CheckpointError(f"{what}: int8 of shape {tuple(values.shape)}, expected a matrix")
    shape = values.shape[:1] if values.ndim == 2 else (values.shape[0], values.shape[2])
    if tuple(scale.shape) != tuple(shape) or scale.dtype != torch.float32:
        raise CheckpointError(
            f"{what}: scales are {scale.dtype} of shape {tuple(scale.shape)}, expected torch.float32 of "
            f"shape {tuple(shape)}"
        )


def check_int8(values: Tensor, scale: Tensor, what: str) -> None:
    """`CheckpointError` naming ``what``, if a scale is negative or not finite, or a value is -128.

    Nor may a scale be so large that what it scales is not finite.
    """
    is_wrong = ~torch.isfinite(scale * LARGEST) | (scale < 0.0)
    if bool(is_wrong.any()):
        wrong, most = float(scale[is_wrong][0]), torch.finfo(torch.float32).max / LARGEST
        expected = f"{most:.4g} or less" if most < wrong else "0 or more"
        raise CheckpointError(f"{what}: a scale is {wrong}, expected {expected}")
    if values.numel() and int(values.numpy().min()) < -LARGEST:
        raise CheckpointError(f"{what}: has -128, symmetric int8 is -127 to 127")
