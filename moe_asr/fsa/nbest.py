"""The n best distinct word or token sequences of a lattice, exactly; `docs/nbest.md` has the reasons.

The search is Mohri and Riley's (2002, *An efficient algorithm for the n-best-strings problem*): best first
over the lattice determinised as far as is needed. A prefix of labels stands for the states that it leads to,
each with its best score; the exact score of the best path from each state to the end says how good the best
sequence with that prefix is. So every prefix taken up is one of a sequence among the n best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.fsa.label_arcs import LabelArcs, label_arcs
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.word_times import WordCutter, WordTime, times_of_labels, word_times

_SCORE_BITS = 60  # of the largest sum along a path


@dataclass(frozen=True, eq=False)
class NBestPath:
    """The best path of one sequence: W words, U tokens, L frames read.

    Attributes:
        words: word ids.
        word_frames: the frame of the arc that each word is on. Where graphs put words is up to their
            determinisation: see `word_times`.
        tokens: token ids, as CTC reads the labels.
        token_frames, token_ends: the first and the last frame of each token.
        labels: (L,) int32, the label of each frame read; 0 is blank.
        label_frames: (L,) int32, the frames; all, unless the search left some out.
        arcs: (L + 1,) int64, the lattice's arcs, the final one included.
        acoustic, graph: the sums of the arcs' scores, as they are in the lattice.
        score: ``acoustic_scale * acoustic + graph_scale * graph``, what the list is sorted by.
    """

    words: tuple[int, ...]
    word_frames: tuple[int, ...]
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    token_ends: tuple[int, ...]
    labels: np.ndarray
    label_frames: np.ndarray
    arcs: np.ndarray
    acoustic: float
    graph: float
    score: float

    @property
    def total(self) -> float:
        """Both scores together, unscaled."""
        return self.acoustic + self.graph

    def word_times(
        self, cutter: WordCutter | None = None, is_partial: bool = False
    ) -> tuple[WordTime, ...]:
        """When each word was said: the frames of its tokens; without a cutter `word_frames`.

        Args:
            cutter: knows which tokens spell a word, see `moe_asr.fsa.word_times`.
            is_partial: that of the lattice; the last word may be unfinished and then has the tokens there
                are, or, if there are none yet, is not in the result.

        Raises:
            GraphError: if words and tokens do not fit together.
        """
        if cutter is None:
            return times_of_labels(self.words, self.word_frames)
        spans = cutter.cut(self.words, self.tokens, is_partial)
        return word_times(self.words, spans, self.token_frames, self.token_ends)


def nbest(
    lattice: Lattice,
    n: int,
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> list[NBestPath]:
    """The n best distinct sequences, each by its best path; fewer if there are no more.

    The order is total: of sequences with the same score the lexicographically first (in ids) comes first; of
    paths of one sequence with the same score, one is chosen by the order of arcs. So the list is the
    beginning of any longer one. Sums are exact: see `integer_scores`.

    Args:
        lattice: may be empty, and then there are none.
        n: at least 1.
        unit: ``word``: sequences of words; ``token``: those of CTC tokens, whatever their words.
        acoustic_scale, graph_scale: weights of the scores, 0 or more; they do nothing but rank.

    Raises:
        ConfigError: on another value of an option.
    """
    found = _search(lattice, n, unit, acoustic_scale, graph_scale)
    if found is None:
        return []
    totals, splits, arcs = found.paths()
    scores = np.ldexp(totals.astype(np.float64), -found.exponent).tolist()
    return [
        _path(lattice, arcs[splits[i] : splits[i + 1]].copy(), score)
        for i, score in enumerate(scores)
    ]


def nbest_sequences(
    lattice: Lattice,
    n: int,
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> list[tuple[int, ...]]:
    """The sequences of `nbest` alone, in a fraction of its time: ids of words, or of tokens."""
    found = _search(lattice, n, unit, acoustic_scale, graph_scale)
    if found is None:
        return []
    splits, labels = found.label_splits.tolist(), found.known[found.labels].tolist()
    return [tuple(labels[a:b]) for a, b in zip(splits[:-1], splits[1:], strict=True)]


def integer_scores(
    lattice: Lattice, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> tuple[np.ndarray, int]:
    """Scores of arcs as whole multiples of 2**-exponent, the finest with which no path's sum overflows.

    Sums of integers do not depend on the order of addition: a prefix and its best continuation have exactly
    the score of the whole, and equal scores are equal. The step is 2**-60 of the largest sum of absolute
    scores, at most; float64 sums err by more.

    Returns:
        (A,) int64, and the exponent.

    Raises:
        ConfigError: as `arc_scores` does.
    """
    from moe_asr.fsa.lattice_kernels import accumulate
    from moe_asr.fsa.lattice_scores import arc_scores

    score = arc_scores(lattice, acoustic_scale, graph_scale)
    largest = 0.0
    if not lattice.is_empty:
        arguments = lattice.src, lattice.dst, np.abs(score), lattice.num_states
        # both ways: what leads nowhere is added up too
        largest = max(accumulate(*arguments, way, False)[0].max() for way in (False, True))
    exponent = _SCORE_BITS - math.frexp(largest)[1]  # no sum is above 2**_SCORE_BITS then
    return np.rint(np.ldexp(score, exponent)).astype(np.int64), exponent


@dataclass(frozen=True, eq=False)
class _Sequences:
    """The n best label sequences: ``label_splits``, ``labels`` ragged; ``known`` are the labels' ids."""

    graph: LabelArcs
    arguments: tuple[np.ndarray, ...]  # of the kernels
    exponent: int
    known: np.ndarray
    totals: np.ndarray
    label_splits: np.ndarray
    labels: np.ndarray

    def paths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (R,), splits (R + 1,) and arcs of the lattice, ragged."""
        from moe_asr.fsa.nbest_kernels import trace_paths

        arguments = (*self.arguments, self.totals, self.label_splits, self.labels)
        splits, arcs = trace_paths(*arguments)
        arcs = self.graph.arc[arcs]
        kept_before = np.concatenate([[0], np.cumsum(arcs >= 0)])
        return self.totals, kept_before[splits], arcs[arcs >= 0]


def _search(
    lattice: Lattice, n: int, unit: str, acoustic_scale: float, graph_scale: float
) -> _Sequences | None:
    """None if there is no path."""
    from moe_asr.fsa.nbest_kernels import NONE, best_sequences, best_to_end

    if not n >= 1:
        raise ConfigError(f"n must be at least 1, found {n}")
    scores, exponent = integer_scores(lattice, acoustic_scale, graph_scale)
    graph = label_arcs(lattice, unit)
    if lattice.is_empty:
        return None
    score = np.where(graph.arc >= 0, scores[graph.arc], 0)
    known, label = np.unique(np.append(graph.label, 0), return_inverse=True)
    label = label[:-1].astype(np.int64)
    rest = best_to_end(graph.arc_splits, graph.dst, score)
    if rest[0] == NONE:
        return None
    arguments = graph.arc_splits, graph.dst, label, score, rest
    found = best_sequences(*arguments, len(known) - 1, int(min(n, 1 << 60)))
    return _Sequences(graph, arguments, exponent, known, *found)


def _path(lattice: Lattice, arcs: np.ndarray, score: float) -> NBestPath:
    reading, last = arcs[:-1], arcs[-1]
    assert lattice.token[last] < 0, (last, lattice.token[last])
    labels = lattice.token[reading]
    frames = lattice.frame[lattice.dst[reading]] - 1
    voiced = np.flatnonzero(labels > 0)
    number = np.cumsum(lattice.starts_token[reading[voiced]]) - 1  # of the token
    first = voiced[lattice.starts_token[reading[voiced]]]
    # before the first token there may be frames of one that began in an earlier piece of a stream
    end = voiced[np.searchsorted(number, np.arange(len(first)), side="right") - 1]
    words, word_frames = _words(lattice, arcs)
    return NBestPath(
        words,
        word_frames,
        tuple(labels[first].tolist()),
        tuple(frames[first].tolist()),
        tuple(frames[end].tolist()),
        labels,
        frames,
        arcs,
        math.fsum(lattice.acoustic[arcs].tolist()),
        math.fsum(lattice.graph[arcs].tolist()),
        score,
    )


def _words(lattice: Lattice, arcs: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The words on arcs, and their frames; that of a final arc is the last frame read."""
    words: list[int] = []
    frames: list[int] = []
    splits = lattice.word_row_splits
    for arc in arcs[splits[arcs + 1] > splits[arcs]].tolist():
        found: Sequence[int] = lattice.words_of(arc).tolist()
        frame = max(int(lattice.frame[lattice.dst[arc]]) - 1, int(lattice.frame[0]))
        words.extend(found)
        frames.extend([frame] * len(found))
    return tuple(words), tuple(frames)
