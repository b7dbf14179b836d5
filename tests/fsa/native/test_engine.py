"""Hard inputs, options, and the accelerations of the native engine."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError, GraphError
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.native.search_kernels import _score_of_rank
from tests.fsa.native.reference import (
    connected,
    explicit_arcs,
    fields,
    graph_of,
    random_log_probs,
    search,
)
from tests.fsa.random_graphs import TOKENS, random_graph

NUM_TOKENS = len(TOKENS)


def line(kind: str = "LG") -> DecodingGraph:
    """Accepts the token 3, then 4, with the word 1; a dead end and an unreachable loop beside it."""
    arcs = [(0, 1, 3, 1), (0, 3, 4, 0), (1, 2, 4, 0), (2, 5, -1, 0), (4, 4, 3, 2)]
    return graph_of(arcs, kind)


def speak(*tokens: int) -> torch.Tensor:
    """(T, C): each frame sure of its token."""
    log_probs = torch.full((len(tokens), NUM_TOKENS), -6.0)
    log_probs[torch.arange(len(tokens)), torch.tensor(tokens)] = -0.125
    return log_probs


def test_unreachable_parts_and_dead_ends_do_no_harm() -> None:
    engine = NativeEngine(line())
    lattice = engine.search(speak(0, 3, 0, 4, 4)[None], torch.tensor([5]))[0]
    assert lattice.words.tolist()[:1] == [1] and not lattice.is_partial
    assert set(lattice.token.tolist()) <= {-1, 0, 3, 4}


def test_no_path_is_an_empty_lattice_and_a_partial_one_on_request() -> None:
    engine = NativeEngine(line())
    log_probs = torch.stack([speak(0, 3, 0), speak(3, 4, 0), speak(3, 4, 4)])
    log_probs[0, :, 4] = -float("inf")
    log_probs[2, 1] = -float("inf")  # nothing is possible in this frame
    lengths = torch.tensor([3, 3, 3])
    lattices = engine.search(log_probs, lengths)
    assert [lattice.is_empty for lattice in lattices] == [True, False, True]
    assert [lattice.num_frames for lattice in lattices] == [3, 3, 3]
    partial = engine.search(log_probs, lengths, partial=True)
    assert fields(partial[1]) == fields(lattices[1])
    assert partial[0].is_partial and partial[0].frame[-1] == 3
    assert partial[2].is_partial and partial[2].frame[-1] == 1  # as far as it came
    for rows in ([0], [2], [2, 1], [1, 0]):
        alone = engine.search(log_probs[rows], lengths[rows], partial=True)
        assert [fields(lattice) for lattice in alone] == [fields(partial[row]) for row in rows]


def test_a_stream_that_died_stays_dead_and_counts_on() -> None:
    engine = NativeEngine(line())
    state = engine.start()
    dead = torch.full((1, NUM_TOKENS), -float("inf"))
    engine.advance([state], [torch.cat([speak(3), dead, speak(4, 4)])])
    engine.advance([state], [speak(0, 0)])
    assert state.is_dead and state.num_frames == 6
    assert engine.partial(state).words == (1,)
    assert engine.lattice(state, partial=False).is_empty
    assert engine.lattice(state).is_partial
    assert engine.finish(state).is_empty


def test_no_frames() -> None:
    nothing = torch.zeros(1, 0, NUM_TOKENS)
    assert NativeEngine(line()).search(nothing, torch.tensor([0]))[0].is_empty
    loop = graph_of([(0, 0, 3, 0), (0, 1, -1, 2)])
    lattice = NativeEngine(loop).search(nothing, torch.tensor([0]))[0]
    assert lattice.words.tolist() == [2] and lattice.graph.tolist() == [0.0]
    assert lattice.num_frames == 0 and lattice.num_states == 2
    assert NativeEngine(loop).search(torch.zeros(0, 0, NUM_TOKENS), torch.zeros(0)) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_log_probs_are_named(value: float) -> None:
    engine = NativeEngine(line())
    log_probs = torch.stack([speak(0, 3, 4), speak(3, 4, 0)])
    log_probs[1, 2, 1] = value
    with pytest.raises(DataError, match="utterance second: log_probs of frame 2 hold (nan|inf)"):
        engine.search(log_probs, torch.tensor([3, 3]), ["first", "second"])
    assert not engine.search(log_probs, torch.tensor([3, 2]))[
        1
    ].is_empty  # padding is not looked at


def test_shapes_that_do_not_fit_are_named() -> None:
    engine = NativeEngine(line())
    log_probs = speak(0, 3)[None]
    with pytest.raises(GraphError, match="built for 5 tokens, the posteriors have 4"):
        engine.search(log_probs[:, :, :4], torch.tensor([2]))
    with pytest.raises(DataError, match="utterance u: length 3, but log_probs have 2 frames"):
        engine.search(log_probs, torch.tensor([3]), ["u"])
    with pytest.raises(DataError, match="found"):
        engine.search(log_probs, torch.tensor([2, 2]))
    with pytest.raises(DataError, match="found"):
        engine.advance([engine.start()], [log_probs])
    with pytest.raises(DataError, match="found 1 ids of 2 utterances"):
        engine.search(log_probs.expand(2, 2, NUM_TOKENS), torch.tensor([2, 2]), ["u"])
    with pytest.raises(GraphError, match="topology"):
        NativeEngine(line(), NativeSearchOptions(topology="none"))
    with pytest.raises(ValueError, match="num_threads"):
        NativeEngine(line(), num_threads=0)


def test_double_and_foreign_layouts_are_read_rightly() -> None:
    engine = NativeEngine(line())
    rows = speak(0, 3, 4)
    expected = fields(engine.search(rows[None], torch.tensor([3]))[0])
    for other in (
        rows.double(),
        rows.half(),
        rows.bfloat16(),
        rows.clone().requires_grad_(),
        rows.t().contiguous().t(),
        rows.repeat_interleave(2, 0)[::2],
    ):
        assert fields(engine.search(other[None], torch.tensor([3]))[0]) == expected


def test_scores_too_large_once_scaled_are_named() -> None:
    graph = replace(line(), score=np.array([0, 0, -3e38, 0, 0], np.float32))
    with pytest.raises(
        GraphError, match="arc 2: score -3.0.*e[+]38, scaled by 10.0, is beyond float32"
    ):
        NativeEngine(graph, NativeSearchOptions(graph_scale=10.0))


def test_more_equals_than_max_active_do_not_end_the_search() -> None:
    """The beam shrinks for as long as they are too many, but what is best stays within it."""
    arcs = [(0, 1, 3, 1), (0, 2, 3, 2), (1, 1, 3, 1), (1, 3, -1, 0), (2, 2, 3, 2), (2, 3, -1, 0)]
    rows = torch.full((400, NUM_TOKENS), -1.0)
    lattices = [
        NativeEngine(graph_of(arcs), NativeSearchOptions(min_active=0, max_active=limit)).search(
            rows[None], torch.tensor([400])
        )[0]
        for limit in (1, 100)
    ]
    assert not lattices[0].is_empty and fields(lattices[0]) == fields(lattices[1])


@settings(max_examples=60)
@given(st.integers(0, 10**9))
def test_a_number_added_to_all_scores_of_a_frame_changes_nothing(number: int) -> None:
    rng = random.Random(number)
    graph = random_graph(rng, "LG")
    rows = random_log_probs(rng, rng.randint(1, 9), NUM_TOKENS)
    added = torch.tensor([[rng.choice([0.0, -(2.0**20), 2.0**19])] for _ in rows])  # sums are exact
    options = NativeSearchOptions(search_beam=3.3, output_beam=2.1, min_active=0)
    near, far = (
        NativeEngine(graph, options).search(some[None], torch.tensor([len(rows)]))[0]
        for some in (rows, rows + added)
    )
    reads = near.token >= 0
    shift = (
        np.where(reads, added[:, 0].numpy()[near.frame[near.dst] - 1], 0.0) if len(reads) else 0.0
    )
    assert fields(replace(near, acoustic=(near.acoustic + shift).astype(np.float32))) == fields(far)


@pytest.mark.parametrize("value", [-1e9, torch.finfo(torch.float32).min])
def test_a_frame_that_was_masked_out_is_one_like_any_other(value: float) -> None:
    rows = torch.cat([speak(0, 3, 0, 4, 4), torch.zeros(1, NUM_TOKENS), speak(0)])
    engine = NativeEngine(line())
    expected = engine.search(rows[None], torch.tensor([7]))[0]
    rows[5] = value
    found = engine.search(rows[None], torch.tensor([7]))[0]
    assert not found.is_empty
    assert fields(replace(found, acoustic=expected.acoustic)) == fields(expected)


@pytest.mark.parametrize("score", [1e6, 1e10, 3e38])
def test_huge_scores_of_the_graph_leave_a_path(score: float) -> None:
    graph = replace(line(), score=np.array([score, 0, score, 0, 0], np.float32))
    lattice = NativeEngine(graph).search(speak(0, 3, 0, 4, 4)[None], torch.tensor([5]))[0]
    assert lattice.words.tolist()[:1] == [1]


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.sampled_from(["search_beam", "output_beam"]))
def test_infinite_beams_are_very_wide_ones(number: int, name: str) -> None:
    rng = random.Random(number)
    graph = random_graph(rng, "LG")
    rows = random_log_probs(rng, 6, NUM_TOKENS)
    wide = NativeSearchOptions(search_beam=1e6, output_beam=1e6)
    found, expected = (
        NativeEngine(graph, replace(wide, **{name: beam})).search(rows[None], torch.tensor([6]))[0]
        for beam in (float("inf"), 1e6)
    )
    assert fields(found) == fields(expected)


def test_the_beam_comes_back_after_a_long_time_of_few_states() -> None:
    options = NativeSearchOptions(min_active=2)
    engine = NativeEngine(graph_of([(0, 1, 3, 1), (1, 1, 3, 1), (1, 2, -1, 0)]), options)
    state = engine.start()
    alone = torch.full((4000, NUM_TOKENS), -float("inf"))
    alone[:, 0] = 0.0
    engine.advance([state], [alone])
    assert state.store.num_active == 1 and state.beam[0] == 1e6
    engine.advance([state], [speak(3).repeat(100, 1)])
    assert state.store.num_active == 2 and state.beam[0] < 20.1


@pytest.mark.parametrize(
    "values",
    [
        {"blank_skip": 0.3},
        {"blank_skip": 1.1},
        {"blank_skip": float("nan")},
        {"token_beam": 0.0},
        {"token_beam": float("nan")},
        {"search_beam": -1.0},
        {"max_pending_frames": -1},
    ],
)
def test_options_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        NativeSearchOptions(**values)


def test_options_of_any_engine_are_taken() -> None:
    options = NativeEngine(line(), SearchOptions(search_beam=3.0, graph_scale=0.5)).options
    assert options == NativeSearchOptions(search_beam=3.0, graph_scale=0.5)


@settings(max_examples=60)
@given(st.integers(0, 10**9))
def test_tokens_beyond_their_beam_are_impossible(number: int) -> None:
    rng = random.Random(number)
    graph = random_graph(rng, "LG")
    rows = random_log_probs(rng, rng.randint(1, 8), NUM_TOKENS)
    beam = rng.choice([0.3, 1.1, 2.1])
    options = NativeSearchOptions(token_beam=beam, search_beam=9.0)
    pruned = rows.clone()
    below = rows < rows.amax(1, keepdim=True) - beam
    below[:, 0] = False
    pruned[below] = -float("inf")
    lengths = torch.tensor([len(rows)])
    found = NativeEngine(graph, options).search(rows[None], lengths)[0]
    expected = NativeEngine(graph, replace(options, token_beam=float("inf"))).search(
        pruned[None], lengths
    )[0]
    assert fields(found) == fields(expected)


@pytest.mark.parametrize("threshold", [0.9, 0.99])
def test_frames_left_out_are_those_between_sure_blanks(threshold: float) -> None:
    rng = random.Random(3)
    loops = [(0, 1, 3, 1), (0, 1, 4, 2), (0, 2, -1, 0), (1, 0, 4, 0), (1, 1, 3, 3), (1, 2, -1, 0)]
    graph = graph_of(loops)
    rows = torch.log_softmax(random_log_probs(rng, 200, NUM_TOKENS).clamp(min=-9.0), -1)
    for begin in range(0, 200, 10):  # runs of sure blanks
        rows[begin : begin + rng.randint(1, 6)] = torch.log(
            torch.tensor([0.992, 0.002, 0.002, 0.002, 0.002])
        )
    sure = (rows[:, 0] >= np.float32(np.log(threshold))).tolist()
    kept = [t for t in range(200) if not (sure[t] and t > 0 and sure[t - 1])]
    assert len(kept) < 170
    options = NativeSearchOptions(search_beam=8.0)
    found = NativeEngine(graph, replace(options, blank_skip=threshold)).search(
        rows[None], torch.tensor([200])
    )[0]
    expected = NativeEngine(graph, options).search(rows[kept][None], torch.tensor([len(kept)]))[0]
    assert not found.is_empty and found.num_frames == 200
    for name in ("src", "dst", "token", "acoustic", "graph", "words", "starts_token"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    frames = np.array([0, *(frame + 1 for frame in kept)])
    assert np.array_equal(found.frame, frames[expected.frame])


@settings(max_examples=100)
@given(st.integers(0, 10**9))
def test_strict_limit_of_active_states(number: int) -> None:
    """Against the plain search, whose input has been cut to the best states by hand."""
    rng = random.Random(number)
    graph = connected(random_graph(rng, "LG"))
    if graph is None:
        return
    rows = random_log_probs(rng, rng.randint(1, 10), NUM_TOKENS)
    limit = rng.choice([1, 2, 3])
    options = NativeSearchOptions(
        search_beam=20.0, output_beam=50.0, min_active=0, max_active=limit, strict_max_active=True
    )
    lattice = NativeEngine(graph, options).search(rows[None], torch.tensor([len(rows)]))[0]
    arcs = explicit_arcs(graph, "standard")
    scores = {0: 0.0}
    expanded = []
    for row in rows.tolist():
        edge = sorted(scores.values(), reverse=True)[:limit][-1] if scores else 0.0
        scores_left = {state: score for state, score in scores.items() if score >= edge}
        expanded.append(len(scores_left))
        following: dict[int, float] = {}
        for arc in arcs:
            if arc.src in scores_left and arc.token >= 0 and row[arc.token] > -np.inf:
                end = scores_left[arc.src] + row[arc.token] + arc.score
                following[arc.dst] = max(following.get(arc.dst, -np.inf), end)
        best = max(following.values(), default=-np.inf)
        scores = {state: score for state, score in following.items() if score > best - 20.0}
    ends = [scores[arc.src] + arc.score for arc in arcs if arc.token == -1 and arc.src in scores]
    assert lattice.is_empty == (not ends)
    if ends:
        totals = {0: 0.0}
        for arc in range(lattice.num_arcs):
            total = totals[int(lattice.src[arc])] + float(
                lattice.acoustic[arc] + lattice.graph[arc]
            )
            target = int(lattice.dst[arc])
            totals[target] = max(totals.get(target, -np.inf), total)
        assert totals[lattice.num_states - 1] == max(ends)
        wide = search(
            arcs, rows.numpy(), replace(options, max_active=1000, strict_max_active=False)
        )
        assert max(ends) <= _best(wide[0]) + 1e-9


def _best(frames: list) -> float:
    scores = {0: 0.0}
    for frame in frames:
        following: dict[int, float] = {}
        for arc, acoustic in frame:
            if arc.src in scores:
                end = scores[arc.src] + acoustic + arc.score
                following[arc.dst] = max(following.get(arc.dst, -np.inf), end)
        scores = following
    return max(scores.values())


@given(st.lists(st.integers(-20, 0), min_size=2, max_size=60), st.data())
def test_score_of_rank(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values) - 1))
    scores = np.array(values, np.float32)
    scratch = np.empty(len(values) + 3, np.float32)
    assert _score_of_rank(scores, rank, scratch) == sorted(values, reverse=True)[rank - 1]
    assert scores.tolist() == values


def test_warm_up_compiles_all_that_a_stream_needs() -> None:
    from moe_asr.fsa.native import lattice_kernels as kernels
    from moe_asr.fsa.native import search_kernels, warm_up

    report = warm_up()
    assert report.seconds > 0 and warm_up() is report
    compiled = [search_kernels.search_steps, kernels.prune_steps, kernels.force_merge]
    compiled += [kernels.mark_alive, kernels.trace_back]
    compiled += [kernels.last_common_step, kernels.drop_steps]
    # with phrases, which other tests may have searched for, there are more
    signatures = [list(kernel.signatures) for kernel in compiled]
    for kind in ("LG", "HLG"):
        engine = NativeEngine(line(kind))
        state = engine.start()
        engine.advance([state], [speak(*([0] * 100), 3, *([0] * 200), 4)])
        engine.partial(state)
        engine.release(state)
        engine.finish(state)
    assert [kernel.signatures for kernel in compiled] == signatures
    assert all(signatures)
