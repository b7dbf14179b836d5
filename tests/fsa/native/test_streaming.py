"""Streams: any chunks, any company, bounded memory, words that stay."""

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_join import join_lattices
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions, NativeStream
from tests.fsa.native.reference import connected, fields, graph_of, random_log_probs
from tests.fsa.random_graphs import random_graph

OPTIONS = NativeSearchOptions(search_beam=6.0, output_beam=3.0, min_active=2, max_active=20)


def make(number: int, options: NativeSearchOptions = OPTIONS, threads: int = 1) -> NativeEngine:
    """An engine over a random graph in which a path can go on for ever."""
    for attempt in range(1000):
        graph = random_graph(random.Random(number * 1000 + attempt), "LG", num_arcs=14)
        engine = NativeEngine(graph, options, threads)
        if not whole(engine, speech(number, graph, 80)).is_empty:
            return engine
    raise AssertionError("no graph with a loop")


def speech(number: int, graph: DecodingGraph, num_frames: int, peak: float = 0.3) -> torch.Tensor:
    """Frames, some of them sure of one label, so that paths merge."""
    rng = random.Random(number)
    log_probs = random_log_probs(rng, num_frames, len(graph.token_table)).clamp(min=-20.0)
    for frame in range(num_frames):
        if rng.random() < peak:
            log_probs[frame, 1:] -= 10.0
    return log_probs


def whole(engine: NativeEngine, log_probs: torch.Tensor) -> Lattice:
    return engine.search(log_probs[None], torch.tensor([len(log_probs)]))[0]


def chunks_of(log_probs: torch.Tensor, size: int, rng: random.Random) -> Iterator[torch.Tensor]:
    """Of this size, or of random sizes (0 among them) if it is 0."""
    begin = 0
    while begin < len(log_probs):
        end = begin + (size or rng.choice([0, 1, 1, 3, 17, 40, 300]))
        yield log_probs[begin:end]
        begin = end


@pytest.mark.parametrize("size", [1, 2, 5, 16, 64, 0])
@pytest.mark.parametrize("skip", [1.0, 0.9])
def test_chunks_do_not_matter_to_the_bit(size: int, skip: float) -> None:
    options = NativeSearchOptions(
        search_beam=6.0, output_beam=3.0, min_active=2, max_active=20, blank_skip=skip
    )
    for number in range(6):
        engine = make(number, options)
        log_probs = speech(number, engine.graph, 700).log_softmax(-1)
        state = engine.start()
        for chunk in chunks_of(log_probs, size, random.Random(number)):
            engine.advance([state], [chunk])
        expected = whole(engine, log_probs)
        assert not expected.is_empty
        assert fields(engine.finish(state)) == fields(expected)
        if skip < 1:
            assert state.num_steps < len(log_probs) == state.num_frames


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_pieces_released_join_to_the_whole(number: int) -> None:
    engine = make(number % 20)
    rng = random.Random(number)
    log_probs = speech(number, engine.graph, 900)
    state = engine.start()
    pieces = []
    for chunk in chunks_of(log_probs, 0, rng):
        engine.advance([state], [chunk])
        if rng.random() < 0.3:
            piece = engine.release(state)
            pieces += [piece] if piece is not None else []
    assert all(piece.is_partial for piece in pieces)
    joined = join_lattices([*pieces, engine.finish(state)])
    assert fields(joined) == fields(whole(engine, log_probs))


def test_lattice_does_not_disturb_the_stream() -> None:
    engine = make(3)
    log_probs = speech(3, engine.graph, 400)
    state = engine.start()
    for chunk in chunks_of(log_probs, 7, random.Random(0)):
        engine.advance([state], [chunk])
        read = state.num_frames
        now = engine.lattice(state)
        assert now.num_frames == read
        ended = whole(engine, log_probs[:read])
        if not ended.is_empty:
            assert fields(now) == fields(ended)
        else:
            assert now.is_partial and not now.is_empty
    assert fields(engine.finish(state)) == fields(whole(engine, log_probs))


