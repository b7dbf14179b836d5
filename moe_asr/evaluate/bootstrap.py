"""Bootstrap intervals of error rates and of the difference of two systems.

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP
2004: utterances (or speakers) are drawn with replacement, as many as there are, many times over; the rates of
these samples are distributed about as the rate of a new test set would be. Both systems are compared on the
same draws, so that what is hard for both does not count.

A rate depends only on how often each pair (errors, length) was drawn, so these numbers are drawn instead of
the utterances, from their multinomial distribution: the same samples, in time that does not grow with
the number of utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_asr.errors import ConfigError, DataError

_CHUNK = 1 << 22  # numbers drawn at a time: 32 MB
Blocks = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """An error rate in percent, and the interval it lies in with the probability that was asked for."""

    low: float
    high: float
    estimate: float


@dataclass(frozen=True)
class PairedDifference:
    """The second system's error rate less the first's, in percent: below 0 the second is better.

    ``probability_better``: the part of the samples in which the second has the lower rate; samples with
    equal rates count half.
    """

    estimate: float
    low: float
    high: float
    probability_better: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0.0 or self.high < 0.0


def wer_interval(
    errors: ArrayLike,
    lengths: ArrayLike,
    num_samples: int = 10000,
    level: float = 0.95,
    seed: int = 0,
    blocks: Blocks | None = None,
) -> Interval:
    """The percentile interval of an error rate.

    Args:
        errors: (U,) errors of each utterance.
        lengths: (U,) words (or other units) of each reference.
        num_samples: bootstrap samples.
        level: probability that the interval is to have.
        seed: the same seed gives the same interval, in whatever order the utterances come.
        blocks: (U,) what is drawn together, such as the speaker of each utterance: errors of one speaker
            are not independent, and intervals that take them for it are too narrow. None draws utterances.

    Raises:
        DataError: if arrays differ in length or hold negative numbers, if no reference has words, or if
            there is only one utterance (or block): nothing can be said about others then.
        ConfigError: if ``num_samples`` or ``level`` is out of range.
    """
    table, frequency = _units(blocks, errors=errors, lengths=lengths)
    sums = _resample(table, frequency, num_samples, level, seed)
    low, high = _percentiles(_rates(sums[:, 0], sums[:, 1]), level)
    total = frequency @ table
    return Interval(low, high, float(_rates(total[:1], total[1:])[0]))


def paired_difference(
    errors: ArrayLike,
    other_errors: ArrayLike,
    lengths: ArrayLike,
    num_samples: int = 10000,
    level: float = 0.95,
    seed: int = 0,
    blocks: Blocks | None = None,
    other_lengths: ArrayLike | None = None,
) -> PairedDifference:
    """The difference of two systems on the same utterances: rate of the second less that of the first.

    Args:
        errors, other_errors: (U,) errors of the first and of the second system.
        lengths: (U,) words of each reference.
        num_samples, level, seed, blocks: as in `wer_interval`.
        other_lengths: (U,) if the second system's references differ (where alternatives are scored).

    Raises:
        DataError, ConfigError: as `wer_interval`.
    """
    other_lengths = lengths if other_lengths is None else other_lengths
    table, frequency = _units(
        blocks,
        errors=errors,
        lengths=lengths,
        other_errors=other_errors,
        other_lengths=other_lengths,
    )
    sums = _resample(table, frequency, num_samples, level, seed)
    difference = _rates(sums[:, 2], sums[:, 3]) - _rates(sums[:, 0], sums[:, 1])
    low, high = _percentiles(difference, level)
    total = (frequency @ table)[:, None]
    estimate = _rates(total[2], total[3]) - _rates(total[0], total[1])
    better = (difference < 0).mean() + 0.5 * (difference == 0).mean()
    return PairedDifference(float(estimate[0]), low, high, float(better))


def _units(
    blocks: Blocks | None, **columns: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows (K, C) of what is drawn, columns as given, and how often each comes (K,)."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    num_utterances = arrays["lengths"].size
    for name, array in arrays.items():
        if array.shape != (num_utterances,):
            raise DataError(f"{name} must have the shape ({num_utterances},), found {array.shape}")
        if array.size and (array.dtype.kind not in "iu" or array.min() < 0):
            raise DataError(f"{name} must be whole numbers that are not negative")
        if name.endswith("lengths") and array.sum() == 0:
            raise DataError("no reference has a word: there is no error rate")
    rows = np.stack([array.astype(np.int64) for array in arrays.values()], axis=1)
    if blocks is not None:
        if len(blocks) != num_utterances:
            raise DataError(f"{len(blocks)} blocks for {num_utterances} utterances")
        names, index = np.unique(np.asarray(blocks), return_inverse=True)
        summed = np.zeros((len(names), rows.shape[1]), np.int64)
        np.add.at(summed, index.reshape(-1), rows)
        rows = summed
    if len(rows) < 2:
        what = "utterance" if blocks is None else "block"
        raise DataError(f"one {what} is not enough for a bootstrap interval")
    table, frequency = np.unique(rows, axis=0, return_counts=True)
    return table, frequency.astype(np.int64)


def _resample(
    table: NDArray[np.int64],
    frequency: NDArray[np.int64],
    num_samples: int,
    level: float,
    seed: int,
) -> NDArray[np.int64]:
    """Sums (num_samples, C) of the columns over samples; samples without any reference word are left out."""
    if num_samples < 1:
        raise ConfigError(f"num_samples must be at least 1, found {num_samples}")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must be between 0 and 1, found {level}")
    generator = np.random.default_rng(seed)
    drawn = int(frequency.sum())
    probabilities = frequency / drawn
    rows = max(1, _CHUNK // len(frequency))
    parts = []
    for begin in range(0, num_samples, rows):
        size = min(rows, num_samples - begin)
        # as float64, exact below 2**53, the product is BLAS's
        counts = generator.multinomial(drawn, probabilities, size=size).astype(np.float64)
        parts.append(np.rint(counts @ table.astype(np.float64)).astype(np.int64))
    sums = np.concatenate(parts)
    sums = sums[(sums[:, 1::2] > 0).all(axis=1)]
    if not len(sums):
        raise DataError("no bootstrap sample has a reference word: draw more samples")
    return sums


def _rates(errors: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    return 100.0 * errors / lengths


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)
