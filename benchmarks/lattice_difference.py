"""Whether two lattices are the same but for rounding, and for what rounding decides at the edge of a beam."""

from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import arc_log_posteriors

TOLERANCE = 1e-3  # nats, of the score of an arc
EDGE = 1e-2  # nats, of the score of a path


@dataclass(frozen=True)
class LatticeDifference:
    """What `compare_lattices` found.

    Attributes:
        num_shared: arcs that both have.
        num_at_edge: arcs of one only, within `EDGE` of the output beam: rounding keeps or drops these.
        num_different: other arcs of one only: differences.
        largest_score: the largest difference of the acoustic or graph score of a shared arc.
        largest_margin: the largest difference of how far the best path over a shared arc is from the best.
    """

    num_shared: int
    num_at_edge: int
    num_different: int
    largest_score: float
    largest_margin: float

    @property
    def is_same(self) -> bool:
        """Whether there are no differences."""
        return self.num_different == 0


def compare_lattices(one: Lattice, two: Lattice, output_beam: float) -> LatticeDifference:
    """Matches the arcs of two lattices of the same utterance, one to one.

    Arcs match if they have the same frame, token, words, and start of a token; if both scores agree within
    `TOLERANCE`; and if the best paths over them are within `EDGE` equally far below the best of all, so that
    they are in the same place of the lattice too. Numbers of states do not matter.

    Args:
        one, two: with the same number of frames, or all arcs are different.
        output_beam: that both were made with.
    """
    tables = [_Table.of(lattice) for lattice in (one, two)]
    if one.num_frames != two.num_frames or one.is_partial != two.is_partial:
        return LatticeDifference(0, 0, max(1, one.num_arcs + two.num_arcs), 0.0, 0.0)
    left, right = _matched(*tables)
    unmatched = [
        np.delete(table.margin, arcs) for table, arcs in zip(tables, (left, right), strict=True)
    ]
    lost = np.concatenate(unmatched)
    at_edge = int((lost >= output_beam - EDGE).sum())
    scores, margins = [
        np.abs(getattr(tables[0], name)[left] - getattr(tables[1], name)[right])
        for name in ("scores", "margin")
    ]
    return LatticeDifference(
        len(left), at_edge, len(lost) - at_edge, float(scores.max(initial=0.0)),
        float(margins.max(initial=0.0)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Table:
    """The arcs of a lattice.

    Attributes:
        key: (A,) of what must be equal; see `_keys`.
        scores: (A, 2) float64, acoustic and graph.
        margin: (A,) float64, how far the best path over the arc is below the best of all, 0 or more.
    """

    key: list[tuple[int, int, int, bool, tuple[int, ...]]]
    scores: np.ndarray
    margin: np.ndarray

    @classmethod
    def of(cls, lattice: Lattice) -> "_Table":
        key = [
            (first, last, token, starts, ())
            for first, last, token, starts in zip(
                lattice.frame[lattice.src].tolist(),
                lattice.frame[lattice.dst].tolist(),
                lattice.token.tolist(),
                lattice.starts_token.tolist(),
                strict=True,
            )
        ]
        for arc in np.flatnonzero(np.diff(lattice.word_row_splits)).tolist():
            key[arc] = (*key[arc][:4], tuple(lattice.words_of(arc).tolist()))
        scores = np.stack([lattice.acoustic, lattice.graph], axis=1).astype(np.float64)
        margin = -arc_log_posteriors(lattice, "tropical") if lattice.num_arcs else np.zeros(0)
        return cls(key, scores, margin)


def _matched(one: _Table, two: _Table) -> tuple[np.ndarray, np.ndarray]:
    """The arcs of ``one`` and of ``two`` that match, in pairs.

    Among arcs with one key, clusters of graph scores without a gap above the tolerance are matched on their
    own: the next of one side to the next of the other, in the order of their margins, which matches as many
    as can be.
    """
    numbers: dict[tuple, int] = {}
    key = np.array([numbers.setdefault(k, len(numbers)) for k in one.key + two.key], np.int64)
    side = np.repeat([0, 1], [len(one.key), len(two.key)])
    arc = np.concatenate([np.arange(len(one.key)), np.arange(len(two.key))])
    scores = np.concatenate([one.scores, two.scores])
    margin = np.concatenate([one.margin, two.margin])
    order = np.lexsort((scores[:, 1], key))
    gap = (np.diff(key[order]) != 0) | (np.diff(scores[order, 1]) > TOLERANCE)
    cluster = np.empty(len(key), np.int64)
    cluster[order] = np.concatenate([[0], np.cumsum(gap)])[: len(key)]
    order = np.lexsort((margin, cluster))
    waiting: list[int] = []  # of one side, of the cluster, in the order of margins
    pairs = []
    for row in order.tolist():
        while waiting and (
            cluster[waiting[0]] != cluster[row] or margin[row] - margin[waiting[0]] > EDGE
        ):
            waiting.pop(0)
        other = next(
            (w for w in waiting
             if side[w] != side[row] and np.abs(scores[w] - scores[row]).max() <= TOLERANCE),
            None,
        )  # fmt: skip
        if other is None:
            waiting.append(row)
        else:
            waiting.remove(other)
            pairs.append((row, other) if side[row] == 0 else (other, row))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    left, right = np.array(pairs).T
    return arc[left], arc[right]
