"""Figures of graphs against plain Python, on random graphs with loops, parallel arcs and dead ends."""

import json
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph_info import graph_info, log_mass
from moe_asr.fsa.view import GraphView, view_of
from tests.fsa.random_graphs import (
    TOKENS,
    WORDS,
    Arc,
    arcs_of,
    random_graph,
    random_view,
    reachable_states,
)


def distribution(values: list[int]) -> dict[str, float]:
    ranked = sorted(values)
    figures: dict[str, float] = {"mean": sum(values) / len(values), "max": max(values)}
    for rank in (50, 90, 99):
        figures[f"p{rank}"] = ranked[max(math.ceil(rank / 100 * len(values)) - 1, 0)]
    return figures


def components(arcs: list[Arc], num_states: int) -> list[set[int]]:
    reach = [reachable_states(arcs, {state}) for state in range(num_states)]
    found = {
        frozenset(other for other in reach[state] if state in reach[other])
        for state in range(num_states)
    }
    return [set(component) for component in found]


def has_cycle(arcs: list[Arc], num_states: int) -> bool:
    loops = any(arc.src == arc.dst for arc in arcs)
    return loops or len(components(arcs, num_states)) < num_states


def mass_of(view: GraphView, arcs: list[Arc], state: int) -> float:
    terms = [arc.score for arc in arcs if arc.src == state]
    terms += [float(view.final_score[state])]
    total = sum(math.exp(term) for term in terms)
    return math.log(total) if total else -math.inf


def slow_info(view: GraphView) -> dict[str, Any]:
    arcs, num_states = arcs_of(view), len(view.final_score)
    finals = {state for state in range(num_states) if view.final_score[state] > -math.inf}
    forward = reachable_states(arcs, {0})
    backward = reachable_states(arcs, finals, backwards=True)
    leaving, entering = Counter(arc.src for arc in arcs), Counter(arc.dst for arc in arcs)
    labels = [
        [arc.label for arc in arcs if arc.src == state and arc.label >= 0]
        for state in range(num_states)
    ]
    finals_scores = [float(view.final_score[state]) for state in finals]
    scores = [arc.score for arc in arcs]
    parts = components(arcs, num_states)
    masses = [mass_of(view, arcs, state) for state in range(num_states)]
    if not view.epsilon_inputs:
        masses = [mass for state, mass in enumerate(masses) if leaving[state]]
    masses = [mass for mass in masses if mass > -math.inf]
    zero = "arcs_epsilon" if view.epsilon_inputs else "arcs_blank"
    ambiguous = sum(len(set(some)) < len(some) for some in labels)
    return {
        "states": {
            "num": num_states,
            "final": len(finals),
            "final_arcs": sum(arc.label == -1 for arc in arcs),
            "unreachable": num_states - len(forward),
            "dead_ends": num_states - len(backward),
        },
        "arcs": {
            "num": len(arcs),
            "self_loops": sum(arc.src == arc.dst for arc in arcs),
            "out_degree": distribution([leaving[state] for state in range(num_states)]),
            "in_degree": distribution([entering[state] for state in range(num_states)]),
        },
        "input": {
            zero: sum(arc.label == 0 for arc in arcs),
            "distinct": len({arc.label for arc in arcs} - {0, -1}),
            "table_size": None if view.isymbols is None else len(view.isymbols),
            "deterministic": ambiguous == 0,
            "nondeterministic_states": ambiguous,
            "sorted": all(some == sorted(some) for some in labels),
        },
        "output": {
            "arcs_without": sum(not arc.outputs for arc in arcs),
            "distinct": len({word for arc in arcs for word in arc.outputs}),
            "table_size": None if view.osymbols is None else len(view.osymbols),
            "max_per_arc": max((len(arc.outputs) for arc in arcs), default=0),
        },
        "structure": {
            "connected": len(forward) == len(backward) == num_states,
            "acyclic": not has_cycle(arcs, num_states),
            "epsilon_cycle": view.epsilon_inputs
            and has_cycle([arc for arc in arcs if arc.label == 0], num_states),
            "components": len(parts),
            "largest_component": max(len(part) for part in parts),
        },
        "scores": {
            "min": min(scores, default=None),
            "mean": sum(scores) / len(scores) if scores else None,
            "max": max(scores, default=None),
            "positive_arcs": sum(value > 0 for value in scores),
            "final_min": min(finals_scores, default=None),
            "final_max": max(finals_scores, default=None),
        },
        "mass": {
            "min": pytest.approx(min(masses), abs=1e-9) if masses else None,
            "max": pytest.approx(max(masses), abs=1e-9) if masses else None,
            "states_above_one": sum(mass > 1e-4 for mass in masses),
        },
    }  # fmt: skip


