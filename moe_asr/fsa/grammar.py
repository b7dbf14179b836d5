"""The simplest grammar: a loop over weighted words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.text.symbol_table import SymbolTable


@dataclass(frozen=True)
class WordLoop:
    """Any number of words, none included, in any order; every word has its score.

    Attributes:
        scores: natural log weight of each word, larger is better.
    """

    scores: dict[str, float]

    def __post_init__(self) -> None:
        if not self.scores:
            raise GraphError("a word loop needs at least one word")
        for word, score in self.scores.items():
            if not math.isfinite(score):
                raise GraphError(f"word loop: the score of '{word}' is {score}")

    def to_fst(self, words: SymbolTable) -> Fst:
        """G: an acceptor of one state, the start and final one, with an arc for each word.

        Raises:
            GraphError: if a word is not in ``words``.
        """
        missing = [word for word in self.scores if word not in words]
        if missing:
            raise GraphError(f"word '{missing[0]}' of the grammar is not in the lexicon")
        labels = np.array([words[word] for word in self.scores])
        state = np.zeros_like(labels)
        return Fst.from_arcs(state, state, labels, labels, list(self.scores.values()), [0.0])


def word_loop(
    words: Sequence[str],
    weights: Mapping[str, float] | None = None,
    word_insertion_penalty: float = 0.0,
) -> WordLoop:
    """A loop over ``words``.

    Args:
        words: each once.
        weights: natural log weight of every word; None: all are log(1 / number of words).
        word_insertion_penalty: taken off the score of each word; larger means fewer words.

    Raises:
        GraphError: if a word is given twice, or weights and words are not of the same set.
    """
    if len(set(words)) != len(words):
        twice = next(word for word in words if list(words).count(word) > 1)
        raise GraphError(f"word loop: '{twice}' is given twice")
    if weights is None:
        weights = {word: -math.log(len(words)) for word in words}
    unequal = set(weights) ^ set(words)
    if unequal:
        raise GraphError(f"word loop: '{min(unequal)}' has a weight or is a word, but not both")
    return WordLoop({word: weights[word] - word_insertion_penalty for word in words})
