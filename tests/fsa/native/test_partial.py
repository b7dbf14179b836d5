"""What a stream says on its way: its best path, and the cost of ending; against lattices and plain sums."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.context import ContextGraph, Phrase, compile_context
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path, forward_scores, total_score
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions, NativeStream, PartialResult
from moe_asr.fsa.native import engine as engine_module
from moe_asr.fsa.native import stream as stream_module
from tests.fsa.native.reference import connected, explicit_arcs, graph_of, random_log_probs
from tests.fsa.random_graphs import random_graph

OPTIONS = NativeSearchOptions(search_beam=6.0, output_beam=3.0, min_active=2, max_active=20)
WIDE = NativeSearchOptions(search_beam=1e5, output_beam=30.0)
NUMBERS = st.integers(0, 10**9)
TOPOLOGIES = ["standard", "modified"]


def random_case(
    number: int, topology: str, is_explicit: bool, kinds: str = "LG T"
) -> tuple[random.Random, DecodingGraph, torch.Tensor]:
    """A graph in which a path can go on, and frames, some of them sure to be blank."""
    rng = random.Random(number)
    while True:
        graph = connected(random_graph(rng, rng.choice(kinds.split()), num_arcs=14))
        if graph is None or not (graph.src == 0).any():
            continue
        if is_explicit:
            graph = build_hlg(graph, topology, "openfst")
        break
    rows = random_log_probs(rng, rng.randint(0, 90), len(graph.token_table)).clamp(min=-20.0)
    for row in rows:  # eighths: sums are exact
        if rng.random() < 0.4:
            row[0], row[1:] = 0.0, row[1:] - 10.0
    return rng, graph, rows


def everything(engine: NativeEngine, state: NativeStream) -> Lattice:
    """All paths end where they stand, as those of a dead search do; the search is not disturbed."""
    was, state.is_dead = state.is_dead, True
    lattice = engine.lattice(state)
    state.is_dead = was
    return lattice


def statuses(
    engine: NativeEngine, state: NativeStream, rows: torch.Tensor, rng: random.Random
) -> Iterator[PartialResult]:
    """Before the first chunk and after each; pieces are committed on the way, and some released."""
    begin = 0
    yield engine.partial(state)
    while begin < len(rows):
        size = rng.choice([1, 2, 5, 16])
        engine.advance([state], [rows[begin : begin + size]])
        begin += size
        yield engine.partial(state)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "INTERVAL", 3)
    monkeypatch.setattr(stream_module, "_PIECE", 4)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("is_explicit", [False, True])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("skip", [1.0, 0.9])
def test_the_best_path_is_that_of_the_lattice(
    topology: str, is_explicit: bool, skip: float
) -> None:
    committed = tokens = across = 0
    for number in range(40):
        rng, graph, rows = random_case(number, topology, is_explicit)
        engine = NativeEngine(graph, replace(OPTIONS, topology=topology, blank_skip=skip))
        state = engine.start()
        for status in statuses(engine, state, rows, rng):
            if status.is_dead:
                break
            before = len(state.committed.tokens)
            committed += before > 0
            across += before > 0 and status.token_ends[before - 1] > state.committed.token_ends[-1]
            tokens += len(status.tokens)
            path = best_path(everything(engine, state))
            assert path is not None
            assert (status.words, status.tokens) == (path.words, path.tokens)
            assert status.token_frames == path.token_frames
            # the last frame of a token is the last before the next one begins that is not blank
            voiced = [f for f, label in zip(path.label_frames, path.labels, strict=True) if label]
            following = [*path.token_frames[1:], math.inf]
            assert list(status.token_ends) == [
                max(f for f in voiced if f < n) for n in following if voiced
            ]
            last = voiced[-1] if voiced else -1
            assert status.num_trailing_blanks == state.num_frames - 1 - last
            assert status.has_tokens == bool(voiced)
            assert status.num_frames == state.num_frames
    assert committed > 100 and tokens > 1000
    assert across or topology == "modified"  # tokens that go on after the end of a committed piece


@pytest.mark.parametrize("is_explicit", [False, True])
@pytest.mark.parametrize("graph_scale", [1.0, 0.5])
@settings(max_examples=60)
@given(number=NUMBERS, topology=st.sampled_from(TOPOLOGIES))
def test_cost_of_ending_against_plain_sums(
    is_explicit: bool, graph_scale: float, number: int, topology: str
) -> None:
    rng, graph, rows = random_case(number, topology, is_explicit)
    rows = rows[:12]
    options = replace(WIDE, topology=topology, graph_scale=graph_scale)
    engine = NativeEngine(graph, options)
    state = engine.start()
    arcs = explicit_arcs(graph, topology, graph_scale)
    scores, read = {0: 0.0}, 0
    for status in statuses(engine, state, rows, rng):
        for row in rows[read : state.num_frames].tolist():
            following: dict[int, float] = {}
            for arc in arcs:
                if arc.token >= 0 and arc.src in scores:
                    end = scores[arc.src] + row[arc.token] + arc.score
                    following[arc.dst] = max(following.get(arc.dst, -math.inf), end)
            scores = following
        read = state.num_frames
        if not scores:
            assert status.is_dead and status.final_relative_cost == math.inf
            break
        ends = [scores[arc.src] + arc.score for arc in arcs if arc.token < 0 and arc.src in scores]
        expected = max(scores.values()) - max(ends, default=-math.inf)
        assert status.final_relative_cost == pytest.approx(max(expected, 0.0), abs=1e-4)


@settings(max_examples=60)
@given(number=NUMBERS)
def test_phrases_count_at_the_end(number: int) -> None:
    """The boost of a phrase that is not finished is taken back where a path ends."""
    rng, graph, rows = random_case(number, "standard", False, "LG")
    context: ContextGraph | None = None
    for _ in range(20):
        text = " ".join(rng.choice("ABC") for _ in range(rng.choice([1, 2, 3])))
        try:
            context = compile_context([Phrase(text, rng.choice([-2.0, 4.0, 8.0]))], graph, "word")
            break
        except TextError:  # the graph does not say it
            continue
    if context is None:
        return
    engine = NativeEngine(graph, WIDE)
    state = engine.start(context)
    for status in statuses(engine, state, rows[:20], rng):
        if status.is_dead:
            assert status.final_relative_cost == math.inf
            break
        lattice = everything(engine, state)
        at_end = lattice.src[lattice.dst == lattice.num_states - 1]
        best = forward_scores(lattice, "tropical")[at_end].max()
        ended = total_score(engine.lattice(state, partial=False), "tropical")
        assert status.final_relative_cost == pytest.approx(max(best - ended, 0.0), abs=1e-4)


def speak(*labels: int) -> torch.Tensor:
    rows = torch.full((len(labels), 5), -30.0)
    rows[torch.arange(len(labels)), torch.tensor(labels)] = 0.0
    return rows


def test_a_dead_search_keeps_what_it_had() -> None:
    graph = graph_of([(0, 1, 3, 1), (1, 2, -1, 0)])
    engine = NativeEngine(graph)
    state = engine.start()
    assert engine.partial(state).final_relative_cost == math.inf  # nothing has been said
    engine.advance([state], [speak(0, 3, 3, 0, 0)])
    alive = engine.partial(state)
    assert (alive.tokens, alive.token_frames, alive.token_ends) == ((3,), (1,), (2,))
    assert (alive.num_trailing_blanks, alive.final_relative_cost) == (2, 0.0)
    impossible = torch.full((4, 5), -math.inf)
    impossible[:, 4] = 0.0
    engine.advance([state], [impossible])
    dead = engine.partial(state)
    assert dead.is_dead and not alive.is_dead
    assert dead == replace(alive, is_dead=True, num_frames=9, final_relative_cost=math.inf)


def test_a_gain_of_ending_costs_nothing() -> None:
    graph = graph_of([(0, 0, 3, 1), (0, 1, -1, 0)])
    graph = replace(graph, score=np.array([0.0, 2.5], np.float32))
    engine = NativeEngine(graph)
    assert engine.partial(engine.start()).final_relative_cost == 0.0


def test_frames_that_are_left_out_are_blank() -> None:
    engine = NativeEngine(
        graph_of([(0, 0, 3, 1), (0, 1, -1, 0)]), NativeSearchOptions(blank_skip=0.9)
    )
    state = engine.start()
    engine.advance([state], [speak(0, 0, 0)])
    status = engine.partial(state)
    assert state.num_steps == 1 and not status.has_tokens and status.num_trailing_blanks == 3
    engine.advance([state], [speak(3, 0, 0, 0, 0, 3, 3)])
    engine.advance([state], [speak(0).repeat(90, 1)])
    status = engine.partial(state)
    assert state.num_frames == 100 and state.num_steps == 6
    assert (status.token_frames, status.token_ends) == ((3, 8), (3, 9))
    assert status.num_trailing_blanks == 90
