"""Streams on the k2 engine: with a stand-in for k2 1.24, and with the k2 that is here."""

import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError, GraphError, MissingDependencyError
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import k2_version
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.search_k2 import K2Engine
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa import fake_k2
from tests.fsa.references import random_arcs
from tests.fsa.search_references import (
    INF,
    TOKENS,
    TWO_WORDS,
    WIDE,
    engine_for,
    every_state_final,
    lattice_paths,
    log_probs_of,
    scored_paths,
)

WORDS = SymbolTable(["<eps>", "A", "B", "C"])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`fake_k2` in place of k2."""
    monkeypatch.setitem(sys.modules, "k2", fake_k2)
    monkeypatch.setattr("moe_asr.fsa.stream_k2.k2_version", lambda: (1, 24, 4))
    fake_k2.OnlineDenseIntersecter.calls.clear()
    yield fake_k2


def random_hlg(rng: random.Random) -> DecodingGraph:
    lg = DecodingGraph.from_arcs(random_arcs(rng), SymbolTable(TOKENS), WORDS, {"kind": "LG"})
    return build_hlg(lg, rng.choice(["standard", "modified"]), "openfst")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_streams_that_come_and_go(fake: Any, number: int) -> None:
    """Chunks of any lengths, none too; every lattice on the way has all paths of the frames so far."""
    fake.OnlineDenseIntersecter.calls.clear()
    rng = random.Random(number)
    torch.manual_seed(number)
    engine = K2Engine(random_hlg(rng), WIDE)
    graph, standing = engine.graph, every_state_final(engine.graph)
    running: list[tuple[Any, torch.Tensor]] = []  # a stream and its frames so far
    fed = 0
    for _ in range(5):
        if rng.random() < 0.7:
            running.append((engine.start(), torch.zeros(0, len(TOKENS))))
        chosen = [place for place in range(len(running)) if rng.random() < 0.8]
        rng.shuffle(chosen)
        chunks = [log_probs_of(rng.randint(0, 2)) for _ in chosen]
        if chunks and rng.random() < 0.2:
            chunks[0][:, 0] = -INF
        engine.advance([running[place][0] for place in chosen], chunks)
        fed += sum(len(chunk) for chunk in chunks)
        for place, chunk in zip(chosen, chunks, strict=True):
            running[place] = running[place][0], torch.cat([running[place][1], chunk])
        for stream, frames in running:
            ended = {k: s for k, s in scored_paths(graph, frames).items() if s > -INF}
            anywhere = {k: s for k, s in scored_paths(standing, frames).items() if s > -INF}
            strict, loose = engine.lattice(stream, partial=False), engine.lattice(stream)
            assert strict.num_frames == loose.num_frames == len(frames)
            assert lattice_paths(strict, graph) == pytest.approx(ended, abs=1e-4)
            assert lattice_paths(loose, graph) == pytest.approx(ended or anywhere, abs=1e-4)
            assert not strict.is_partial and loose.is_partial == (not ended and bool(anywhere))
        running = [pair for pair in running if len(pair[1]) < 3]
    read = sum(size for call in fake.OnlineDenseIntersecter.calls for _, size in call)
    assert read == fed  # nobody is made up, nothing is fed twice


def test_chunks_of_one_length_go_together(fake: Any) -> None:
    engine = K2Engine(random_hlg(random.Random(1)), WIDE)
    streams = [engine.start() for _ in range(5)]
    chunks = [log_probs_of(length) for length in (2, 3, 2, 0, 2)]
    engine.advance(streams, chunks)
    engine.advance(streams[3:], [log_probs_of(2), log_probs_of(2)])
    assert fake.OnlineDenseIntersecter.calls == [
        [(0, 2), (0, 2), (0, 2)],
        [(0, 3)],
        [(0, 2), (2, 2)],
    ]


def test_no_more_streams_at_once_than_k2_can_take(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = random_hlg(random.Random(1))
    monkeypatch.setattr("moe_asr.fsa.k2_batches._MAX_KEYS", 3 * graph.num_states)
    engine = K2Engine(graph, WIDE)
    streams = [engine.start() for _ in range(7)]
    engine.advance(streams, [log_probs_of(1) for _ in streams])
    assert [len(call) for call in fake.OnlineDenseIntersecter.calls] == [3, 3, 1]


def test_finished_streams_are_left(fake: Any) -> None:
    engine = K2Engine(random_hlg(random.Random(1)), WIDE)
    stream, other = engine.start(), engine.start()
    engine.advance([stream, other], [log_probs_of(2), log_probs_of(2)])
    before = engine.lattice(stream, partial=True)
    assert lattice_paths(engine.finish(stream, partial=True), engine.graph) == lattice_paths(
        before, engine.graph
    )
    assert stream.decode_state is None and stream.fsas is None
    with pytest.raises(DataError, match="the stream is finished"):
        engine.advance([other, stream], [log_probs_of(2), log_probs_of(2)])
    assert other.num_frames == 2


def test_chunks_that_do_not_fit_are_named(fake: Any) -> None:
    engine = K2Engine(random_hlg(random.Random(1)), WIDE)
    streams = [engine.start(), engine.start()]
    good, bad = log_probs_of(3), log_probs_of(3)
    bad[2, 1] = float("nan")
    with pytest.raises(DataError, match="utterance 1 of the streams: log_probs of frame 2 hold"):
        engine.advance(streams, [good, bad])
    with pytest.raises(GraphError, match="built for 3 tokens"):
        engine.advance(streams, [good, torch.zeros(2, 4)])
    with pytest.raises(DataError, match=r"expected log_probs \(N, T, C\)"):
        engine.advance(streams, [good, good[0]])
    with pytest.raises(DataError, match="2 chunks for 1 streams"):
        engine.advance(streams[:1], [good, good])
    with pytest.raises(DataError, match="different streams"):
        engine.advance([streams[0], streams[0]], [good, good])
    assert [stream.num_frames for stream in streams] == [0, 0]


@pytest.mark.k2
def test_a_k2_that_loses_paths_is_refused(requires_k2: Any) -> None:
    engine = engine_for(TWO_WORDS)
    if k2_version() >= (1, 24):
        pytest.skip("this k2 can stream")
    with pytest.raises(MissingDependencyError, match="k2 1.23.4 cannot stream.*the native engine"):
        engine.start()


@pytest.mark.k2
@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_one_chunk_is_the_offline_search(number: int) -> None:
    """On any version: all there is to fear is between chunks."""
    rng = random.Random(number)
    torch.manual_seed(number)
    engine = K2Engine(random_hlg(rng), WIDE)
    engine._even_if_lossy = True
    lengths = torch.tensor([rng.randint(1, 4) for _ in range(4)])
    log_probs = log_probs_of(4, 4)
    streams = [engine.start() for _ in lengths]
    engine.advance(
        streams, [rows[:length] for rows, length in zip(log_probs, lengths, strict=True)]
    )
    for partial in (False, True):
        offline = engine.search(log_probs, lengths, partial=partial)
        for stream, lattice in zip(streams, offline, strict=True):
            found = engine.lattice(stream, partial)
            expected = lattice_paths(lattice, engine.graph)
            assert lattice_paths(found, engine.graph) == pytest.approx(expected, abs=1e-4)
            assert found.is_partial == lattice.is_partial


@pytest.mark.k2
def test_several_chunks_on_an_exact_k2() -> None:
    """Chunks as they come, against the offline search."""
    if k2_version() < (1, 24):
        pytest.skip("k2 before 1.24 loses paths between chunks")
    engine = engine_for(TWO_WORDS)
    log_probs = log_probs_of(1, 60)
    (lattice,) = engine.search(log_probs, torch.tensor([60]))
    expected = best_path(lattice)
    for size in (1, 7, 16):
        stream = engine.start()
        for chunk in log_probs[0].split(size):
            engine.advance([stream], [chunk])
        found = best_path(engine.finish(stream))
        assert expected is not None and found is not None
        assert found.words == expected.words
        assert found.score == pytest.approx(expected.score, abs=1e-3)
