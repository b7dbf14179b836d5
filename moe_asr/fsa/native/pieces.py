"""From the store of a stream to a `Lattice`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.native.context import SearchContext
from moe_asr.fsa.native.lattice_kernels import mark_alive, trace_back
from moe_asr.fsa.native.search_graph import SearchGraph, ragged_words
from moe_asr.fsa.native.store import Store


@dataclass(frozen=True, eq=False)
class Piece:
    """Part of a lattice between two single states, or, if it is the last, up to all states of its last step.

    Attributes:
        frame: (S,) int32 of each state.
        src, dst: (A,) int32, sorted by src.
        arc: (A,) int32, of the search graph, or -1 - token.
        acoustic: (A,) float32.
        gain: (A,) float32, what contextual phrases add; None where there are none.
        best: (B,) int32, the arcs (of the search graph, as above) of the best path, one a step.
        best_frame: (B,) int32, the frame that each of them reads.
    """

    frame: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    arc: np.ndarray
    acoustic: np.ndarray
    gain: np.ndarray | None
    best: np.ndarray
    best_frame: np.ndarray

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values() if array is not None)


def cut_piece(store: Store, newest: int, extra_at_newest: np.ndarray, output_beam: float) -> Piece:
    """The part of the store up to the step ``newest``, pruned; the store is not changed.

    Args:
        extra_at_newest: (states of that step,) float32; infinite for those that are left out.
    """
    step_state, step_link, step_frame = (array[: newest + 2] for array in store.steps)
    num_states, num_links = int(step_state[newest + 1]), int(step_link[newest])
    extra = np.empty(num_states, np.float32)
    extra[step_state[newest] :] = extra_at_newest
    mark_alive(0, newest, np.float32(output_beam), store.arrays, extra)
    alive = np.isfinite(extra)
    number = np.cumsum(alive, dtype=np.int32) - 1

    step_of_link = np.repeat(np.arange(newest), np.diff(step_link[: newest + 1]))
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = (part[:num_links] for part in store.links)
    src = step_state[step_of_link] + lk_src
    dst = step_state[step_of_link + 1] + lk_dst
    kept = np.flatnonzero(lk_deficit + extra[dst] <= np.float32(output_beam))
    src, dst = number[src[kept]], number[dst[kept]]
    order = np.lexsort([dst, src])
    kept = kept[order]
    frames = np.repeat(step_frame[: newest + 1], np.diff(step_state))[alive]
    best_place = int(np.argmin(extra_at_newest))
    best = trace(store, newest, best_place)
    return Piece(
        frame=frames.astype(np.int32),
        src=src[order],
        dst=dst[order],
        arc=lk_arc[kept],
        acoustic=lk_acoustic[kept],
        gain=None if store.gains is None else store.gains[kept],
        best=store.links[2][best],
        best_frame=step_frame[1 : newest + 1].astype(np.int32) - 1,
    )


def trace(store: Store, newest: int, place: int) -> np.ndarray:
    """The links of the best path to a state of the step ``newest``, (newest,) int64."""
    links = np.empty(newest, np.int64)
    trace_back(newest, place, store.arrays, links)
    return links


def end_of_piece() -> "FinalArcs":
    """What ends a piece that is handed on before the stream ends."""
    nothing = np.zeros(1, np.int32)
    return FinalArcs(nothing, nothing - 1, np.zeros(1, np.float32), True)


@dataclass(frozen=True, eq=False)
class FinalArcs:
    """How paths may end in the states of the newest step.

    Attributes:
        place: (F,) int32, the state's position in its step, not decreasing.
        origin: (F,) int32, the graph's arc, -1 if it ends where no arc ends it.
        score: (F,) float32.
        is_partial: whether it ends where no arc ends it.
    """

    place: np.ndarray
    origin: np.ndarray
    score: np.ndarray
    is_partial: bool


def final_arcs(
    store: Store,
    graph: SearchGraph,
    partial: bool,
    can_end: bool,
    context: SearchContext | None = None,
) -> FinalArcs | None:
    """The final arcs of the newest step; where there is none, all states end (``partial``), or None.

    Args:
        can_end: whether final arcs count: they do not where the search ended before the frames did.
        context: of the phrases that the search listened for: their scores have what the end brings.
    """
    states = store.frontier[0][: store.num_active]
    begin, stop = graph.final_begin[states], graph.final_end[states]
    counts = stop - begin
    if can_end and counts.sum() > 0:
        place = np.repeat(np.arange(len(states), dtype=np.int32), counts)
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        arcs = begin[place] + within
        score = graph.final_score[arcs]
        if context is not None and store.context is not None:
            score = score + context.ends(store.context[0][place], arcs)
        return FinalArcs(place, graph.final_origin[arcs], score, False)
    if not partial:
        return None
    place = np.arange(len(states), dtype=np.int32)
    score = np.zeros(len(place), np.float32)
    if context is not None and store.context is not None:
        score = context.ends(store.context[0][place])
    return FinalArcs(place, np.full(len(place), -1, np.int32), score, True)


def tail_piece(
    store: Store, finals: FinalArcs, output_beam: float
) -> tuple[Piece, np.ndarray, np.ndarray]:
    """The rest of the store as a piece, with the final arcs within the beam and the states they leave.

    Returns:
        The piece, the indices of the final arcs kept, and the source state of each within the piece.
    """
    newest = store.newest
    total = store.frontier[4][finals.place].astype(np.float64) + finals.score
    deficit = (total.max() - total).astype(np.float32)
    extra = np.full(store.num_active, np.inf, np.float32)
    np.minimum.at(extra, finals.place, deficit)
    extra[extra > np.float32(output_beam)] = np.inf
    piece = cut_piece(store, newest, extra, output_beam)
    kept = np.flatnonzero(deficit <= np.float32(output_beam))
    alive = np.isfinite(extra)
    number = np.cumsum(alive) - 1 + len(piece.frame) - int(alive.sum())
    return piece, kept, number[finals.place[kept]].astype(np.int32)


def join_pieces(
    pieces: Sequence[Piece],
    finals: FinalArcs,
    kept_finals: np.ndarray,
    final_src: np.ndarray,
    search_graph: SearchGraph,
    num_frames: int,
) -> Lattice:
    """One lattice of pieces that follow one another and the final arcs of the last."""
    graph = search_graph.source
    offset, src, dst, frame = 0, [], [], [pieces[0].frame[:1]]
    for piece in pieces:
        src.append(piece.src + offset)
        dst.append(piece.dst + offset)
        frame.append(piece.frame[1:])
        offset += len(piece.frame) - 1
    last_offset = offset - (len(pieces[-1].frame) - 1)
    num_states = offset + 1
    arc = np.concatenate([piece.arc for piece in pieces])
    acoustic = np.concatenate([piece.acoustic for piece in pieces])
    explicit = arc >= 0
    origin = np.full(len(arc), -1, np.int32)
    origin[explicit] = search_graph.origin[arc[explicit]]
    token, begins = search_graph.labels_of(arc)
    score = np.zeros(len(arc), np.float32)
    score[explicit] = search_graph.score[arc[explicit]]
    gains = [piece.gain for piece in pieces if piece.gain is not None]
    if gains:
        score += np.concatenate(gains)
    num_finals = len(kept_finals)
    all_origin = np.concatenate([origin, finals.origin[kept_finals]])
    counts, words = ragged_words(graph, all_origin)
    splits = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Lattice(
        src=np.concatenate([*src, final_src + last_offset]).astype(np.int32),
        dst=np.concatenate([*dst, np.full(num_finals, num_states)]).astype(np.int32),
        token=np.concatenate([token, np.full(num_finals, FINAL)]).astype(np.int32),
        starts_token=np.concatenate([begins, np.zeros(num_finals, bool)]),
        acoustic=np.concatenate([acoustic, np.zeros(num_finals, np.float32)]),
        graph=np.concatenate([score, finals.score[kept_finals]]).astype(np.float32),
        word_row_splits=splits,
        words=words,
        frame=np.concatenate([*frame, frame[-1][-1:] if len(frame[-1]) else frame[0]]).astype(
            np.int32
        ),
        num_frames=num_frames,
        is_partial=finals.is_partial,
    )
