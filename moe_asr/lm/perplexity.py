"""Scoring text by an n-gram model; perplexity and the rate of unknown words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.lm.corpus import BOS_ID, UNK_ID, Corpus, corpus_of
from moe_asr.lm.model import BOS, EOS, LOG_10, LOG_ZERO, NgramModel


@dataclass(frozen=True)
class PerplexityReport:
    """A text under a model, in SRILM's terms.

    Attributes:
        num_sentences, num_words: of the text; sentence ends are no words.
        num_oov: words that are not in the model's vocabulary, and ``<unk>`` itself.
        num_zero_probs: other words and sentence ends of probability 0 (-99 in the ARPA file).
        log_prob: natural log of the probability of all words and sentence ends but those two kinds.
        oov_log_prob: of the unknown words as ``<unk>``, -inf if one of them has probability 0; None if the
            model has no ``<unk>``.
    """

    num_sentences: int
    num_words: int
    num_oov: int
    num_zero_probs: int
    log_prob: float
    oov_log_prob: float | None

    @property
    def oov_rate(self) -> float:
        """Unknown words over words, 0 to 1."""
        return self.num_oov / self.num_words

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / (words + sentences - unknown - zero probabilities)): SRILM's ppl."""
        return self._per(self.num_words + self.num_sentences - self.num_oov - self.num_zero_probs)

    @property
    def perplexity_without_ends(self) -> float:
        """exp(-log_prob / (words - unknown - zero probabilities)): SRILM's ppl1."""
        return self._per(self.num_words - self.num_oov - self.num_zero_probs)

    @property
    def perplexity_with_oov(self) -> float | None:
        """Over all words and sentence ends, unknown words as ``<unk>``; None if the model has none."""
        if self.oov_log_prob is None:
            return None
        if self.num_zero_probs or self.oov_log_prob == -math.inf:
            return math.inf
        return math.exp(
            -(self.log_prob + self.oov_log_prob) / (self.num_words + self.num_sentences)
        )

    def table(self) -> str:
        """The figures in lines."""
        return "\n".join(
            [
                f"{self.num_sentences} sentences, {self.num_words} words, {self.num_oov} unknown "
                f"({100 * self.oov_rate:.2f} %), {self.num_zero_probs} of probability 0",
                f"log10 probability {self.log_prob / LOG_10:.4f}",
                f"perplexity {self.perplexity:.4f}, without sentence ends "
                f"{self.perplexity_without_ends:.4f}, unknown words as <unk> "
                + ("-" if self.perplexity_with_oov is None else f"{self.perplexity_with_oov:.4f}"),
            ]
        )

    def _per(self, count: int) -> float:
        return math.exp(-self.log_prob / count) if count > 0 else math.nan


def token_log_probs(model: NgramModel, corpus: Corpus) -> np.ndarray:
    """(T,) float64: natural log of the probability of every token after those before it in its sentence.

    Tokens that are not in the model are its ``<unk>``, or get -inf where it has none, and are then no history
    either. ``<s>`` is not predicted: 0.
    """
    words = [model.words.get(word) for word in corpus.words]
    to_model = np.array([-1 if word is None else word for word in words], np.int64)
    to_model[UNK_ID] = model.unk_id
    to_model = np.where(to_model < 0, model.unk_id, to_model)
    for symbol in (BOS, EOS):  # these are never <unk>
        to_model[corpus.words[symbol]] = model.words.get(symbol, -1)
    word = to_model[corpus.ids]
    starts = corpus.ids == BOS_ID
    node = np.where(word >= 0, word + 1, -1)  # the n-gram that ends here, of the order at hand
    scores = np.where(word >= 0, model.log_prob[node], -np.inf)
    for _ in range(2, model.order + 1):
        history = np.concatenate([[-1], node[:-1]])
        history[starts] = -1
        node = model.find(history, word)
        found = node >= 0
        backoff = np.where(history >= 0, model.backoff[history], 0.0)
        scores = np.where(found, model.log_prob[node], scores + backoff)
    return np.where(starts, 0.0, scores)


def measure_perplexity(model: NgramModel, corpus: Corpus) -> PerplexityReport:
    """Scores every sentence of a corpus by the model."""
    scores = token_log_probs(model, corpus)
    known = np.array([model.words.get(word, -1) not in (-1, model.unk_id) for word in corpus.words])
    known[UNK_ID] = False
    known[[corpus.words[BOS], corpus.words[EOS]]] = True
    unknown = ~known[corpus.ids]
    zero = ~unknown & (scores < LOG_ZERO / 2)  # no real probability is that small
    counted = ~unknown & ~zero
    oov_log_prob = None
    if model.unk_id >= 0:
        is_zero = bool((scores[unknown] < LOG_ZERO / 2).any())
        oov_log_prob = -math.inf if is_zero else float(scores[unknown].sum())
    return PerplexityReport(
        num_sentences=corpus.num_sentences,
        num_words=corpus.num_words,
        num_oov=int(unknown.sum()),
        num_zero_probs=int(zero.sum()),
        log_prob=float(scores[counted].sum()),
        oov_log_prob=oov_log_prob,
    )


def sentence_log_probs(model: NgramModel, sentences: Sequence[str]) -> np.ndarray:
    """(len(sentences),) natural log of each one's probability, its end included.

    Unknown words are scored as ``<unk>``; -inf where the model has none. An empty sentence is one too.
    """
    corpus = corpus_of(sentences, keep_empty=True)
    scores = token_log_probs(model, corpus)
    starts = np.flatnonzero(corpus.ids == BOS_ID)
    return np.add.reduceat(scores, starts) if len(starts) else np.zeros(0)
