"""A decoding graph as the kernels read it: arcs by token, composed states numbered, final arcs apart."""

from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.native.layout import EXPLICIT, MODIFIED, STANDARD
from moe_asr.fsa.starts_token import starts_token
from moe_asr.fsa.topology import check_topology


@dataclass(frozen=True, eq=False)
class SearchGraph:
    """Q states, A arcs that read a frame, F final arcs.

    A state is what a path has to remember: the state of the graph and, where the topology is implied, the
    last frame's label (as in H o LG, whose arcs are never made). States of one graph state are neighbours,
    the one of blank first.

    Attributes:
        topology: EXPLICIT, STANDARD or MODIFIED.
        records: (Q, 4) uint32: first arc and end of arcs, label of the last frame (2**32 - 1 where it is of
            no interest), state of blank.
        best_arc: (Q,) float32, the best score of an arc, -inf if there is none.
        token, target, score: (A,), sorted by token within a state; scores are scaled.
        origin: (A,) int32, the graph's arc.
        final_begin, final_end: (Q,) int32, the final arcs of a state.
        final_score: (F,) float32, scaled.
        final_origin: (F,) int32, the graph's arc.
        begins_token: (A,) bool, whether an arc begins a token; None where all do, the topology being implied.
        source: the graph.
    """

    topology: int
    records: np.ndarray
    best_arc: np.ndarray
    token: np.ndarray
    target: np.ndarray
    score: np.ndarray
    origin: np.ndarray
    final_begin: np.ndarray
    final_end: np.ndarray
    final_score: np.ndarray
    final_origin: np.ndarray
    begins_token: np.ndarray | None
    source: DecodingGraph

    @property
    def start(self) -> tuple[float, ...]:
        """The frontier before the first frame, see the layout: state 0 of the graph, after blank."""
        state = 0 if self.topology == EXPLICIT else int(self.records[0, 3])
        last, blank = self.records[state, 2:].tolist()
        return state, last, blank, float(self.best_arc[state]), 0.0

    def words_of(self, arcs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words on arcs (negative ones have none), and the position of each one's arc."""
        positions = np.flatnonzero(arcs >= 0)
        counts, words = ragged_words(self.source, self.origin[arcs[positions]])
        return words, np.repeat(positions, counts)

    def labels_of(self, arcs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The label of each arc (negative ones are the topology's), and whether it begins a token; (R,)."""
        label, begins = -1 - arcs, arcs >= 0
        explicit = np.flatnonzero(begins)
        label[explicit] = self.token[arcs[explicit]]
        if self.begins_token is not None:
            begins[explicit] = self.begins_token[arcs[explicit]]
        return label, begins

    @property
    def num_states(self) -> int:
        return len(self.records)

    @property
    def most_arcs(self) -> int:
        """The most arcs that leave a state."""
        return int((self.records[:, 1] - self.records[:, 0]).max(initial=0))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernels take."""
        return self.records, self.best_arc, self.token, self.target, self.score

    @property
    def num_bytes(self) -> int:
        arrays = (*self.arrays, self.origin, self.final_begin, self.final_end, self.final_score)
        more = 0 if self.begins_token is None else self.begins_token.nbytes
        return sum(array.nbytes for array in arrays) + self.final_origin.nbytes + more


def compile_graph(graph: DecodingGraph, topology: str, graph_scale: float) -> SearchGraph:
    """Prepares a graph for the search.

    Args:
        graph: HLG or HT, whose topology is in it, or LG or T.
        topology: for LG and T: one of `TOPOLOGIES`.
        graph_scale: multiplies the scores.

    Raises:
        GraphError: if the topology is unknown, or a score too large once it is scaled; as `starts_token`.
    """
    check_topology(topology)
    is_final = graph.token == -1
    inner = np.flatnonzero(~is_final).astype(np.int32)
    # the graph's arcs are sorted by state: this sorts by (state, token) and keeps the order of equals
    order = np.lexsort([graph.token[inner], graph.src[inner]])
    inner = inner[order]
    num_states = graph.num_states - 1
    begin, end = _ranges(graph.src[inner], num_states)
    with np.errstate(over="ignore"):
        score = graph.score * np.float32(graph_scale)
    if not np.isfinite(score).all():
        arc = int(np.flatnonzero(~np.isfinite(score))[0])
        raise GraphError(
            f"arc {arc}: score {graph.score[arc]}, scaled by {graph_scale}, is beyond float32"
        )
    best = np.full(num_states, -np.inf, np.float32)
    filled = np.flatnonzero(end > begin)
    if len(filled):
        best[filled] = np.maximum.reduceat(score[inner], begin[filled])
    finals = np.flatnonzero(is_final).astype(np.int32)
    final_begin, final_end = _ranges(graph.src[finals], num_states)

    if graph.topology_implied:
        kind = STANDARD if topology == "standard" else MODIFIED
        state, last, target, blank = _compose(graph, inner, num_states)
        without_arcs = (last > 0) & (kind == MODIFIED)
        first_arc, end_arc = begin[state], np.where(without_arcs, begin[state], end[state])
        best = np.where(without_arcs, -np.inf, best[state]).astype(np.float32)
        finals_too = without_arcs  # by the modified topology a token ends with its last frame
        final_begin, final_end = final_begin[state], final_end[state]
        final_end = np.where(finals_too, final_begin, final_end)
        records = np.stack([first_arc, end_arc, last, blank[state]], axis=1)
    else:
        kind, target = EXPLICIT, graph.dst[inner]
        minus = np.full(num_states, -1)
        records = np.stack([begin, end, minus, minus], axis=1)
    return SearchGraph(
        topology=kind,
        records=np.ascontiguousarray(records).astype(np.uint32),
        best_arc=best,
        token=graph.token[inner].astype(np.uint32),
        target=target.astype(np.uint32),
        score=score[inner],
        origin=inner,
        final_begin=final_begin.astype(np.int32),
        final_end=final_end.astype(np.int32),
        final_score=score[finals],
        final_origin=finals,
        begins_token=None if graph.topology_implied else starts_token(graph)[inner],
        source=graph,
    )


def _ranges(sorted_states: np.ndarray, num_states: int) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum(np.bincount(sorted_states, minlength=num_states))
    return np.concatenate([[0], ends[:-1]]), ends


def _compose(
    graph: DecodingGraph, inner: np.ndarray, num_states: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States of H o graph: graph state and last label (Q,), target (A,) and blank state (num_states,)."""
    width = len(graph.token_table)
    blank_codes = np.arange(num_states, dtype=np.int64) * width
    arrival_codes = graph.dst[inner].astype(np.int64) * width + graph.token[inner]
    codes = np.unique(np.concatenate([blank_codes, arrival_codes]))
    if len(codes) >= 2**31:
        raise GraphError(f"the search numbers states by 32 bits: {len(codes)} are too many")
    state, last = np.divmod(codes, width)
    return state, last, np.searchsorted(codes, arrival_codes), np.searchsorted(codes, blank_codes)


def ragged_words(graph: DecodingGraph, arcs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many words each of the graph's ``arcs`` has (-1 is none), and all their words."""
    is_arc = arcs >= 0
    begin = np.where(is_arc, graph.word_row_splits[np.maximum(arcs, 0)], 0)
    counts = np.where(is_arc, graph.word_row_splits[np.maximum(arcs, 0) + 1], 0) - begin
    ends = np.cumsum(counts)
    place = np.repeat(begin - (ends - counts), counts) + np.arange(counts.sum())
    return counts, graph.words[place]
