"""Packed subsampling against `ConvSubsampling`, in float32 and int8, in blocks, segments and threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moe_asr.nn.cpu import gemm, subsampling
from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.matrices import ModuleWeights, PackedMatrices
from moe_asr.nn.cpu.simd import LANES
from moe_asr.nn.cpu.subsampling import SEGMENT_FIELDS, PackedSubsampling, subsample
from moe_asr.nn.cpu.team import TEAM
from moe_asr.nn.quantization import dequantize, quantize
from moe_asr.nn.subsampling import ConvSubsampling, output_length, receptive_field

FACTORS = [4, 6, 8]
BINS, CHANNELS, DIM = 23, LANES + 2, 21  # channels that four does not divide: int8 rows are padded


@pytest.fixture(autouse=True)
def project_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five bins as three products, as large models do."""
    monkeypatch.setattr(subsampling, "_PRODUCT_INPUTS", 2 * CHANNELS)


@kernel
def _subsample(rank, size, sync, scratch, plan, matrices, segments, work, out):
    at = scratch + rank * gemm.SCRATCH_BYTES
    subsample(rank, size, sync, at, plan, matrices, segments, work, out)


class Packed:
    """A `ConvSubsampling`, packed, with a call that takes care of memory."""

    def __init__(
        self, layer: ConvSubsampling, precision: str = "float32", weights: Any = ModuleWeights
    ) -> None:
        self.matrices = PackedMatrices(precision)
        source = weights(nn.ModuleDict({"subsampling": layer}))
        self.packed = PackedSubsampling(source, self.matrices, layer.num_features, layer.factor)
        self.factor, self.dim = layer.factor, layer.projection.out_features

    def __call__(self, features: Sequence[np.ndarray], num_threads: int = 1) -> list[np.ndarray]:
        """Output frames of each (T, F); they lie in the output in reverse order, with a row between them."""
        lengths = [len(x) for x in features]
        outputs = [output_length(length, self.factor) for length in lengths]
        segments = np.zeros((len(lengths), SEGMENT_FIELDS), np.int64)
        row = 1
        for s in reversed(range(len(lengths))):
            x = features[s]
            segments[s] = x.ctypes.data, x.strides[0], lengths[s], row
            row += outputs[s] + 1
        num_bytes = self.packed.work_bytes(lengths, num_threads)
        work = np.full(num_bytes + 64, 0xFF, np.uint8)  # as float32: NaN
        out = np.full((row, self.dim), 7.0, np.float32)
        scratch = np.zeros(num_threads * gemm.SCRATCH_BYTES, np.uint8)
        arguments = [work.ctypes.data, out.ctypes.data]
        TEAM.run(
            _subsample, num_threads, scratch.ctypes.data, self.packed.plan, self.matrices.table(),
            segments, *arguments,
        )  # fmt: skip
        assert (work[num_bytes:] == 0xFF).all()
        found = []
        for (_, _, _, first), frames in zip(segments, outputs, strict=True):
            found.append(out[first : first + frames].copy())
            out[first : first + frames] = 7.0
        assert (out == 7.0).all()
        return found


def features(*lengths: int) -> list[np.ndarray]:
    """Segments of these lengths, each within rows that are longer than its features."""
    return [torch.randn(length, BINS + 3).numpy()[:, 1 : 1 + BINS] for length in lengths]


def reference(layer: ConvSubsampling, x: np.ndarray) -> np.ndarray:
    return layer(torch.from_numpy(x.copy())[None])[0].detach().numpy()


@pytest.mark.parametrize("factor", FACTORS)
def test_is_the_convolutional_subsampling(factor):
    layer = ConvSubsampling(BINS, CHANNELS, DIM, factor)
    packed = Packed(layer)
    field = receptive_field(factor)
    xs = features(field + 9 * factor + 1, field - 1, field, 0, 1, field + 2 * factor - 1)
    found = packed(xs)
    assert [len(out) for out in found] == [10, 0, 1, 0, 0, 2]
    for x, out in zip(xs, found, strict=True):
        expected = reference(layer, x)
        largest = np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * largest)
    assert packed([]) == []
    assert [len(out) for out in packed(features(field - 1))] == [0]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("factor", FACTORS)
def test_blocks_segments_and_threads_change_nothing(factor, precision, monkeypatch):
    layer = ConvSubsampling(BINS, CHANNELS, DIM, factor)
    one_block = Packed(layer, precision)
    field = receptive_field(factor)
    xs = features(field + 30 * factor, field, field + 3 * factor, 2, field + 17 * factor + 1)
    expected = [one_block([x])[0] for x in xs]
    bins, padding = (BINS - 3) // 2 + 1, -(-3 // CHANNELS)
    times = 4 * factor  # of the first convolution, of which 15 factor / 2 are needed for 16 frames
    monkeypatch.setattr(subsampling, "_BLOCK_BYTES", 4 * times * (bins + padding) * CHANNELS)
    blocks = Packed(layer, precision)
    assert blocks.packed.work_bytes([1000]) < 0.5 * one_block.packed.work_bytes([1000])
    assert blocks.packed.work_bytes([1000]) >= blocks.packed.work_bytes([100000])
    for packed, num_threads in [(one_block, 1), (one_block, 2), (blocks, 1), (blocks, 2)]:
        for out, of_one in zip(packed(xs, num_threads), expected, strict=True):
            np.testing.assert_array_equal(out, of_one)


