"""Relative and plain attention against double loops over queries and keys."""

import math

import pytest
import torch

from moe_asr.nn.attention import (
    Attention,
    RelativeAttention,
    relative_positions,
    relative_shift,
    sinusoids,
)
from tests.nn.references import sinusoid

DIM, HEADS = 8, 2
WIDTH = DIM // HEADS
CPU = torch.device("cpu")


def relative_by_hand(layer, x, mask, past_x):
    """One sequence: (Tq, D) queries, keys over ``past_x`` (L, D) and ``x``; float64."""
    both = torch.cat([past_x, x])
    qkv_weight, qkv_bias = layer.query_key_value.weight, layer.query_key_value.bias
    query = x @ qkv_weight[:DIM].t() + qkv_bias[:DIM]
    key = both @ qkv_weight[DIM : 2 * DIM].t() + qkv_bias[DIM : 2 * DIM]
    value = both @ qkv_weight[2 * DIM :].t() + qkv_bias[2 * DIM :]
    rows = []
    for i in range(len(x)):
        heads = []
        for h in range(HEADS):
            part = slice(h * WIDTH, (h + 1) * WIDTH)
            scores = []
            for j in range(len(both)):
                distance = len(past_x) + i - j
                position = layer.position.weight @ sinusoid(distance, DIM)
                score = (query[i, part] + layer.content_bias[h]) @ key[j, part]
                score = score + (query[i, part] + layer.position_bias[h]) @ position[part]
                allowed = mask is None or bool(mask[i, j])
                scores.append(score / math.sqrt(WIDTH) if allowed else score * 0 - math.inf)
            heads.append(torch.stack(scores).softmax(0) @ value[:, part])
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ layer.output.weight.t() + layer.output.bias


@pytest.fixture
def layer():
    layer = RelativeAttention(DIM, HEADS).double()
    with torch.no_grad():
        layer.content_bias.normal_()
        layer.position_bias.normal_()
    return layer


def random_mask(rows: int, columns: int) -> torch.Tensor:
    mask = torch.rand(rows, columns) < 0.6
    mask[:, 0] = True  # every query needs a key
    return mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("past", [0, 1, 4])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_relative_attention_equals_the_double_loop(layer, frames, past, masked):
    past_x = torch.randn(2, past, DIM, dtype=torch.float64)
    x = torch.randn(2, frames, DIM, dtype=torch.float64, requires_grad=True)
    mask = torch.stack([random_mask(frames, past + frames) for _ in range(2)]) if masked else None
    cache = None
    if past:
        positions = relative_positions(past, past, DIM, CPU)
        cache = layer(past_x, positions, None)[1:]
    positions = relative_positions(frames, past + frames, DIM, CPU)
    given = None if mask is None else mask[:, None]
    out, keys, values = layer(x, positions, given, cache)
    rows = [
        relative_by_hand(layer, x[n], None if mask is None else mask[n], past_x[n]) for n in (0, 1)
    ]
    expected = torch.stack(rows)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)
    assert keys.shape == values.shape == (2, HEADS, past + frames, WIDTH)
    weight = torch.randn_like(out)
    inputs = [x, layer.content_bias, layer.position_bias, layer.position.weight]
    inputs += [layer.query_key_value.weight]
    got = torch.autograd.grad((out * weight).sum(), inputs)
    want = torch.autograd.grad((expected * weight).sum(), inputs)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("queries,keys", [(1, 1), (1, 4), (3, 3), (2, 6), (5, 7)])
def test_relative_shift_equals_a_gather(queries, keys):
    raw = torch.randn(2, 3, queries, keys + queries - 1)
    index = queries - 1 - torch.arange(queries)[:, None] + torch.arange(keys)[None, :]
    expected = raw.gather(3, index.expand(2, 3, queries, keys))
    assert torch.equal(relative_shift(raw), expected)
    odd = raw.transpose(0, 1).contiguous().transpose(0, 1)  # not contiguous
    assert torch.equal(relative_shift(odd), expected)


@pytest.mark.parametrize("queries,keys", [(1, 3), (3, 3), (2, 4)])
def test_relative_shift_gradcheck(queries, keys):
    raw = torch.randn(2, 2, queries, keys + queries - 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relative_shift, [raw])


def test_the_last_query_is_at_the_last_key():
    table = relative_positions(3, 5, DIM, CPU)
    expected = torch.stack([sinusoid(distance, DIM) for distance in range(4, -3, -1)])
    torch.testing.assert_close(table, expected.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dim", [2, 7, 8])
def test_sinusoids(dim):
    positions = torch.tensor([-3.0, 0.0, 0.5, 2000.0])
    expected = torch.stack([sinusoid(float(p), dim) for p in positions]).float()
    torch.testing.assert_close(sinusoids(positions, dim), expected, atol=2e-4, rtol=1e-4)


def test_plain_attention_equals_the_double_loop():
    layer = Attention(DIM, HEADS).double()
    x = torch.randn(2, 3, DIM, dtype=torch.float64)
    source = torch.randn(2, 5, DIM, dtype=torch.float64)
    mask = torch.stack([random_mask(3, 5) for _ in range(2)])
    expected = torch.zeros(2, 3, DIM, dtype=torch.float64)
    for n in range(2):
        query = layer.query(x[n])
        key, value = layer.key_value(source[n]).split(DIM, 1)
        for i in range(3):
            for h in range(HEADS):
                part = slice(h * WIDTH, (h + 1) * WIDTH)
                keys = [j for j in range(5) if mask[n, i, j]]
                scores = [query[i, part] @ key[j, part] / math.sqrt(WIDTH) for j in keys]
                weights = torch.stack(scores).softmax(0)
                expected[n, i, part] = sum(
                    w * value[j, part] for w, j in zip(weights, keys, strict=True)
                )
    expected = layer.output(expected)
    torch.testing.assert_close(layer(x, source, mask[:, None]), expected, atol=2e-6, rtol=1e-5)


def test_a_query_without_any_key_gives_finite_numbers(layer):
    layer = layer.float()
    x = torch.randn(1, 3, DIM, requires_grad=True)
    mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    out, _, _ = layer(x, relative_positions(3, 3, DIM, CPU), mask)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("kind", [Attention, RelativeAttention])
def test_dim_must_be_divisible_by_heads(kind):
    with pytest.raises(ValueError, match="10 is not divisible by 4"):
        kind(10, 4)
