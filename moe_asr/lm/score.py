"""Exact scores of words by an n-gram model, many at once: what second passes weigh sentences by."""

from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.lm.model import BOS, EOS, NgramModel
from moe_asr.text.lexicon import BACKOFF, EPSILON
from moe_asr.text.symbol_table import SymbolTable

NgramArrays: TypeAlias = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray
]
_NOT_SAID = (BOS, EOS, EPSILON, BACKOFF)


class NgramScorer:
    """An n-gram model over the ids of another word table, a graph's as a rule.

    A state is what the model knows of the words before: the longest n-gram that they end in and that says
    anything about the next word (n-grams follow it, or it has a backoff weight), as its node in the model.
    The score of a word in a state is log p(word | all words before), whatever they are.

    Args:
        model: with ``<s>`` and ``</s>``.
        word_table: ids of words are positions in it. Words that are not in the model are its ``<unk>``, if it
            has one (a table's ``<unk>`` or ``<UNK>`` always is); if not, using them is an error.

    Raises:
        TextError: if the model has no ``<s>`` or ``</s>``.
    """

    def __init__(self, model: NgramModel, word_table: SymbolTable) -> None:
        for symbol in (BOS, EOS):
            if symbol not in model.words:
                raise TextError(f"{model.words.source}: no {symbol} among the unigrams")
        self.model = model
        self.word_table = word_table
        bos, self._end = model.words[BOS], model.words[EOS]
        self.start_state = int(self._state[bos + 1])

    @classmethod
    def read(cls, path: PathLike, word_table: SymbolTable) -> "NgramScorer":
        """The scorer of an ARPA file, see `moe_asr.lm.arpa.read_arpa`; `TextError` if it cannot be read."""
        return cls(NgramModel.read_arpa(path), word_table)

    @cached_property
    def model_ids(self) -> np.ndarray:
        """(number of words in the table,) int64: the model's ids; -1 for what it cannot score."""
        words, unknown = self.model.words, self.model.unk_id
        found = [words.get(word, unknown) for word in self.word_table]
        ids = np.array(found, np.int64)
        for symbol in ("<unk>", "<UNK>"):
            if symbol in self.word_table:
                ids[self.word_table[symbol]] = unknown
        for symbol in _NOT_SAID:
            if symbol in self.word_table:
                ids[self.word_table[symbol]] = -1
        return ids

    @cached_property
    def _child_splits(self) -> np.ndarray:
        """(G + 1,) int64: the nodes of the n-grams that go on from node g are ``[g]`` to ``[g + 1] - 1``."""
        nodes = np.arange(self.model.num_nodes + 1)
        return 1 + np.searchsorted(self.model.parent[1:], nodes).astype(np.int64)

    @cached_property
    def _state(self) -> np.ndarray:
        """(G,) int32: the state of every n-gram: without first words that do not bear on the next word."""
        model = self.model
        state = np.arange(model.num_nodes, dtype=np.int32)
        says_nothing = ~model.has_children & (model.backoff == 0.0)
        for order in range(1, model.order + 1):
            nodes = np.arange(model.num_nodes)[model.order_nodes(order)]
            nodes = nodes[says_nothing[nodes]]
            state[nodes] = state[model.suffix[nodes]]
        return state

    @cached_property
    def arrays(self) -> NgramArrays:
        """What the kernels of `moe_asr.lm.ngram_kernels` take first."""
        model = self.model
        return (
            self._child_splits, model.word, model.log_prob, model.backoff, model.suffix, self._state,
        )  # fmt: skip

    @property
    def end_word(self) -> int:
        """The model's id of ``</s>``."""
        return self._end

    def to_model(self, words: np.ndarray) -> np.ndarray:
        """(W,) int64: the model's ids of words of the table.

        Raises:
            TextError: naming the word that the model cannot score; if an id is not in the table.
        """
        words = np.asarray(words, np.int64)
        num_words = len(self.word_table)
        if len(words) and not (words.min() >= 0 and words.max() < num_words):
            wrong = words[(words < 0) | (words >= num_words)][0]
            raise TextError(f"{self.word_table.source}: no word id {wrong} among {num_words}")
        ids = self.model_ids[words]
        if len(ids) and ids.min() < 0:
            word = self.word_table.symbol(int(words[ids < 0][0]))
            why = "is no word" if word in _NOT_SAID else "it does not know, having no <unk>"
            raise TextError(f"{self.model.words.source}: cannot score '{word}', which {why}")
        return ids

    def word_scores(self, sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Natural logs of the probabilities of all words, and of the end of every sequence.

        Args:
            sequences: N of word ids; a sequence may be empty.

        Returns:
            - (N + 1,) int64 splits; those of sequence i are ``splits[i]`` to ``splits[i + 1] - 1``, its end
              last.
            - float64, ragged.

        Raises:
            TextError: as `to_model`.
        """
        from moe_asr.lm.ngram_kernels import score_all

        lengths = np.fromiter((len(words) for words in sequences), np.int64, len(sequences))
        splits = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int64)
        flat = np.fromiter((word for words in sequences for word in words), np.int64)
        words = np.full(splits[-1], self._end)
        inside = np.ones(len(words), np.bool_)
        inside[splits[1:] - 1] = False
        words[inside] = self.to_model(flat)
        return splits, score_all(*self.arrays, self.start_state, splits, words)

    def score(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,) float64: the natural log of each sequence's probability, its end included.

        Raises:
            TextError: as `to_model`.
        """
        splits, scores = self.word_scores(sequences)
        return np.add.reduceat(scores, splits[:-1]) if len(sequences) else np.zeros(0)

    def step(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One more word in each of K states.

        Args:
            states: (K,) integers, `start_state` or of `step`.
            words: (K,) word ids.

        Returns:
            (K,) int64 states after the words, and (K,) float64 natural logs of their probabilities.

        Raises:
            TextError: as `to_model`.
        """
        return self._step(states, self.to_model(words))

    def final(self, states: np.ndarray) -> np.ndarray:
        """(K,) float64: the natural log of the probability that the sentence ends in each of K states."""
        return self._step(states, np.full(len(states), self._end))[1]

    def state_after(self, words: Sequence[int]) -> int:
        """The state after some words from the start of a sentence."""
        state = np.array([self.start_state])
        for word in words:
            state = self.step(state, np.array([word]))[0]
        return int(state[0])

    def _step(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from moe_asr.lm.ngram_kernels import step_all

        states = np.asarray(states, np.int64)
        num_nodes = self.model.num_nodes
        assert len(states) == len(words), (len(states), len(words))
        assert not len(states) or 0 <= states.min() <= states.max() < num_nodes, states
        after, scores = step_all(*self.arrays, states, words)
        return after, scores