@pytest.mark.parametrize("threads", [1, 3])
def test_streams_join_wait_and_leave_in_any_mix(threads: int) -> None:
    engine = make(4, threads=threads)
    rng = random.Random(7)
    inputs = [speech(n, engine.graph, rng.randint(0, 300)) for n in range(12)]
    waiting = list(range(12))
    running: dict[int, tuple[NativeStream, int]] = {}
    done: dict[int, Lattice] = {}
    while waiting or running:
        while waiting and rng.random() < 0.6:
            running[waiting.pop()] = (engine.start(), 0)
        ready = [n for n in running if rng.random() < 0.7]
        rng.shuffle(ready)
        sizes = [rng.choice([0, 1, 16, 50]) for _ in ready]
        parts = [
            inputs[n][running[n][1] : running[n][1] + s] for n, s in zip(ready, sizes, strict=True)
        ]
        engine.advance([running[n][0] for n in ready], parts)
        for n, part in zip(ready, parts, strict=True):
            running[n] = (running[n][0], running[n][1] + len(part))
            if running[n][1] == len(inputs[n]):
                done[n] = engine.finish(running.pop(n)[0])
    batch = torch.zeros(12, 300, inputs[0].shape[1])
    for n, rows in enumerate(inputs):
        batch[n, : len(rows)] = rows
    together = engine.search(batch, torch.tensor([len(rows) for rows in inputs]))
    for n, rows in enumerate(inputs):
        assert fields(done[n]) == fields(together[n]) == fields(whole(engine, rows))
    engine.close()


def test_memory_is_bounded_when_pieces_are_released() -> None:
    engine = make(5)
    state = engine.start()
    largest, words_before = [], 0
    for minute in range(30):
        for piece in range(15):
            engine.advance([state], [speech(minute * 15 + piece, engine.graph, 100)])
            engine.release(state)
            assert state.store.newest < 1500
        largest.append(state.num_bytes)
        assert len(engine.partial(state).words) >= words_before
        words_before = len(engine.partial(state).words)
    assert state.num_frames == 45_000
    assert max(largest[5:]) <= 2 * max(largest[:5])
    assert words_before > 100


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_stable_words_never_change(number: int) -> None:
    engine = make(number % 20)
    log_probs = speech(number, engine.graph, 250, peak=0.2)
    generator = torch.Generator().manual_seed(number)
    log_probs += torch.rand(log_probs.shape, generator=generator)  # no ties: they may go either way
    state = engine.start()
    stable: tuple[int, ...] = ()
    grew = 0
    for chunk in chunks_of(log_probs, 0, random.Random(number)):
        engine.advance([state], [chunk])
        partial = engine.partial(state)
        assert partial.num_frames == state.num_frames
        assert len(partial.words) == len(partial.frames) >= partial.num_stable
        assert list(partial.frames) == sorted(partial.frames)
        assert all(0 <= frame < partial.num_frames for frame in partial.frames)
        assert partial.words[: len(stable)] == stable
        grew += partial.num_stable > len(stable)
        stable = partial.words[: partial.num_stable]
    for agreeing, differing in best_by_beginning(engine.lattice(state), stable).values():
        assert agreeing >= differing - 1e-3


