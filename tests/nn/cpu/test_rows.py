"""Kernels of single rows against torch."""

import numpy as np
import pytest
import torch
from torch import nn

from moe_asr.nn.cpu import gemm, rows
from moe_asr.nn.cpu.simd import LANES
from moe_asr.nn.moe.layer import MixtureFeedForward

DIM = 5 * LANES + 3  # a whole block of vectors, one more vector, and what is left over
SHORT = LANES - 1


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def normal(*shape: int) -> np.ndarray:
    return torch.randn(*shape).numpy()


@pytest.mark.parametrize("dim", [DIM, SHORT, 1])
def test_layer_norm(dim):
    norm = nn.LayerNorm(dim, eps=1e-3)
    gain, bias = normal(dim), normal(dim)
    norm.load_state_dict({"weight": torch.from_numpy(gain), "bias": torch.from_numpy(bias)})
    x = 3.0 * normal(dim) + 100.0  # a mean much larger than the deviation
    expected = norm.double()(torch.from_numpy(x).double()).detach().numpy()
    out = np.full(dim + 1, 7.0, np.float32)
    arguments = [address(gain), address(bias), np.float32(1e-3)]
    rows.layer_norm(address(x), *arguments, address(out), dim)
    np.testing.assert_allclose(out[:dim], expected, rtol=1e-5, atol=2e-5)
    assert out[dim] == 7.0
    rows.layer_norm(address(x), *arguments, address(x), dim)
    np.testing.assert_array_equal(x, out[:dim])


def test_layer_norm_is_as_exact_as_torch():
    x, gain, bias = normal(DIM), normal(DIM), normal(DIM)
    expected = nn.functional.layer_norm(
        torch.from_numpy(x), (DIM,), torch.from_numpy(gain), torch.from_numpy(bias)
    )
    out = np.empty_like(x)
    epsilon = np.float32(1e-5)
    rows.layer_norm(address(x), address(gain), address(bias), epsilon, address(out), DIM)
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-6, atol=1e-6)


def test_a_constant_row_is_normalised_to_the_bias():
    x, gain, bias = np.full(DIM, 3.0, np.float32), normal(DIM), normal(DIM)
    out = np.empty_like(x)
    epsilon = np.float32(1e-5)
    rows.layer_norm(address(x), address(gain), address(bias), epsilon, address(out), DIM)
    np.testing.assert_allclose(out, bias, atol=1e-3)


@pytest.mark.parametrize("dim", [DIM, SHORT])
def test_silu_and_glu(dim):
    x = 10.0 * normal(2 * dim)
    x[:3], x[dim : dim + 3] = (0.0, 200.0, -200.0), (200.0, 0.0, -200.0)
    expected = nn.functional.glu(torch.from_numpy(x), dim=0).numpy()
    out = np.full(dim + 1, 7.0, np.float32)
    rows.glu(address(x), address(out), dim)
    np.testing.assert_allclose(out[:dim], expected, rtol=2e-6, atol=1e-30)
    assert out[dim] == 7.0
    expected = nn.functional.silu(torch.from_numpy(x[:dim].copy())).numpy()
    beyond = x[dim]
    rows.silu(address(x), dim)
    np.testing.assert_allclose(x[:dim], expected, rtol=2e-6, atol=1e-30)
    assert x[dim] == beyond


@pytest.mark.parametrize("dim", [DIM, SHORT])
@pytest.mark.parametrize("first", [0, 5, 8])
def test_depthwise_goes_round_the_ring(dim, first):
    taps, num_frames, num_rows = 4, 6, 9  # all rows of the ring, each as tap and as last row
    convolution = nn.Conv1d(dim, dim, taps, groups=dim)
    history = normal(num_rows, dim)
    expected = convolution(torch.from_numpy(history.T[None].copy()))[0].T.detach().numpy()
    ring = np.full((num_rows, dim + 2), np.nan, np.float32)  # what lies between rows is not read
    for i in range(num_rows):
        ring[(first + i) % num_rows, :dim] = history[i]
    weight = np.ascontiguousarray(convolution.weight.detach().numpy()[:, 0].T)
    bias = convolution.bias.detach().numpy()
    out = np.full((num_frames, dim + 1), 7.0, np.float32)
    rows.depthwise(
        address(ring), num_rows, 4 * (dim + 2), first, address(weight), address(bias),
        address(out), 4 * (dim + 1), num_frames, taps, dim,
    )  # fmt: skip
    np.testing.assert_allclose(out[:, :dim], expected, rtol=1e-5, atol=1e-6)
    assert (out[:, dim] == 7.0).all()


def route(x: np.ndarray, router: np.ndarray, chosen: int) -> tuple[np.ndarray, np.ndarray]:
    experts = np.full((len(x), chosen), -1, np.int64)
    gates = np.full((len(x), chosen), np.nan, np.float32)
    rows.route(
        address(x), x.strides[0], len(x), address(router), router.shape[1], len(router), chosen,
        address(experts), address(gates),
    )  # fmt: skip
    return experts, gates


@pytest.mark.parametrize(("num_experts", "chosen"), [(8, 2), (5, 5), (7, 1), (2, 2)])
def test_route_is_that_of_the_mixture(num_experts, chosen):
    layer = MixtureFeedForward(DIM, 1, num_experts, chosen)
    router = layer.router.detach().numpy()
    x = 5.0 * normal(40, DIM)
    _, expected_gates, expected = layer.route(torch.from_numpy(x))
    experts, gates = route(x, router, chosen)
    np.testing.assert_array_equal(experts, expected.numpy())
    np.testing.assert_allclose(gates, expected_gates.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(np.unique(experts)) > 1 or num_experts == 1
    strided = np.full((40, DIM + 3), np.nan, np.float32)
    strided[:, :DIM] = x
    again = route(strided, router, chosen)
    np.testing.assert_array_equal(again[0], experts)
    np.testing.assert_array_equal(again[1], gates)


def test_of_equal_logits_the_lower_expert_comes_first():
    router = normal(3, DIM)[[2, 0, 1, 0, 1, 0]]
    x = router[3:4].copy()  # experts 1, 3 and 5 have the largest logit
    experts, gates = route(x, router, 2)
    assert experts.tolist() == [[1, 3]]
    assert gates.tolist() == [[0.5, 0.5]]


def test_route_of_nan_stays_within_the_experts():
    x = np.full((1, DIM), np.nan, np.float32)
    experts, gates = route(x, normal(4, DIM), 2)
    assert ((experts >= 0) & (experts < 4)).all()
    assert np.isnan(gates).all()


def test_a_quantised_row_is_within_half_a_step():
    """Also where the zero point lies between two values: there the largest must not become the smallest."""
    for below in np.linspace(0.0, 254.5, 510):
        x = normal(DIM).clip(-0.4, 0.4)
        x[3], x[DIM - 1] = -below, 255.0 - below
        x *= 0.1 + np.random.rand()
        out = np.full((DIM + 3) // 4 * 4 + 1, 99, np.uint8)
        scale, zero = gemm.quantize_row(x, out, DIM)
        error = np.abs(scale * (out[:DIM] - np.float32(zero)) - x)
        assert error.max() <= 0.501 * scale, below
        assert (out[DIM:-1] == zero).all() and out[-1] == 99
    assert gemm.quantize_row(np.zeros(DIM, np.float32), out, DIM) == (0.0, 0.0)
    x[5] = np.nan
    assert np.isnan(gemm.quantize_row(x, out, DIM)[0])
