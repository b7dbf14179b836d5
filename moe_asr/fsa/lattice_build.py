"""Lattices from arcs in any order: frames of states and beginnings of tokens are found, states sorted."""

from dataclasses import dataclass, replace

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_kernels import distances
from moe_asr.fsa.lattice_scores import states_on_paths


@dataclass(frozen=True)
class LooseArcs:
    """A arcs of an acyclic FSA in any order; state 0 is the start.

    Attributes:
        src, dst: (A,) int32 states, of any order.
        label: (A,) int32, the label of a frame; -1 on the arcs into the final state.
        acoustic, graph: (A,) float32.
        row_splits, words: the words of arc a are ``words[row_splits[a]:row_splits[a + 1]]``.
        starts_token: (A,) integers or bool, whether an arc begins a token; None if that is to be found out.
        src_frame: (A,) integers, the frame of each arc's source state, likewise.
    """

    src: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    acoustic: np.ndarray
    graph: np.ndarray
    row_splits: np.ndarray
    words: np.ndarray
    starts_token: np.ndarray | None = None
    src_frame: np.ndarray | None = None

    def take(self, index: np.ndarray) -> "LooseArcs":
        """The arcs at ``index``, in that order."""
        row_splits, words = take_ragged(self.row_splits, self.words, index)
        return LooseArcs(
            src=self.src[index],
            dst=self.dst[index],
            label=self.label[index],
            acoustic=self.acoustic[index],
            graph=self.graph[index],
            row_splits=row_splits,
            words=words,
            starts_token=None if self.starts_token is None else self.starts_token[index],
            src_frame=None if self.src_frame is None else self.src_frame[index],
        )


def build_lattice(
    arcs: LooseArcs, num_states: int, num_frames: int | None = None, is_partial: bool = False
) -> Lattice:
    """The lattice of ``arcs``, without what is on no path; states in the order of their frames.

    States of one frame, and arcs of one state, keep their order.

    Args:
        arcs: without ``src_frame`` every arc reads the frame after that of the arcs before it; without
            ``starts_token`` see `find_token_starts`.
        num_states: S; the last state is the final one.
        num_frames: of the utterance; by default that of the last states.
        is_partial: see `Lattice`.

    Raises:
        GraphError: if a state is at several frames (or the arcs have a cycle), it cannot be told which arcs
            begin a token, or the result is no lattice.
    """
    if num_states == 0 or len(arcs.src) == 0:
        return _empty(num_frames or 0, is_partial)
    final, last = num_states - 1, np.iinfo(np.int32).max
    arcs = arcs.take(np.argsort(arcs.src, kind="stable"))
    frame = _find_frames(arcs, num_states) if arcs.src_frame is None else _given_frames(arcs, final)
    known = frame >= 0
    arcs = arcs.take(np.flatnonzero(known[arcs.src] & known[arcs.dst]))
    key = np.where(known, frame, last - 1)
    key[final] = last
    order = np.argsort(key, kind="stable")
    number = np.empty(num_states, np.int32)
    number[order] = np.arange(num_states, dtype=np.int32)
    arcs = arcs.take(np.argsort(number[arcs.src], kind="stable"))
    src, dst = number[arcs.src], number[arcs.dst]
    if number[0] != 0 or (dst <= src).any():
        raise GraphError("the frames of states do not increase along the arcs")
    on_path = states_on_paths(src, dst, num_states)
    if not on_path[0]:
        return _empty(num_frames or 0, is_partial)
    kept = np.flatnonzero(on_path[src] & on_path[dst])
    number = (np.cumsum(on_path) - 1).astype(np.int32)
    arcs, src, dst = arcs.take(kept), number[src[kept]], number[dst[kept]]
    frame = frame[order][on_path].astype(np.int32)
    starts_token = arcs.starts_token
    if starts_token is None:
        starts_token = find_token_starts(src, dst, arcs.label)
    return Lattice(
        src=src,
        dst=dst,
        token=arcs.label.astype(np.int32),
        starts_token=starts_token.astype(np.bool_),
        acoustic=arcs.acoustic,
        graph=arcs.graph,
        word_row_splits=arcs.row_splits.astype(np.int32),
        words=arcs.words.astype(np.int32),
        frame=frame,
        num_frames=int(frame[-1]) if num_frames is None else num_frames,
        is_partial=is_partial,
    )


def find_token_starts(src: np.ndarray, dst: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(A,) bool: which arcs begin a token, by the standard CTC topology.

    An arc does if its label is a token, and not the label of the arcs that enter its source state.

    Args:
        src, dst: (A,) states.
        label: (A,) labels of frames; -1 on final arcs.

    Raises:
        GraphError: if a state is entered by its label and by another, so that both may hold. (In a search of
            an HLG with the standard topology this does not happen; with the modified one, labels alone do not
            tell tokens.)
    """
    width = int(label.max(initial=0)) + 2
    entering = np.unique(dst.astype(np.int64) * width + label + 1)
    num_labels = np.bincount(entering // width, minlength=int(src.max(initial=0)) + 1)
    repeats = (label > 0) & np.isin(src.astype(np.int64) * width + label + 1, entering)
    unclear = np.flatnonzero(repeats & (num_labels[src] > 1))
    if len(unclear):
        raise GraphError(
            f"state {src[unclear[0]]} is entered by label {label[unclear[0]]} and by others: whether "
            f"another frame of {label[unclear[0]]} begins a token cannot be told; the attribute "
            "starts_token has to say it"
        )
    return (label > 0) & ~repeats


def _find_frames(arcs: LooseArcs, num_states: int) -> np.ndarray:
    """(S,) int32: the frames that are read before each state; -1 where state 0 does not lead."""
    counts = np.bincount(arcs.src, minlength=num_states)
    arc_splits = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    frame, wrong = distances(arc_splits, arcs.dst, (arcs.label != FINAL).astype(np.int32))
    if wrong >= 0:
        state = arcs.dst[wrong]
        raise GraphError(f"state {state} is reached at several frames ({frame[state]} and another)")
    return frame


def _given_frames(arcs: LooseArcs, final: int) -> np.ndarray:
    """The same, of states that arcs leave, as they tell."""
    assert arcs.src_frame is not None
    if arcs.src_frame.min(initial=0) < 0:
        arc = int(arcs.src_frame.argmin())
        raise GraphError(f"state {arcs.src[arc]} is at frame {arcs.src_frame[arc]}")
    frame = np.full(final + 1, -1, np.int32)
    frame[arcs.src] = arcs.src_frame
    at_end = arcs.dst == final
    frame[final] = arcs.src_frame[at_end].max(initial=-1)
    wrong = frame[arcs.src] != arcs.src_frame
    wrong |= at_end & (frame[final] != arcs.src_frame)
    if wrong.any():
        arc = int(np.flatnonzero(wrong)[0])
        state = int(arcs.dst[arc] if at_end[arc] else arcs.src[arc])
        raise GraphError(f"state {state} is at several frames ({arcs.src_frame[arc]} and another)")
    return frame


def _empty(num_frames: int, is_partial: bool) -> Lattice:
    return replace(Lattice.empty(num_frames), is_partial=is_partial)
