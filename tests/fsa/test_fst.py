"""Fst: its checks, connect against graph search in Python, and its files, OpenFst's among them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.openfst import (
    from_kaldifst,
    fst_from_text,
    fst_to_text,
    import_kaldifst,
    read_openfst,
    to_kaldifst,
    write_openfst,
)
from moe_asr.text.symbol_table import SymbolTable

ARRAYS = ("src", "dst", "ilabel", "olabel", "score", "final_score")


def random_fst(rng: random.Random, num_states: int = 6, num_arcs: int = 10) -> Fst:
    states = range(rng.randint(1, num_states))
    arcs = [
        (rng.choice(states), rng.choice(states), rng.randint(0, 4), rng.randint(0, 4),
         rng.choice([0.0, -0.5, 1.25, rng.randint(-99, 99) / 8]))
        for _ in range(rng.randint(0, num_arcs))
    ]  # fmt: skip
    finals = {state: rng.randint(-9, 9) / 8 for state in states if rng.random() < 0.4}
    return Fst.from_list(arcs, finals)


def same(a: Fst, b: Fst) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def paths(fst: Fst, longest: int) -> list[tuple[Any, ...]]:
    """Every path from the start to a final state of at most ``longest`` arcs, as labels and scores."""
    found = []
    stack: list[tuple[int, tuple[Any, ...]]] = [(0, ())]
    while stack:
        state, path = stack.pop()
        if fst.final_score[state] > -np.inf:
            found.append((path, float(fst.final_score[state])))
        if len(path) < longest:
            for arc in np.flatnonzero(fst.src == state):
                label = (int(fst.ilabel[arc]), int(fst.olabel[arc]), float(fst.score[arc]))
                stack.append((int(fst.dst[arc]), (*path, label)))
    return sorted(found)


@given(st.integers(0, 10**6))
def test_connect_keeps_every_path_and_nothing_else(number: int) -> None:
    fst = random_fst(random.Random(number))
    connected = fst.connect()
    assert paths(connected, 4) == paths(fst, 4)
    if connected.num_arcs:
        again = connected.connect()
        same(again, connected)
    used = set(connected.src.tolist()) | set(connected.dst.tolist()) | {0}
    assert used == set(range(connected.num_states))


@given(number=st.integers(0, 10**6))
def test_text_and_safetensors_round_trips(tmp_path_factory: Any, number: int) -> None:
    fst = random_fst(random.Random(number)).connect()
    if fst.num_arcs or fst.final_score[0] > -np.inf:
        same(fst_from_text(fst_to_text(fst)), fst)
    path = tmp_path_factory.mktemp("fst") / "a.safetensors"
    fst.save(path, {"kind": "G"})
    loaded, metadata = Fst.load(path)
    same(loaded, fst)
    assert metadata == {"kind": "G"}


@given(number=st.integers(0, 10**6))
def test_openfst_reads_what_we_write_and_back(tmp_path_factory: Any, number: int) -> None:
    fst = random_fst(random.Random(number))
    theirs = to_kaldifst(fst)
    assert theirs.num_states == fst.num_states
    if theirs.num_states and fst.num_arcs and 0 in fst.src:  # else its text does not start at 0
        assert paths(fst_from_text(theirs.to_str()), 4) == paths(fst, 4)
    same(from_kaldifst(theirs), fst)
    path = tmp_path_factory.mktemp("fst") / "a.fst"
    write_openfst(fst, path)
    same(read_openfst(path), fst)


def test_start_state_becomes_state_0() -> None:
    fst = fst_from_text("2 0 1 1 0.5\n0 1 2 2\n1 0.25\n")
    assert paths(fst, 3) == [(((1, 1, -0.5), (2, 2, 0.0)), -0.25)]
    kaldifst = import_kaldifst()
    theirs = kaldifst.compile("2 0 1 1 0.5\n0 1 2 2\n1 0.25\n")
    assert paths(from_kaldifst(theirs), 3) == paths(fst, 3)


def test_text_with_symbols() -> None:
    words = SymbolTable(["<eps>", "yes", "no"])
    fst = Fst.from_list([(0, 1, 1, 2, -0.5)], {1: 0.0})
    text = fst_to_text(fst, words, words)
    assert text == "0 1 yes no 0.5\n1 0\n"
    same(fst_from_text(text, words, words), fst)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.txt: no FST"),
        ("0 1 1\n", "a.txt:1: expected 1, 2, 4 or 5 fields, found 3"),
        ("0 1 1 1\nx 1\n", "a.txt:2: expected a state, found 'x'"),
        ("0 1 a 1\n", "a.txt:1: expected a label, found 'a'"),
        ("0 1 1 1 nan\n", "a.txt:1: cost nan is not finite"),
        ("0 1 1 1 z\n", "a.txt:1: expected a cost, found 'z'"),
        ("0 1 1 1\n\n-1\n", "a.txt:3: expected a state"),
        ("0 1 1 1 1e39\n", "a.txt:1: cost 1e39 is not finite"),
        ("0 1 1 1 1_0\n", "a.txt:1: expected a cost, found '1_0'"),
        ("0 \u0663 1 1\n", "a.txt:1: expected a state, found '\u0663'"),
        ("0 \u00b2 1 1\n", "a.txt:1: expected a state, found '\u00b2'"),
        ("0 1 \u00b2 1\n", "a.txt:1: expected a label, found '\u00b2'"),
        ("0 1 1 1\n1 2\n1 3\n", "a.txt:3: a second final cost of state 1"),
        (
            "0 1 1 1\n1999999999 1 1 1\n1\n",
            "a.txt:2: state 1999999999, in a text that is too short",
        ),
    ],
)
def test_bad_text_is_named(text: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        fst_from_text(text, source="a.txt")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    fst = Fst.from_list([(0, 1, 1, 2, -0.5), (1, 0, 3, 3, 0.0)], {1: 0.0})
    path = tmp_path / "L.fst"
    write_openfst(fst, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GraphError, match="L.fst"):
            read_openfst(path)
    with pytest.raises(GraphError, match="none.fst: cannot be read"):
        read_openfst(tmp_path / "none.fst")
    path = tmp_path / "L.safetensors"
    fst.save(path)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(GraphError, match=r"L\.safetensors"):
            Fst.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dst": np.array([1, 2], np.int32)}, "arc 1: dst 2 is not a state"),
        ({"src": np.array([1, 0], np.int32)}, "arc 1: not sorted"),
        ({"score": np.array([0, np.nan], np.float32)}, "arc 1: score nan"),
        ({"ilabel": np.array([-1, 0], np.int32)}, "arc 0: ilabel -1 is negative"),
        ({"olabel": np.array([0], np.int32)}, "olabel: 1 values for 2 arcs"),
        ({"final_score": np.array([0, np.inf], np.float32)}, "state 1: final score inf"),
        ({"final_score": np.array([], np.float32)}, "start state"),
        ({"score": np.array([0, 0.0])}, "score: expected a vector of float32"),
    ],
)
def test_what_is_no_fst_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    fst = Fst.from_list([(0, 1, 1, 2, -0.5), (1, 0, 3, 3, 0.0)], {1: 0.0})
    with pytest.raises(GraphError, match=message):
        Fst(**{**{name: getattr(fst, name) for name in ARRAYS}, **change})
