"""Epsilon removal that keeps every output: k2's own keeps one word of those that sound alike.

``k2.remove_epsilon`` works on the input labels only: of two epsilon paths between the same states
it drops the worse, although their words may differ. Homophones (one spelling, told apart by
disambiguation symbols, which become epsilons) are such paths; a lattice should hold them all.
"""

from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError


@dataclass(frozen=True)
class Arcs:
    """Arcs of an FST as arrays: src, dst, label (A,) int32, score (A,) float32, ragged words.

    The words of arc a are ``words[row_splits[a]:row_splits[a + 1]]``.
    """

    src: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    score: np.ndarray
    row_splits: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.src)

    def take(self, index: np.ndarray) -> "Arcs":
        """The arcs at ``index``, in that order."""
        row_splits, words = _take_ragged(self.row_splits, self.words, index)
        return Arcs(
            self.src[index],
            self.dst[index],
            self.label[index],
            self.score[index],
            row_splits,
            words,
        )


def remove_epsilons(arcs: Arcs) -> Arcs:
    """An equivalent FST without arcs of label 0, in the tropical semiring.

    For every input, each output (word sequence) keeps the score of its best path. States keep their
    numbers; some may have become unreachable.

    Returns:
        Arcs sorted by (src, label, dst), of which no two are the same but for their scores.

    Raises:
        GraphError: if there is a cycle of epsilons.
    """
    is_epsilon = arcs.label == 0
    epsilons = arcs.take(np.flatnonzero(is_epsilon))
    others = arcs.take(np.flatnonzero(~is_epsilon))
    num_states = int(arcs.dst.max(initial=-1)) + 1
    paths, pieces = epsilons, [others]
    depth = 0
    while len(paths):  # paths of `depth + 1` epsilons; each is continued by an arc that is none
        if depth > num_states:
            raise GraphError("a cycle of epsilons (or disambiguation symbols) cannot be removed")
        pieces.append(_best_of_equals(_join(paths, others)))
        paths = _best_of_equals(_join(paths, epsilons))
        depth += 1
    return _best_of_equals(_concatenate(pieces))


def _join(first: Arcs, second: Arcs) -> Arcs:
    """Every path of an arc of ``first`` and one of ``second``, with the label of the latter."""
    order = np.argsort(second.src, kind="stable")
    starts = np.searchsorted(second.src[order], first.dst, side="left")
    counts = np.searchsorted(second.src[order], first.dst, side="right") - starts
    left = np.repeat(np.arange(len(first)), counts)
    offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    right = order[np.repeat(starts, counts) + offsets]
    a, b = first.take(left), second.take(right)
    row_splits = a.row_splits + b.row_splits
    words = np.empty(len(a.words) + len(b.words), a.words.dtype)
    # each row of the result is the row of a, then the row of b
    before_a = np.repeat(b.row_splits[:-1], np.diff(a.row_splits))
    before_b = np.repeat(a.row_splits[1:], np.diff(b.row_splits))
    words[np.arange(len(a.words)) + before_a] = a.words
    words[np.arange(len(b.words)) + before_b] = b.words
    return Arcs(a.src, b.dst, b.label, a.score + b.score, row_splits, words)


def _concatenate(pieces: list[Arcs]) -> Arcs:
    offsets = np.cumsum([0] + [len(piece.words) for piece in pieces])
    splits = [piece.row_splits[1:] + offset for piece, offset in zip(pieces, offsets, strict=False)]
    row_splits = np.concatenate([np.zeros(1, np.int64), *splits])
    return Arcs(
        src=np.concatenate([piece.src for piece in pieces]),
        dst=np.concatenate([piece.dst for piece in pieces]),
        label=np.concatenate([piece.label for piece in pieces]),
        score=np.concatenate([piece.score for piece in pieces]),
        row_splits=row_splits,
        words=np.concatenate([piece.words for piece in pieces]),
    )


def _best_of_equals(arcs: Arcs) -> Arcs:
    """Keeps the best of arcs with the same states, label and words; sorts by src, label, dst."""
    lengths = np.diff(arcs.row_splits)
    longest = int(lengths.max(initial=0))
    padded = np.zeros((longest, len(arcs)), arcs.words.dtype)  # words are never 0
    if longest:
        rows = np.repeat(np.arange(len(arcs)), lengths)
        padded[np.arange(len(arcs.words)) - np.repeat(arcs.row_splits[:-1], lengths), rows] = (
            arcs.words
        )
    keys = [*padded[::-1], arcs.dst, arcs.label, arcs.src]  # np.lexsort: the last is the first
    order = np.lexsort([-arcs.score, *keys])
    new = np.ones(len(order), bool)
    if len(order):
        new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    return arcs.take(order[new])


def _take_ragged(
    row_splits: np.ndarray, values: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    starts = row_splits[:-1][index].astype(np.int64)
    lengths = row_splits[1:][index].astype(np.int64) - starts
    taken_splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    positions = np.arange(taken_splits[-1]) - np.repeat(taken_splits[:-1] - starts, lengths)
    return taken_splits, values[positions]
