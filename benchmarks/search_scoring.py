"""Word error rates of best paths and of lattices."""

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np
from numba import njit

from benchmarks.search_engines import Decoded, WordLattice


@dataclass(frozen=True)
class Accuracy:
    """Errors in percent of the reference words.

    Attributes:
        wer: of the best paths.
        oracle_wer: of the path with the fewest errors in each lattice; of the best paths, where an engine
            makes no lattices.
        num_arcs: of the lattices, in the mean of the utterances; None if there are none.
        num_empty: utterances without any path.
    """

    wer: float
    oracle_wer: float
    num_arcs: float | None
    num_empty: int


def accuracy(references: Sequence[Sequence[int]], decoded: Sequence[Decoded]) -> Accuracy:
    """Of all utterances of a test set, whose references are word ids."""
    errors = oracle = num_arcs = 0
    for reference, one in zip(references, decoded, strict=True):
        best = int(kaldialign.edit_distance(list(reference), one.words)["total"])
        errors += best
        oracle += best if one.lattice is None else oracle_errors(one.lattice, reference)
        num_arcs += 0 if one.lattice is None else len(one.lattice.src)
    num_words = sum(map(len, references))
    makes_lattices = any(one.lattice is not None for one in decoded)
    return Accuracy(
        100.0 * errors / num_words,
        100.0 * oracle / num_words,
        num_arcs / len(decoded) if makes_lattices else None,
        sum(one.score is None for one in decoded),
    )


def oracle_errors(lattice: WordLattice, reference: Sequence[int]) -> int:
    """The fewest substitutions, deletions and insertions on any path; without a path, all are deleted."""
    if len(lattice.src) == 0:
        return len(reference)
    return int(
        _oracle(
            lattice.src,
            lattice.dst,
            lattice.row_splits,
            lattice.words,
            np.asarray(reference, np.int32),
        )
    )


@njit(cache=True, nogil=True)
def _oracle(src, dst, row_splits, words, reference):
    # errors[s, j]: the fewest on a path to s that has spelled something for the first j reference words
    num = len(reference)
    errors = np.full((dst.max() + 1, num + 1), np.int32(1 << 30))
    errors[0] = np.arange(num + 1)
    before = np.empty(num + 1, np.int32)
    after = np.empty(num + 1, np.int32)
    for arc in range(len(src)):
        before[:] = errors[src[arc]]
        for position in range(row_splits[arc], row_splits[arc + 1]):
            word = words[position]
            after[0] = before[0] + 1
            for j in range(1, num + 1):
                best = before[j - 1] + (reference[j - 1] != word)
                best = min(best, before[j] + 1)
                after[j] = min(best, after[j - 1] + 1)
            before[:] = after
        row = errors[dst[arc]]
        for j in range(num + 1):
            row[j] = min(row[j], before[j])
    return errors[-1, num]
