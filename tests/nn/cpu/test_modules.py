"""Packed linear layers and mixtures against torch's, and int8 against bounds of what rounding can do."""

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moe_asr.errors import ConfigError
from moe_asr.nn.cpu import modules
from moe_asr.nn.cpu.modules import PackedLinear, PackedMixture
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.moe.statistics import collect_routing
from moe_asr.nn.packing import FramePacking
from moe_asr.nn.quantization import dequantize, quantize
from tests.nn.references import mixture_by_hand

SHAPES = [(1, 1), (7, 33), (64, 32), (37, 100)]  # K and N: whole panels and fours, and not


def row_steps(x: Tensor) -> Tensor:
    """(M, K) -> (M, 1), the size of the steps in which rows are quantised."""
    return (x.amax(1, keepdim=True).clamp(min=0) - x.amin(1, keepdim=True).clamp(max=0)) / 255


def product_bound(x: Tensor, x_error: Tensor, weight: Tensor) -> Tensor:
    """How far x W (M, N) may be off: weights (N, K) in int8, x off by ``x_error`` before it is rounded."""
    rounded = dequantize(*quantize(weight)).abs()
    off = x_error + row_steps(x + x_error) / 2 + row_steps(x - x_error) / 2
    weight_error = (weight - dequantize(*quantize(weight))).abs()
    return off @ rounded.t() + x.abs() @ weight_error.t() + 1e-5


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_linear_is_torchs(shape: tuple[int, int]) -> None:
    linear = nn.Linear(*shape)
    packed = PackedLinear.from_linear(linear)
    assert (packed.in_features, packed.out_features) == shape
    for size in ((1,), (2, 14), (0,), (3, 0, 2), (25,)):
        x = torch.randn(*size, shape[0])
        found = packed(x)
        assert found.shape == (*size, shape[1]) and found.is_contiguous()
        torch.testing.assert_close(found, linear(x), rtol=1e-5, atol=1e-5)
    x = torch.randn(shape[0], 6, 5).permute(2, 1, 0)[::2]  # not contiguous
    torch.testing.assert_close(packed(x), linear(x), rtol=1e-5, atol=1e-5)
    assert packed(torch.randn(shape[0])).shape == shape[1:]


@torch.no_grad()
def test_a_linear_layer_without_bias() -> None:
    linear = nn.Linear(6, 5, bias=False)
    x = torch.randn(3, 6)
    torch.testing.assert_close(PackedLinear.from_linear(linear)(x), linear(x))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_int8_linear_is_within_its_rounding(shape: tuple[int, int]) -> None:
    linear = nn.Linear(*shape)
    packed = PackedLinear.from_linear(linear, "int8")
    for x in (torch.randn(14, shape[0]), torch.rand(3, shape[0]) + 5.0, -torch.rand(2, shape[0])):
        error = (packed(x) - linear(x)).abs()
        bound = product_bound(x, torch.zeros_like(x), linear.weight)
        assert (error <= bound).all()
        if shape[0] > 8:  # else the largest of a row is often exact
            assert error.max() > 0.02 * bound.max(), "nothing was rounded"
    x = torch.zeros(1, shape[0])
    x[0, 0], x[0, -1] = -1.0, 509.0  # both ends of 8 bits lie between two steps
    bound = product_bound(x, torch.zeros_like(x), linear.weight)
    assert ((packed(x) - linear(x)).abs() <= bound).all()
    zeros = packed(torch.zeros(2, shape[0]))
    assert torch.equal(zeros, linear.bias.expand(2, -1))
    assert packed(torch.zeros(0, shape[0])).shape == (0, shape[1])


@pytest.mark.parametrize("precision", ["float32", "int8"])
@torch.no_grad()
def test_rows_and_threads_do_not_change_a_row(precision: str, monkeypatch) -> None:
    """What a hypothesis gets does not depend on those beside it, nor on threads."""
    linear = PackedLinear.from_linear(nn.Linear(40, 70), precision)
    mixture = PackedMixture.from_mixture(MixtureFeedForward(40, 70, 4, 2, "relu"), precision)
    x = torch.randn(1, 30, 40)
    expected = linear(x), mixture(x, FramePacking())
    for row in (0, 13, 29):
        one = x[:, row : row + 1]
        assert torch.equal(linear(one)[0, 0], expected[0][0, row])
        alone = mixture(one, FramePacking())[0, 0]  # torch rounds the router's logits as it likes
        torch.testing.assert_close(alone, expected[1][0, row], rtol=1e-6, atol=1e-6)
    used = []
    run = modules.TEAM.run
    monkeypatch.setattr(
        modules.TEAM,
        "run",
        lambda kernel, size, *rest: used.append(size) or run(kernel, size, *rest),
    )
    monkeypatch.setattr(modules, "_WORTH_A_THREAD", 1e-9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(linear(x), expected[0])
    assert torch.equal(mixture(x, FramePacking()), expected[1])
    assert used == [3, 3]


@pytest.mark.parametrize(
    ("num_experts", "num_chosen", "activation"),
    [(4, 2, "relu"), (3, 3, "silu"), (5, 1, "relu"), (1, 1, "relu"), (1, 1, "silu")],
)
@torch.no_grad()
def test_mixture_is_torchs(num_experts: int, num_chosen: int, activation: str) -> None:
    layer = MixtureFeedForward(19, 45, num_experts, num_chosen, activation).eval()
    packed = PackedMixture.from_mixture(layer)
    assert packed.hidden_dim == layer.hidden_dim == 45
    x = torch.randn(3, 9, 19)
    packing = FramePacking.from_lengths(torch.tensor([9, 0, 4]), 9)
    found = packed(x, packing)
    torch.testing.assert_close(found, layer(x, packing), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0], mixture_by_hand(layer, x[0]), rtol=1e-5, atol=1e-5)
    assert not found[1].any() and not found[2, 4:].any()
    for x in (torch.randn(1, 1, 19), torch.randn(2, 0, 19), torch.randn(19, 4, 2).permute(2, 1, 0)):
        torch.testing.assert_close(
            packed(x, FramePacking()), layer(x, FramePacking()), rtol=1e-5, atol=1e-5
        )
    nobody = FramePacking.from_lengths(torch.tensor([0, 0]), 3)
    assert torch.equal(packed(torch.randn(2, 3, 19), nobody), torch.zeros(2, 3, 19))


