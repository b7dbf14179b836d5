"""Slow references for n-gram models, from the formulas, with dictionaries; nothing of the package."""

import math
import random
from collections import Counter, defaultdict
from itertools import pairwise

Ngram = tuple[str, ...]
BOS, EOS, UNK = "<s>", "</s>", "<unk>"


def random_text(rng: random.Random, num_sentences: int = 12, num_words: int = 5) -> list[str]:
    """Sentences of skewed words; some begin like an earlier one, which makes long n-grams occur again."""
    words = [f"w{i}" for i in range(num_words)]
    weights = [1 / (i + 1) for i in range(num_words)]
    sentences: list[str] = []
    for _ in range(num_sentences):
        start = rng.choice(sentences).split() if sentences and rng.random() < 0.5 else []
        tail = rng.choices(words, weights, k=rng.randint(1, 5))
        sentences.append(" ".join([*start[: rng.randint(0, len(start))], *tail]))
    return sentences


class KneserNey:
    """Interpolated modified Kneser-Ney by its definition: probabilities by recursion, no backoff weights."""

    def __init__(
        self,
        sentences: list[str],
        order: int,
        min_counts: list[int] | None = None,
        vocabulary: list[str] | None = None,
    ) -> None:
        self.order = order
        self.min_counts = min_counts or [1] * order
        self.min_counts = self.min_counts + self.min_counts[-1:] * (order - len(self.min_counts))
        split = [sentence.split() for sentence in sentences if sentence.split()]
        known = set(vocabulary) if vocabulary is not None else {w for words in split for w in words}
        frequency = Counter(w if w in known else UNK for words in split for w in words)
        if self.min_counts[0] > 1:
            known = {w for w in known if frequency[w] >= self.min_counts[0]}
        self.vocabulary = sorted(known | {UNK, EOS})  # what can be predicted
        self.sentences = [[BOS, *(w if w in known else UNK for w in words), EOS] for words in split]
        self.occurrences: Counter[Ngram] = Counter()
        before: dict[Ngram, set[str]] = defaultdict(set)
        for words in self.sentences:
            for n in range(1, order + 1):
                for start in range(len(words) - n + 1):
                    ngram = tuple(words[start : start + n])
                    self.occurrences[ngram] += 1
                    if start:
                        before[ngram].add(words[start - 1])
        self.counts = {
            ngram: count if len(ngram) == order or ngram[0] == BOS else len(before[ngram])
            for ngram, count in self.occurrences.items()
            if ngram != (BOS,)
        }
        self.discounts = [self._discounts(n) for n in range(1, order + 1)]
        self.total: dict[Ngram, float] = defaultdict(float)  # of each history
        self.gamma: dict[Ngram, float] = defaultdict(float)  # before it is divided by the total
        for ngram, count in self.counts.items():
            self.total[ngram[:-1]] += count
            self.gamma[ngram[:-1]] += self.taken(ngram)

    def _discounts(self, n: int) -> tuple[float, float, float]:
        found = Counter(count for ngram, count in self.counts.items() if len(ngram) == n)
        n1, n2, n3, n4 = (found[i] for i in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return 0.5, 1.0, 1.5
        y = n1 / (n1 + 2 * n2)
        values = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return values if min(values) > 0 else (0.5, 1.0, 1.5)

    def is_kept(self, ngram: Ngram) -> bool:
        return len(ngram) == 1 or self.occurrences[ngram] >= self.min_counts[len(ngram) - 1]

    def taken(self, ngram: Ngram) -> float:
        """What an n-gram gives up of its count."""
        count = self.counts[ngram]
        if not self.is_kept(ngram):
            return count
        return self.discounts[len(ngram) - 1][min(count, 3) - 1]

    def probability(self, history: Ngram, word: str) -> float:
        if len(history) >= self.order:
            return self.probability(history[1:], word)
        below = self.probability(history[1:], word) if history else 1.0 / len(self.vocabulary)
        if history not in self.total:
            return below
        ngram, total = (*history, word), self.total[history]
        own = self.counts[ngram] - self.taken(ngram) if ngram in self.counts else 0.0
        return own / total + self.gamma[history] / total * below

    def ngrams(self) -> set[Ngram]:
        """Those of the model; unigrams of words without counts too."""
        found = {ngram for ngram in self.counts if self.is_kept(ngram)}
        return found | {(w,) for w in [*self.vocabulary, BOS]}

    def log_prob(self, words: list[str]) -> float:
        """Of a sentence with its end, its words all known."""
        sentence = [BOS, *words, EOS]
        return sum(
            math.log(self.probability(tuple(sentence[:i]), sentence[i]))
            for i in range(1, len(sentence))
        )


class Backoff:
    """A backoff model as dictionaries: {n-gram: p}, {n-gram: backoff weight}."""

    def __init__(self, probability: dict[Ngram, float], weight: dict[Ngram, float]) -> None:
        self.probability, self.weight = probability, weight
        self.vocabulary = [ngram[0] for ngram in probability if len(ngram) == 1 and ngram[0] != BOS]
        self.order = max(map(len, probability))

    def p(self, history: Ngram, word: str) -> float:
        if (*history, word) in self.probability:
            return self.probability[(*history, word)]
        return self.weight.get(history, 1.0) * self.p(history[1:], word)

    def histories(self) -> list[Ngram]:
        return [(), *(ngram for ngram in self.probability if ngram[-1] != EOS)]

    def history_probability(self, history: Ngram) -> float:
        """By the chain rule; the end of a sentence stands for its start."""
        result = 1.0
        for i, word in enumerate(history):
            result *= self.p(history[:i], EOS if (word, i) == (BOS, 0) else word)
        return result

    def normalised(self) -> "Backoff":
        """The same probabilities, with backoff weights that make every history sum to 1."""
        result = Backoff(self.probability, {})
        for length in range(1, self.order):
            for history in (h for h in self.probability if len(h) == length):
                explicit = [w for w in self.vocabulary if (*history, w) in self.probability]
                if explicit:
                    rest = 1.0 - sum(self.probability[(*history, w)] for w in explicit)
                    below = 1.0 - sum(result.p(history[1:], w) for w in explicit)
                    result.weight[history] = rest / below
        return result

    def growth(self, ngram: Ngram, p_history: float) -> float:
        """Relative growth of perplexity without one n-gram, every word after its history added up."""
        history = ngram[:-1]
        without = Backoff(
            {key: value for key, value in self.probability.items() if key != ngram},
            dict(self.weight),
        )
        explicit = [w for w in self.vocabulary if (*history, w) in without.probability]
        rest = 1.0 - sum(without.probability[(*history, w)] for w in explicit)
        below = 1.0 - sum(without.p(history[1:], w) for w in explicit)
        without.weight[history] = rest / below
        divergence = sum(
            p_history * self.p(history, w) * math.log(self.p(history, w) / without.p(history, w))
            for w in self.vocabulary
        )
        return math.expm1(divergence)

    def growths(self, p_history: dict[Ngram, float] | None = None) -> dict[Ngram, float]:
        """Of all n-grams that pruning looks at."""
        return {
            ngram: self.growth(
                ngram,
                self.history_probability(ngram[:-1])
                if p_history is None
                else p_history[ngram[:-1]],
            )
            for ngram in self.probability
            if len(ngram) > 1
        }

    def pruned(self, threshold: float, growths: dict[Ngram, float]) -> "Backoff":
        kept = {ngram: p for ngram, p in self.probability.items() if len(ngram) == 1}
        for ngram in sorted(growths, key=len, reverse=True):
            is_history = any(key[:-1] == ngram for key in kept)
            if is_history or growths[ngram] >= threshold:
                kept[ngram] = self.probability[ngram]
        return Backoff(kept, {}).normalised()


def widest_gap(values: list[float]) -> float:
    """A threshold between two values that no rounding moves them across."""
    ordered = sorted(value for value in values if value > 0)
    gaps = [(high / low, low, high) for low, high in pairwise(ordered)]
    _, low, high = max(gaps, default=(1.0, *(ordered * 2)[:2]))
    return math.sqrt(low * high)
