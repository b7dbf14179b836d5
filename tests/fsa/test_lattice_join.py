"""Joining the pieces of a stream: what is joined, and what does not fit."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_join import join_lattices, split_lattice
from moe_asr.fsa.lattice_scores import connect
from tests.fsa.random_lattices import paths_of, random_lattice


def piece(first: int, tokens: list[tuple[int, ...]], ends: int = 1, word: int = 0) -> Lattice:
    """From frame ``first`` on, for each frame parallel arcs of these tokens; then ``ends`` final arcs."""
    arcs = [(t, token) for t, choice in enumerate(tokens) for token in choice]
    arcs += [(len(tokens), FINAL)] * ends
    src = np.array([arc[0] for arc in arcs], np.int32)
    token = np.array([arc[1] for arc in arcs], np.int32)
    words = np.array([word] * ends if word else [], np.int32)
    counts = np.where(token == FINAL, int(word > 0), 0)
    frame = [*range(first, first + len(tokens) + 1), first + len(tokens)]
    return Lattice(
        src=src,
        dst=src + np.int32(1),
        token=token,
        starts_token=token > 0,
        acoustic=np.where(token == FINAL, 0, -token / 4 - first).astype(np.float32),
        graph=np.zeros(len(arcs), np.float32),
        word_row_splits=np.cumsum([0, *counts]).astype(np.int32),
        words=words,
        frame=np.array(frame, np.int32),
        num_frames=frame[-1] + 3,
        is_partial=word == 0,
    )


def test_pieces_follow_one_another() -> None:
    last = piece(3, [(2,), (0, 1)], ends=2, word=5)
    joined = join_lattices([piece(0, [(1, 2), (3,)]), piece(2, [(4,)]), last])
    assert joined.src.tolist() == [0, 0, 1, 2, 3, 4, 4, 5, 5]
    assert joined.dst.tolist() == [1, 1, 2, 3, 4, 5, 5, 6, 6]
    assert joined.token.tolist() == [1, 2, 3, 4, 2, 0, 1, FINAL, FINAL]
    assert joined.frame.tolist() == [0, 1, 2, 3, 4, 5, 5]
    assert joined.acoustic[3] == -3.0 and joined.words.tolist() == [5, 5]
    assert joined.word_row_splits.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    assert joined.num_frames == last.num_frames and not joined.is_partial
    assert join_lattices([last, Lattice.empty(9)]).is_empty  # whatever came before


def test_pieces_that_do_not_fit_are_named() -> None:
    first, last = piece(0, [(1,), (2,)]), piece(2, [(3,)])
    with pytest.raises(GraphError, match="no lattices"):
        join_lattices([])
    for bad in (
        piece(0, [(1,), (2,)], ends=2),
        piece(0, [(1,), (2,)], word=1),
        replace(first, graph=np.array([0, 0, -1], np.float32)),
        Lattice.empty(2),
    ):
        with pytest.raises(GraphError, match="piece 0 does not end in a single state"):
            join_lattices([bad, last])
    with pytest.raises(GraphError, match="piece 1 ends in frame 3, the next begins in 2"):
        join_lattices([first, last, last])


@given(st.integers(0, 10**9), st.integers(1, 4))
def test_pieces_join_to_what_was_split(number: int, least_frames: int) -> None:
    rng = random.Random(number)
    lattice = connect(random_lattice(rng, num_frames=8, width=rng.choice([1, 2])))
    pieces = split_lattice(lattice, least_frames)
    joined = join_lattices(pieces)
    for name, value in vars(lattice).items():
        assert np.array_equal(getattr(joined, name), value), name
        assert np.asarray(getattr(joined, name)).dtype == np.asarray(value).dtype
    if len(pieces) > 1:
        lengths = [int(piece.frame[-1] - piece.frame[0]) for piece in pieces]
        assert min(lengths) >= least_frames
    # no state that all paths pass is left in a piece that it could cut
    for piece in pieces:
        inner = set(range(1, piece.num_states - 1))
        for path in paths_of(piece):
            inner &= {int(piece.src[arc]) for arc in path.arcs}
        for state in inner:
            before = int(piece.frame[state] - piece.frame[0])
            left = int(lattice.frame[-1] - piece.frame[state])
            after = int(piece.frame[-1] - piece.frame[state])
            assert before < least_frames or left < least_frames or after == 0


def test_what_cannot_be_split() -> None:
    empty = Lattice.empty(5)
    assert split_lattice(empty, 1) == [empty]
    with pytest.raises(GraphError, match="pieces of 0 frames"):
        split_lattice(empty, 0)
