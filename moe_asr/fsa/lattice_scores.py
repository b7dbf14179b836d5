"""Scores over all paths of a lattice: forward and backward, best path, posteriors, pruning.

The score of an arc is ``acoustic_scale * acoustic + graph_scale * graph``; sums over paths are float64. In
the tropical semiring the score of several paths is that of the best, in the log semiring the log of the sum
of their exponentials (Mohri et al., "Weighted finite-state transducers in speech recognition", 2002). A
lattice is acyclic and sorted, so that one pass over its arcs does.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_kernels import accumulate

Semiring = Literal["tropical", "log"]


@dataclass(frozen=True)
class LatticePath:
    """One path of a lattice.

    Attributes:
        arcs: its arcs, from the start to the final state.
        labels: the label of each frame that was read, blank (0) and repetitions included.
        label_frames: these frames; every frame of the utterance unless the search left some out.
        tokens: the tokens, as CTC spells them: the labels of the arcs that begin one.
        token_frames: the frame that each token begins in.
        words: word ids.
        acoustic, graph: the sums of both scores, not scaled.
        score: ``acoustic_scale * acoustic + graph_scale * graph``.
    """

    arcs: tuple[int, ...]
    labels: tuple[int, ...]
    label_frames: tuple[int, ...]
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    words: tuple[int, ...]
    acoustic: float
    graph: float
    score: float


def arc_scores(
    lattice: Lattice, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> np.ndarray:
    """(A,) float64: ``acoustic_scale * acoustic + graph_scale * graph``.

    Raises:
        ConfigError: if a scale is negative or not finite, or so large that sums of scores are not finite.
    """
    for name, scale in (("acoustic_scale", acoustic_scale), ("graph_scale", graph_scale)):
        if not 0.0 <= scale < math.inf:
            raise ConfigError(f"{name} must be finite, 0 or more, found {scale}")
    acoustic, graph = lattice.acoustic.astype(np.float64), lattice.graph.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = acoustic_scale * acoustic + graph_scale * graph
        finite = np.isfinite(np.abs(scores).sum())
    if not finite:
        raise ConfigError(f"scores overflow with scales {acoustic_scale} and {graph_scale}")
    return scores


def forward_scores(
    lattice: Lattice,
    semiring: Semiring = "log",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> np.ndarray:
    """(S,) float64: the score of all paths from the start to each state; 0 at the start.

    Of an empty lattice there are none: an empty array.

    Raises:
        ConfigError: on an unknown semiring, or a scale that is negative or not finite.
    """
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    return _accumulate(lattice, scores, False, semiring)[0]


def backward_scores(
    lattice: Lattice,
    semiring: Semiring = "log",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> np.ndarray:
    """(S,) float64: the score of all paths from each state to the final one, likewise; 0 there."""
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    return _accumulate(lattice, scores, True, semiring)[0]


def total_score(
    lattice: Lattice,
    semiring: Semiring = "log",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> float:
    """The score of all paths: the best (tropical), or the log of the sum of all; -inf if there is none."""
    forward = forward_scores(lattice, semiring, acoustic_scale, graph_scale)
    return float(forward[-1]) if len(forward) else -math.inf


def log_num_paths(lattice: Lattice) -> float:
    """The natural log of the number of paths; -inf if there is none."""
    return total_score(lattice, "log", 0.0, 0.0)


def arc_log_posteriors(
    lattice: Lattice,
    semiring: Semiring = "log",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> np.ndarray:
    """(A,) float64, at most 0: the score of all paths over each arc, less that of all paths.

    In the log semiring these are the logs of the arcs' posteriors: over the arcs that read one frame (where
    none is left out), and over the final arcs, their exponentials sum to 1. In the tropical semiring they
    tell how far the best path over an arc is below the best of all.
    """
    through, total, _ = _through_arcs(lattice, semiring, acoustic_scale, graph_scale)
    if total == -math.inf:  # states were left behind that are on no path, and nothing else
        return np.full(lattice.num_arcs, -np.inf)
    return np.minimum(through - total, 0.0)  # a path is rounded apart from the whole


def arc_posteriors(
    lattice: Lattice, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> np.ndarray:
    """(A,) float64 in 0..1: the share of each arc's paths in the sum of all (log semiring)."""
    return np.exp(arc_log_posteriors(lattice, "log", acoustic_scale, graph_scale))


