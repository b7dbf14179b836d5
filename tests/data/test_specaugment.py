import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.data.specaugment import SpecAugmenter, SpecAugmentOptions
from moe_asr.errors import ConfigError

ALWAYS = SpecAugmentOptions(probability=1.0)


def features(num_frames, seed=0, num_bins=80):
    return np.random.default_rng(seed).standard_normal((num_frames, num_bins)).astype(np.float32)


def masked_rows_and_columns(before, after):
    changed = before != after
    return changed.all(axis=1), changed.all(axis=0), changed


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(0, 2**63 - 1))
def test_masks_are_bands_within_bounds_filled_with_the_mean(num_frames, seed):
    before = features(num_frames)
    kept = before.copy()
    (after,) = SpecAugmenter(ALWAYS)([before], [seed])
    assert np.array_equal(before, kept)
    assert after.shape == before.shape and after.dtype == np.float32
    rows, columns, changed = masked_rows_and_columns(before, after)
    if num_frames >= 20:  # in shorter ones all rows may be masked by chance of the columns
        assert np.array_equal(changed, rows[:, None] | columns[None, :])
        assert rows.sum() <= 0.15 * num_frames
        assert columns.sum() <= 2 * 15
    np.testing.assert_allclose(after[changed], before.mean(), rtol=1e-4, atol=1e-6)


def test_mask_widths_reach_their_bounds_and_no_further():
    options = SpecAugmentOptions(1 == 1, 1.0, 1, 6, 1, 9, 0.5)
    before = features(300)
    widths = [
        tuple(int(m.sum()) for m in masked_rows_and_columns(before, after)[:2])
        for after in SpecAugmenter(options)([before] * 400, range(400))
    ]
    assert max(rows for rows, _ in widths) == 9
    assert max(columns for _, columns in widths) == 6
    assert min(widths) == (0, 0) or min(rows for rows, _ in widths) == 0


def test_masks_depend_on_the_seed_alone():
    augment = SpecAugmenter(ALWAYS)
    batch = [features(200, 1), features(150, 2), features(90, 3)]
    together = augment(batch, [11, 22, 33])
    random.random(), np.random.rand(), torch.rand(5)
    reversed_batch = augment(batch[::-1], [33, 22, 11])[::-1]
    for a, b, c in zip(together, reversed_batch, batch, strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)
    (other,) = augment(batch[:1], [12])
    assert not np.array_equal(other, together[0])


@pytest.mark.parametrize("time_warp_frames", [0, 10])
def test_global_generators_are_left_alone(time_warp_frames):
    options = SpecAugmentOptions(probability=1.0, time_warp_frames=time_warp_frames)
    expected = None
    for use in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if use:
            SpecAugmenter(options)([features(200)] * 3, [1, 2, 3])
        drawn = (random.random(), np.random.rand(), float(torch.rand(1)))
        expected = expected or drawn
        assert drawn == expected


def test_time_warp_is_seeded_too():
    options = SpecAugmentOptions(
        probability=1.0, num_frequency_masks=0, max_time_fraction=0.005, time_warp_frames=30
    )
    batch = [features(300)] * 2
    first, second = SpecAugmenter(options)(batch, [5, 6]), SpecAugmenter(options)(batch, [5, 6])
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[0], first[1])
    assert (first[0] != batch[0]).mean() > 0.5


def test_probability_and_off():
    before = features(100)
    half = SpecAugmenter(SpecAugmentOptions(probability=0.5))
    untouched = sum(after is before for after in half([before] * 400, range(400)))
    assert 160 < untouched < 240
    (after,) = SpecAugmenter(SpecAugmentOptions(enabled=False))([before], [1])
    assert after is before


def test_without_time_masks_only_bands():
    before = features(100)
    options = SpecAugmentOptions(probability=1.0, num_time_masks=0)
    for after in SpecAugmenter(options)([before] * 20, range(20)):
        rows, columns, changed = masked_rows_and_columns(before, after)
        assert not rows.any() and np.array_equal(changed, np.tile(columns, (100, 1)))


@pytest.mark.parametrize(
    "change",
    [
        {"probability": 1.1},
        {"max_time_fraction": -0.1},
        {"num_time_masks": -1},
        {"max_time_frames": 0},
    ],
)
def test_bad_options(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        SpecAugmentOptions(**change)
