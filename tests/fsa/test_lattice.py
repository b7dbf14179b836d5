"""What a lattice must be, and that anything else is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moe_asr.errors import GraphError
from moe_asr.fsa.lattice import Lattice
from tests.fsa.random_lattices import LatticeArc, lattice_of

GOOD = lattice_of(
    [
        LatticeArc(0, 1, 1, True, -0.5, -1.0, (1,)),
        LatticeArc(0, 1, 0, False, -0.5, 0.0, ()),
        LatticeArc(1, 2, 1, False, -0.5, 0.0, (2, 3)),
        LatticeArc(1, 3, 0, False, -0.5, 0.0, ()),
        LatticeArc(2, 3, 2, True, -0.5, 0.0, ()),
        LatticeArc(3, 4, -1, False, 0.0, -0.25, ()),
    ],
    [0, 1, 3, 4, 4],
    6,
)


def changed(name: str, place: Any, value: Any) -> dict[str, Any]:
    array = getattr(GOOD, name).copy()
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src": GOOD.src.astype(np.int64)}, "src: expected a vector of int32, found int64"),
        ({"words": GOOD.words[None]}, r"words: expected a vector of int32, found int32 \(1, 3\)"),
        ({"starts_token": [True] * 6}, "starts_token: expected a vector of bool, found list"),
        ({"token": GOOD.token[1:]}, "token: 5 values for 6 arcs"),
        ({"num_frames": -1}, "num_frames is -1"),
        ({"num_frames": 6.5}, "num_frames is 6.5"),
        ({"num_frames": 3}, "frames of states must lie between 0 and 3"),
        (changed("frame", 0, -1), "frames of states must lie between 0 and 6"),
        (changed("word_row_splits", 0, 1), "word_row_splits: expected 7 values"),
        (changed("word_row_splits", 6, 4), "word_row_splits: expected 7 values"),
        (changed("word_row_splits", 1, 3), "word_row_splits: expected 7 values, not decreasing"),
        (
            changed("word_row_splits", slice(1, 4), [2**31 - 1, -(2**31), -1]),
            "word_row_splits: expected 7 values, not decreasing",
        ),
        ({"word_row_splits": GOOD.word_row_splits[:-1]}, "word_row_splits: expected 7 values"),
        (changed("words", 1, 0), "words: 0 is no word id"),
        ({"frame": GOOD.frame[:1]}, "1 states and 6 arcs"),
        (changed("src", 0, 1), "arcs must be sorted by source state, from state 0"),
        (changed("src", 3, 0), "arcs must be sorted by source state"),
        (changed("dst", 0, 0), "arc 0 leads from 0 to 0, of 5 states; states must be sorted"),
        (changed("dst", 0, 5), "arc 0 leads from 0 to 5, of 5 states"),
        (changed("dst", 4, 4), "arc 4 with token 2 leads from frame 3 to 4: arcs read a frame"),
        (changed("token", 5, 0), "arc 5 with token 0 leads from frame 4 to 4"),
        (changed("token", 0, -1), "arc 0 with token -1 leads from frame 0 to 1"),
        (changed("frame", 4, 5), "arc 5 with token -1 leads from frame 4 to 5"),
        (changed("frame", 2, 1), "arc 2 with token 1 leads from frame 1 to 1"),
        (changed("token", 0, -2), "token -2"),
        (changed("starts_token", 1, True), "blank and final arcs begin no token"),
        (changed("starts_token", 5, True), "blank and final arcs begin no token"),
        (changed("acoustic", 2, np.nan), "arc 2: acoustic score nan is not finite"),
        (changed("graph", 5, -np.inf), "arc 5: graph score -inf is not finite"),
        (changed("acoustic", 5, -1.0), r"final arc 5: acoustic score -1.0, not 0"),
    ],
)  # fmt: skip
def test_what_is_no_lattice_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=f"^lattice: .*{message}"):
        replace(GOOD, **changes)


def test_a_lattice_tells_its_size() -> None:
    assert (GOOD.num_states, GOOD.num_arcs, GOOD.is_empty) == (5, 6, False)
    assert GOOD.is_connected
    assert [GOOD.words_of(arc).tolist() for arc in range(3)] == [[1], [], [2, 3]]
    empty = Lattice.empty(7)
    assert (empty.num_states, empty.num_arcs, empty.num_frames) == (0, 0, 7)
    assert empty.is_empty and empty.is_connected and not empty.is_partial


def test_what_is_not_connected_is_told() -> None:
    dead = replace(GOOD, **changed("dst", 2, 3))  # state 2 is left, and nothing enters it
    assert not dead.is_connected
    stuck = lattice_of(
        [
            LatticeArc(0, 1, 1, True, 0.0, 0.0, ()),
            LatticeArc(0, 2, 1, True, 0.0, 0.0, ()),
            LatticeArc(2, 3, -1, False, 0.0, 0.0, ()),
        ],
        [0, 1, 1, 1],
        1,
    )
    assert not stuck.is_connected  # in state 1
