"""Paths through a graph: the best one for given words or tokens, and random ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.view import GraphView


@dataclass(frozen=True, eq=False)
class GraphPath:
    """A path from the start to a final state.

    Attributes:
        arcs: (L,) int64 positions of its arcs in the graph.
        states: (L + 1,) int64 the states it passes, 0 first.
        score: the sum of the scores of its arcs and the final score.
    """

    arcs: np.ndarray
    states: np.ndarray
    score: float


def best_path(
    view: GraphView, words: Sequence[int] | None = None, inputs: Sequence[int] | None = None
) -> GraphPath:
    """The path of the highest score, of those the one of fewest arcs.

    Dynamic programming over (state, words and inputs consumed), from the start, over arcs that fit only.
    With an HLG the fewest arcs mean that no token is repeated and no blank taken that need not be.

    Args:
        view: the graph.
        words: output labels that the path must yield, all of them in this order; None: any.
        inputs: input labels that it must read, likewise; epsilons and the final label -1 are free. A
            decoding graph's are read as they are: see `frames_of_tokens` for those of an HLG.

    Raises:
        GraphError: if there is no such path, saying how far one gets; or if the search comes to a cycle that
            gains score each time round, so that there may be no best path.
    """
    search = _Search(view, words, inputs)
    nodes = frontier = search.start()
    best_end = search.best_end(nodes)
    rounds, next_check = 0, 32
    while len(frontier):
        reached = search.follow(frontier)
        if best_end is not None and search.never_gains:
            reached = reached.take(reached.score >= best_end[0])
        nodes, frontier = nodes.improve(reached)
        best_end = _better(best_end, search.best_end(frontier))
        rounds += 1
        if rounds == next_check:  # a path this long may be right, or go round in circles
            if search.in_circles(nodes):
                raise GraphError("no path is the best: a cycle gains score each time round")
            next_check *= 2
    if best_end is None:
        raise GraphError(search.why_none(nodes))
    return search.trace(nodes, best_end[1])


def frames_of_tokens(tokens: Sequence[int], blank: int = 0) -> list[int]:
    """The shortest frame labels that CTC reads as ``tokens``: a blank between equal neighbours."""
    frames: list[int] = []
    for token in tokens:
        if frames and token == frames[-1] != blank:
            frames.append(blank)
        frames.append(token)
    return frames


def random_path(view: GraphView, rng: np.random.Generator, max_arcs: int = 100) -> GraphPath:
    """A path drawn arc by arc, each with probability proportional to exp(score) among those of its state.

    Arcs into dead ends are never taken, nor are an HLG's repetitions (arcs without words back to their
    own state). A path that has ``max_arcs`` arcs goes the shortest way to a final state from there.

    That is the distribution of an n-gram's G; in a graph whose states do not have probabilities that sum
    to one (an HLG) it is just some path.

    Raises:
        GraphError: if the graph accepts nothing.
        ConfigError: if ``max_arcs`` is negative.
    """
    if max_arcs < 0:
        raise ConfigError(f"max_arcs must be at least 0, found {max_arcs}")
    towards_end = _way_out(view)
    if towards_end[0] < 0:
        raise GraphError("no final state can be reached: the graph accepts nothing")
    end = view.num_states
    arcs: list[int] = []
    state = 0
    while True:
        first, last = view.arc_splits[state], view.arc_splits[state + 1]
        arc = np.arange(first, last)
        arc = arc[towards_end[view.dst[first:last]] >= 0]
        if view.has_blank:
            repeats = (view.dst[arc] == state) & (view.row_splits[arc + 1] == view.row_splits[arc])
            arc = arc[~repeats]
        score = np.append(view.score[arc].astype(np.float64), view.final_score[state])
        if len(arcs) >= max_arcs:
            way = np.append(view.dst[arc], end)
            score[way != towards_end[state]] = -np.inf
        weight = np.exp(score - score.max())
        choice = int(rng.choice(len(score), p=weight / weight.sum()))
        if choice == len(arc):
            return _path(view, np.array(arcs, np.int64))
        arcs.append(int(arc[choice]))
        state = int(view.dst[arc[choice]])


def _path(view: GraphView, arcs: np.ndarray) -> GraphPath:
    states = np.concatenate([[0], view.dst[arcs]]).astype(np.int64)
    score = view.score[arcs].sum(dtype=np.float64) + float(view.final_score[states[-1]])
    return GraphPath(arcs, states, float(score))


def _way_out(view: GraphView) -> np.ndarray:
    """(S,) the state after each on the shortest way to the end; S itself of a final state; -1: no way."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order

    finals, end = np.flatnonzero(np.isfinite(view.final_score)), view.num_states
    src = np.concatenate([view.dst, np.full(len(finals), end)])  # all arcs backwards
    dst = np.concatenate([view.src, finals])
    graph = csr_matrix((np.ones(len(src), np.float32), (src, dst)), shape=(end + 1, end + 1))
    _, before = breadth_first_order(graph, end, return_predecessors=True)
    return before[:end]


