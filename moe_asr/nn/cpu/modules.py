"""The layers of the decoders and the output layers on packed weights, in place of torch's.

They take and give float32 torch tensors on the CPU; rows of another type, as under autocast, are made
float32. With int8 weights the rows that come in are quantised, see `moe_asr.nn.cpu.gemm`. The weights of a
layer are read once a call, however many rows there are.

Legend: M rows, K inputs, N outputs, A = M * k assignments of rows to experts, E experts, D model, H hidden.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moe_asr.errors import ConfigError
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.gemm import SCRATCH_BYTES, multiply
from moe_asr.nn.cpu.matrices import INT8, ModuleWeights, PackedMatrices, WeightSource
from moe_asr.nn.cpu.mixture import quantize_rows
from moe_asr.nn.cpu.simd import (
    ADD,
    STORE,
    STORE_RELU,
    STORE_SILU,
)
from moe_asr.nn.cpu.team import TEAM, barrier
from moe_asr.nn.cpu.workspace import Slabs
from moe_asr.nn.moe.layer import MixtureFeedForward, choose_experts
from moe_asr.nn.moe.statistics import RoutingStatistics
from moe_asr.nn.packing import FramePacking

_ACTIVATIONS = {"silu": STORE_SILU, "relu": STORE_RELU}

# What a thread does in a microsecond, about: to tell when work is worth a second thread
_FLOAT32_PRODUCTS, _INT8_PRODUCTS, _BYTES = 60_000, 200_000, 12_000
_WORTH_A_THREAD = 60.0  # microseconds


class PackedModule(nn.Module):
    """A module whose weights are packed for inference on a CPU: they are no parameters.

    Raises:
        ConfigError: where it is to be trained, saved, or moved to another device or type.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def train(self, mode: bool = True) -> Any:
        if mode:
            raise ConfigError(f"{_NOT_PACKED} trained: load it without a precision")
        return super().train(mode)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigError(f"{_NOT_PACKED} saved: load it without a precision")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigError(f"{_NOT_PACKED} given other weights: load it without a precision")

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found = fn(torch.zeros(1))
        if found.device.type != "cpu" or found.dtype != torch.float32:
            raise ConfigError(
                f"{_NOT_PACKED} moved to {found.device} as {found.dtype}: load it without a precision"
            )
        return super()._apply(fn, *args, **kwargs)


_NOT_PACKED = "a model that was loaded with a precision is for inference on the CPU, and cannot be"


