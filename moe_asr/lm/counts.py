"""Counting n-grams with sorted arrays: no loop over tokens or n-grams."""

from dataclasses import dataclass

import numpy as np

from moe_asr.lm.corpus import BOS_ID, Corpus


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """The K distinct n-grams of one order, sorted by (parent, word).

    Attributes:
        parent: (K,) int32 position, in the order below, of an n-gram without its last word (order 1: 0).
        suffix: (K,) int32 position, in the order below, of an n-gram without its first word.
        word: (K,) int32 last words.
        count: (K,) int64 occurrences.
        starts_sentence: (K,) bool: whether its first word is ``<s>``.
    """

    parent: np.ndarray
    suffix: np.ndarray
    word: np.ndarray
    count: np.ndarray
    starts_sentence: np.ndarray


def count_ngrams(corpus: Corpus, order: int) -> list[LevelCounts]:
    """The counts of orders 1 to ``order``; order 1 has every word of the vocabulary, seen or not.

    An n-gram lies within one sentence, which ``<s>`` begins and ``</s>`` ends. An n-gram of any order is a
    pair: the number of its first n - 1 words among those of order n - 1, and its last word. Such pairs fit
    64 bits at every order, and sorting them gives the n-grams, their counts, and the numbers for the next.
    """
    num_words, ids = len(corpus.words), corpus.ids
    words = np.arange(num_words, dtype=np.int32)
    zeros = np.zeros(num_words, np.int32)
    count = np.bincount(ids, minlength=num_words)
    levels = [LevelCounts(zeros, zeros, words, count, words == BOS_ID)]
    ends = np.flatnonzero(ids != BOS_ID)  # of the n-grams of the order at hand
    history = ids[ends - 1]  # the number of each one's first n - 1 words
    below = ids[ends]  # the number of each one's last n - 1 words
    for n in range(2, order + 1):
        key = history.astype(np.int64) * num_words + ids[ends]
        positions = np.argsort(key)
        key = key[positions]
        is_first = np.ones(len(key), bool)
        np.not_equal(key[1:], key[:-1], out=is_first[1:])
        first = np.flatnonzero(is_first)
        parent, word = np.divmod(key[first], num_words)
        parent = parent.astype(np.int32)
        levels.append(
            LevelCounts(
                parent,
                below[positions[first]],
                word.astype(np.int32),
                np.diff(first, append=len(key)),
                levels[-1].starts_sentence[parent],
            )
        )
        if n < order:
            number = np.empty(len(key), np.int32)
            number[positions] = np.cumsum(is_first, dtype=np.int32) - 1
            # n-grams that go on to the left: those that end at the next token
            continued = np.flatnonzero(np.diff(ends, append=-1) == 1)
            ends, history, below = ends[continued + 1], number[continued], number[continued + 1]
    return levels


def continuation_counts(levels: list[LevelCounts]) -> list[np.ndarray]:
    """The counts that Kneser-Ney smoothing discounts, of every order.

    Of the highest order they are the occurrences; below, the number of distinct words that come before an
    n-gram; nothing can come before ``<s>``, so n-grams that begin with it keep their occurrences.
    """
    adjusted = []
    for level, above in zip(levels, levels[1:], strict=False):
        left = np.bincount(above.suffix, minlength=len(level.word))
        adjusted.append(np.where(level.starts_sentence, level.count, left))
    return [*adjusted, levels[-1].count]
