"""A lattice as a distribution over word sequences: arcs with probabilities, few of them without a word.

What is asked of all paths of a lattice is asked of their words, most of whose arcs have none. So the frames
are taken out first: every state is left with probability 1 (weights are pushed to the front; Mohri, 2002,
*Semiring frameworks and algorithms for shortest-distance problems*), states between two arcs of which one has
no label are taken out where that does not add arcs, and arcs that differ in nothing but times are one, with
the sum of their probabilities. The distribution stays the same.
"""

from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.label_arcs import label_arcs
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_kernels import accumulate
from moe_asr.fsa.lattice_scores import arc_scores

_MAX_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class LabelDistribution:
    """A arcs over states 0..S-1, sorted by source; every arc leads to a higher state, S-1 is final.

    Attributes:
        arc_splits: (S + 1,) int64; the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``.
        dst: (A,) int64.
        label: (A,) int64, a word or token id; 0 is none.
        probability: (A,) float64; those of a state sum to 1.
        frame: (A,) float64; of the paths over an arc, the mean of the frame that their label is in.
    """

    arc_splits: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    frame: np.ndarray

    @property
    def num_states(self) -> int:
        """S; 0 if there is no path."""
        return len(self.arc_splits) - 1

    @property
    def num_arcs(self) -> int:
        return len(self.dst)


def label_distribution(
    lattice: Lattice,
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> LabelDistribution:
    """The distribution of the paths' words, or tokens, in which a path has the exponential of its score.

    Args:
        lattice: without a path, the result has no states.
        unit: ``word`` or ``token``.
        acoustic_scale, graph_scale: weights of the scores, 0 or more; both less than 1 flatten.

    Raises:
        ConfigError: on another value of an option.
    """
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    graph = label_arcs(lattice, unit)
    num_states, dst = graph.num_states, graph.dst
    if num_states == 0:
        return _none()
    # the frame of a chain's arcs is that of the arc of the lattice, which is before them
    src = np.repeat(np.arange(num_states), np.diff(graph.arc_splits))
    score = np.where(graph.arc >= 0, scores[graph.arc], 0.0)
    rest = accumulate(src.astype(np.int32), dst.astype(np.int32), score, num_states, True, True)[0]
    if rest[0] == -np.inf:
        return _none()
    frame = _frames(lattice, graph.arc, src, dst)
    with np.errstate(invalid="ignore"):
        probability = np.exp(score + rest[dst] - rest[src])
    alive = np.isfinite(rest[src]) & (probability > 0.0)
    kept = np.isfinite(rest)
    number = np.cumsum(kept) - 1
    arcs = number[src[alive]], number[dst[alive]], graph.label[alive]
    return _contracted(int(kept.sum()), *arcs, probability[alive], frame[alive])


def _none() -> LabelDistribution:
    ids, values = np.zeros(0, np.int64), np.zeros(0)
    return LabelDistribution(np.zeros(1, np.int64), ids, ids, values, values)


def _frames(lattice: Lattice, arc: np.ndarray, src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """(A,) float64: the frame that each arc reads; those of a chain have that of its first arc."""
    of_arc = np.maximum(lattice.frame[lattice.dst] - 1, lattice.frame[0]).astype(np.float64)
    frame = np.where(arc >= 0, of_arc[arc], 0.0)
    inner = np.flatnonzero(arc < 0)  # in the order of chains, and of the arcs of each
    into = np.zeros(len(src) + 1 and int(dst.max()) + 1, np.int64)
    into[dst] = np.arange(len(dst))  # only one arc enters the inside of a chain
    for place in inner.tolist():
        frame[place] = frame[into[src[place]]]
    return frame


def _contracted(
    num_states: int,
    src: np.ndarray,
    dst: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    frame: np.ndarray,
) -> LabelDistribution:
    """From both ends in turn, until it brings little; arcs are sorted by src."""
    from moe_asr.fsa.label_distribution_kernels import contract

    forward = True
    for turn in range(2 * _MAX_ROUNDS):
        before = len(src)
        splits = _splits(src, num_states)
        kept, src, dst, label, weight, frame = contract(splits, dst, label, weight, frame)
        number = np.cumsum(kept) - 1
        num_states = int(kept.sum())
        # what the arcs are sorted by, reversed, is what they are to be sorted by
        src, dst = num_states - 1 - number[dst], num_states - 1 - number[src]
        src, dst, label, weight, frame = (x[::-1] for x in (src, dst, label, weight, frame))
        src, dst, label, weight, frame = map(np.ascontiguousarray, (src, dst, label, weight, frame))
        forward = not forward
        if forward and turn > 1 and len(src) > 0.98 * before:
            break
    return LabelDistribution(_splits(src, num_states), dst, label, weight, frame)


def _splits(src: np.ndarray, num_states: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(src, minlength=num_states))]).astype(np.int64)
