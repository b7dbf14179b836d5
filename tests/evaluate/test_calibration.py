"""Calibration of confidences: closed forms, what must hold of any, and the search for a scale."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.calibration import CLIPPED, calibrate, fit_scale
from moe_asr.evaluate.lattice_pictures import calibration_figure, wilson_interval

SEEDS = st.integers(0, 2**32)


def random_words(seed: int) -> tuple[list[float], list[bool]]:
    rng = random.Random(seed)
    confidences = [
        rng.choice([0.0, 1.0, 0.1, 0.5, rng.random()]) for _ in range(rng.randint(0, 40))
    ]
    return confidences, [rng.random() < p for p in confidences]


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 12))
def test_against_the_definitions(seed: int, num_bins: int) -> None:
    confidences, correct = random_words(seed)
    found = calibrate(confidences, correct, num_bins)
    total, right = len(correct), sum(correct)
    assert (found.words, found.correct) == (total, right)
    assert sum(b.words for b in found.bins) == total
    error = 0.0
    for number, b in enumerate(found.bins):
        assert (b.low, b.high) == pytest.approx((number / num_bins, (number + 1) / num_bins))
        inside = [
            (p, c) for p, c in zip(confidences, correct, strict=True)
            if b.low < p <= b.high or (number == 0 and p == 0.0)
        ]  # fmt: skip
        assert len(inside) == b.words
        if inside:
            assert b.confidence == pytest.approx(sum(p for p, _ in inside) / len(inside))
            assert b.correct == pytest.approx(sum(c for _, c in inside) / len(inside))
            error += abs(sum(p - c for p, c in inside)) / total
    if total == 0:
        assert found.expected_calibration_error is found.normalised_cross_entropy is None
        return
    assert found.expected_calibration_error == pytest.approx(error)
    assert found.mean_confidence == pytest.approx(sum(confidences) / total)
    if not 0 < right < total:
        assert found.normalised_cross_entropy is None
        return
    base = right * math.log2(right / total) + (total - right) * math.log2(1 - right / total)
    got = sum(
        math.log2(min(max(p if c else 1 - p, CLIPPED), 1 - CLIPPED))
        for p, c in zip(confidences, correct, strict=True)
    )
    assert found.normalised_cross_entropy == pytest.approx((got - base) / -base)
    assert found.cross_entropy == pytest.approx(-got / total)


def test_closed_forms() -> None:
    """The share of correct words for each is worth nothing, the truth is worth all, certainty costs much."""
    correct = [True] * 6 + [False] * 2
    prior = calibrate([0.75] * 8, correct)
    assert prior.normalised_cross_entropy == pytest.approx(0.0)
    assert prior.expected_calibration_error == pytest.approx(0.0)
    truth = calibrate(np.array(correct, float), correct)
    assert truth.normalised_cross_entropy == pytest.approx(1.0, abs=1e-5)
    assert truth.expected_calibration_error == 0.0
    sure = calibrate([1.0] * 8, correct)
    assert sure.normalised_cross_entropy is not None and sure.normalised_cross_entropy < -3.0
    assert sure.expected_calibration_error == pytest.approx(0.25)
    assert [b.words for b in sure.bins] == [0] * 9 + [8]
    assert [b.words for b in calibrate([0.1, 0.2, 0.3], [True] * 3).bins[:3]] == [1, 1, 1]


def test_what_is_refused() -> None:
    for confidences, correct in (
        ([0.5], []),
        ([1.1], [True]),
        ([-0.1], [True]),
        ([math.nan], [True]),
    ):
        with pytest.raises(DataError, match="confidences"):
            calibrate(confidences, correct)
    with pytest.raises(ConfigError, match="num_bins must be at least 1"):
        calibrate([], [], 0)
    with pytest.raises(ConfigError, match="0 < low < high"):
        fit_scale(lambda scale: 0.0, 2.0, 1.0)


@pytest.mark.parametrize("best", [0.02, 0.4, 1.7])
def test_the_scale_with_the_least_loss(best: float) -> None:
    tried = []

    def loss(scale: float) -> float:
        tried.append(scale)
        return math.log(scale / best) ** 2

    scale, value = fit_scale(loss)
    assert scale == pytest.approx(best, rel=0.05)
    assert value == loss(scale) == min(map(loss, list(tried)))
    assert len(set(tried)) < 20
    assert fit_scale(lambda scale: scale)[0] == pytest.approx(1e-3)
    assert fit_scale(lambda scale: -scale)[0] == pytest.approx(2.0)


def test_wilsons_interval() -> None:
    """Its bounds are where the share is 1.96 deviations away, also at the ends."""
    share, count = np.array([0.0, 0.5, 1.0]), np.array([10.0, 20.0, 7.0])
    for bound in wilson_interval(share, count):
        away = np.abs(bound - share)
        deviation = np.sqrt(np.maximum(bound * (1 - bound), 0.0) / count)
        np.testing.assert_allclose(away, 1.959964 * deviation, atol=1e-9)


def test_the_picture_shows_each_bin() -> None:
    confidences, correct = [0.15, 0.95, 0.92, 0.98], [False, True, True, False]
    figure = calibration_figure({"one": calibrate(confidences, correct), "none": calibrate([], [])})
    above, below = figure.axes
    points = above.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xdata(), [0.15, 0.95])
    np.testing.assert_allclose(points.get_ydata(), [0.0, 2 / 3])
    assert [bar.get_height() for bar in below.containers[0]] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    (label, _) = (text.get_text() for text in above.get_legend().get_texts())
    assert label.startswith("one: ECE 0.2")
