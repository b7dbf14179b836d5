"""The causal convolution: its definition, no look into the future, and its cache."""

import pytest
import torch

from moe_asr.nn.convolution import CausalConvolution

DIM = 6


def by_hand(layer: CausalConvolution, x_TD: torch.Tensor) -> torch.Tensor:
    expanded = layer.expand(x_TD)
    inputs = expanded[:, :DIM] * torch.sigmoid(expanded[:, DIM:])
    rows = []
    for t in range(len(x_TD)):
        y = layer.depthwise.bias
        for tap in range(layer.kernel):
            source = t - layer.kernel + 1 + tap
            if source >= 0:
                y = y + layer.depthwise.weight[:, 0, tap] * inputs[source]
        y = (y - y.mean()) / (y.var(unbiased=False) + layer.norm.eps).sqrt()
        y = y * layer.norm.weight + layer.norm.bias
        rows.append(layer.output(y * torch.sigmoid(y)))
    return torch.stack(rows)


@pytest.fixture(params=[1, 2, 5])
def layer(request):
    layer = CausalConvolution(DIM, request.param).double()
    with torch.no_grad():
        layer.norm.weight.normal_()
        layer.norm.bias.normal_()
    return layer


def test_equals_its_definition(layer):
    x = torch.randn(2, 7, DIM, dtype=torch.float64, requires_grad=True)
    out, history = layer(x)
    expected = torch.stack([by_hand(layer, sequence) for sequence in x])
    torch.testing.assert_close(out, expected)
    assert history.shape == (2, layer.kernel - 1 + 7, DIM)
    weight = torch.randn_like(out)
    inputs = [x, *layer.parameters()]
    got = torch.autograd.grad((out * weight).sum(), inputs)
    want = torch.autograd.grad((expected * weight).sum(), inputs)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w)


def test_frame_t_sees_exactly_the_kernel_before_it(layer):
    x = torch.randn(1, 9, DIM, dtype=torch.float64, requires_grad=True)
    out, _ = layer(x)
    for t in range(9):
        (gradient,) = torch.autograd.grad(out[0, t].square().sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(1) > 0
        assert seen.tolist() == [t - layer.kernel < s <= t for s in range(9)]


@pytest.mark.parametrize("cuts", [[3, 4], [1, 1, 5], [1] * 7])
def test_cache_equals_one_call(layer, cuts):
    x = torch.randn(2, 7, DIM, dtype=torch.float64)
    expected, _ = layer(x)
    cache, parts = None, []
    for part in x.split(cuts, 1):
        out, history = layer(part, cache)
        cache = history[:, history.shape[1] - (layer.kernel - 1) :]
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), expected)


def test_wrong_kernel():
    with pytest.raises(ValueError, match="kernel must be at least 1, found 0"):
        CausalConvolution(DIM, 0)
