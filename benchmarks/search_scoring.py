"""Word error rates of best paths and of lattices."""

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign

from benchmarks.search_engines import Decoded, WordLattice
from moe_asr.fsa.label_arcs import word_arcs
from moe_asr.fsa.oracle import arcs_oracle


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
    num_states = int(lattice.dst.max()) + 1
    graph = word_arcs(lattice.src, lattice.dst, lattice.row_splits, lattice.words, num_states)
    return arcs_oracle(graph, reference).errors
