"""Another n-gram model for the whole lattice, or an n-best list: the first-pass LM out, the other in.

The composition of the lattice with the difference of two models, made as far as paths go (Mohri, Pereira and
Riley 2002; Kaldi's ``lattice-lmrescore``): a state is a state of the lattice and what the models know of the
words before it. A lattice is sorted topologically, so one pass does. Backing off is exact: a path's words get
their probabilities. `docs/lm_rescoring.md` tells where that of a first-pass graph is another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import backward_scores, connect, prune, renumbered
from moe_asr.fsa.nbest import NBestPath
from moe_asr.lm.score import NgramScorer

MAX_ARCS = 10_000_000


def rescore_lattice(
    lattice: Lattice,
    new: NgramScorer | None,
    old: NgramScorer | None = None,
    new_scale: float = 1.0,
    old_scale: float = 1.0,
    beam: float = math.inf,
    search_beam: float = math.inf,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    history: Sequence[int] = (),
    max_arcs: int = MAX_ARCS,
) -> Lattice:
    """The lattice with ``- old_scale * log p_old + new_scale * log p_new`` in the graph score of every path.

    Its paths are those of the lattice, one for each, with the same labels, frames, words and acoustic scores.
    Words are scored on the arcs that have them, ``</s>`` on final arcs. What else is in the graph's score
    (pronunciations, boosts) stays. In a partial lattice no sentence ends: no model scores ``</s>``.

    Args:
        lattice: connected; may be empty.
        new: the model that comes in; None: none.
        old: the model that the graph's score holds; None takes nothing out (the graph was made of a grammar,
            say, and the model comes on top).
        new_scale, old_scale: weights; the LM is in a lattice's graph score as often as the ``graph_scale`` of
            its search says.
        beam: leaves the arcs whose best path, rescored, is at most this far below the best; see `prune`.
        search_beam: keeps large lattices from growing: of the histories in all states of a frame, those are
            dropped whose best path is more than this below the best, the rest of each path judged by the
            scores that the lattice had. A few nats more than ``beam`` lose hardly anything within that beam.
            Infinity drops nothing.
        acoustic_scale, graph_scale: of the scores that beams compare.
        history: words before the lattice, where it is a later piece of a stream.
        max_arcs: to make, before any is dropped. Each takes about 150 bytes while it is made.

    Raises:
        ConfigError: if a weight or a beam is negative or NaN, or ``max_arcs`` is below 1.
        GraphError: if there would be more arcs.
        TextError: naming a word that a model cannot score.
    """
    _check_scales(new_scale, old_scale, acoustic_scale, graph_scale)
    for name, value in (("beam", beam), ("search_beam", search_beam)):
        if not value >= 0.0:
            raise ConfigError(f"{name} must be 0 or more, found {value}")
    if max_arcs < 1:
        raise ConfigError(f"max_arcs must be 1 or more, found {max_arcs}")
    if lattice.is_empty:
        return lattice
    lattice = _by_frame(lattice)
    rest = backward_scores(lattice, "tropical", acoustic_scale, graph_scale)
    arcs = _Composed(
        np.arange(lattice.num_arcs),
        lattice.src,
        lattice.dst,
        np.arange(lattice.num_states),
        lattice.graph.astype(np.float64),
    )
    compose = _Composition(lattice, history, acoustic_scale, graph_scale, rest, max_arcs)
    if old is not None and old_scale != 0.0:
        arcs = compose(arcs, old, -old_scale, math.inf)
    if new is not None and new_scale != 0.0:
        arcs = compose(arcs, new, new_scale, search_beam)
    row_splits, words = take_ragged(lattice.word_row_splits, lattice.words, arcs.arc)
    rescored = replace(
        lattice,
        src=arcs.src.astype(np.int32),
        dst=arcs.dst.astype(np.int32),
        token=lattice.token[arcs.arc],
        starts_token=lattice.starts_token[arcs.arc],
        acoustic=lattice.acoustic[arcs.arc],
        graph=arcs.graph.astype(np.float32),
        word_row_splits=row_splits.astype(np.int32),
        words=words,
        frame=lattice.frame[arcs.state],
    )
    if beam == math.inf:
        return connect(rescored)
    return prune(rescored, beam, acoustic_scale, graph_scale)


def _by_frame(lattice: Lattice) -> Lattice:
    """The same lattice, its states in the order of their frames."""
    inner = lattice.frame[:-1]
    if not (inner[1:] < inner[:-1]).any():
        return lattice
    order = np.append(np.argsort(inner, kind="stable"), len(inner))
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    arc = np.argsort(number[lattice.src], kind="stable")
    return renumbered(lattice, arc, number, lattice.frame[order])


@dataclass(frozen=True, eq=False)
class _Composed:
    """Arcs made of those of a lattice: ``arc`` (D,), ``src``, ``dst``, ``graph`` float64; ``state`` (B,)."""

    arc: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    state: np.ndarray
    graph: np.ndarray


@dataclass(frozen=True)
class _Composition:
    """What composing with either model has in common."""

    lattice: Lattice
    history: Sequence[int]
    acoustic_scale: float
    graph_scale: float
    rest: np.ndarray
    max_arcs: int

    def __call__(
        self, arcs: _Composed, model: NgramScorer, scale: float, search_beam: float
    ) -> _Composed:
        from moe_asr.lm.ngram_kernels import compose_all

        lattice, max_arcs = self.lattice, self.max_arcs
        row_splits, words = take_ragged(
            lattice.word_row_splits, model.to_model(lattice.words), arcs.arc
        )
        counts = np.bincount(arcs.src, minlength=len(arcs.state))
        acoustic = lattice.acoustic[arcs.arc].astype(np.float64)
        states, made, score = compose_all(
            *model.arrays,
            model.state_after(self.history),
            -1 if lattice.is_partial else model.end_word,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            arcs.dst.astype(np.int64),
            row_splits,
            words,
            self.acoustic_scale * acoustic + self.graph_scale * arcs.graph,
            self.graph_scale * scale,
            lattice.frame[arcs.state],
            self.rest[arcs.state],
            float(search_beam),
            int(max_arcs),
        )
        if len(made) > max_arcs:
            raise GraphError(
                f"rescoring: the lattice of {lattice.num_arcs} arcs and {lattice.num_states} states needs "
                f"more than {max_arcs} arcs with the histories of an n-gram of order {model.model.order}: "
                "prune it first, set search_beam, or raise max_arcs"
            )
        return _Composed(
            arcs.arc[made[:, 0]],
            made[:, 1],
            made[:, 2],
            arcs.state[states],
            arcs.graph[made[:, 0]] + scale * score,
        )


def rescore_nbest(
    paths: Sequence[NBestPath],
    new: NgramScorer | None,
    old: NgramScorer | None = None,
    new_scale: float = 1.0,
    old_scale: float = 1.0,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    is_partial: bool = False,
) -> list[NBestPath]:
    """An n-best list with other models in its graph scores, sorted anew.

    Args:
        new, old, new_scale, old_scale: as `rescore_lattice` has them.
        acoustic_scale, graph_scale: of the new scores, ``acoustic_scale * acoustic + graph_scale * graph``.
        is_partial: that of the lattice: no sentence has ended.

    Returns:
        The paths, best first; of equals the first in lexicographic order of words, then of tokens.

    Raises:
        ConfigError: if a weight is negative or not finite.
        TextError: naming a word that a model cannot score.
    """
    return rescore_nbests(
        [paths], new, old, new_scale, old_scale, acoustic_scale, graph_scale, is_partial
    )[0]


def rescore_nbests(
    lists: Sequence[Sequence[NBestPath]],
    new: NgramScorer | None,
    old: NgramScorer | None = None,
    new_scale: float = 1.0,
    old_scale: float = 1.0,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    is_partial: bool | Sequence[bool] = False,
) -> list[list[NBestPath]]:
    """`rescore_nbest` of many lists, whose words each model scores in one call.

    Args:
        is_partial: of all lattices, or of each.
    """
    _check_scales(new_scale, old_scale, acoustic_scale, graph_scale)
    paths = [path for one in lists for path in one]
    partial = [is_partial] * len(lists) if isinstance(is_partial, bool) else list(is_partial)
    assert len(partial) == len(lists), (len(partial), len(lists))
    ended = np.array([not x for x, one in zip(partial, lists, strict=True) for _ in one], bool)
    graph = np.array([path.graph for path in paths])
    for model, scale in ((old, -old_scale), (new, new_scale)):
        if model is not None and scale != 0.0 and paths:
            splits, scores = model.word_scores([path.words for path in paths])
            scores[splits[1:] - 1] *= ended  # no </s> where the sentence goes on
            graph = graph + scale * np.add.reduceat(scores, splits[:-1])
    rescored = iter(
        replace(path, graph=value, score=acoustic_scale * path.acoustic + graph_scale * value)
        for path, value in zip(paths, graph.tolist(), strict=True)
    )
    return [
        sorted(
            (next(rescored) for _ in one), key=lambda path: (-path.score, path.words, path.tokens)
        )
        for one in lists
    ]


def _check_scales(*scales: float) -> None:
    for scale in scales:
        if not 0.0 <= scale < math.inf:
            raise ConfigError(f"scales must be finite, 0 or more, found {scale}")
