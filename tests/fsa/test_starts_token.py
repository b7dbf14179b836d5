"""Which arcs begin a token, against all ways to read token sequences by CTC's rules."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.starts_token import starts_token
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import BUILDERS, random_arcs

TOKENS = SymbolTable(["<blk>", "x", "y"])
WORDS = SymbolTable(["<eps>", "A", "B", "C"])
LONGEST = 4
Reading = tuple[tuple[int, ...], tuple[int, ...]]  # frame labels, tokens


def graph_of(arcs: Arcs, kind: str = "LG", **metadata: str) -> DecodingGraph:
    return DecodingGraph.from_arcs(arcs, TOKENS, WORDS, {"kind": kind, **metadata})


def paths(graph: DecodingGraph, longest: int) -> Iterator[list[int]]:
    """All paths from the start to the final state with at most ``longest`` arcs before the final one."""
    stack: list[tuple[int, list[int]]] = [(0, [])]
    while stack:
        state, path = stack.pop()
        for arc in np.flatnonzero(graph.src == state).tolist():
            if graph.token[arc] == -1:
                yield [*path, arc]
            elif len(path) < longest:
                stack.append((int(graph.dst[arc]), [*path, arc]))


def frames_of(tokens: tuple[int, ...], modified: bool, longest: int) -> set[tuple[int, ...]]:
    """The label sequences of at most ``longest`` frames that stand for ``tokens``."""
    found = {(0,) * blanks for blanks in range(longest + 1)}
    last = 0
    for token in tokens:
        must_part = token == last and not modified
        longer = {
            (*labels, *(token,) * repeats, *(0,) * blanks)
            for labels in found
            for repeats in range(1, longest + 1)
            for blanks in range(longest + 1)
            if not (must_part and (labels or (0,))[-1] == token)
        }
        found = {labels for labels in longer if len(labels) <= longest}
        last = token
    return found


def readings(graph: DecodingGraph, longest: int) -> set[Reading]:
    """What the paths of an HLG read, by `starts_token`."""
    starts = starts_token(graph)
    assert starts.shape == (graph.num_arcs,) and starts.dtype == np.bool_
    return {
        (
            tuple(graph.token[path[:-1]].tolist()),
            tuple(int(graph.token[arc]) for arc in path if starts[arc]),
        )
        for path in paths(graph, longest)
    }


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("topology", ["standard", "modified"])
@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_tokens_of_all_paths_of_a_composition(builder: str, topology: str, number: int) -> None:
    lg = graph_of(random_arcs(random.Random(number)))
    assume(builder != "k2" or lg.num_arcs > 1)  # which k2 1.23.4 cannot compose
    hlg = build_hlg(lg, topology, builder)
    sequences = {tuple(lg.token[path[:-1]].tolist()) for path in paths(lg, LONGEST)}
    expected = {
        (labels, tokens)
        for tokens in sequences
        for labels in frames_of(tokens, topology == "modified", LONGEST)
    }
    assert readings(hlg, LONGEST) == expected


def arcs_of(*rows: tuple[int, int, int]) -> Arcs:
    src, dst, label = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    return Arcs(src, dst, label, np.zeros(len(rows), np.float32), np.zeros(len(rows) + 1, np.int32),
                np.zeros(0, np.int32))  # fmt: skip


def test_of_a_graph_without_topology_every_token_begins() -> None:
    graph = graph_of(arcs_of((0, 1, 1), (0, 2, -1), (1, 1, 1), (1, 2, -1)))
    assert starts_token(graph).tolist() == [True, False, True, False]


def test_several_labels_into_a_state_may_leave_no_doubt() -> None:
    """State 1 is entered by x and blank, and left by y; and the start, entered by blank only, by all."""
    rows = [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 2, 2), (2, 2, 2), (2, 3, -1)]
    starts = starts_token(graph_of(arcs_of(*rows), "HLG"))
    assert starts.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("rows", [
    [(0, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, -1)],
    [(0, 0, 1), (0, 1, -1)],  # the first x begins, the others do not
])  # fmt: skip
def test_a_graph_that_is_no_composition_is_refused(rows: list[tuple[int, int, int]]) -> None:
    with pytest.raises(GraphError, match="arc .: token . leaves state .*cannot be told"):
        starts_token(graph_of(arcs_of(*rows), "HLG"))


def test_unknown_topology() -> None:
    graph = graph_of(arcs_of((0, 1, -1)), "HLG", topology="hmm")
    with pytest.raises(GraphError, match="topology must be one of standard, modified, found 'hmm'"):
        starts_token(graph)
