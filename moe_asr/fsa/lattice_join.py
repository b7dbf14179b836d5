"""Lattices of consecutive pieces of a stream, as one."""

from collections.abc import Sequence

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
