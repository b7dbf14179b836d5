"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman, TR-10-98, 1998, section 4.1.6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import ConfigError, TextError
from moe_asr.lm.corpus import BOS_ID, Corpus
from moe_asr.lm.counts import LevelCounts, continuation_counts, count_ngrams
from moe_asr.lm.model import LOG_ZERO, NgramModel, model_of_levels

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class OrderStatistics:
    """What training found of one order.

    Attributes:
        order: n.
        num_seen: distinct n-grams of the text (order 1: the vocabulary).
        num_kept: those that the cut-offs left in the model.
        counts_of_counts: how many n-grams have the (continuation) count 1, 2, 3, 4.
        discounts: what is taken off counts 1, 2, and 3 or more.
        is_fallback: whether the counts of counts gave no usable discounts, so that these are
            `FALLBACK_DISCOUNTS`.
    """

    order: int
    num_seen: int
    num_kept: int
    counts_of_counts: tuple[int, int, int, int]
    discounts: tuple[float, float, float]
    is_fallback: bool


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model and what it was made from.

    Attributes:
        model: with G nodes.
        statistics: of each order.
        counts: (G,) int64 occurrences of its n-grams; of node 0, the words and sentence ends of the text.
    """

    model: NgramModel
    statistics: list[OrderStatistics]
    counts: np.ndarray

    @property
    def history_log_prob(self) -> np.ndarray:
        """(G,) natural log of how often an n-gram is a history, relative to all; for `prune`."""
        return np.log(np.maximum(self.counts, 1) / self.counts[0])


def train_kneser_ney(corpus: Corpus, order: int, min_counts: Sequence[int] = (1,)) -> TrainedModel:
    """Trains a model of every word of the corpus's vocabulary.

    With a(h w) the occurrences of an n-gram of the highest order, and `continuation_counts` below,

        p(w | h) = max(a(h w) - D(a(h w)), 0) / sum_v a(h v) + gamma(h) p(w | h without its first word)

    where gamma(h) is what the discounts took off; under the unigrams lies the uniform distribution over all
    words but ``<s>``. What follows any history sums to 1, ``<unk>`` and ``</s>`` included.

    Args:
        corpus: its ``<unk>`` counts as a word; where it does not occur it has its part of the uniform
            distribution, as have words of the vocabulary that do not occur.
        order: at least 1.
        min_counts: by order, the last one holding for the orders after it: n-grams that occur less often are
            not in the model. They stay in all counts that discounts are made of, and give all of their own
            count to gamma. Of order 1, if above 1: words that occur less often are read as ``<unk>``.

    Raises:
        ConfigError: if ``min_counts`` falls from one order to the next, which would leave n-grams without
            their histories, or is not positive.
        TextError: if no sentence is long enough for the order.
    """
    limits = _limits(order, min_counts)
    if limits[0] > 1:
        corpus = corpus.limit_vocabulary(limits[0])
    levels = count_ngrams(corpus, order)
    if not len(levels[-1].word):
        longest = next(n for n, level in enumerate(levels) if not len(level.word))
        raise TextError(
            f"{corpus.source}: no n-grams of {order} words: with <s> and </s> its longest sentence "
            f"has {longest}"
        )
    estimation = _Estimation(corpus, levels, limits)
    for n in range(1, order + 1):
        estimation.estimate(n)
    return estimation.finish()


class _Estimation:
    """The orders one by one, from the unigrams."""

    def __init__(self, corpus: Corpus, levels: list[LevelCounts], limits: list[int]) -> None:
        self.corpus, self.levels, self.limits = corpus, levels, limits
        self.adjusted = continuation_counts(levels)
        # nothing predicts <s>: it has no count as a unigram
        self.adjusted[0] = self.adjusted[0].copy()
        self.adjusted[0][BOS_ID] = 0
        self.statistics: list[OrderStatistics] = []
        # [order - 1]: of the n-grams that are kept
        self.parents: list[np.ndarray] = []
        self.words: list[np.ndarray] = []
        self.log_probs: list[np.ndarray] = []
        self.backoffs: list[np.ndarray] = []
        self.counts = [np.array([corpus.num_words + corpus.num_sentences])]
        # of all n-grams of the order below, kept or not: number among the kept, and probability
        self._kept_number = np.zeros(1, np.int32)
        self._probability = np.full(1, 1.0 / (len(corpus.words) - 1))

    def estimate(self, n: int) -> None:
        """Probabilities of order n, and with them the backoff weights of order n - 1."""
        level, count = self.levels[n - 1], self.adjusted[n - 1]
        kept = np.ones(len(count), bool) if n == 1 else level.count >= self.limits[n - 1]
        counts_of_counts, discounts = find_discounts(count)
        is_fallback = discounts is None
        used = FALLBACK_DISCOUNTS if discounts is None else discounts
        self.statistics.append(
            OrderStatistics(n, len(count), int(kept.sum()), counts_of_counts, used, is_fallback)
        )
        discount = np.array([0.0, *used])[np.minimum(count, 3)]
        discount = np.where(kept, discount, count)  # cut off: all of the count goes to gamma
        num_histories = len(self._probability) if n > 1 else 1
        total = np.bincount(level.parent, count, minlength=num_histories)
        taken = np.bincount(level.parent, discount, minlength=num_histories)
        gamma = np.divide(taken, total, out=np.ones(num_histories), where=total > 0)
        if n > 1:
            self.backoffs.append(np.log(gamma[self._kept_number >= 0]))
        # the words of order 1 all have the one uniform probability below them
        below = self._probability[level.suffix]
        probability = (count - discount) / total[level.parent] + gamma[level.parent] * below
        if n == 1:
            probability[BOS_ID] = 0.0
        with np.errstate(divide="ignore"):
            log_prob = np.maximum(np.log(probability[kept]), LOG_ZERO)
        self.parents.append(self._kept_number[level.parent[kept]])
        self.words.append(level.word[kept])
        self.log_probs.append(log_prob)
        self.counts.append(level.count[kept])
        self._kept_number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
        self._probability = probability

    def finish(self) -> TrainedModel:
        """The model of the orders estimated."""
        self.backoffs.append(np.zeros(len(self.words[-1])))
        model = model_of_levels(
            self.corpus.words, self.parents, self.words, self.log_probs, self.backoffs
        )
        counts = np.concatenate(self.counts)[: model.num_nodes]
        return TrainedModel(model, self.statistics, counts)


def find_discounts(
    counts: np.ndarray,
) -> tuple[tuple[int, int, int, int], tuple[float, float, float] | None]:
    """The counts of counts n1 to n4, and the discounts of counts 1, 2, and 3 or more.

    With Y = n1 / (n1 + 2 n2), count i is discounted by i - (i + 1) Y n(i+1) / n(i) (Chen and Goodman,
    equation 26). None instead, if one of n1 to n4 is 0 or a discount is not in (0, i].
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=5)[1:5].tolist()
    discounts = None
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        discounts = found if all(value > 0.0 for value in found) else None
    return (n1, n2, n3, n4), discounts


def _limits(order: int, min_counts: Sequence[int]) -> list[int]:
    """One minimum an order."""
    if order < 1:
        raise ConfigError(f"order is {order}; expected at least 1")
    if not 1 <= len(min_counts) <= order or min(min_counts) < 1:
        raise ConfigError(
            f"min_counts are {list(min_counts)}; expected 1 to {order} of them (one an order), "
            "each at least 1"
        )
    for n, (lower, higher) in enumerate(zip(min_counts, min_counts[1:], strict=False), start=1):
        if higher < lower:
            raise ConfigError(
                f"min_counts are {list(min_counts)}: {higher} for order {n + 1} is less than {lower} for "
                f"order {n}, but an n-gram occurs no more often than its history"
            )
    return [*min_counts, *[min_counts[-1]] * (order - len(min_counts))]
