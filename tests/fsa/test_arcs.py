"""Ragged arcs: in and out of OpenFst's form exactly, connection, removal of duplicates."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.fsa.arcs import Arcs, arcs_of_fst, concatenate, contract_chains, fst_of_arcs
from tests.fsa.references import arcs_language, fst_language, random_arcs
from tests.fsa.test_fst import random_fst
from tests.fsa.test_fst import same as same_fst


def same(a: Arcs, b: Arcs) -> None:
    for name in ("src", "dst", "label", "score", "row_splits", "words"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def one_final_arc_without_words(graph: Arcs) -> Arcs:
    """Of several final arcs of a state that have no words an `Fst` can keep one only."""
    plain = (graph.label == -1) & (graph.num_words == 0)
    first = np.zeros(len(graph), bool)
    first[np.unique(np.where(plain, graph.src, -1), return_index=True)[1]] = True
    return graph.take(np.flatnonzero(~plain | first)).connect()


@given(st.integers(0, 10**6))
def test_chains_come_back_as_the_arcs_they_were(number: int) -> None:
    graph = one_final_arc_without_words(random_arcs(random.Random(number))).sort()
    fst = fst_of_arcs(graph, int(graph.dst.max()) + 1)
    assert fst.num_states >= graph.dst.max()
    again = contract_chains(arcs_of_fst(fst))
    assert not (again.label == 0).any()
    same(again.connect().sort(), graph)


@given(st.integers(0, 10**6))
def test_chains_keep_the_language(number: int) -> None:
    graph = random_arcs(random.Random(number))
    fst = fst_of_arcs(graph, int(graph.dst.max()) + 1)
    assert fst_language(fst, 4) == arcs_language(graph, 4)


@given(st.integers(0, 10**6))
def test_final_scores_become_arcs_and_back(number: int) -> None:
    fst = random_fst(random.Random(number))
    arcs = arcs_of_fst(fst)
    assert len(arcs) == fst.num_arcs + np.isfinite(fst.final_score).sum()
    assert (np.diff(arcs.src) >= 0).all()
    same_fst(fst_of_arcs(arcs, fst.num_states + 1), fst)


@given(st.integers(0, 10**6))
def test_contraction_keeps_the_language_of_any_fst(number: int) -> None:
    rng = random.Random(number)
    graph = random_arcs(rng)
    states = rng.sample(range(int(graph.dst.max()) + 1), 2) if graph.dst.max() > 1 else [0, 1]
    src, dst = sorted(states)  # an epsilon more, in no cycle with others
    extra = Arcs(
        np.array([src], np.int32), np.array([dst], np.int32), np.zeros(1, np.int32),
        np.array([-0.5], np.float32), np.array([0, 1]), np.array([3], np.int32),
    )  # fmt: skip
    if dst == graph.dst.max():
        extra.label[:] = -1
    arcs = concatenate([graph, extra]).sort()
    short = contract_chains(arcs)
    assert len(short) <= len(arcs)
    assert arcs_language(short, 4, epsilon=0) == arcs_language(arcs, 4, epsilon=0)


@given(st.integers(0, 10**6))
def test_best_of_equals(number: int) -> None:
    rng = random.Random(number)
    graph = random_arcs(rng)
    copies = concatenate([graph, graph, graph])
    copies.score[:] = [rng.randint(-3, 3) / 2 for _ in range(len(copies))]
    expected: dict[tuple, float] = {}
    for row in rows_of(copies):
        expected[row[:-1]] = max(row[-1], expected.get(row[:-1], -np.inf))
    found = rows_of(copies.best_of_equals())
    assert {row[:-1]: row[-1] for row in found} == expected
    assert len(found) == len(expected)
    assert [row[:2] for row in found] == sorted(row[:2] for row in found)


def rows_of(arcs: Arcs) -> list[tuple]:
    """(src, label, dst, words, score) of each arc."""
    words = np.split(arcs.words, arcs.row_splits[1:-1]) if len(arcs) else []
    columns = (
        arcs.src.tolist(),
        arcs.label.tolist(),
        arcs.dst.tolist(),
        words,
        arcs.score.tolist(),
    )
    return [
        (src, label, dst, tuple(out.tolist()), score)
        for src, label, dst, out, score in zip(*columns, strict=True)
    ]


@given(st.integers(0, 10**6))
def test_connect(number: int) -> None:
    fst = random_fst(random.Random(number))
    arcs = arcs_of_fst(fst)
    connected = arcs.connect()
    assert arcs_language(connected, 3) == arcs_language(arcs, 3)
    if len(connected):
        assert connected.dst[connected.label == -1].min() == connected.dst.max()
        same(connected.connect(), connected)
        assert set(connected.src.tolist()) == set(range(connected.dst.max()))
    else:
        assert not arcs_language(arcs, 6)
