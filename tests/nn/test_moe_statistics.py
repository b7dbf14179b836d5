"""Routing statistics against closed forms, and their picture."""

import math

import matplotlib.image
import pytest
import torch

from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.moe.statistics import RoutingStatistics, collect_routing, draw_routing
from moe_asr.nn.packing import FramePacking
from tests.nn.references import make_model


def empty(num_experts: int) -> RoutingStatistics:
    return RoutingStatistics(torch.zeros(num_experts, dtype=torch.float64))


def test_an_even_router():
    item = empty(4)
    item.update(torch.zeros(8, 4), torch.arange(4).repeat(2)[:, None])
    assert item.share.tolist() == [0.25] * 4
    assert item.router_entropy == pytest.approx(math.log(4))
    assert item.share_entropy == pytest.approx(1.0)


def test_a_collapsed_router():
    item = empty(4)
    item.update(torch.tensor([[0.0, 200.0, 0.0, 0.0]]).repeat(5, 1), torch.full((5, 1), 1))
    assert item.share.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert item.router_entropy == pytest.approx(0.0, abs=1e-12)
    assert item.share_entropy == pytest.approx(0.0, abs=1e-12)


def test_updates_add_up_to_the_definition():
    item, logits = empty(5), torch.randn(12, 5)
    experts = logits.topk(2, 1)[1]
    item.update(logits[:7], experts[:7])
    item.update(logits[7:], experts[7:])
    counts = [sum(row.count(e) for row in experts.tolist()) for e in range(5)]
    assert item.assignments.tolist() == counts
    assert item.share.tolist() == pytest.approx([count / 24 for count in counts])
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum() / 12
    assert item.router_entropy == pytest.approx(float(entropy), rel=1e-5)
    share = [count / 24 for count in counts if count]
    expected = -sum(p * math.log(p) for p in share) / math.log(5)
    assert item.share_entropy == pytest.approx(expected)


def test_before_the_first_frame():
    item = empty(3)
    assert item.share.tolist() == [0.0] * 3 and item.router_entropy == 0.0


def test_collecting_from_a_model_covers_every_mixture_layer():
    model = make_model()
    features, lengths = torch.randn(2, 60, 20), torch.tensor([60, 31])
    memory, memory_lengths = model.encode(features, lengths)
    with collect_routing(model) as statistics:
        model.encode(features, lengths)
        targets, target_lengths = torch.tensor([[3, 4, 5], [6, 7, -1]]), torch.tensor([3, 2])
        model.decoder_log_probs(memory, memory_lengths, targets, target_lengths)
    assert len(statistics) == 2 * 2 + 1 + 1
    for name, item in statistics.items():
        frames = {"encoder": int(memory_lengths.sum()), "left_to_right": 7, "right_to_left": 0}
        assert item.num_frames == frames[name.split(".")[0]]
        if item.num_frames:
            assert float(item.share.sum()) == pytest.approx(1.0)
            assert 0.0 <= item.router_entropy <= math.log(4) + 1e-9
            assert 0.0 <= item.share_entropy <= 1.0 + 1e-9


def test_collecting_changes_no_output_and_ends_with_the_block():
    model = make_model()
    features, lengths = torch.randn(1, 40, 20), torch.tensor([40])
    plain = model.encode(features, lengths)[0]
    with pytest.raises(RuntimeError), collect_routing(model) as statistics:
        assert torch.equal(model.encode(features, lengths)[0], plain)
        raise RuntimeError
    seen = [item.num_frames for item in statistics.values()]
    model.encode(features, lengths)
    assert [item.num_frames for item in statistics.values()] == seen
    layers = [m for m in model.modules() if isinstance(m, MixtureFeedForward)]
    assert all(layer.statistics is None for layer in layers)


def test_nested_collection_gives_back_the_outer_one():
    layer = MixtureFeedForward(4, 8, 3, 1)
    x = torch.randn(1, 5, 4)
    with collect_routing(layer) as outer:
        layer(x, FramePacking())
        with collect_routing(layer) as inner:
            layer(x, FramePacking())
        layer(x, FramePacking())
    assert (outer[""].num_frames, inner[""].num_frames) == (10, 5)


def test_a_dense_model_has_nothing_to_collect_or_draw(tmp_path):
    with collect_routing(make_model(num_experts=1, num_chosen=1)) as statistics:
        pass
    assert statistics == {}
    with pytest.raises(ValueError, match="no mixture layers"):
        draw_routing(statistics, tmp_path / "routing.png")


def test_the_picture_shows_the_shares(tmp_path):
    first, second = empty(4), empty(4)
    first.update(torch.zeros(4, 4), torch.tensor([[0], [0], [0], [1]]))
    second.update(torch.zeros(4, 4), torch.tensor([[3], [3], [3], [3]]))
    draw_routing({"a": first, "b": second}, tmp_path / "one.png")
    draw_routing({"a": first, "b": first}, tmp_path / "two.png")
    one, two = (matplotlib.image.imread(tmp_path / name) for name in ("one.png", "two.png"))
    colours = one[:, :, :3].reshape(-1, 3)
    assert min(one.shape[:2]) > 100 and len(set(map(tuple, colours.tolist()))) > 50
    assert one.shape != two.shape or abs(one - two).max() > 0.1
