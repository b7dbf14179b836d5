"""The lattice oracle: of all paths of a lattice, one with the fewest errors against a reference, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.label_arcs import LabelArcs, label_arcs
from moe_asr.fsa.lattice import Lattice

_MAX_CELLS = 1 << 30
_FIRST_LIMIT = 8


@dataclass(frozen=True)
class Oracle:
    """The best that could be chosen.

    Attributes:
        words: of the path (or hypothesis) with the fewest errors.
        alignment: (reference, word) pairs in order; None is a gap: a deletion or an insertion.
        substitutions, deletions, insertions: their number is the least; which they are, is one choice of
            several equally good ones.
    """

    words: tuple[int, ...]
    alignment: tuple[tuple[int | None, int | None], ...]
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """The edit distance (Levenshtein) between the reference and ``words``."""
        return self.substitutions + self.deletions + self.insertions


def lattice_oracle(lattice: Lattice, reference: Sequence[int], unit: str = "word") -> Oracle:
    """Compares all paths of a lattice with a reference; one has the fewest errors.

    Dynamic programming over (state, words of the reference consumed), in time and memory proportional to
    arcs and states times the width of a band (Ukkonen, 1985): with at most d errors, a state whose paths have
    between a and b words before it can only be reached with a - d to b + d words of the reference consumed,
    and likewise for the words after it. The band is doubled until the least distance lies in it.

    Args:
        lattice: without a path it stands for the empty sequence, that is all deletions.
        reference: R word ids; a word that the graph has not is any number below 1.
        unit: ``word``, or ``token`` for CTC tokens.

    Raises:
        ConfigError: on another unit.
        GraphError: if more than 2**30 cells were needed: a lattice of hours.
    """
    return arcs_oracle(label_arcs(lattice, unit), reference)


def arcs_oracle(graph: LabelArcs, reference: Sequence[int]) -> Oracle:
    """The same of arcs that are no `Lattice`, see `moe_asr.fsa.label_arcs.word_arcs`."""
    ids = np.asarray(reference, np.int64)
    return _result(graph, ids, _steps(graph, ids) if graph.num_states else None)


def nbest_oracle(
    hypotheses: Sequence[Sequence[int]], reference: Sequence[int]
) -> tuple[int | None, Oracle]:
    """The hypothesis with the fewest errors; of several the first.

    Args:
        hypotheses: word ids of each, above 0.
        reference: see `lattice_oracle`.

    Returns:
        Its position in ``hypotheses``, and the comparison; if there are none, None, and that of the empty
        sequence.

    Raises:
        GraphError: if a hypothesis has a word id below 1; or as `lattice_oracle`.
    """
    lengths = np.array([len(words) for words in hypotheses], np.int64)
    words = np.array([word for words in hypotheses for word in words], np.int64)
    if len(words) and words.min() < 1:
        raise GraphError(f"hypotheses: {words.min()} is no word id")
    ids = np.asarray(reference, np.int64)
    graph = _parallel(lengths, words)
    if len(lengths) == 0:
        return None, _result(graph, ids, None)
    steps = _steps(graph, ids)
    assert steps is not None
    first = steps[steps[:, 0] >= 0][0, 0]
    return int(graph.arc[first]), _result(graph, ids, steps)


def _parallel(lengths: np.ndarray, words: np.ndarray) -> LabelArcs:
    """A chain for each sequence, between two arcs without words; ``arc`` is its number."""
    num_states = lengths + 1
    begin = 1 + np.cumsum(num_states) - num_states
    final = 1 + int(num_states.sum())
    number = np.repeat(np.arange(len(lengths)), lengths + 2)
    place = np.arange(len(number)) - (begin - 1 + np.arange(len(lengths)))[number]
    state = begin[number] + place
    last = place == num_states[number]
    src = np.where(place == 0, 0, state - 1)
    dst = np.where(last, final, state)
    label = np.zeros(len(number), np.int64)
    label[(place > 0) & ~last] = words
    order = np.argsort(src, kind="stable")
    splits = np.concatenate([[0], np.cumsum(np.bincount(src, minlength=final + 1))])
    return LabelArcs(splits.astype(np.int64), dst[order], label[order], number[order])


def _steps(graph: LabelArcs, reference: np.ndarray) -> np.ndarray | None:
    """(N, 2) arcs and reference words, see `trace_alignment`; None if there is no path."""
    from moe_asr.fsa.oracle_kernels import FAR, edit_distances, label_counts, trace_alignment

    length, limit = len(reference), _FIRST_LIMIT
    before_least, before_most, after_least, after_most = label_counts(
        graph.arc_splits, graph.dst, graph.label
    )
    if before_most[-1] < 0:
        return None
    # errors that no path avoids
    limit += max(0, int(before_least[-1]) - length, length - int(before_most[-1]))
    while True:
        lowest = np.maximum(np.maximum(before_least, length - after_most) - limit, 0)
        highest = np.minimum(np.minimum(before_most, length - after_least) + limit, length)
        row_splits = np.concatenate([[0], np.cumsum(np.maximum(highest - lowest + 1, 0))])
        if row_splits[-1] > _MAX_CELLS:
            raise GraphError(
                f"oracle: {graph.num_states} states against {length} words need {row_splits[-1]} cells, "
                f"more than {_MAX_CELLS}: prune the lattice, or cut the utterance"
            )
        arguments = graph.arc_splits, graph.dst, graph.label, reference, lowest, highest, row_splits
        cost = edit_distances(*arguments)
        if row_splits[-1] > row_splits[-2] and cost[-1] <= limit:
            break
        limit *= 2
    assert cost[-1] < FAR
    in_arcs = np.argsort(graph.dst, kind="stable")
    in_splits = np.cumsum(np.bincount(graph.dst + 1, minlength=graph.num_states + 1))
    return trace_alignment(*arguments, cost, in_splits, in_arcs)


def _result(graph: LabelArcs, reference: np.ndarray, steps: np.ndarray | None) -> Oracle:
    if steps is None:
        deleted = reference.tolist()
        return Oracle((), tuple((word, None) for word in deleted), 0, len(deleted), 0)
    words = np.append(graph.label, 0)[steps[:, 0]]  # -1: none
    kept = (words > 0) | (steps[:, 1] >= 0)
    pairs: list[tuple[int | None, int | None]] = [
        (int(reference[place]) if place >= 0 else None, word or None)
        for word, place in zip(words[kept].tolist(), steps[kept, 1].tolist(), strict=True)
    ]
    return Oracle(
        tuple(word for _, word in pairs if word is not None),
        tuple(pairs),
        sum(None not in pair and pair[0] != pair[1] for pair in pairs),
        sum(word is None for _, word in pairs),
        sum(expected is None for expected, _ in pairs),
    )