@given(st.integers(0, 10**6))
def test_figures_are_those_of_plain_python(number):
    view = random_view(random.Random(number), gains=True)
    info = graph_info(view)
    expected = slow_info(view)
    for key, figures in expected.items():
        assert info[key] == figures, key
    assert set(info) == {*expected, "kind", "metadata", "memory_bytes"}
    assert json.loads(json.dumps(info, allow_nan=False)) == info


def test_mass_of_large_scores_does_not_overflow():
    fst = Fst.from_list([(0, 1, 1, 1, 1e4), (0, 1, 2, 2, 1e4), (1, 1, 1, 1, -1e4)], {1: -1e4})
    mass = log_mass(view_of(fst))
    assert mass.tolist() == pytest.approx([1e4 + math.log(2), -1e4 + math.log(2)], abs=1e-6)
    empty = Fst.from_list([(0, 1, 1, 1, 0.0)], {})
    assert log_mass(view_of(empty)).tolist() == [0.0, -math.inf]


def test_many_parallel_arcs():
    """Of a word loop of a realistic size: more arcs between two states than a byte can count."""
    words = np.arange(1, 1001)
    zeros = np.zeros(1000)
    fst = Fst.from_arcs(zeros, zeros, words, words, zeros - math.log(1000), [0.0])
    info = graph_info(view_of(fst, {"kind": "G"}))
    assert info["arcs"]["self_loops"] == info["input"]["distinct"] == 1000
    assert info["structure"]["connected"] and info["structure"]["components"] == 1
    assert info["mass"]["max"] == pytest.approx(math.log(2), abs=1e-6)


def test_sparse_labels_are_counted():
    fst = Fst.from_list([(0, 0, 2_000_000_000, 5, 0.0), (0, 0, 7, 1_000_000, 0.0)], {0: 0.0})
    info = graph_info(view_of(fst))
    assert info["input"]["distinct"] == info["output"]["distinct"] == 2


def test_names_of_labels():
    tokens = SymbolTableWithSymbols = view_of(
        Fst.from_list([(0, 0, 5, 4, 0.0), (0, 0, 6, 0, 0.0), (0, 0, 3, 1, 0.0)], {0: 0.0}),
        {"kind": "L_disambig"}, TOKENS, WORDS,
    )  # fmt: skip
    assert [tokens.arc_name(arc) for arc in range(3)] == ["#0:#0", "#1:\u03b5", "a:A"]
    assert SymbolTableWithSymbols.input_ids(["#1", "a"]) == [6, 3]
    graph = view_of(random_graph(random.Random(0), "HLG"))
    assert graph.input_name(0) == "<blk>" and graph.input_name(-1) == "-1"
    bare = view_of(Fst.from_list([(0, 1, 3, 0, 0.0), (1, 1, 2, 2, 0.0)], {1: 0.0}))
    assert [bare.arc_name(arc) for arc in range(2)] == ["3:\u03b5", "2:2"]
    assert bare.input_ids(["12"]) == [12]
    acceptor = view_of(Fst.from_list([(0, 0, 2, 2, 0.0), (0, 0, 0, 0, 0.0)], {0: 0.0}))
    assert [acceptor.arc_name(arc) for arc in range(2)] == ["2", "\u03b5"]