def best_path(
    lattice: Lattice, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> LatticePath | None:
    """The path of the highest score; None if there is none.

    Of equal partial paths into a state, the one whose last arc comes first in the lattice is taken.

    Raises:
        ConfigError: if a scale is negative or not finite.
    """
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    forward, entering = _accumulate(lattice, scores, False, "tropical")
    if lattice.is_empty or forward[-1] == -np.inf:
        return None
    arcs = []
    state = lattice.num_states - 1
    while state != 0:
        arcs.append(int(entering[state]))
        state = int(lattice.src[arcs[-1]])
    return path_of_arcs(lattice, np.array(arcs[::-1]), acoustic_scale, graph_scale)


def path_of_arcs(
    lattice: Lattice, arcs: np.ndarray, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> LatticePath:
    """What is on a path, given by its arcs (L,) integers, from the start to the final state.

    Raises:
        GraphError: if these are no arcs, or are no such path.
    """
    arcs = np.asarray(arcs)
    if len(arcs) == 0 or arcs.min() < 0 or arcs.max() >= lattice.num_arcs:
        raise GraphError(f"lattice: no path of its {lattice.num_arcs} arcs: {arcs.tolist()[:10]}")
    src, dst = lattice.src[arcs], lattice.dst[arcs]
    if src[0] != 0 or dst[-1] != lattice.num_states - 1 or (src[1:] != dst[:-1]).any():
        raise GraphError("lattice: the arcs are no path from the start to the final state")
    scores = arc_scores(lattice, acoustic_scale, graph_scale)[arcs]
    token = lattice.token[arcs]
    frame = lattice.frame[dst] - 1
    reads, starts = token != FINAL, lattice.starts_token[arcs]
    words = take_ragged(lattice.word_row_splits, lattice.words, arcs)[1]
    return LatticePath(
        arcs=tuple(arcs.tolist()),
        labels=tuple(token[reads].tolist()),
        label_frames=tuple(frame[reads].tolist()),
        tokens=tuple(token[starts].tolist()),
        token_frames=tuple(frame[starts].tolist()),
        words=tuple(words.tolist()),
        acoustic=float(lattice.acoustic[arcs].sum(dtype=np.float64)),
        graph=float(lattice.graph[arcs].sum(dtype=np.float64)),
        score=float(scores.sum()),
    )


def prune(
    lattice: Lattice, beam: float, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> Lattice:
    """The lattice of the arcs whose best path is within ``beam`` of the best path.

    This is exact, as far as float64 can tell the two apart, and keeps what the best path is; what is left is
    connected and renumbered in its order. An empty lattice stays empty.

    Args:
        beam: 0 or more; 0 leaves the best paths, infinity removes only what is on no path.

    Raises:
        ConfigError: if ``beam`` is negative or NaN, or a scale negative or not finite.
    """
    if not beam >= 0.0:
        raise ConfigError(f"beam must be 0 or more, found {beam}")
    through, best, rounding = _through_arcs(lattice, "tropical", acoustic_scale, graph_scale)
    return keep_arcs(lattice, through >= best - beam - rounding)


def prune_to_size(
    lattice: Lattice, max_arcs: int, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> Lattice:
    """The lattice of its ``max_arcs`` best arcs, by the best path over each: `prune` with the beam for that.

    Arcs that are as good as the last of them stay too, and those of the best path in any case. A lattice that
    is not larger is returned as it is.

    Raises:
        ConfigError: if ``max_arcs`` is less than 1, or a scale negative or not finite.
    """
    if not max_arcs >= 1:
        raise ConfigError(f"max_arcs must be at least 1, found {max_arcs}")
    if lattice.num_arcs <= max_arcs:
        return lattice
    through, best, rounding = _through_arcs(lattice, "tropical", acoustic_scale, graph_scale)
    worst = float(np.partition(through, -max_arcs)[-max_arcs])
    return keep_arcs(lattice, through >= min(worst, best) - rounding)


def connect(lattice: Lattice) -> Lattice:
    """The lattice without what is on no path from the start to the final state; itself if all is."""
    if lattice.is_connected:
        return lattice
    return keep_arcs(lattice, np.ones(lattice.num_arcs, np.bool_))


def keep_arcs(lattice: Lattice, kept: np.ndarray) -> Lattice:
    """The lattice of some of its arcs, connected, arcs and states in their order.

    Args:
        kept: (A,) bool, the arcs to keep; those that are then on no path go too.

    Returns:
        A new lattice; an empty one if no path is left.
    """
    assert kept.shape == (lattice.num_arcs,), kept.shape
    if lattice.is_empty:
        return lattice
    arc = np.flatnonzero(kept)
    src, dst = lattice.src[arc], lattice.dst[arc]
    on_path = states_on_paths(src, dst, lattice.num_states)
    if not on_path[0]:
        return replace(Lattice.empty(lattice.num_frames), is_partial=lattice.is_partial)
    arc = arc[on_path[src] & on_path[dst]]
    number = (np.cumsum(on_path) - 1).astype(np.int32)
    return renumbered(lattice, arc, number, lattice.frame[on_path])


def renumbered(lattice: Lattice, arc: np.ndarray, number: np.ndarray, frame: np.ndarray) -> Lattice:
    """The lattice of the arcs ``arc`` (D,), in that order, whose states are ``number`` (S,) int32 now.

    Args:
        frame: of the new states.
    """
    splits, words = take_ragged(lattice.word_row_splits, lattice.words, arc)
    return replace(
        lattice,
        src=number[lattice.src[arc]],
        dst=number[lattice.dst[arc]],
        token=lattice.token[arc],
        starts_token=lattice.starts_token[arc],
        acoustic=lattice.acoustic[arc],
        graph=lattice.graph[arc],
        word_row_splits=splits.astype(np.int32),
        words=words,
        frame=frame,
    )


def states_on_paths(src: np.ndarray, dst: np.ndarray, num_states: int) -> np.ndarray:
    """(S,) bool: whether each state is on a path from state 0 to state S-1.

    Args:
        src, dst: (A,) int32, topologically sorted, arcs sorted by src.
        num_states: S, at least 1.
    """
    weight = np.zeros(len(src))
    reached = accumulate(src, dst, weight, num_states, False, False)[0] > -np.inf
    return reached & (accumulate(src, dst, weight, num_states, True, False)[0] > -np.inf)


def _through_arcs(
    lattice: Lattice, semiring: Semiring, acoustic_scale: float, graph_scale: float
) -> tuple[np.ndarray, float, float]:
    """The score of all paths over each arc, (A,) float64; of all paths; how far rounding may move either."""
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    forward = _accumulate(lattice, scores, False, semiring)[0]
    backward = _accumulate(lattice, scores, True, semiring)[0]
    if lattice.is_empty:
        return scores, -math.inf, 0.0
    through = forward[lattice.src] + scores + backward[lattice.dst]
    sums = np.concatenate([forward, backward])
    largest = np.abs(sums[np.isfinite(sums)]).max(initial=0.0)
    # every sum of a path has at most as many terms as it reads frames, and one; each is rounded once
    num_terms = int(lattice.frame[-1]) - int(lattice.frame[0]) + 1
    rounding = 4 * num_terms * float(np.finfo(np.float64).eps) * float(largest)
    return through, float(forward[-1]), rounding


def _accumulate(
    lattice: Lattice, scores: np.ndarray, backward: bool, semiring: str
) -> tuple[np.ndarray, np.ndarray]:
    if semiring not in get_args(Semiring):
        expected = ", ".join(get_args(Semiring))
        raise ConfigError(f"semiring must be one of {expected}, found {semiring!r}")
    if lattice.is_empty:
        return np.zeros(0), np.zeros(0, np.int64)
    return accumulate(
        lattice.src, lattice.dst, scores, lattice.num_states, backward, semiring == "log"
    )
