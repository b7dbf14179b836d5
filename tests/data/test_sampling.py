import dataclasses
import hashlib
import random
import warnings
from collections import Counter

import pytest

from moe_asr.data.config import DataConfig
from moe_asr.data.sampling import EpochSampler, draw_speed_factor, random_for
from moe_asr.errors import ConfigError, DataError

CONFIG = DataConfig(max_duration_seconds=20, num_buckets=4, seed=3)


@pytest.fixture(scope="module")
def cuts(make_cut):
    rng = random.Random(0)
    return [make_cut(f"cut{i:03d}", round(rng.uniform(0.5, 6.0), 3)) for i in range(200)]


def ids(sampler):
    return [[cut.id for cut in batch] for batch in sampler]


def perturbed_durations(batch, config, epoch):
    return [
        c.duration / draw_speed_factor(random_for(config.seed, epoch, c.id), config) for c in batch
    ]


@pytest.mark.parametrize("training", [False, True])
def test_every_cut_comes_once(cuts, training):
    batches = ids(EpochSampler(cuts, CONFIG, 0, training))
    assert Counter(i for batch in batches for i in batch) == Counter(c.id for c in cuts)


def test_an_epoch_is_a_function_of_seed_and_epoch(cuts):
    sampler = EpochSampler(cuts, CONFIG, 4, True)
    first = ids(sampler)
    assert ids(sampler) == first  # again from the same object
    random.random()
    assert ids(EpochSampler(cuts, CONFIG, 4, True)) == first
    assert ids(EpochSampler(cuts, CONFIG, 5, True)) != first
    assert ids(EpochSampler(cuts, dataclasses.replace(CONFIG, seed=4), 4, True)) != first
    # buckets come in another order too, and epoch and seed do not merely add up
    lengths = [len(batch) for batch in first]
    assert [len(b) for b in ids(EpochSampler(cuts, CONFIG, 5, True))] != lengths
    moved = dataclasses.replace(CONFIG, seed=4)
    assert ids(EpochSampler(cuts, moved, 3, True)) != first


def test_order_is_the_same_in_both_lhotse_versions(cuts):
    """A golden value: checkpoints resume across environments, and hash seeds do not matter."""
    digest = hashlib.sha256(repr(ids(EpochSampler(cuts, CONFIG, 2, True))).encode()).hexdigest()
    assert digest[:16] == "13300e03386f8714"


def test_skipping_drops_the_first_batches(cuts):
    everything = ids(EpochSampler(cuts, CONFIG, 1, True))
    for skip in (0, 1, 7, len(everything), len(everything) + 3):
        sampler = EpochSampler(cuts, CONFIG, 1, True, skip_batches=skip)
        assert len(sampler) == max(0, len(everything) - skip)
        assert ids(sampler) == everything[skip:]


def test_batches_are_full_uniform_and_within_the_limit_after_perturbation(cuts):
    config = dataclasses.replace(CONFIG, speed_factors=(0.8, 1.0, 1.25))
    batches = list(EpochSampler(cuts, config, 0, True))
    padded, total = [], 0.0
    for batch in batches:
        durations = perturbed_durations(batch, config, 0)
        padded.append(len(durations) * max(durations))
        total += sum(durations)
    assert max(padded) < 20 * 1.2
    assert sum(p > 0.7 * 20 for p in padded) > 0.8 * len(padded)
    assert total / sum(padded) > 0.8  # 0.6 for batches drawn without buckets


def test_evaluation_is_in_a_fixed_order_and_unperturbed(cuts):
    batches = ids(EpochSampler(cuts, CONFIG, 0, False))
    assert ids(EpochSampler(cuts, CONFIG, 9, False)) == batches
    durations = {c.id: c.duration for c in cuts}
    for batch in batches:
        assert len(batch) * max(durations[i] for i in batch) < 20 * 1.3
        assert batch == sorted(batch)  # manifest order within a bucket


@pytest.mark.parametrize("num_cuts", [1, 2, 3])
def test_small_sets_need_no_other_config(cuts, num_cuts):
    config = DataConfig()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        batches = ids(EpochSampler(cuts[:num_cuts], config, 0, True))
    assert sorted(i for b in batches for i in b) == [c.id for c in cuts[:num_cuts]]


def test_limits_on_utterances_and_incomplete_batches(cuts):
    config = dataclasses.replace(CONFIG, max_utterances=3)
    assert max(len(b) for b in ids(EpochSampler(cuts, config, 0, True))) == 3
    config = dataclasses.replace(CONFIG, max_utterances=3, drop_last=True)
    assert {len(b) for b in ids(EpochSampler(cuts, config, 0, True))} == {3}


def test_ranks_share_an_epoch(cuts):
    ranks = [ids(EpochSampler(cuts, CONFIG, 0, True, world_size=2, rank=r)) for r in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    seen = Counter(i for batches in ranks for batch in batches for i in batch)
    assert set(seen) == {c.id for c in cuts} and max(seen.values()) == 1


def test_speed_factors_are_evenly_drawn():
    factors = Counter(
        draw_speed_factor(random_for(0, epoch, f"cut{i}"), CONFIG)
        for i in range(300)
        for epoch in range(3)
    )
    assert set(factors) == {0.9, 1.0, 1.1} and min(factors.values()) > 250
    # of one cut they vary over the epochs
    assert len({draw_speed_factor(random_for(0, e, "cut1"), CONFIG) for e in range(20)}) == 3


def test_chance_is_the_same_in_every_process_and_python():
    """A golden value: python's own ``hash`` of strings would differ from process to process."""
    assert random_for(1, 2, "cut3").getrandbits(32) == 3544308429


def test_no_cuts_is_an_error():
    with pytest.raises(DataError, match="no cuts"):
        EpochSampler([], CONFIG, 0, True)


@pytest.mark.parametrize(
    "change",
    [
        {"max_duration_seconds": 0.0},
        {"max_duration_seconds": float("nan")},
        {"num_buckets": 0},
        {"num_workers": -1},
        {"max_utterances": 0},
        {"speed_factors": ()},
        {"speed_factors": (1.0, 3.0)},
        {"gain_db": (3.0, -3.0)},
    ],
)
def test_bad_configs(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        DataConfig(**change)
