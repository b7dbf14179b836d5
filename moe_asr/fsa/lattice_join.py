"""Lattices of consecutive pieces of a stream as one, and one as pieces."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.lattice import FINAL, Lattice


def join_lattices(pieces: Sequence[Lattice]) -> Lattice:
    """The lattice whose paths are those of the pieces, one after the other.

    The one final arc of every piece but the last goes: its source becomes the start of the next piece.

    Args:
        pieces: at least one, in order, each beginning in the frame where the one before ends; every one but
            the last ends in a single state by a single final arc of score 0 without words.

    Returns:
        ``num_frames`` and ``is_partial`` are those of the last; empty if the last is.

    Raises:
        GraphError: naming the piece that does not fit.
    """
    if not pieces:
        raise GraphError("no lattices to join")
    last = pieces[-1]
    if last.is_empty:
        return last
    for number, (piece, following) in enumerate(zip(pieces, pieces[1:], strict=False)):
        finals = np.flatnonzero(piece.token == FINAL)
        if (
            len(finals) != 1
            or piece.graph[finals[0]] != 0
            or len(piece.words_of(int(finals[0])))
            or piece.src[finals[0]] != piece.num_states - 2
        ):
            raise GraphError(f"piece {number} does not end in a single state")
        if piece.frame[-1] != following.frame[0]:
            raise GraphError(
                f"piece {number} ends in frame {piece.frame[-1]}, the next begins in "
                f"{following.frame[0]}"
            )
    inner = [piece.token != FINAL for piece in pieces[:-1]] + [np.ones(last.num_arcs, bool)]
    # the start of a piece is the last state but one of the piece before
    offsets = np.cumsum([0] + [piece.num_states - 2 for piece in pieces[:-1]])
    states = [piece.frame[: piece.num_states - 2] for piece in pieces[:-1]] + [last.frame]
    counts = np.concatenate(
        [np.diff(piece.word_row_splits)[kept] for piece, kept in zip(pieces, inner, strict=True)]
    )

    def arcs(name: str) -> np.ndarray:
        return np.concatenate(
            [getattr(piece, name)[kept] for piece, kept in zip(pieces, inner, strict=True)]
        )

    def moved(name: str) -> np.ndarray:
        return np.concatenate(
            [
                getattr(piece, name)[kept] + np.int32(offset)
                for piece, kept, offset in zip(pieces, inner, offsets, strict=True)
            ]
        ).astype(np.int32)

    return Lattice(
        src=moved("src"),
        dst=moved("dst"),
        token=arcs("token"),
        starts_token=arcs("starts_token"),
        acoustic=arcs("acoustic"),
        graph=arcs("graph"),
        word_row_splits=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        words=np.concatenate([piece.words for piece in pieces]),
        frame=np.concatenate(states),
        num_frames=last.num_frames,
        is_partial=last.is_partial,
    )


def split_lattice(lattice: Lattice, least_frames: int) -> list[Lattice]:
    """The pieces that `join_lattices` makes the lattice of: it is cut in states that all paths pass.

    It is cut wherever there is such a state and both pieces have enough frames; there may be none.

    Args:
        lattice: connected.
        least_frames: that each piece reads, or leaves out, at least 1.

    Returns:
        At least one; ``num_frames`` of each is that of the lattice.

    Raises:
        GraphError: if ``least_frames`` is less than 1.
    """
    if least_frames < 1:
        raise GraphError(f"pieces of {least_frames} frames")
    if lattice.is_empty:
        return [lattice]
    # arcs that pass over each state: a path goes round it if there is one
    over = np.zeros(lattice.num_states + 1, np.int64)
    np.add.at(over, lattice.src + 1, 1)
    np.add.at(over, lattice.dst, -1)
    frame = lattice.frame
    cuts = [0]
    for state in np.flatnonzero(np.cumsum(over)[:-1] == 0)[1:].tolist():
        if (
            frame[state] - frame[cuts[-1]] >= least_frames
            and frame[-1] - frame[state] >= least_frames
        ):
            cuts.append(state)
    ends = [*cuts[1:], None]
    return [_piece(lattice, first, last) for first, last in zip(cuts, ends, strict=True)]


def _piece(lattice: Lattice, first: int, last: int | None) -> Lattice:
    """From a state that all paths pass to another, or to the end."""
    begin = int(np.searchsorted(lattice.src, first))
    end = lattice.num_arcs if last is None else int(np.searchsorted(lattice.src, last))
    splits = lattice.word_row_splits[begin : end + 1]
    piece = {
        name: getattr(lattice, name)[begin:end]
        for name in ("src", "dst", "token", "starts_token", "acoustic", "graph")
    }
    piece["src"], piece["dst"] = piece["src"] - np.int32(first), piece["dst"] - np.int32(first)
    frame = lattice.frame[first:]
    if last is not None:  # a final arc
        state = last - first
        values = {"src": state, "dst": state + 1, "token": FINAL}
        for name, array in piece.items():
            piece[name] = np.append(array, array.dtype.type(values.get(name, 0)))
        splits = np.append(splits, splits[-1:])
        frame = np.append(frame[: state + 1], frame[state])
    words = lattice.words[splits[0] : splits[-1]]
    is_partial = lattice.is_partial if last is None else True
    return replace(
        lattice, word_row_splits=splits - splits[0], words=words, frame=frame,
        is_partial=is_partial, **piece,
    )  # fmt: skip