def best_by_beginning(lattice: Lattice, words: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """For each state of the last frame: the best score of a path whose words begin so, and of any other."""
    best: list[dict[int, float]] = [{} for _ in range(lattice.num_states)]
    best[0][0] = 0.0  # how many words are those wanted; -1 once one was another
    for arc in range(lattice.num_arcs):
        gain = float(lattice.acoustic[arc]) + float(lattice.graph[arc])
        for count, score in best[int(lattice.src[arc])].items():
            for word in lattice.words_of(arc).tolist():
                if 0 <= count < len(words):
                    count = count + 1 if word == words[count] else -1
            target = best[int(lattice.dst[arc])]
            target[count] = max(target.get(count, -np.inf), score + gain)
    return {
        state: (
            best[state].get(len(words), -np.inf),
            max(
                (score for count, score in best[state].items() if count < len(words)),
                default=-np.inf,
            ),
        )
        for state in np.flatnonzero(lattice.frame == lattice.frame[-1]).tolist()
    }


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_best_words_are_those_of_the_best_path_even_among_equals(number: int) -> None:
    engine = make(number % 20)
    log_probs = speech(
        number, engine.graph, 150, peak=0.1
    )  # eighths: there are ties, and sums are exact
    state = engine.start()
    for chunk in chunks_of(log_probs, 3, random.Random(0)):
        engine.advance([state], [chunk])
        lattice = engine.lattice(state)
        if lattice.is_partial:  # else final scores count too
            path = best_path(lattice)
            assert path is not None and engine.partial(state).words == path.words


@pytest.mark.parametrize("number", range(8))
def test_paths_that_never_merge_are_given_up_beyond_the_limit(number: int) -> None:
    """Two loops that share nothing: A on token 3, B on token 4, both ending well."""
    rng = random.Random(number)
    arcs = [(0, 1, 3, 1), (0, 2, 4, 2), (1, 1, 3, 1), (2, 2, 4, 2), (1, 3, -1, 0), (2, 3, -1, 0)]
    graph = graph_of(arcs)
    log_probs = torch.zeros(2000, len(graph.token_table)) - 20.0
    log_probs[:, [0, 3, 4]] = -torch.tensor(
        [[rng.randint(0, 8) / 8 for _ in range(3)] for _ in range(2000)]
    )
    wide = NativeSearchOptions(search_beam=1e6, output_beam=1e5)
    free, limited = (
        NativeEngine(graph, replace(wide, max_pending_frames=limit)) for limit in (0, 200)
    )
    states = [free.start(), limited.start()]
    for begin in range(0, 2000, 50):
        for engine, state in zip((free, limited), states, strict=True):
            engine.advance([state], [log_probs[begin : begin + 50]])
        assert states[1].store.newest <= 200 + 64
    assert states[0].store.newest == 2000 and states[0].forced_merges == 0
    assert states[1].forced_merges > 3
    assert states[1].num_bytes < states[0].num_bytes / 2
    lattice = limited.finish(states[1])
    chosen = set(lattice.words.tolist())
    assert len(chosen) == 1, "one loop was given up"
    # what is left are all paths of that loop through the states that were kept
    alone = graph_of([arc for arc in arcs if arc[2] in (-1, 2 + min(chosen))])
    only = NativeEngine(connected(alone), wide).search(log_probs[None], torch.tensor([2000]))[0]
    labels, expected = frame_labels(lattice), frame_labels(only)
    single = {frame: found for frame, found in labels.items() if len(found) == 1}
    assert 10 < len(single) < 1000
    assert labels == {frame: single.get(frame, found) for frame, found in expected.items()}
    assert lattice.num_arcs < only.num_arcs
    assert path_score(lattice) == pytest.approx(path_score(only), abs=1e-3)


def frame_labels(lattice: Lattice) -> dict[int, set[int]]:
    """The labels with which the states of each frame are entered."""
    found: dict[int, set[int]] = {}
    for target, token in zip(lattice.dst.tolist(), lattice.token.tolist(), strict=True):
        found.setdefault(int(lattice.frame[target]), set()).add(token)
    return found


def path_score(lattice: Lattice) -> float:
    best = {0: 0.0}
    for arc in range(lattice.num_arcs):
        total = (
            best[int(lattice.src[arc])] + float(lattice.acoustic[arc]) + float(lattice.graph[arc])
        )
        target = int(lattice.dst[arc])
        best[target] = max(best.get(target, -np.inf), total)
    return best[lattice.num_states - 1]


def test_what_a_stream_refuses() -> None:
    engine = make(6)
    rows = speech(6, engine.graph, 10)
    state, other = engine.start(), engine.start()
    with pytest.raises(DataError, match="twice"):
        engine.advance([state, state], [rows, rows])
    with pytest.raises(DataError, match="2 streams, but log_probs of 1"):
        engine.advance([state, other], [rows])
    engine.advance([state], [rows])
    bad = rows.clone()
    bad[3, 2] = float("nan")
    with pytest.raises(DataError, match="stream b: log_probs of frame 13 hold nan"):
        engine.advance([other, state], [rows, bad], ["a", "b"])
    assert other.num_frames == 0 and state.num_frames == 10  # nothing was read
    engine.finish(state)
    with pytest.raises(DataError, match="finished"):
        engine.advance([state], [rows])
    with pytest.raises(DataError, match="finished"):
        engine.finish(state)
    with pytest.raises(DataError, match="finished"):
        engine.release(state)
    with pytest.raises(DataError, match="found 1 ids of 2 streams"):
        engine.advance([other, engine.start()], [rows, rows], ["a"])
    foreign = make(7)
    with pytest.raises(DataError, match="stream 0 of the batch was started by another engine"):
        foreign.advance([other], [rows])
    for read in (foreign.partial, foreign.lattice, foreign.finish, foreign.release):
        with pytest.raises(DataError, match="another engine"):
            read(other)


def test_one_stream_that_fails_leaves_none_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(6, threads=2)
    rows = speech(6, engine.graph, 10)
    states = [engine.start(), engine.start(), engine.start()]
    read = NativeStream.read

    def slow_or_broken(self: NativeStream, *values: object) -> None:
        if self is states[0]:
            raise MemoryError("none left")
        time.sleep(0.2)
        read(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(NativeStream, "read", slow_or_broken)
    with pytest.raises(MemoryError, match="none left"):
        engine.advance(states, [rows, rows, rows])
    assert [state.num_steps for state in states] == [0, 10, 10]
    engine.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_threads_come_back_after_a_fork_and_after_closing() -> None:
    engine = make(6, threads=2)
    rows = speech(6, engine.graph, 10)
    batch, lengths = torch.stack([rows, rows]), torch.tensor([10, 10])
    expected = [fields(lattice) for lattice in engine.search(batch, lengths)]

    def child() -> None:
        assert [fields(lattice) for lattice in engine.search(batch, lengths)] == expected
        engine.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0
    engine.close()
    engine.close()
    assert [fields(lattice) for lattice in engine.search(batch, lengths)] == expected
    engine.close()