@dataclass(frozen=True, eq=False)
class _Nodes:
    """N nodes of the search, one row each: sorted by code, or candidates in any order."""

    code: np.ndarray  # (N,) int64: position * num_states + state
    score: np.ndarray  # (N,) float64, of the best path to it
    length: np.ndarray  # (N,) int64, the arcs of that path
    arc: np.ndarray  # (N,) int64, the last of them; -1 at the start

    def __len__(self) -> int:
        return len(self.code)

    def take(self, index: np.ndarray) -> "_Nodes":
        return _Nodes(self.code[index], self.score[index], self.length[index], self.arc[index])

    def improve(self, others: "_Nodes") -> tuple["_Nodes", "_Nodes"]:
        """All nodes, each with the better of what is known here and in ``others``; and those that changed."""
        order = np.lexsort([others.length, -others.score, others.code])
        others = others.take(order)
        is_first = np.ones(len(others), bool)
        is_first[1:] = others.code[1:] != others.code[:-1]
        others = others.take(is_first)
        place = np.searchsorted(self.code, others.code)
        known = place < len(self)
        known[known] = self.code[place[known]] == others.code[known]
        old_score, old_length = np.full(len(others), -np.inf), np.zeros(len(others), np.int64)
        old_score[known], old_length[known] = self.score[place[known]], self.length[place[known]]
        better = (others.score > old_score) | (
            (others.score == old_score) & (others.length < old_length)
        )
        changed, new = others.take(better), better & ~known
        columns = []
        for name in ("code", "score", "length", "arc"):
            column, values = getattr(self, name).copy(), getattr(others, name)
            column[place[better & known]] = values[better & known]
            columns.append(np.insert(column, place[new], values[new]))
        return _Nodes(*columns), changed