class PackedLinear(PackedModule):
    """`torch.nn.Linear` on packed weights.

    Args:
        source: of ``NAME.weight`` (N, K) and ``NAME.bias`` (N,).
        name: NAME.
        precision: of the weights, "float32" or "int8".
        bias: whether there is one.
        slabs: memory that it shares with other layers.
    """

    def __init__(
        self, source: WeightSource, name: str, precision: str = "float32", bias: bool = True,
        slabs: Slabs | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._matrices = PackedMatrices(precision, slabs)
        self._matrices.add_linear(source, name, bias)
        self._table = self._matrices.table()
        self.in_features, self.out_features = self._matrices.shape(0)
        self.precision, self.num_bytes = precision, self._matrices.num_bytes

    @staticmethod
    def from_linear(linear: nn.Linear, precision: str = "float32") -> "PackedLinear":
        """The same layer, packed."""
        source = ModuleWeights(nn.ModuleDict({"linear": linear}))
        return PackedLinear(source, "linear", precision, linear.bias is not None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        rows = _rows(x, self.in_features)
        num_rows = len(rows)
        out = np.empty((num_rows, self.out_features), np.float32)
        if num_rows:
            is_int8 = self.precision == INT8
            products = num_rows * self.in_features * self.out_features
            num_threads = _num_threads(products, self.num_bytes, is_int8)
            places, bounds = np.arange(num_rows), np.array([0, num_rows])
            nothing = np.empty((0, 0), np.float32)
            TEAM.run(
                _products, num_threads, self._table, False, STORE, rows,
                *_quantized_rows(rows.shape, is_int8), places, bounds, nothing.reshape(-1), places, out,
                *_quantized_rows(nothing.shape, False), nothing, _scratch(num_threads),
            )  # fmt: skip
        return torch.from_numpy(out).view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.precision}"


class PackedMixture(PackedModule):
    """`MixtureFeedForward` on packed weights; rows are routed in float32.

    Args:
        source: of ``NAME.w1``, ``b1``, ``w2``, ``b2`` and, if E > 1, ``router``.
        name: NAME.
        num_experts, num_chosen, activation: as of `MixtureFeedForward`.
        precision: of the experts' weights, "float32" or "int8".
        slabs: memory that it shares with other layers.
    """

    router: Tensor | None

    def __init__(
        self, source: WeightSource, name: str, num_experts: int, num_chosen: int, activation: str,
        precision: str = "float32", slabs: Slabs | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_experts, self.num_chosen, self.activation = num_experts, num_chosen, activation
        self._matrices = PackedMatrices(precision, slabs)
        self._matrices.add_experts(source, name)
        self._table = self._matrices.table()
        self.dim, self.hidden_dim = self._matrices.shape(0)
        self.precision, self.num_bytes = precision, self._matrices.num_bytes
        self.router = source.tensor(f"{name}.router") if num_experts > 1 else None
        self.statistics: RoutingStatistics | None = None

    @staticmethod
    def from_mixture(layer: MixtureFeedForward, precision: str = "float32") -> "PackedMixture":
        """The same layer, packed."""
        source = ModuleWeights(nn.ModuleDict({"layer": layer}))
        return PackedMixture(
            source, "layer", layer.num_experts, layer.num_chosen, layer.activation, precision
        )

    def forward(self, x: Tensor, packing: FramePacking) -> Tensor:
        """(N, T, D) -> (N, T, D), zero at padded positions, which are neither routed nor counted."""
        frames = packing.pack(x.detach())
        rows = _rows(frames, self.dim)
        num_rows = len(rows)
        out = np.empty((num_rows, self.dim), np.float32)
        if num_rows:
            self._run(rows, *self._route(frames), out)
        return packing.scatter(torch.from_numpy(out), x)

    def _route(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D) -> gates (M, k) and experts (M, k)."""
        if self.router is None:
            shape = (len(frames), 1)
            return torch.ones(shape), torch.zeros(shape, dtype=torch.int64)
        logits, gates, experts = choose_experts(frames, self.router, self.num_chosen)
        if self.statistics is not None:
            self.statistics.update(logits, experts)
        return gates, experts

    def _run(self, rows: np.ndarray, gates: Tensor, experts: Tensor, out: np.ndarray) -> None:
        chosen = experts.reshape(-1).numpy()
        order = np.argsort(chosen, kind="stable")  # assignments by expert
        bounds = np.zeros(self.num_experts + 1, np.int64)
        np.cumsum(np.bincount(chosen, minlength=self.num_experts), out=bounds[1:])
        num_used = int((np.diff(bounds) > 0).sum())
        is_int8 = self.precision == INT8
        products = 2 * len(chosen) * self.dim * self.hidden_dim
        num_threads = _num_threads(products, self.num_bytes * num_used // self.num_experts, is_int8)
        hidden = np.empty((len(chosen), self.hidden_dim), np.float32)
        TEAM.run(
            _products, num_threads, self._table, True, _ACTIVATIONS[self.activation], rows,
            *_quantized_rows(rows.shape, is_int8), order // self.num_chosen, bounds,
            gates.reshape(-1).numpy()[order], np.arange(len(chosen)), hidden,
            *_quantized_rows(hidden.shape, is_int8), out, _scratch(num_threads),
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.dim} -> {self.hidden_dim} -> {self.dim}, experts={self.num_experts}, "
            f"chosen={self.num_chosen}, {self.precision}"
        )


def _rows(x: Tensor, num_inputs: int) -> np.ndarray:
    """(..., K) -> (M, K), float32, contiguous."""
    assert x.shape[-1] == num_inputs, (x.shape, num_inputs)
    return x.detach().reshape(-1, num_inputs).to(torch.float32).contiguous().numpy()


def _quantized_rows(
    shape: tuple[int, ...], is_int8: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for rows (M, K) in 8 bits, padded to fours, their scales and zero points; none if not needed."""
    num_rows, num_inputs = shape if is_int8 else (0, 0)
    rows = np.empty((num_rows, (num_inputs + 3) // 4 * 4), np.uint8)
    scales, zeros = np.empty((2, num_rows), np.float32)
    return rows, scales, zeros


def _scratch(num_threads: int) -> np.ndarray:
    return np.empty((num_threads, SCRATCH_BYTES), np.uint8)


def _num_threads(products: int, num_bytes: int, is_int8: bool) -> int:
    """Threads that some work is worth: multiplications, and bytes of weights that are read for them."""
    rate = _INT8_PRODUCTS if is_int8 else _FLOAT32_PRODUCTS
    microseconds = max(products / rate, num_bytes / _BYTES)
    return max(1, min(torch.get_num_threads(), int(microseconds / _WORTH_A_THREAD)))


@kernel
def _products(
    rank, size, sync, table, is_pair, mode, x, rows, scales, zeros, row_of, bounds, gates, places, hidden,
    hidden_rows, hidden_scales, hidden_zeros, out, scratch,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """x (M, D) -> ``hidden`` (A, H), all first products; if they come in pairs, on to ``out`` (M, D).

    ``row_of`` (A,) are the rows of x by expert, those of e in [bounds[e], bounds[e + 1]); ``places`` is
    0..A-1; ``rows`` and what goes with it have room for x in 8 bits, and are empty in float32. A linear layer
    is one expert that takes all rows.
    """
    num_rows, dim = x.shape
    num_experts, width = len(bounds) - 1, hidden.shape[1]
    flat_out, flat_hidden = out.reshape(-1), hidden.reshape(-1)
    own, step = scratch[rank].ctypes.data, 2 if is_pair else 1
    at, stride = x.ctypes.data, 4 * dim
    is_int8 = len(rows) > 0
    if is_int8:
        to, padded = rows.ctypes.data, rows.shape[1]
        quantize_rows(rank, size, at, stride, dim, 0, num_rows, to, padded, scales, zeros)
        at, stride = to, padded
        barrier(sync, size)
    for expert in range(num_experts):
        first, count = bounds[expert], bounds[expert + 1] - bounds[expert]
        if count:
            multiply(
                rank, size, own, table[step * expert], mode, at, stride, scales, zeros, row_of, first,
                count, flat_hidden, width, places, gates,
            )  # fmt: skip
    if not is_pair:
        return
    for i in range(rank * len(flat_out) // size, (rank + 1) * len(flat_out) // size):
        flat_out[i] = 0.0
    barrier(sync, size)
    at, stride = hidden.ctypes.data, 4 * width
    if is_int8:
        to, padded = hidden_rows.ctypes.data, hidden_rows.shape[1]
        quantize_rows(
            rank, size, at, stride, width, 0, len(hidden), to, padded, hidden_scales, hidden_zeros
        )
        at, stride = to, padded
        barrier(sync, size)
    for expert in range(num_experts):
        first, count = bounds[expert], bounds[expert + 1] - bounds[expert]
        if count:
            multiply(
                rank, size, own, table[step * expert + 1], ADD, at, stride, hidden_scales,
                hidden_zeros, places, first, count, flat_out, dim, row_of, gates,
            )  # fmt: skip