@torch.no_grad()
def test_int8_mixture_is_within_its_rounding() -> None:
    layer = MixtureFeedForward(24, 50, 4, 2, "relu").eval()
    packed = PackedMixture.from_mixture(layer, "int8")
    x = torch.randn(1, 40, 24)
    _, gates, experts = layer.route(x[0])
    bound = torch.zeros(40, 24)
    for row, frame in enumerate(x[0]):
        for gate, expert in zip(gates[row], experts[row], strict=True):
            first, second = layer.w1[expert].t(), layer.w2[expert].t()
            hidden = torch.relu(first @ frame + layer.b1[expert])[None]
            hidden_error = product_bound(frame[None], torch.zeros(1, 24), first)
            bound[row] += gate * product_bound(hidden, hidden_error, second)[0]
    error = (packed(x, FramePacking()) - layer(x, FramePacking())).abs()[0]
    assert (error <= bound).all() and error.max() > 1e-3


@torch.no_grad()
def test_frames_are_routed_and_counted_as_torch_does() -> None:
    layer = MixtureFeedForward(16, 8, 4, 2, "relu").eval()
    both = nn.ModuleDict({"torch": layer, "packed": PackedMixture.from_mixture(layer, "int8")})
    x = torch.randn(2, 30, 16)
    with collect_routing(both) as found:
        for name in both:
            both[name](x, FramePacking.from_lengths(torch.tensor([30, 11]), 30))
    assert found["packed"].num_frames == found["torch"].num_frames == 41
    assert torch.equal(found["packed"].assignments, found["torch"].assignments)
    assert found["packed"].router_entropy == found["torch"].router_entropy > 0
    assert both["packed"].statistics is None


@pytest.mark.parametrize("precision", ["float32", "int8"])
@torch.no_grad()
def test_what_is_not_a_number_stays_so(precision: str) -> None:
    """And in its own row: nothing takes it for a score."""
    packed = PackedLinear.from_linear(nn.Linear(20, 9), precision)
    x = torch.randn(3, 20)
    expected = packed(x)
    for value in (float("nan"), float("inf")):
        wrong = x.clone()
        wrong[1, 7] = value
        found = packed(wrong)
        assert not torch.isfinite(found[1]).any()
        assert torch.equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda layer: layer.train(), "cannot be trained"),
        (lambda layer: layer.state_dict(), "cannot be saved"),
        (lambda layer: layer.load_state_dict({}), "cannot be given other weights"),
        (lambda layer: layer.double(), "cannot be moved to cpu as torch.float64"),
        (lambda layer: layer.to("meta"), "cannot be moved to meta"),
        (pickle.dumps, "cannot be pickled"),
    ],
)
def test_a_packed_layer_is_for_inference(what, message: str) -> None:
    for layer in (
        PackedLinear.from_linear(nn.Linear(2, 3)),
        PackedMixture.from_mixture(MixtureFeedForward(2, 3)),
    ):
        with pytest.raises(ConfigError, match=message):
            what(nn.ModuleList([layer]))
        assert not layer.training


@torch.no_grad()
def test_a_copy_outlives_what_it_was_copied_from() -> None:
    packed = PackedLinear.from_linear(nn.Linear(300, 200))
    x = torch.randn(2, 300)
    expected = packed(x)
    copied = copy.deepcopy(packed).eval().to("cpu").float()
    del packed
    gc.collect()
    rubbish = [np.full(300 * 200, 7.0, np.float32) for _ in range(20)]
    assert torch.equal(copied(x), expected) and len(rubbish) == 20


def test_gradients_are_not_promised() -> None:
    """What comes out does not pretend to know where it came from."""
    x = torch.randn(2, 3, requires_grad=True)
    assert not PackedLinear.from_linear(nn.Linear(3, 4))(x).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@torch.no_grad()
def test_rows_of_another_type_are_made_float32(dtype: torch.dtype) -> None:
    """As under autocast, where what comes before gives them."""
    linear = PackedLinear.from_linear(nn.Linear(6, 5))
    mixture = PackedMixture.from_mixture(MixtureFeedForward(6, 5, 4, 2, "relu"), "int8")
    x = torch.randn(2, 3, 6).to(dtype)
    packing = FramePacking.from_lengths(torch.tensor([3, 1]), 3)
    assert torch.equal(linear(x), linear(x.float())) and linear(x).dtype == torch.float32
    assert torch.equal(mixture(x, packing), mixture(x.float(), packing))


@torch.no_grad()
def test_what_is_packed_does_not_change_with_what_it_was_packed_from() -> None:
    layer = MixtureFeedForward(6, 5, 4, 2, "relu")
    packed = PackedMixture.from_mixture(layer)
    x = torch.randn(1, 9, 6)
    expected = packed(x, FramePacking())
    for parameter in layer.parameters():
        parameter.normal_()
    assert torch.equal(packed(x, FramePacking()), expected)
