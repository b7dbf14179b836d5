"""How good confidences of words are: reliability, expected calibration error, normalised cross entropy."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from moe_asr.errors import ConfigError, DataError

CLIPPED = 1e-6  # confidences are taken to be at least so far from 0 and from 1, in logarithms
LEAST_SCALE, GREATEST_SCALE = 1e-3, 2.0
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Bin:
    """The words with a confidence above ``low`` (or equal to it, in the first) up to ``high``.

    Attributes:
        words: their number.
        confidence, correct: the mean of their confidences, and the share of them that is correct; None of
            none.
    """

    low: float
    high: float
    words: int
    confidence: float | None
    correct: float | None


@dataclass(frozen=True)
class Calibration:
    """What confidences are worth.

    Attributes:
        words, correct: how many words there are, and how many of them are correct.
        mean_confidence: None without words.
        expected_calibration_error: the mean over all words of how far the share of correct ones of a
            bin is from the mean confidence in it (Guo et al., 2017, *On calibration of modern neural
            networks*), 0..1.
        normalised_cross_entropy: NIST's (Siu, Gish and Richardson, 1997, *Improved estimation, evaluation and
            applications of confidence measures for speech recognition*): the share of the entropy of "this
            word is correct" that confidences take away, where without them only the share of correct words is
            known. 1 is perfect, 0 is no better than that share for every word, below 0 is worse. None if all
            words are correct or all are wrong. Logarithms are of confidences clipped to 1e-6 .. 1 - 1e-6.
        cross_entropy: of the confidences, in bits a word, likewise clipped.
        bins: of equal width.
    """

    words: int
    correct: int
    mean_confidence: float | None
    expected_calibration_error: float | None
    normalised_cross_entropy: float | None
    cross_entropy: float | None
    bins: tuple[Bin, ...]


def calibrate(confidences: ArrayLike, correct: ArrayLike, num_bins: int = 10) -> Calibration:
    """Compares confidences with what is correct.

    Args:
        confidences: (W,) 0..1.
        correct: (W,) bool.
        num_bins: of the reliability diagram and the calibration error, at least 1.

    Raises:
        ConfigError: if ``num_bins`` is less than 1.
        DataError: if confidences are not in 0..1, or there are not as many as words.
    """
    if not num_bins >= 1:
        raise ConfigError(f"num_bins must be at least 1, found {num_bins}")
    p = np.asarray(confidences, np.float64).reshape(-1)
    hit = np.asarray(correct, np.bool_).reshape(-1)
    if len(p) != len(hit):
        raise DataError(f"{len(p)} confidences of {len(hit)} words")
    if len(p) and not (p.min() >= 0.0 and p.max() <= 1.0):
        raise DataError(f"confidences must be 0 to 1, found {p[~((p >= 0.0) & (p <= 1.0))][0]}")
    bins = _bins(p, hit, num_bins)
    total, right = len(p), int(hit.sum())
    if total == 0:
        return Calibration(0, 0, None, None, None, None, bins)
    error = sum(
        b.words * abs(b.confidence - b.correct) / total
        for b in bins
        if b.confidence is not None and b.correct is not None
    )
    clipped = np.clip(p, CLIPPED, 1.0 - CLIPPED)
    entropy = -float(np.log2(np.where(hit, clipped, 1.0 - clipped)).mean())
    share = right / total
    gain = None
    if 0 < right < total:
        prior = -(share * math.log2(share) + (1.0 - share) * math.log2(1.0 - share))
        gain = (prior - entropy) / prior
    return Calibration(total, right, float(p.mean()), float(error), gain, entropy, bins)


def _bins(confidences: np.ndarray, correct: np.ndarray, num_bins: int) -> tuple[Bin, ...]:
    edges = np.arange(num_bins + 1) / num_bins
    place = np.maximum(np.searchsorted(edges, confidences, side="left") - 1, 0)
    counts = np.bincount(place, minlength=num_bins)
    sums = np.bincount(place, confidences, minlength=num_bins)
    hits = np.bincount(place, correct.astype(np.float64), minlength=num_bins)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(counts[i]),
            float(sums[i] / counts[i]) if counts[i] else None,
            float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(num_bins)
    )


def fit_scale(
    loss: Callable[[float], float],
    low: float = LEAST_SCALE,
    high: float = GREATEST_SCALE,
    tolerance: float = 0.05,
) -> tuple[float, float]:
    """The scale with the least loss, by golden section over its logarithm (Kiefer, 1953).

    It is the least where the loss has only one minimum, as the cross entropy of a distribution's own scale
    has; of another it is one of the minima, or an end.

    Args:
        loss: of a scale.
        low, high: between which it is looked for.
        tolerance: the interval that is left, as a share of the scale; each evaluation takes 38 % off it.

    Returns:
        the best scale that was tried, and its loss.
    """
    if not (0.0 < low < high < math.inf and tolerance > 0.0):
        raise ConfigError(f"expected 0 < low < high, found {low} and {high}")
    tried: dict[float, float] = {}

    def at(place: float) -> float:
        if place not in tried:
            tried[place] = loss(math.exp(place))
        return tried[place]

    left, right = math.log(low), math.log(high)
    one, two = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
    at(left), at(right)  # the ends are among what is tried
    while right - left > tolerance:
        if at(one) <= at(two):
            right, two, one = two, one, two - _GOLDEN * (two - left)
        else:
            left, one, two = one, two, one + _GOLDEN * (right - one)
    at(0.5 * (left + right))
    best = min(tried, key=lambda place: (tried[place], place))
    return math.exp(best), tried[best]
