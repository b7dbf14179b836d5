"""Sequences of tokens as one tree: a prefix that several share is there once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TokenTree:
    """P nodes in preorder: a node stands for the sequence from the root to it.

    Attributes:
        tokens: (P,) int64; that of node 0, the root, is what every sequence begins with.
        parents: (P,) int64, -1 of the root.
        depths: (P,) int64, 0 of the root.
        ends: (P,) int64, the node after the last descendant.
        last: (n,) int64, for each sequence the node that it ends in.
    """

    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    last: np.ndarray

    @property
    def num_nodes(self) -> int:
        """P."""
        return len(self.tokens)

    def sums_to(self, values: np.ndarray) -> np.ndarray:
        """(P,) float64: the sum of ``values`` (P,) over the nodes from the root to each node."""
        sums = np.array(values, np.float64)
        order = np.argsort(self.depths, kind="stable")
        bounds = np.searchsorted(self.depths[order], np.arange(1, int(self.depths.max()) + 2))
        for begin, end in zip(bounds, bounds[1:], strict=False):
            nodes = order[begin:end]
            sums[nodes] += sums[self.parents[nodes]]
        return sums


def token_tree(sequences: Sequence[Sequence[int]], root: int) -> TokenTree:
    """The tree of ``sequences``, any of which may be empty or there twice.

    Args:
        sequences: n, of token ids.
        root: the token of node 0.
    """
    tokens, parents, depths, ends = [root], [-1], [0], [0]
    last = np.zeros(len(sequences), np.int64)
    path = [0]  # nodes of the sequence before
    previous: Sequence[int] = ()
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = sequences[index]
        shared = shared_prefix(previous, sequence)
        while len(path) > shared + 1:
            ends[path.pop()] = len(tokens)
        for token in sequence[shared:]:
            parents.append(path[-1])
            depths.append(len(path))
            path.append(len(tokens))
            tokens.append(token)
            ends.append(0)
        last[index] = path[-1]
        previous = sequence
    for node in path:
        ends[node] = len(tokens)
    return TokenTree(
        np.array(tokens, np.int64),
        np.array(parents, np.int64),
        np.array(depths, np.int64),
        np.array(ends, np.int64),
        last,
    )


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix of two sequences."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
