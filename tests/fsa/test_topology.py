"""CTC topologies against k2's and against the definition, alone and composed with graphs of tokens."""

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs, fst_of_arcs
from moe_asr.fsa.builder import make_builder
from moe_asr.fsa.openfst import from_kaldifst, import_kaldifst, to_kaldifst
from moe_asr.fsa.topology import TOPOLOGIES, compose_topology, ctc_topology
from tests.fsa.references import (
    IdScores,
    arcs_language,
    fst_language,
    random_arcs,
    token_sequences,
)


@pytest.mark.k2
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("num_tokens", [2, 3, 7])
def test_topologies_are_those_of_k2(requires_k2: Any, num_tokens: int, topology: str) -> None:
    theirs = requires_k2.ctc_topo(num_tokens - 1, modified=topology == "modified")
    rows = theirs.arcs.values().tolist()
    aux = theirs.aux_labels.tolist()
    arcs = {
        (src, dst, label, out)
        for (src, dst, label, _), out in zip(rows, aux, strict=True)
        if label >= 0
    }
    finals = {src for src, _, label, _ in rows if label == -1}
    ours = ctc_topology(num_tokens, topology)
    columns = (ours.src, ours.dst, ours.ilabel - 1, ours.olabel)
    assert set(zip(*(column.tolist() for column in columns), strict=True)) == arcs
    assert ours.num_arcs == len(arcs)
    assert set(np.flatnonzero(ours.final_score == 0.0).tolist()) == finals
    assert not ours.score.any()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_topologies_follow_the_definition(topology: str) -> None:
    found: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for labels, tokens in fst_language(ctc_topology(3, topology), 4):
        found.setdefault(tuple(label - 1 for label in labels), set()).add(tokens)
    for length in range(5):
        for labels in itertools.product(range(3), repeat=length):
            assert found.pop(labels) == token_sequences(labels, topology == "modified"), labels
    assert not found


def expected_paths(graph: Arcs, longest: int, modified: bool) -> IdScores:
    spelled: dict[tuple[int, ...], list[tuple[tuple[int, ...], float]]] = {}
    for (tokens, words), score in arcs_language(graph, longest).items():
        spelled.setdefault(tokens, []).append((words, score))
    best: IdScores = {}
    for length in range(longest + 1):
        for labels in itertools.product(range(3), repeat=length):
            for tokens in token_sequences(labels, modified):
                for words, score in spelled.get(tokens, []):
                    best[labels, words] = max(score, best.get((labels, words), -np.inf))
    return best


@settings(max_examples=60)
@given(number=st.integers(0, 10**6), topology=st.sampled_from(TOPOLOGIES))
def test_composition_against_the_definition(number: int, topology: str) -> None:
    graph = random_arcs(random.Random(number))
    composed = compose_topology(graph, topology)
    assert arcs_language(composed, 4) == expected_paths(graph, 4, topology == "modified")
    key = composed.src.astype(np.int64) * 10 + composed.label
    assert (np.diff(key) >= 0).all()
    connected = composed.connect()  # nothing to take away
    assert len(connected) == len(composed)
    assert (connected.src == composed.src).all() and (connected.dst == composed.dst).all()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_composition_is_that_of_openfst(topology: str) -> None:
    """The same as OpenFst's composition with H, on graphs too large for enumeration: sizes and language."""
    kaldifst = import_kaldifst()
    for number in range(20):
        graph = random_arcs(random.Random(number))
        fst = fst_of_arcs(graph, int(graph.dst.max()) + 1).arc_sort()
        h = ctc_topology(3, topology).arc_sort("olabel")
        theirs = from_kaldifst(kaldifst.compose(to_kaldifst(h), to_kaldifst(fst)))
        composed = compose_topology(graph, topology)
        expected = {
            (tuple(label - 1 for label in labels), words): score
            for (labels, words), score in fst_language(theirs, 5).items()
        }
        assert arcs_language(composed, 5) == pytest.approx(expected, abs=1e-6)


@pytest.mark.k2
@settings(max_examples=30)
@given(number=st.integers(0, 10**6), topology=st.sampled_from(TOPOLOGIES))
def test_composition_is_that_of_k2(number: int, topology: str) -> None:
    graph = random_arcs(random.Random(number))
    if len(graph) == 1:  # the empty sentence alone: k2 1.23.4 cannot compose an FSA of one arc
        return
    theirs = make_builder("k2").compose_topology(graph, 3, topology)
    ours = make_builder("openfst").compose_topology(graph, 3, topology)
    assert arcs_language(theirs, 5) == arcs_language(ours, 5)
    assert (len(theirs), theirs.dst.max()) == (len(ours), ours.dst.max())


def test_what_is_no_topology_is_refused() -> None:
    graph = random_arcs(random.Random(0))
    for call in (lambda: ctc_topology(3, "loose"), lambda: compose_topology(graph, "loose")):
        with pytest.raises(GraphError, match="one of standard, modified, found 'loose'"):
            call()
    with pytest.raises(GraphError, match="needs at least blank"):
        ctc_topology(0)