class _Search:
    """What `best_path` looks for in a graph: which arcs fit where, and where a path may end.

    A position is (words consumed) * (inputs wanted + 1) + (inputs consumed).
    """

    def __init__(
        self, view: GraphView, words: Sequence[int] | None, inputs: Sequence[int] | None
    ) -> None:
        self.view = view
        self.words = None if words is None else np.array(words, np.int64)
        self.inputs = None if inputs is None else np.array(inputs, np.int64)
        self.num_words = 0 if words is None else len(words)
        self.num_inputs = 0 if inputs is None else len(inputs)
        self.width = self.num_inputs + 1
        finals = view.final_score[np.isfinite(view.final_score)]
        self.never_gains = view.score.max(initial=0) <= 0 and finals.max(initial=0) <= 0

    def start(self) -> _Nodes:
        zero = np.zeros(1, np.int64)
        return _Nodes(zero, np.zeros(1), zero, zero - 1)

    def follow(self, nodes: _Nodes) -> _Nodes:
        """Where the arcs that fit lead from ``nodes``."""
        view = self.view
        position, state = np.divmod(nodes.code, view.num_states)
        first = view.arc_splits[state]
        counts = view.arc_splits[state + 1] - first
        origin = np.repeat(np.arange(len(nodes)), counts)
        arc = np.arange(len(origin)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        consumed, fits = self._consumed(arc, position[origin])
        arc, origin, consumed = arc[fits], origin[fits], consumed[fits]
        return _Nodes(
            (position[origin] + consumed) * view.num_states + view.dst[arc],
            nodes.score[origin] + view.score[arc],
            nodes.length[origin] + 1,
            arc,
        )

    def _consumed(self, arc: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much arcs add to their positions, and whether they fit there."""
        view = self.view
        words_done, inputs_done = np.divmod(position, self.width)
        consumed, fits = np.zeros(len(arc), np.int64), np.ones(len(arc), bool)
        if self.inputs is not None:
            label = view.ilabel[arc]
            free = label == -1
            if view.epsilon_inputs:
                free |= label == 0
            wanted = np.append(self.inputs, -2)[inputs_done]
            fits &= free | (label == wanted)
            consumed += ~free
        if self.words is not None:
            begin = view.row_splits[arc].astype(np.int64)
            count = view.row_splits[arc + 1] - begin
            wanted = np.append(self.words, -2)
            for place in range(int(count.max(initial=0))):
                has = np.flatnonzero(fits & (count > place))
                next_word = wanted[np.minimum(words_done[has] + place, self.num_words)]
                fits[has] = view.outputs[begin[has] + place] == next_word
            consumed += count * self.width
        return consumed, fits

    def best_end(self, nodes: _Nodes) -> tuple[float, int] | None:
        """The score of the best whole path that ends in ``nodes``, and the code of its last node."""
        position, state = np.divmod(nodes.code, self.view.num_states)
        total = nodes.score + self.view.final_score[state]
        total[position != (self.num_words + 1) * self.width - 1] = -np.inf
        if not np.isfinite(total).any():
            return None
        best = np.lexsort([nodes.length, -total])[0]
        return float(total[best]), int(nodes.code[best])

    def _previous(self, nodes: _Nodes) -> np.ndarray:
        """(N,) the rows of the nodes that each was reached from; its own row at the start."""
        rows = np.arange(len(nodes))
        others = np.flatnonzero(nodes.arc >= 0)
        position, arc = nodes.code[others] // self.view.num_states, nodes.arc[others]
        consumed, _ = self._consumed(arc, np.zeros_like(arc))
        code = (position - consumed) * self.view.num_states + self.view.src[arc]
        rows[others] = np.searchsorted(nodes.code, code)
        return rows

    def in_circles(self, nodes: _Nodes) -> bool:
        """Whether following the nodes back does not always end at the start."""
        rows = self._previous(nodes)
        for _ in range(int(len(nodes)).bit_length()):  # 1, 2, 4, ... arcs back
            rows = rows[rows]
        return bool((nodes.arc[rows] >= 0).any())

    def trace(self, nodes: _Nodes, code: int) -> GraphPath:
        """The path that ends in the node ``code``."""
        previous = self._previous(nodes)
        row = int(np.searchsorted(nodes.code, code))
        arcs: list[int] = []
        while nodes.arc[row] >= 0:
            assert len(arcs) < len(nodes), "the best path goes round in circles"
            arcs.append(int(nodes.arc[row]))
            row = int(previous[row])
        return _path(self.view, np.array(arcs[::-1], np.int64))

    def why_none(self, nodes: _Nodes) -> str:
        """How far the search came, in the graph's symbols."""
        if self.words is None and self.inputs is None:
            return "no final state can be reached: the graph accepts nothing"
        words_done, inputs_done = np.divmod(nodes.code // self.view.num_states, self.width)
        said = []
        for what, wanted, done, name_of in (
            ("word", self.words, words_done, self.view.output_name),
            ("input", self.inputs, inputs_done, self.view.input_name),
        ):
            if wanted is None:
                continue
            most = int(done.max())
            names = [name_of(label) for label in wanted.tolist()]
            if most == len(wanted):
                said.append(f"all {most} {what}s are read, but no final state follows")
            else:
                before = f"after '{' '.join(names[:most])}'" if most else "at the start"
                said.append(f"{what} {most + 1}, '{names[most]}', cannot follow {before}")
        return "no path: " + "; ".join(said)


def _better(
    one: tuple[float, int] | None, other: tuple[float, int] | None
) -> tuple[float, int] | None:
    if one is None or other is None:
        return one or other
    return other if other[0] > one[0] else one
