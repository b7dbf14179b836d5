"""n-gram models with backoff as flat arrays."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_asr.files import PathLike
from moe_asr.text.symbol_table import SymbolTable

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
LOG_10 = math.log(10.0)
LOG_ZERO = -99.0 * LOG_10  # what stands for log 0: SRILM's -99 in an ARPA file


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A backoff model of V words as a trie of G - 1 n-grams.

    Node 0 is the empty history. Every other node is an n-gram: its parent's words, then ``word``. Nodes are
    sorted by order, then parent, then word, so that one binary search finds any n-gram, and node w + 1 is
    the unigram of word w: each word has one.

    The probability of a word after a history h is that of the n-gram (h, word) if there is one, else the
    backoff weight of h (1 if h is no n-gram) times the probability after h without its first word.

    Attributes:
        words: the V words, as a rule with ``<s>``, ``</s>`` and ``<unk>``; ids are positions.
        parent: (G,) int32 node of an n-gram without its last word; -1 for node 0.
        word: (G,) int32 its last word; -1 for node 0.
        log_prob: (G,) float64 natural log of its probability, at most 0, `LOG_ZERO` for none.
        backoff: (G,) float64 natural log of its backoff weight as a history; 0 where nothing follows it.
        splits: the nodes of order n are ``splits[n]`` to ``splits[n + 1] - 1``; order 0 is node 0.
    """

    words: SymbolTable
    parent: np.ndarray
    word: np.ndarray
    log_prob: np.ndarray
    backoff: np.ndarray
    splits: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("parent", "word", "log_prob", "backoff"):
            shape = getattr(self, name).shape
            assert shape == (self.splits[-1],), f"{name}: {shape} for splits {self.splits}"
        assert self.splits[:3] == (0, 1, len(self.words) + 1), f"splits {self.splits}"
        assert bool((np.diff(self.keys) > 0).all()), "n-grams are not sorted"
        assert bool(np.isfinite(self.log_prob).all() and np.isfinite(self.backoff).all())

    @property
    def order(self) -> int:
        """N: the longest n-grams have N words."""
        return len(self.splits) - 2

    @property
    def num_nodes(self) -> int:
        """G."""
        return self.splits[-1]

    @property
    def counts(self) -> list[int]:
        """The number of n-grams of each order, from 1."""
        return np.diff(self.splits)[1:].tolist()

    def order_nodes(self, order: int) -> slice:
        """The nodes of the n-grams of ``order`` words."""
        return slice(self.splits[order], self.splits[order + 1])

    @property
    def unk_id(self) -> int:
        """The id of ``<unk>`` (or ``<UNK>``); -1 if the model has neither."""
        found = self.words.get(UNK, self.words.get("<UNK>", -1))
        assert found is not None
        return found

    @cached_property
    def keys(self) -> np.ndarray:
        """(G,) int64, ascending: ``parent * V + word``; -1 for node 0."""
        keys = self.parent.astype(np.int64) * len(self.words) + self.word
        keys[0] = -1
        return keys

    @cached_property
    def has_children(self) -> np.ndarray:
        """(G,) bool: whether any n-gram continues this one."""
        mask = np.zeros(self.num_nodes, bool)
        mask[self.parent[1:]] = True
        return mask

    @cached_property
    def suffix(self) -> np.ndarray:
        """(G,) int32: the longest n-gram that an n-gram ends in, itself excluded; 0 of orders 0 and 1."""
        suffix = np.zeros(self.num_nodes, np.int32)
        for order in range(2, self.order + 1):
            nodes = self.order_nodes(order)
            suffix[nodes] = self._longest(suffix[self.parent[nodes]], self.word[nodes], suffix)
        return suffix

    def _longest(self, states: np.ndarray, words: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        """The longest n-gram that (state, word) ends in; ``suffix`` is known of the states."""
        found = self.find(states, words)
        missing = np.flatnonzero(found < 0)
        states = states[missing]
        while len(missing):
            states = suffix[states]
            again = self.find(states, words[missing])
            found[missing] = again
            states, missing = states[again < 0], missing[again < 0]
        return found

    def find(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The nodes of n-grams (node, word), -1 where there is none; negative ids are never there."""
        return find_nodes(self.keys, len(self.words), nodes, words)

    def conditional(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(K,) float64: natural log of p(word | history), backing off where need be.

        Args:
            nodes: (K,) histories, 0 for the empty one.
            words: (K,) word ids, none negative.
        """
        result = np.zeros(len(nodes))
        index = np.arange(len(nodes))
        while len(index):
            found = self.find(nodes, words)
            there = found >= 0
            result[index[there]] += self.log_prob[found[there]]
            index, nodes, words = index[~there], nodes[~there], words[~there]
            result[index] += self.backoff[nodes]
            nodes = self.suffix[nodes]
        return result

    def probability_sums(self) -> np.ndarray:
        """(G,) float64: the sum over all words (``<unk>``, ``</s>`` too) of p(word | node); it should be 1.

        Nodes of the highest order are histories like any other: those of the words they end in.
        """
        explicit, lower = self.explicit_mass()
        sums = np.ones(self.num_nodes)
        sums[0] = explicit[0]
        weight = np.exp(self.backoff)
        for order in range(1, self.order + 1):
            nodes = self.order_nodes(order)
            rest = sums[self.suffix[nodes]] - lower[nodes]
            sums[nodes] = explicit[nodes] + weight[nodes] * rest
        return sums

    @cached_property
    def lower_log_prob(self) -> np.ndarray:
        """(G,) float64: natural log of p(word | suffix of parent), what backing off gives; else 0."""
        result = np.zeros(self.num_nodes)
        longer = slice(self.splits[2], None)
        result[longer] = self.conditional(self.suffix[self.parent[longer]], self.word[longer])
        return result

    def explicit_mass(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every node (G,): the sums over the words of its n-grams of p(w | node), and of p(w | suffix)."""
        longer = slice(self.splits[2], None)
        explicit = np.bincount(self.parent[1:], np.exp(self.log_prob[1:]), self.num_nodes)
        below = np.exp(self.lower_log_prob[longer])
        return explicit, np.bincount(self.parent[longer], below, self.num_nodes)

    @classmethod
    def read_arpa(cls, path: PathLike) -> "NgramModel":
        """`moe_asr.lm.arpa.read_arpa`."""
        from moe_asr.lm.arpa import read_arpa

        return read_arpa(path)

    def write_arpa(self, path: PathLike) -> None:
        """`moe_asr.lm.arpa.write_arpa`."""
        from moe_asr.lm.arpa import write_arpa

        write_arpa(self, path)


def find_nodes(
    keys: np.ndarray, num_words: int, nodes: np.ndarray, words: np.ndarray
) -> np.ndarray:
    """`NgramModel.find` in the keys of a trie, or of its lower orders."""
    wanted = np.asarray(nodes, np.int64) * num_words + words
    position = np.searchsorted(keys, wanted)
    position[position == len(keys)] = 0
    there = (keys[position] == wanted) & (np.asarray(nodes) >= 0) & (np.asarray(words) >= 0)
    return np.where(there, position, -1)


def model_of_levels(
    words: SymbolTable,
    parents: list[np.ndarray],
    level_words: list[np.ndarray],
    log_probs: list[np.ndarray],
    backoffs: list[np.ndarray],
) -> NgramModel:
    """A model of one array an order, from order 1; ``parents`` are positions in the order below.

    Highest orders without n-grams are left off.
    """
    while len(parents) > 1 and not len(parents[-1]):
        parents, level_words = parents[:-1], level_words[:-1]
        log_probs, backoffs = log_probs[:-1], backoffs[:-1]
    splits = [0, 1]
    for level in parents:
        splits.append(splits[-1] + len(level))
    nodes = [level + splits[n] for n, level in enumerate(parents)]
    root, zero = np.array([-1], np.int32), np.zeros(1)
    return NgramModel(
        words,
        np.concatenate([root, *nodes]).astype(np.int32),
        np.concatenate([root, *level_words]).astype(np.int32),
        np.concatenate([zero, *log_probs]),
        np.concatenate([zero, *backoffs[:-1], np.zeros(len(parents[-1]))]),
        tuple(splits),
    )
