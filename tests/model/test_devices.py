"""Autocast on the CPU, and, where there is one, the GPU against the CPU."""

import copy

import pytest
import torch

from tests.nn.references import VOCAB, make_model, padded

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def batch():
    features, lengths = padded([torch.randn(n, 20) for n in (90, 55, 70)])
    targets = torch.randint(2, VOCAB, (3, 4))
    return features, lengths, targets, torch.tensor([4, 1, 3])


def losses_and_gradients(model, data, device, dtype=None):
    model = copy.deepcopy(model).to(device)
    data = [tensor.to(device) for tensor in data]
    with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model(*data)
    losses.total.backward()
    grads = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return losses.per_utterance.cpu(), grads


def relative_error(got: dict, want: dict) -> float:
    error = sum(float((got[name] - want[name]).square().sum()) for name in want)
    return (error / sum(float(gradient.square().sum()) for gradient in want.values())) ** 0.5


@pytest.mark.skipif(TORCH < (2, 0), reason="torch 1.13 has no bf16 LayerNorm of float32 weights")
@pytest.mark.parametrize("experts,chosen", [(1, 1), (4, 2), (4, 4)])
def test_bf16_autocast_on_the_cpu(experts, chosen):
    model, data = make_model(num_experts=experts, num_chosen=chosen), batch()
    expected, expected_grads = losses_and_gradients(model, data, "cpu")
    got, grads = losses_and_gradients(model, data, "cpu", torch.bfloat16)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.1)
    assert set(grads) == set(expected_grads)
    if experts == chosen:  # otherwise rounding sends some frames to other experts
        assert relative_error(grads, expected_grads) < 0.2
    assert all(torch.isfinite(gradient).all() for gradient in grads.values())
    assert all(gradient.dtype == torch.float32 for gradient in grads.values())


@needs_gpu
@pytest.mark.parametrize("experts,chosen", [(1, 1), (4, 2), (5, 3)])
def test_gpu_equals_cpu(experts, chosen):
    model, data = make_model(num_experts=experts, num_chosen=chosen), batch()
    expected, expected_grads = losses_and_gradients(model, data, "cpu")
    got, grads = losses_and_gradients(model, data, "cuda")
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert set(grads) == set(expected_grads) and relative_error(grads, expected_grads) < 1e-2


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_on_the_gpu(dtype):
    model, data = make_model(num_experts=4, num_chosen=4), batch()
    expected, expected_grads = losses_and_gradients(model, data, "cpu")
    got, grads = losses_and_gradients(model, data, "cuda", dtype)
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.1)
    assert relative_error(grads, expected_grads) < 0.2


@needs_gpu
def test_training_mode_runs_on_the_gpu():
    model = make_model(dropout=0.1, load_balance_weight=0.1).train().cuda()
    model(*[tensor.cuda() for tensor in batch()]).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@needs_gpu
@torch.no_grad()
def test_streams_on_the_gpu_equal_the_full_pass():
    model = make_model().cuda()
    features = torch.randn(2, 95, 20).cuda()
    lengths = torch.tensor([95, 95]).cuda()
    expected, _ = model.encode(features, lengths, 4, 2)
    state, parts = model.init_stream(2, 4, 2), []
    for start in range(0, 95, 16):
        part = features[:, start : start + 16]
        size = torch.full((2,), part.shape[1]).cuda()
        last = torch.full((2,), start + 16 >= 95).cuda()
        out, out_lengths, state = model.encode_chunk(part, size, state, last)
        parts.append(out[:, : int(out_lengths[0])])
    out, out_lengths, state = model.encode_chunk(features[:, :0], size * 0, state)
    parts.append(out[:, : int(out_lengths[0])])
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-3, rtol=0)
