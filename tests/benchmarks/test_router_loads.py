"""Routers that are set to a load have it, also on frames that they were not set with."""

import pytest
import torch

from benchmarks.encoder_work import Routing
from benchmarks.router_loads import even_load, fit_router, hot_load, set_loads, zipf_load
from tests.nn.references import make_model

NUM_EXPERTS, NUM_CHOSEN = 8, 2
LOADS = {
    "even": even_load(NUM_EXPERTS),
    "zipf": zipf_load(NUM_EXPERTS, NUM_CHOSEN),
    "steep": zipf_load(NUM_EXPERTS, NUM_CHOSEN, 2.0),
    "hot": hot_load(NUM_EXPERTS, NUM_CHOSEN),
}


@pytest.mark.parametrize("name", LOADS)
def test_loads_can_be_had(name: str) -> None:
    load = LOADS[name]
    assert len(load) == NUM_EXPERTS and sum(load) == pytest.approx(1.0)
    assert load == sorted(load, reverse=True)
    assert 0.0 <= min(load) and max(load) <= 1.0 / NUM_CHOSEN


def test_zipf_keeps_its_ratios_below_the_cap() -> None:
    assert LOADS["zipf"][0] == pytest.approx(8 * LOADS["zipf"][7])
    assert LOADS["steep"][0] == 0.5  # 65 % without the cap
    assert LOADS["steep"][1] == pytest.approx(16 * LOADS["steep"][7])


@pytest.mark.parametrize("name", LOADS)
def test_a_router_has_the_load_on_other_frames(name: str) -> None:
    common = torch.randn(32)
    frames = torch.nn.functional.layer_norm(torch.randn(3000, 32) + common, (32,))
    router = fit_router(torch.randn(NUM_EXPERTS, 32), frames[:2000], LOADS[name], NUM_CHOSEN)
    chosen = (frames[2000:] @ router.t()).topk(NUM_CHOSEN, dim=1)[1]
    share = torch.bincount(chosen.flatten(), minlength=NUM_EXPERTS) / chosen.numel()
    assert router.dtype == torch.float32
    torch.testing.assert_close(share, torch.tensor(LOADS[name]), rtol=0.0, atol=0.03)


def test_all_layers_of_an_encoder_get_it() -> None:
    encoder = make_model(num_experts=8, encoder_layers=3, subsampling_channels=16).encoder
    features = torch.randn(2, 2003, 20)
    set_loads(encoder, features, LOADS["hot"])
    routing = Routing.of(encoder, features)
    hot = [tuple(one.unique().tolist()) for one in routing.chosen.values()]
    assert [len(one) for one in hot] == [2] * 6
    assert len(set(hot)) > 1, "the same experts in all layers"
    before = routing.load(8, 2, [slice(None)]).entropy
    set_loads(encoder, features, LOADS["zipf"])
    load = Routing.of(encoder, features).load(8, 2, [slice(None)])
    torch.testing.assert_close(load.shares, LOADS["zipf"], rtol=0.0, atol=0.03)
    assert before == pytest.approx(1 / 3) and 0.8 < load.entropy < 0.95
