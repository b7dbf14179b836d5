"""The cheap dropout has the distribution and the gradient of the ordinary one."""

import math

import pytest
import torch

from moe_asr.nn.dropout import Dropout

NUM = 200_000


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
def test_rate_scale_and_mean(p):
    out = Dropout(p)(torch.ones(NUM))
    zeros = int((out == 0).sum())
    assert abs(zeros / NUM - p) < 6 * math.sqrt(p * (1 - p) / NUM) + 1 / 65536
    kept = out[out != 0]
    assert float(kept.min()) == float(kept.max()) == pytest.approx(1 / (1 - p), rel=1e-3)
    assert float(out.mean()) == pytest.approx(1.0, abs=6 * math.sqrt(p / (1 - p) / NUM) + 1e-3)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8, 100])
def test_neighbouring_elements_are_dropped_independently(step):
    dropped = (Dropout(0.3)(torch.ones(NUM)) == 0).double()
    both = float((dropped[:-step] * dropped[step:]).mean())
    assert both == pytest.approx(0.09, abs=6 * math.sqrt(0.09 * 0.91 / NUM))


def test_every_lane_of_the_random_word_has_the_same_rate():
    dropped = (Dropout(0.3)(torch.ones(NUM)) == 0).double().view(-1, 4).mean(0)
    assert (dropped - 0.3).abs().max() < 6 * math.sqrt(0.21 / (NUM / 4))


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 1, 7), (0,), (2, 0, 3), ()])
def test_any_shape(shape):
    x = torch.ones(shape)
    out = Dropout(0.5)(x)
    assert out.shape == x.shape and out.dtype == x.dtype
    assert all(value in (0.0, 2.0) for value in out.flatten().tolist())


def test_eval_mode_and_zero_probability_are_the_identity():
    x = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_the_seed_of_torch_decides_the_mask():
    layer, x = Dropout(0.4), torch.ones(1000)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)
    assert not torch.equal(first, second)


def test_the_gradient_passes_the_same_mask():
    x = torch.randn(1000, requires_grad=True)
    out = Dropout(0.4)(x)
    weight = torch.randn(1000)
    (out * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight * out.detach() / x.detach())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    assert Dropout(0.5)(torch.ones(8, dtype=dtype)).dtype == dtype


def test_non_contiguous_input():
    x = torch.randn(30, 40).t()
    out = Dropout(0.5)(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * x[kept])
    assert 0.3 < float(kept.double().mean()) < 0.7


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0, float("nan")])
def test_wrong_probability(p):
    with pytest.raises(ValueError, match="dropout"):
        Dropout(p)


def test_a_probability_next_to_one():
    out = Dropout(0.9999999)(torch.ones(10_000))
    assert torch.isfinite(out).all() and int((out != 0).sum()) < 10