def apply(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a convolution or the projection makes of (C, T, F') with other weights; (C, T, F') or (T, D)."""
    if isinstance(module, nn.Conv2d):
        return nn.functional.conv2d(x[None], weight, bias, module.stride)[0]
    return nn.functional.linear(x.transpose(0, 1).flatten(1), weight, bias)


def int8_reference(layer: ConvSubsampling, features: np.ndarray) -> tuple[Tensor, Tensor]:
    """What int8 stands for, computed in float64 (S, D), and how far from float32 it can be (S, D).

    An activation is rounded by at most half its time's scale, the largest of that time / 255; a weight by at
    most half its filter's. With x + dx and w + dw in place of x and w, a sum of products is off by
    sum w dx + dw (x + dx), and ReLU makes no difference larger.
    """
    first, *later = [one for one in layer.convolutions if isinstance(one, nn.Conv2d)]
    x = torch.from_numpy(features.copy()).double()[None]  # (1, T, F)
    x = apply(first, x, first.weight.double(), first.bias.double()).relu()
    error = torch.zeros_like(x)
    for module in [*later, layer.projection]:
        scale = x.amax((0, 2), keepdim=True) / 255.0
        x = torch.round(x / scale.clamp(min=1e-30)) * scale
        error = error + 0.5 * scale
        weight, flat = module.weight.double(), module.weight.flatten(1)
        held = dequantize(*quantize(flat)).double().reshape(weight.shape)
        step = flat.abs().amax(1).double() / 127.0
        halves = (0.5 * step).reshape(-1, *[1] * (weight.ndim - 1)).expand_as(weight)
        error = apply(module, error, weight.abs(), None) + apply(module, x, halves, None)
        x = apply(module, x, held, module.bias.double())
        x = x if module is layer.projection else x.relu()
    return x, error


@pytest.mark.parametrize("factor", FACTORS)
@torch.no_grad()
def test_int8_is_within_its_quantisation_error(factor):
    layer = ConvSubsampling(BINS, CHANNELS, DIM, factor)
    xs = features(receptive_field(factor) + 20 * factor, receptive_field(factor) + factor)
    xs[1][:] *= 30.0  # each time has its own scale
    xs[0][:40] = 0.0
    for x, out in zip(xs, Packed(layer, "int8")(xs), strict=True):
        emulated, bound = (tensor.numpy() for tensor in int8_reference(layer, x))
        exact = reference(layer, x)
        assert (np.abs(out - exact) <= bound + 1e-5).all()
        assert np.abs(out - exact).max() > 1e-4 * np.abs(exact).max()
        # nearly all, because an activation next to a half may be rounded to either side
        same = np.isclose(out, emulated, rtol=1e-4, atol=1e-5 * np.abs(exact).max())
        assert same.mean() > 0.8
        assert (np.abs(out - emulated) <= 0.1 * bound).all()


@torch.no_grad()
def test_int8_weights_of_a_source_are_taken_as_they_are():
    layer = ConvSubsampling(BINS, CHANNELS, DIM, 4)
    x = features(60)

    class Quantised(ModuleWeights):
        def matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
            weight, _ = super().matrix(name)
            values, scale = quantize(weight.flatten(1))
            return values.reshape(weight.shape), scale

    for precision in ("float32", "int8"):
        [out] = Packed(layer, precision, Quantised)(x)
        if precision == "int8":
            np.testing.assert_array_equal(out, Packed(layer, precision)(x)[0])
        else:
            for module in (layer.convolutions[2], layer.projection):
                held = dequantize(*quantize(module.weight.flatten(1)))
                module.weight.copy_(held.reshape(module.weight.shape))
            np.testing.assert_allclose(out, reference(layer, x[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_nan_reaches_the_frames_that_see_it_and_no_others(precision):
    layer = ConvSubsampling(BINS, CHANNELS, DIM, 4)
    x = features(60)
    x[0][20, 5] = np.nan
    [out] = Packed(layer, precision)(x)
    first, last = (20 - receptive_field(4)) // 4 + 1, 20 // 4
    seen = [first <= j <= last for j in range(len(out))]
    assert np.isnan(out).all(1).tolist() == seen
    assert np.isnan(out).any(1).tolist() == seen
