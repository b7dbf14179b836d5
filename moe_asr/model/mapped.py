"""Weights straight from a safetensors file that is mapped into memory, a tensor at a time.

A model is packed from here without ever being in memory as it is in the file: pages that were read are given
back to the system after `GIVE_BACK_BYTES` of them.
"""

import json
import mmap

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from moe_asr.errors import CheckpointError
from moe_asr.files import PathLike
from moe_asr.model.storage import SCALE, check_int8, stored_weights
from moe_asr.nn.quantization import dequantize

GIVE_BACK_BYTES = 32 << 20
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


class MappedTensors:
    """The tensors of a safetensors file, as views of its mapped memory.

    Args:
        path: the file; it must not be changed while it is used.

    Attributes:
        metadata: what the file says of itself.
        shapes: its tensors without their values, on ``meta``.

    Raises:
        CheckpointError: naming the file, if it is absent or damaged.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = str(path)
        try:
            with safe_open(
                self.path, framework="pt"
            ) as file:  # holds all of the header against the file
                self.metadata: dict[str, str] = file.metadata() or {}
            with open(self.path, "rb") as opened:
                header_size = int.from_bytes(opened.read(8), "little")
                header = json.loads(opened.read(header_size))
                # private and writable, as torch wants it: nothing is written
                self._memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            header.pop("__metadata__", None)
            self.shapes: dict[str, Tensor] = {}
            self._begins: dict[str, int] = {}
            for name, entry in header.items():
                if entry["dtype"] not in _TYPES:
                    raise ValueError(f"{name} is of type {entry['dtype']}, which is not known here")
                dtype, (begin, end) = _TYPES[entry["dtype"]], entry["data_offsets"]
                self.shapes[name] = torch.empty(entry["shape"], dtype=dtype, device="meta")
                self._begins[name] = 8 + header_size + begin
                if 8 + header_size + end > len(self._memory):
                    raise ValueError("it was changed while it was opened")
        except (OSError, SafetensorError, ValueError, RuntimeError, LookupError) as error:
            raise CheckpointError(f"{self.path}: cannot be read as safetensors: {error}") from error
        self._read = 0

    def __getitem__(self, name: str) -> Tensor:
        """A tensor as it is stored. Its memory is the file's: it is for use at once, not to be kept."""
        shape = self.shapes[name]
        size, begin = shape.numel() * shape.element_size(), self._begins[name]
        if size == 0:
            return torch.empty(shape.shape, dtype=shape.dtype)
        self._give_back(size)
        memory = torch.frombuffer(self._memory, dtype=torch.uint8, count=size, offset=begin)
        if begin % shape.element_size():
            memory = memory.clone()
        return memory.view(shape.dtype).view(shape.shape)

    def _give_back(self, size: int) -> None:
        """Lets go of all pages, if many were read; those that are looked at again are read again."""
        self._read += size
        if self._read > GIVE_BACK_BYTES and hasattr(self._memory, "madvise"):
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._read = size


class MappedWeights:
    """The weights in a safetensors file, as `moe_asr.model.storage.pack` stores them.

    It is a `moe_asr.nn.cpu.matrices.WeightSource`; each weight is held to what `load_model_dir` demands when
    it is read.

    Args:
        path: the file.

    Attributes:
        shapes: of the weights, on ``meta``.
        storage: how they are stored.

    Raises:
        CheckpointError: naming the file: as of `MappedTensors` and `stored_weights`.
    """

    def __init__(self, path: PathLike) -> None:
        self._tensors = MappedTensors(path)
        names, self.storage = stored_weights(
            self._tensors.shapes, self._tensors.metadata, self._tensors.path
        )
        self.shapes = {name: self._tensors.shapes[name] for name in names}
        self._unread = set(names)

    def tensor(self, name: str) -> Tensor:
        """A float32 tensor with memory of its own.

        Raises:
            KeyError: if there is none of that name.
            CheckpointError: naming file and tensor, if it is not finite, or not what `check_int8` wants.
        """
        values, scale = self.matrix(name)
        return values.clone() if scale is None else dequantize(values, scale)

    def matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
        """A weight for use at once: float32 and None, or int8 and its scales; errors as of `tensor`."""
        stored = self._tensors[name]
        self._unread.discard(name)
        if stored.dtype == torch.int8:
            scale = self._tensors[name + SCALE].clone()
            check_int8(stored, scale, f"{self._tensors.path}: {name}")
            return stored, scale
        values = stored.float()
        # a sum of finite values may be infinite, but that of others is not finite
        if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
            raise CheckpointError(
                f"{self._tensors.path}: not a checkpoint of this architecture: {name}: not finite"
            )
        return values, None

    def part(self, prefix: str) -> "WeightsPart":
        """The weights whose names begin with a prefix, by what follows it."""
        return WeightsPart(self, prefix)

    def check_rest(self) -> None:
        """Reads what nobody has, to find what is wrong with it."""
        for name in sorted(self._unread):
            self.matrix(name)


class WeightsPart:
    """Weights of a part of a model, by names without its prefix."""

    def __init__(self, weights: MappedWeights, prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def tensor(self, name: str) -> Tensor:
        return self._weights.tensor(self._prefix + name)

    def matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self._weights.matrix(self._prefix + name)
