"""The native search against enumeration, against a plain search in Python, and LG against HLG."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.native import engine as engine_module
from moe_asr.fsa.native import stream as stream_module
from tests.fsa.native.reference import (
    brute_force,
    connected,
    explicit_arcs,
    fields,
    paths,
    random_log_probs,
    search,
)
from tests.fsa.random_graphs import random_graph

WIDE = NativeSearchOptions(search_beam=1e4, output_beam=1e3, min_active=0, max_active=10**6)
TOPOLOGIES = st.sampled_from(["standard", "modified"])


def run(graph: DecodingGraph, log_probs: torch.Tensor, options: SearchOptions) -> Lattice:
    lengths = torch.tensor([len(log_probs)])
    return NativeEngine(graph, options).search(log_probs[None], lengths)[0]


def random_case(
    number: int, kinds: tuple[str, ...] = ("LG", "T"), longest: int = 4
) -> tuple[random.Random, DecodingGraph, torch.Tensor]:
    rng = random.Random(number)
    graph = random_graph(rng, rng.choice(kinds), gains=rng.random() < 0.3)
    return rng, graph, random_log_probs(rng, rng.randint(0, longest), len(graph.token_table))


@settings(max_examples=300)
@given(st.integers(0, 10**9), TOPOLOGIES, st.sampled_from([1.0, 0.5]))
def test_paths_are_those_of_enumeration(number: int, topology: str, scale: float) -> None:
    _, graph, log_probs = random_case(number)
    lattice = run(graph, log_probs, replace(WIDE, topology=topology, graph_scale=scale))
    expected = Counter(brute_force(explicit_arcs(graph, topology, scale), log_probs.numpy()))
    found = Counter(
        (tuple((token, words) for token, _, words in labels), acoustic, graph_score)
        for labels, acoustic, graph_score in paths(lattice)
    )
    assert found == expected
    assert lattice.num_frames == len(log_probs) and not lattice.is_partial


@settings(max_examples=300)
@given(st.integers(0, 10**9), TOPOLOGIES)
def test_beams_and_active_states_against_a_plain_search(number: int, topology: str) -> None:
    rng, graph, log_probs = random_case(number, longest=12)
    graph = connected(graph)
    if graph is None:
        return
    options = NativeSearchOptions(
        search_beam=rng.choice([0.7, 2.1, 5.3]),
        output_beam=rng.choice(
            [0.3, 1.1, 3.3]
        ),  # never a multiple of an eighth: no ties at the edge
        min_active=rng.choice([0, 2, 4]),
        max_active=rng.choice([4, 5, 100]),
        topology=topology,
    )
    expected, reached = search(explicit_arcs(graph, topology), log_probs.numpy(), options)
    lattice = run(graph, log_probs, options)
    assert lattice.is_empty == (not reached)
    if reached:
        assert arcs_by_frame(lattice) == [
            Counter((arc.token, arc.words, acoustic, arc.score) for arc, acoustic in frame)
            for frame in expected
        ]


@pytest.mark.parametrize(("interval", "piece"), [(1, 1), (2, 5), (7, 3), (64, 64)])
@settings(max_examples=25)
@given(number=st.integers(0, 10**9), topology=TOPOLOGIES)
def test_pruning_and_committing_on_the_way_change_nothing(
    interval: int, piece: int, number: int, topology: str
) -> None:
    """Against the plain search, which prunes once, at the end."""
    rng, graph, _ = random_case(number)
    graph = connected(graph)
    if graph is None:
        return
    log_probs = random_log_probs(rng, rng.choice([30, 150, 300]), len(graph.token_table)).clamp(
        min=-9
    )
    for row in log_probs:
        row[1:] -= rng.choice([0, 0, 10])  # some frames are sure to be blank, so that paths merge
    options = NativeSearchOptions(
        search_beam=rng.choice([2.1, 5.3, 20.03]),
        output_beam=rng.choice([0.3, 1.1, 3.3, 30.1]),
        min_active=rng.choice([0, 2, 4]),
        max_active=rng.choice([4, 5, 100]),
        topology=topology,
    )
    expected, reached = search(explicit_arcs(graph, topology), log_probs.numpy(), options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "INTERVAL", interval)
        patch.setattr(stream_module, "_PIECE", piece)
        lattice = run(graph, log_probs, options)
        patch.setattr(engine_module, "INTERVAL", 10**9)
        assert fields(lattice) == fields(run(graph, log_probs, options))
    assert lattice.is_empty == (not reached)
    if reached:
        assert arcs_by_frame(lattice) == [
            Counter((arc.token, arc.words, acoustic, arc.score) for arc, acoustic in frame)
            for frame in expected
        ]


def arcs_by_frame(lattice: Lattice) -> list[Counter]:
    frames = [Counter() for _ in range(lattice.num_frames + 1)]
    for arc in range(lattice.num_arcs):
        key = (
            int(lattice.token[arc]),
            tuple(lattice.words_of(arc).tolist()),
            float(lattice.acoustic[arc]),
            float(lattice.graph[arc]),
        )
        frames[int(lattice.frame[lattice.src[arc]])][key] += 1
    return frames


@settings(max_examples=200)
@given(st.integers(0, 10**9), TOPOLOGIES)
def test_implied_and_explicit_topology_agree(number: int, topology: str) -> None:
    rng, graph, log_probs = random_case(number, longest=10)
    options = NativeSearchOptions(
        search_beam=rng.choice([2.1, 5.3, 20.0]),
        output_beam=rng.choice([1.1, 3.3, 8.0]),
        max_active=rng.choice([30, 1000]),
        topology=topology,
    )
    whole = connected(graph)
    if whole is None:
        assert run(graph, log_probs, options).is_empty
        return
    hlg = build_hlg(whole, topology, "openfst")
    implied, explicit = run(whole, log_probs, options), run(hlg, log_probs, options)
    assert implied.num_states == explicit.num_states
    assert arcs_by_frame(implied) == arcs_by_frame(explicit)
    assert Counter(implied.starts_token) == Counter(explicit.starts_token)
    if implied.num_arcs < 60:
        assert Counter(paths(implied)) == Counter(paths(explicit))


@settings(max_examples=100)
@given(st.integers(0, 10**9), TOPOLOGIES)
def test_tokens_are_those_of_the_graph(number: int, topology: str) -> None:
    """The arcs that begin a token spell a path of the LG with the same words and graph score."""
    _, graph, log_probs = random_case(number, longest=3)
    lattice = run(graph, log_probs, replace(WIDE, topology=topology))
    spelled = set()
    for labels, _, graph_score in paths(lattice):
        tokens = tuple(token for token, begins, _ in labels if begins)
        words = tuple(word for _, _, words in labels for word in words)
        spelled.add((tokens, words, graph_score))
    arcs = list(zip(graph.src.tolist(), graph.dst.tolist(), graph.token.tolist(), strict=True))

    def walk(state: int, tokens: tuple[int, ...]) -> set[tuple[tuple[int, ...], float]]:
        if not tokens:
            ends = {
                (tuple(graph.words_of(arc).tolist()), float(graph.score[arc]))
                for arc, (src, _, token) in enumerate(arcs)
                if src == state and token == FINAL
            }
            return ends
        return {
            (tuple(graph.words_of(arc).tolist()) + words, float(graph.score[arc]) + score)
            for arc, (src, dst, token) in enumerate(arcs)
            if src == state and token == tokens[0]
            for words, score in walk(dst, tokens[1:])
        }

    for tokens, words, graph_score in spelled:
        assert (words, graph_score) in walk(0, tokens)


@pytest.mark.k2
@settings(max_examples=150)
@given(st.integers(0, 10**9), TOPOLOGIES)
def test_best_score_and_words_of_k2(number: int, topology: str) -> None:
    from moe_asr.fsa.search_k2 import K2Engine

    rng, graph, log_probs = random_case(number, longest=5)
    graph = connected(graph)
    if graph is None or len(log_probs) == 0:
        return
    hlg = build_hlg(graph, topology, "openfst")
    beam = 5.3
    options = NativeSearchOptions(
        search_beam=100.0, output_beam=beam, min_active=0, max_active=10**6, topology=topology
    )
    native = run(graph, log_probs, options)
    lengths = torch.tensor([len(log_probs)])
    k2_options = SearchOptions(search_beam=100.0, output_beam=beam, min_active=0, max_active=10**6)
    (lattice,) = K2Engine(hlg, k2_options).search(log_probs[None], lengths)
    mine = best_by_words((words_of(labels), a + g) for labels, a, g in paths(native))
    theirs = best_by_words((words_of(labels), a + g) for labels, a, g in paths(lattice))
    assert bool(mine) == bool(theirs)
    if mine:
        best = max(mine.values())
        assert max(theirs.values()) == pytest.approx(best, abs=1e-4)
        near = {words for words, score in mine.items() if score >= best - beam}
        assert near == {words for words, score in theirs.items() if score >= best - beam}
        for words in near:
            assert theirs[words] == pytest.approx(mine[words], abs=1e-4)


def words_of(labels: tuple) -> tuple[int, ...]:
    return tuple(word for _, _, words in labels for word in words)


def best_by_words(scored: object) -> dict[tuple[int, ...], float]:
    best: dict[tuple[int, ...], float] = {}
    for words, score in scored:  # type: ignore[attr-defined]
        best[words] = max(best.get(words, -np.inf), score)
    return best


def test_the_bits_do_not_depend_on_memory_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from moe_asr.fsa.native.store import Store, Workspace

    _, graph, _ = random_case(5)
    log_probs = random_log_probs(random.Random(1), 300, len(graph.token_table))
    expected = fields(run(graph, log_probs, NativeSearchOptions()))
    grown = Counter()
    for name, cls in (("store", Store), ("workspace", Workspace)):
        grow = cls.grow
        monkeypatch.setattr(
            cls, "grow", lambda self, name=name, grow=grow: (grown.update([name]), grow(self))[1]
        )
    make = Workspace._allocate
    monkeypatch.setattr(
        Workspace,
        "_allocate",
        lambda self, size: make(self, min(size, 4) if size == 16384 else size),
    )
    assert fields(run(graph, log_probs, NativeSearchOptions())) == expected
    assert grown["workspace"] >= 1 and grown["store"] >= 1
