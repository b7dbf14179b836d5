"""The packed matrices of a model, as the table that `moe_asr.nn.cpu.gemm.multiply` reads."""

from typing import NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import ConfigError
from moe_asr.nn.cpu import gemm
from moe_asr.nn.cpu.packing import pack_float32, pack_int8
from moe_asr.nn.cpu.simd import PANEL
from moe_asr.nn.cpu.workspace import Slabs
from moe_asr.nn.quantization import LARGEST, dequantize, quantize

FLOAT32, INT8 = PRECISIONS = ("float32", "int8")


class WeightSource(Protocol):
    """Where weights come from, by the names of a model's ``state_dict``."""

    def tensor(self, name: str) -> Tensor:
        """A float32 tensor with memory of its own. `KeyError` if there is none of that name."""

    def matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
        """A large matrix, for use at once: float32 and None, or int8 and its scales, as of `quantize`."""


class PackedMatrices:
    """Matrices packed for the CPU kernels; everything that they point to lives as long as this.

    Args:
        precision: "float32" or "int8", of the matrices (a matrix may be kept from it).
        slabs: where memory comes from; small ones should share one, which is a huge page at least.

    Attributes:
        num_bytes: of weights, biases and scales.
    """

    def __init__(self, precision: str, slabs: Slabs | None = None) -> None:
        assert precision in PRECISIONS, precision
        self.precision = precision
        self.num_bytes = 0
        self._rows: list[list[int]] = []
        self._arrays: list[np.ndarray] = []
        self._slabs = Slabs() if slabs is None else slabs

    def __len__(self) -> int:
        return len(self._rows)

    def __deepcopy__(self, memo: object) -> "PackedMatrices":
        return self  # tables have addresses of what is here, and it does not change

    def __reduce__(self) -> NoReturn:
        raise ConfigError("packed weights are addresses in this process: they cannot be pickled")

    def add(
        self, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None,
        precision: str | None = None,
    ) -> int:  # fmt: skip
        """Packs one matrix.

        Args:
            weight: (K, N) for y = x W, any strides; float32, or int8 with ``scale``.
            bias: (N,) float32; None is zeros.
            scale: (N,) float32.
            precision: of this matrix, where it is not the one of all.

        Returns:
            Its number in `table`.
        """
        precision = self.precision if precision is None else precision
        inputs, outputs = weight.shape
        padded = -(-outputs // PANEL) * PANEL
        biases, scales, sums = np.zeros((3, padded), np.float32)
        if bias is not None:
            biases[:outputs] = bias.detach().numpy()
        if precision == INT8:
            assert inputs * 255 * LARGEST < 1 << 31, (inputs, "sums are int32")
            if scale is None:
                values, scale = quantize(weight.detach().t())
                weight = values.t()
            scales[:outputs] = scale.numpy()
            panel_bytes = -(-inputs // 4) * 4 * PANEL
            data = self._slabs.take(padded // PANEL * panel_bytes).view(np.int8)
            pack_int8(weight.numpy(), data, sums)
        else:
            if scale is not None:
                weight = dequantize(weight.t(), scale).t()
            panel_bytes = inputs * PANEL * 4
            data = self._slabs.take(padded // PANEL * panel_bytes).view(np.float32)
            pack_float32(weight.detach().numpy(), data)
        arrays = [data, biases, scales, sums]
        self._arrays += arrays
        self.num_bytes += sum(array.nbytes for array in arrays)
        addresses = [array.ctypes.data for array in arrays]
        row = [0] * gemm.MATRIX_FIELDS
        row[gemm.DATA], row[gemm.BIAS], row[gemm.SCALES], row[gemm.SUMS] = addresses
        row[gemm.INPUTS], row[gemm.OUTPUTS] = inputs, outputs
        row[gemm.IS_INT8], row[gemm.PANEL_BYTES] = int(precision == INT8), panel_bytes
        self._rows.append(row)
        return len(self._rows) - 1

    def add_linear(self, source: WeightSource, name: str, bias: bool = True) -> int:
        """Packs ``NAME.weight`` (N, K) and ``NAME.bias`` (N,) of an ``nn.Linear``."""
        weight, scale = source.matrix(f"{name}.weight")
        return self.add(weight.t(), source.tensor(f"{name}.bias") if bias else None, scale)

    def add_experts(self, source: WeightSource, name: str) -> int:
        """Packs the experts of a `MixtureFeedForward`: of each its first and its second matrix, in turns.

        Returns:
            The number of the first; expert e has this plus 2 e and 2 e + 1.
        """
        first = len(self)
        (w1, scale1), (w2, scale2) = source.matrix(f"{name}.w1"), source.matrix(f"{name}.w2")
        b1, b2 = source.tensor(f"{name}.b1"), source.tensor(f"{name}.b2")
        for expert in range(len(w1)):
            self.add(w1[expert], b1[expert], None if scale1 is None else scale1[expert])
            self.add(w2[expert], b2[expert], None if scale2 is None else scale2[expert])
        return first

    def shape(self, number: int) -> tuple[int, int]:
        """(K, N) of a matrix."""
        return self._rows[number][gemm.INPUTS], self._rows[number][gemm.OUTPUTS]

    def table(self) -> np.ndarray:
        """(num_matrices, MATRIX_FIELDS) int64, see `moe_asr.nn.cpu.gemm`."""
        return np.array(self._rows, np.int64).reshape(-1, gemm.MATRIX_FIELDS)


class ModuleWeights:
    """The weights of a module.

    Args:
        module: any; names are those of its ``state_dict``. What is packed does not change with it later.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._tensors = {name: value.detach() for name, value in module.state_dict().items()}

    def tensor(self, name: str) -> Tensor:
        return self._float(name).clone()

    def matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self._float(name), None

    def _float(self, name: str) -> Tensor:
        return self._tensors[name].float().cpu()
