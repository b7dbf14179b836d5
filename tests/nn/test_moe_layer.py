"""The mixture layer against a per-frame reference, in value and gradient, and its invariances."""

import pytest
import torch

from moe_asr.nn.moe.experts import grouped_feed_forward
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.moe.losses import load_balance_loss, z_loss
from moe_asr.nn.moe.statistics import collect_routing
from moe_asr.nn.packing import FramePacking
from tests.nn.references import mixture_by_hand

DIM, HIDDEN = 6, 10
SHAPES = [(1, 1), (3, 3), (8, 2), (5, 4), (4, 1), (6, 3)]


def run(layer: MixtureFeedForward, x: torch.Tensor, lengths: list[int] | None = None):
    lengths = lengths if lengths is not None else [x.shape[1]] * len(x)
    return layer(x, FramePacking.from_lengths(torch.tensor(lengths), x.shape[1]))


def gradients(output: torch.Tensor, layer: MixtureFeedForward, x: torch.Tensor, weight):
    inputs = [x, *layer.parameters()]
    return torch.autograd.grad((output * weight).sum(), inputs, allow_unused=True)


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("experts,chosen", SHAPES)
def test_forward_and_gradients_equal_the_slow_reference(experts, chosen, activation):
    layer = MixtureFeedForward(DIM, HIDDEN, experts, chosen, activation)
    lengths = [7, 0, 4, 1]
    x = torch.randn(4, 7, DIM, requires_grad=True)
    out = run(layer, x, lengths)
    expected = torch.zeros(4, 7, DIM)
    for n, length in enumerate(lengths):
        expected[n, :length] = mixture_by_hand(layer, x[n, :length])
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(out)
    got, want = gradients(out, layer, x, weight), gradients(expected, layer, x, weight)
    assert len(got) == (5 if experts == 1 else 6)
    for name, g, w in zip(["x", *dict(layer.named_parameters())], got, want, strict=True):
        torch.testing.assert_close(
            g, w, atol=2e-6, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("experts,chosen", SHAPES)
def test_identical_experts_equal_the_dense_layer(experts, chosen):
    dense = MixtureFeedForward(DIM, HIDDEN, 1, 1)
    mixture = MixtureFeedForward(DIM, HIDDEN, experts, chosen)
    with torch.no_grad():
        for name in ("w1", "b1", "w2", "b2"):
            weight = getattr(dense, name)
            getattr(mixture, name).copy_(weight.expand(experts, *weight.shape[1:]))
        if experts > 1:
            mixture.router.normal_()
    x = torch.randn(2, 9, DIM, requires_grad=True)
    got, want = run(mixture, x), run(dense, x)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(got)
    got = torch.autograd.grad((got * weight).sum(), [x, mixture.w1, mixture.b2])
    want = torch.autograd.grad((want * weight).sum(), [x, dense.w1, dense.b2])
    torch.testing.assert_close(got[0], want[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got[1].sum(0, keepdim=True), want[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got[2].sum(0, keepdim=True), want[2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("experts", [2, 3, 8])
def test_all_experts_chosen_equals_the_dense_softmax_mixture(experts):
    layer = MixtureFeedForward(DIM, HIDDEN, experts, experts)
    x = torch.randn(2, 5, DIM)
    hidden = torch.einsum("ntd,edh->nteh", x, layer.w1) + layer.b1
    outputs = torch.einsum("nteh,ehd->nted", hidden * hidden.sigmoid(), layer.w2) + layer.b2
    gates = torch.einsum("ntd,ed->nte", x, layer.router).softmax(-1)
    expected = torch.einsum("nte,nted->ntd", gates, outputs)
    torch.testing.assert_close(run(layer, x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("chosen", [1, 2, 3])
def test_grouped_feed_forward_gradcheck(chosen, activation):
    experts = 4
    choices = torch.stack([torch.randperm(3)[:chosen] for _ in range(6)])  # expert 3 gets nothing
    tensors = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((6, 3), (6, chosen), (experts, 3, 5), (experts, 5), (experts, 5, 3), (experts, 3))
    ]  # fmt: skip

    def function(x, gates, w1, b1, w2, b2):
        return grouped_feed_forward(x, gates, choices, w1, b1, w2, b2, activation)

    assert torch.autograd.gradcheck(function, tensors)


def test_grouped_feed_forward_takes_any_memory_layout():
    x, gates = torch.randn(3, 7).t(), torch.rand(2, 7).t()
    choices = torch.randint(0, 4, (2, 7)).t()
    w1, b1 = torch.randn(4, 5, 3).transpose(1, 2), torch.randn(5, 4).t()
    w2, b2 = torch.randn(4, 3, 5).transpose(1, 2), torch.randn(3, 4).t()
    tensors = [tensor.requires_grad_() for tensor in (x, gates, w1, b1, w2, b2)]
    out = grouped_feed_forward(x, gates, choices, w1, b1, w2, b2)
    copies = [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in tensors]
    copies = [tensor.requires_grad_() for tensor in copies]
    expected = grouped_feed_forward(*copies[:2], choices.contiguous(), *copies[2:])
    torch.testing.assert_close(out, expected)
    out.sum().backward()  # an expanded gradient
    expected.sum().backward()
    for a, b in zip(tensors, copies, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_permuting_experts_with_the_router_changes_nothing():
    layer = MixtureFeedForward(DIM, HIDDEN, 8, 2)
    x = torch.randn(2, 12, DIM, requires_grad=True)
    before = run(layer, x)
    (grad_before,) = torch.autograd.grad(before.square().sum(), x)
    order = torch.randperm(8)
    assert order.tolist() != sorted(order.tolist())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter[order])
    after = run(layer, x)
    (grad_after,) = torch.autograd.grad(after.square().sum(), x)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(grad_after, grad_before, atol=1e-5, rtol=1e-4)


def test_permuting_experts_without_the_router_changes_the_output():
    layer = MixtureFeedForward(DIM, HIDDEN, 8, 2)
    x = torch.randn(1, 12, DIM)
    before = run(layer, x)
    with torch.no_grad():
        layer.w1.copy_(layer.w1.roll(1, 0))
    assert (run(layer, x) - before).abs().max() > 1e-3


@pytest.mark.parametrize("experts,chosen", [(1, 1), (8, 2), (3, 3)])
def test_padding_and_batch_composition_change_nothing(experts, chosen):
    layer = MixtureFeedForward(DIM, HIDDEN, experts, chosen)
    lengths = [5, 9, 2]
    sequences = [torch.randn(length, DIM) for length in lengths]
    alone = [run(layer, sequence[None])[0] for sequence in sequences]
    for order in ([0, 1, 2], [2, 0, 1]):
        batch = 1e6 * torch.randn(3, 11, DIM)
        for row, index in enumerate(order):
            batch[row, : lengths[index]] = sequences[index]
        out = run(layer, batch, [lengths[index] for index in order])
        for row, index in enumerate(order):
            torch.testing.assert_close(
                out[row, : lengths[index]], alone[index], atol=1e-6, rtol=1e-5
            )
            assert not out[row, lengths[index] :].any(), "padding must give zeros"


def test_padding_with_not_a_number_reaches_no_frame_and_no_gradient():
    layer = MixtureFeedForward(DIM, HIDDEN, 4, 2)
    x = torch.randn(2, 5, DIM)
    clean = run(layer, x, [5, 3])
    clean.sum().backward()
    grads = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    x[1, 3:] = float("nan")
    dirty = run(layer, x, [5, 3])
    dirty.sum().backward()
    assert torch.equal(dirty, clean)
    assert all(torch.equal(p.grad, g) for p, g in zip(layer.parameters(), grads, strict=True))


def test_padded_frames_are_not_counted():
    layer = MixtureFeedForward(DIM, HIDDEN, 5, 2)
    with collect_routing(layer) as statistics:
        run(layer, torch.randn(3, 7, DIM), [7, 0, 3])
    (item,) = statistics.values()
    assert item.num_frames == 10
    assert float(item.assignments.sum()) == 20


def test_experts_without_frames_get_zero_gradients():
    layer = MixtureFeedForward(DIM, HIDDEN, 5, 2)
    with torch.no_grad():
        layer.router[:, 0] = torch.tensor([-9.0, 5.0, 4.0, -8.0, 3.0])
    x = torch.randn(2, 6, DIM)
    x[:, :, 0] = 20.0
    loss = run(layer, x).square().sum()
    dirt = [torch.full_like(p, float("nan")) for p in layer.parameters() for _ in range(4)]
    del dirt  # gradients that are not filled would likely find this memory
    loss.backward()
    for weight in (layer.w1, layer.b1, layer.w2, layer.b2):
        used = [bool(gradient.any()) for gradient in weight.grad]
        assert used == [False, True, True, False, False]


@pytest.mark.parametrize("experts,chosen", [(1, 1), (8, 2), (5, 3)])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_zero_frames(experts, chosen, shape):
    layer = MixtureFeedForward(DIM, HIDDEN, experts, chosen, load_balance_weight=1.0)
    x = torch.randn(*shape, DIM, requires_grad=True)
    packing = FramePacking.from_lengths(torch.zeros(shape[0], dtype=torch.int64), shape[1])
    out = layer(x, packing)
    assert out.shape == x.shape and not out.any()
    assert packing.auxiliary_losses == []
    out.sum().backward()
    assert not layer.w1.grad.any() and torch.isfinite(layer.w1.grad).all()


def test_gates_are_a_softmax_over_the_chosen_logits_in_float32():
    layer = MixtureFeedForward(DIM, HIDDEN, 6, 3).double()
    logits, gates, experts = layer.route(torch.randn(20, DIM, dtype=torch.float64))
    assert logits.dtype == gates.dtype == torch.float32 and experts.dtype == torch.int64
    torch.testing.assert_close(gates.sum(1), torch.ones(20))
    assert all(len(set(row.tolist())) == 3 for row in experts)
    expected = logits.gather(1, experts).exp()
    torch.testing.assert_close(gates, expected / expected.sum(1, keepdim=True))
    rest = torch.ones_like(logits, dtype=torch.bool).scatter(1, experts, False)
    assert (logits.masked_fill(~rest, -1e9).max(1)[0] <= logits.gather(1, experts).min(1)[0]).all()


@pytest.mark.parametrize(
    "kwargs,text",
    [
        ({"num_experts": 4, "num_chosen": 5}, "1..4, found 5"),
        ({"num_experts": 4, "num_chosen": 0}, "1..4, found 0"),
        ({"activation": "gelu"}, "'relu', 'silu'.*'gelu'"),
    ],
)
def test_wrong_arguments(kwargs, text):
    with pytest.raises(ValueError, match=text):
        MixtureFeedForward(DIM, HIDDEN, **kwargs)


def test_load_balance_loss_is_one_when_balanced():
    experts = torch.arange(8).repeat(3)[:, None]
    torch.testing.assert_close(load_balance_loss(torch.zeros(24, 8), experts), torch.tensor(1.0))


def test_load_balance_loss_is_num_experts_when_collapsed():
    logits = torch.full((10, 4), -50.0)
    logits[:, 2] = 50.0
    experts = torch.full((10, 1), 2)
    torch.testing.assert_close(load_balance_loss(logits, experts), torch.tensor(4.0))


def test_load_balance_loss_equals_its_definition():
    logits = torch.randn(13, 5)
    experts = logits.topk(2, 1)[1]
    expected = 0.0
    for e in range(5):
        share = sum(e in row for row in experts.tolist()) / (13 * 2)
        probability = sum(float(row.exp()[e] / row.exp().sum()) for row in logits) / 13
        expected += 5 * share * probability
    assert float(load_balance_loss(logits, experts)) == pytest.approx(expected, rel=1e-5)


def test_z_loss_equals_its_definition():
    logits = torch.randn(7, 5)
    expected = sum(float(row.exp().sum().log()) ** 2 for row in logits) / 7
    assert float(z_loss(logits)) == pytest.approx(expected, rel=1e-5)


def test_auxiliary_losses_are_off_by_default_and_in_eval_mode():
    packing = FramePacking()
    MixtureFeedForward(DIM, HIDDEN, 4, 2)(torch.randn(1, 5, DIM), packing)
    layer = MixtureFeedForward(DIM, HIDDEN, 4, 2, load_balance_weight=1.0, z_loss_weight=1.0)
    layer.eval()(torch.randn(1, 5, DIM), packing)
    assert packing.auxiliary_losses == []


def test_auxiliary_losses_are_weighted_and_reach_the_router_only():
    layer = MixtureFeedForward(DIM, HIDDEN, 4, 2, load_balance_weight=0.25, z_loss_weight=0.5)
    x = torch.randn(2, 5, DIM)
    packing = FramePacking.from_lengths(torch.tensor([5, 2]), 5)
    layer(x, packing)
    frames = torch.cat([x[0], x[1, :2]])
    logits = frames @ layer.router.t()
    balance, z = packing.auxiliary_losses
    expected = 0.25 * load_balance_loss(logits, logits.topk(2, 1)[1])
    torch.testing.assert_close(balance, expected)
    torch.testing.assert_close(z, 0.5 * logits.logsumexp(1).square().mean())
    for loss in (balance, z):
        layer.zero_grad()
        loss.backward(retain_graph=True)
        assert layer.router.grad.abs().sum() > 0
        assert layer.w1.grad is None
