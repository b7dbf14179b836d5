"""The k2 engine against all paths, and its independence of the batch, of k2's limits and of large scores."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError, GraphError
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_lattice import lattices_of_batch
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.search_k2 import K2Engine
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import paths_of
from tests.fsa.references import brute_force, random_arcs, random_lexicon, token_sequences
from tests.fsa.search_references import (
    INF,
    TIGHT,
    TOKENS,
    TWO_WORDS,
    WIDE,
    engine_for,
    every_state_final,
    graphs_of,
    lattice_paths,
    log_probs_of,
    same,
    scored_paths,
    viterbi,
)


@pytest.mark.k2
@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1.0, 0.5, 3.0]),
    st.sampled_from(["standard", "modified"]),
)
def test_all_paths_against_enumeration(number: int, graph_scale: float, topology: str) -> None:
    """Of an LG and of its HLG; tokens too."""
    rng = random.Random(number)
    torch.manual_seed(number)
    lexicon = random_lexicon(rng, TOKENS[1:])
    graphs = graphs_of(lexicon, topology)
    options = replace(WIDE, graph_scale=graph_scale)
    lengths = torch.tensor([rng.randint(1, 4) for _ in range(3)])
    log_probs = log_probs_of(3, 4)
    scores_of_words = word_loop(lexicon.words).scores
    for graph in (graphs.hlg, graphs.lg):
        engine = K2Engine(graph, options, topology=topology)
        lattices = engine.search(log_probs, lengths)
        for rows, length, lattice in zip(log_probs, lengths.tolist(), lattices, strict=True):
            modified = topology == "modified"
            unscored = brute_force(lexicon, scores_of_words, TOKENS, length, modified)
            rows_of = rows.double().numpy()[np.arange(length)]
            expected = {
                (labels, words): graph_scale * score
                + float(rows_of[np.arange(length), list(labels)].sum())
                for (labels, words), score in unscored.items()
            }
            assert lattice_paths(lattice, graph) == pytest.approx(expected, abs=1e-4)
            for path in paths_of(lattice):
                assert path.tokens in token_sequences(path.labels, modified)
                assert modified or {path.tokens} == token_sequences(path.labels, False)


@pytest.mark.k2
@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 2.0, 6.0]))
def test_lattices_hold_what_is_within_the_output_beam(number: int, beam: float) -> None:
    """Every path within it, and no arc that is on none of them."""
    torch.manual_seed(number)
    lexicon = random_lexicon(random.Random(number), TOKENS[1:])
    engine = engine_for(lexicon, replace(WIDE, output_beam=beam))
    log_probs = log_probs_of(1, 5)
    (lattice,) = engine.search(log_probs, torch.tensor([5]))
    every = scored_paths(engine.graph, log_probs[0])
    best = max(every.values())
    found = lattice_paths(lattice, engine.graph)
    wanted = {key: score for key, score in every.items() if score > best - beam + 1e-4}
    assert {key: found.get(key) for key in wanted} == pytest.approx(wanted, abs=1e-4)
    near = [path for path in paths_of(lattice) if path.acoustic + path.graph > best - beam - 1e-4]
    assert {arc for path in near for arc in path.arcs} == set(range(lattice.num_arcs))


@pytest.mark.k2
def test_results_do_not_depend_on_the_batch() -> None:
    """Beams bind, and the frames after which k2 prunes differ; compared to the bit."""
    engine = engine_for(TWO_WORDS, TIGHT)
    lengths = torch.tensor([3, 90, 1, 31, 50, 47, 0, 26])
    log_probs = log_probs_of(8, 90, scale=0.7)
    together = engine.search(log_probs, lengths)
    assert max(lattice.num_arcs for lattice in together) > 100
    for index, length in enumerate(lengths.tolist()):
        (alone,) = engine.search(log_probs[index : index + 1, :length], lengths[[index]])
        assert same(alone, together[index])
    garbage = log_probs.clone()
    garbage[torch.arange(90) >= lengths[:, None]] = float("nan")  # padding is never looked at
    order = [4, 0, 5, 7, 3, 2, 6, 1]
    cut, whole = (engine_for(TWO_WORDS, TIGHT, max_frames=size) for size in (60, 10_000))
    for other in (engine, cut, whole):
        shuffled = other.search(garbage[order], lengths[order])
        assert all(same(shuffled[i], together[order[i]]) for i in range(8))


@pytest.mark.k2
def test_the_order_in_which_k2_numbers_states_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU it is left to chance. Here the states of each frame are turned round."""
    engine = engine_for(TWO_WORDS, TIGHT)
    log_probs, lengths = log_probs_of(2, 40, scale=0.7), torch.tensor([40, 40])
    expected = engine.search(log_probs, lengths)

    def turned(fsas: Any, *args: Any) -> list[Lattice]:
        arcs = fsas.arcs.values()
        for first, end in zip(
            *(fsas.arcs.row_splits(1).tolist()[i:] for i in (0, 1)), strict=False
        ):
            mine = slice(*(int(fsas.arcs.row_splits(2)[state]) for state in (first, end)))
            frame = torch.full((end - first,), 40)
            frame[arcs[mine, 0].long()] = fsas.frame[mine].long()
            frame[-1] = 41
            order = np.lexsort([-np.arange(end - first), frame.numpy()])
            number = torch.from_numpy(np.argsort(order)).int()
            arcs[mine, 0], arcs[mine, 1] = (
                number[arcs[mine, 0].long()],
                number[arcs[mine, 1].long()],
            )
        return lattices_of_batch(fsas, *args)

    monkeypatch.setattr("moe_asr.fsa.search_k2.lattices_of_batch", turned)
    found = engine.search(log_probs, lengths)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.k2
def test_no_path_is_a_result_of_its_utterance_only() -> None:
    engine = engine_for(Lexicon([Pronunciation("XY", ("x", "y"))]), SearchOptions())
    log_probs = log_probs_of(4, 4)
    log_probs[0, 1:] = torch.tensor([-INF, 0.0, -INF])  # x to the end: no word
    log_probs[2, 2] = -INF  # a frame in which nothing is possible
    log_probs[3] = -INF
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0], [0], [2], [0, 2], [3]):
        lattices = engine.search(log_probs[rows], torch.full((len(rows),), 4))
        assert [lattice.is_empty for lattice in lattices] == [row != 1 for row in rows]
        assert not any(lattice.is_partial for lattice in lattices)
        assert all(lattice.num_frames == 4 for lattice in lattices)
        lattices = engine.search(log_probs[rows], torch.full((len(rows),), 4), partial=True)
        assert [lattice.is_partial for lattice in lattices] == [row != 1 for row in rows]
        assert all(lattice.num_frames == 4 for lattice in lattices)
        reached = [lattice.frame[-1] for lattice in lattices]  # as far as they came
        assert reached == [{0: 4, 1: 4, 2: 2, 3: 0}[row] for row in rows]


@pytest.mark.k2
def test_an_utterance_without_a_path_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(Lexicon([Pronunciation("XY", ("x", "y"))]), SearchOptions())
    log_probs = log_probs_of(1, 4)
    log_probs[0, 1:] = torch.tensor([-INF, 0.0, -INF])
    calls = []
    intersect = K2Engine._intersect
    monkeypatch.setattr(
        K2Engine, "_intersect", lambda *args: calls.append(args) or intersect(*args)
    )
    assert engine.search(log_probs, torch.tensor([4]))[0].is_empty
    assert len(calls) == 1


@pytest.mark.k2
@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_partial_results_against_enumeration(number: int) -> None:
    """Random graphs of tokens, most of which do not end everywhere; words on final arcs too."""
    rng = random.Random(number)
    torch.manual_seed(number)
    words = SymbolTable(["<eps>", "A", "B", "C"])
    lg = DecodingGraph.from_arcs(random_arcs(rng), SymbolTable(TOKENS), words, {"kind": "LG"})
    engine = K2Engine(lg, WIDE)

    hlg = build_hlg(lg, builder="openfst")
    log_probs = log_probs_of(1, rng.randint(0, 4))
    if rng.random() < 0.5:  # only one label: seldom does a path end
        log_probs[:, :, [label for label in range(3) if label != rng.randrange(3)]] = -INF
    lengths = torch.tensor([log_probs.shape[1]])
    (whole,) = engine.search(log_probs, lengths)
    (lattice,) = engine.search(log_probs, lengths, partial=True)
    ended = {key: s for key, s in scored_paths(hlg, log_probs[0]).items() if s > -INF}
    assert lattice_paths(whole, hlg) == pytest.approx(ended, abs=1e-4)
    if ended:
        assert same(lattice, whole) and not lattice.is_partial
        return
    assert lattice.is_partial and lattice.num_frames == len(log_probs[0])
    for reached in range(len(log_probs[0]), -1, -1):
        standing = scored_paths(every_state_final(hlg), log_probs[0, :reached])
        if any(score > -INF for score in standing.values()):
            break
    standing = {key: score for key, score in standing.items() if score > -INF}
    assert lattice.frame[-1] == reached
    assert lattice_paths(lattice, hlg) == pytest.approx(standing, abs=1e-4)


@pytest.mark.k2
def test_no_frames() -> None:
    """A path only where the start is final."""
    ends = engine_for(TWO_WORDS)
    must_speak = DecodingGraph(
        np.array([0, 1], np.int32), np.array([1, 2], np.int32), np.array([1, -1], np.int32),
        np.zeros(2, np.float32), np.array([0, 1, 1], np.int32), np.array([1], np.int32),
        SymbolTable(TOKENS), SymbolTable(["<eps>", "X"]), {"kind": "LG"},
    )  # fmt: skip
    log_probs, lengths = log_probs_of(2, 0), torch.zeros(2, dtype=torch.int64)
    lattice, _ = ends.search(log_probs, lengths)
    path = best_path(lattice)
    assert path is not None and path.labels == () and path.words == ()
    assert path.score == pytest.approx(float(ends.graph.score[ends.graph.token == -1][0]))
    assert not lattice.is_partial
    engine = K2Engine(must_speak)
    assert all(lattice.is_empty for lattice in engine.search(log_probs, lengths))
    partial = engine.search(log_probs, lengths, partial=True)[0]
    assert partial.is_partial and [path.labels for path in paths_of(partial)] == [()]


@pytest.mark.k2
def test_lattice_tells_graph_scores_from_acoustic_ones() -> None:
    """The scores that were given, to the bit."""
    lexicon = Lexicon([Pronunciation("X", ("x",)), Pronunciation("Y", ("y",), -0.75)])
    engine = engine_for(lexicon, replace(WIDE, graph_scale=0.5))
    log_probs = log_probs_of(1, 5)
    (lattice,) = engine.search(log_probs, torch.tensor([5]))
    reads = lattice.token >= 0
    frames = lattice.frame[lattice.dst[reads]] - 1
    assert (lattice.acoustic[reads] == log_probs[0].numpy()[frames, lattice.token[reads]]).all()
    assert (lattice.acoustic[~reads] == 0).all()
    scores = set(np.float32(0.5) * np.unique(engine.graph.score))
    assert set(lattice.graph.tolist()) == {float(score) for score in scores}


@pytest.mark.k2
@pytest.mark.parametrize(
    ("value", "frame"), [(float("nan"), 2), (float("inf"), 0), (float("nan"), 3)]
)
def test_values_that_are_no_log_probs_are_named(value: float, frame: int) -> None:
    engine = engine_for(Lexicon([Pronunciation("X", ("x",))]))
    log_probs = log_probs_of(2, 4)
    log_probs[1, frame, 1] = value
    with pytest.raises(DataError, match=f"utterance second: log_probs of frame {frame} hold"):
        engine.search(log_probs, torch.tensor([4, 4]), ["first", "second"])
    with pytest.raises(DataError, match="utterance 1 of the batch"):
        engine.search(log_probs, torch.tensor([4, 4]))


@pytest.mark.k2
def test_shapes_that_do_not_fit_are_named() -> None:
    engine = engine_for(Lexicon([Pronunciation("X", ("x",))]))
    log_probs = log_probs_of(2, 4)
    ids = ["first", "second"]
    with pytest.raises(DataError, match="utterance second: length -1"):
        engine.search(log_probs, torch.tensor([4, -1]), ids)
    with pytest.raises(DataError, match="utterance first: length 5, but log_probs have 4"):
        engine.search(log_probs, torch.tensor([5, 4]), ids)
    with pytest.raises(GraphError, match="built for 3 tokens, the posteriors have 4"):
        engine.search(torch.zeros(2, 4, 4), torch.tensor([4, 4]), ids)
    with pytest.raises(DataError, match="found"):
        engine.search(log_probs, torch.tensor([4]), ids)
    assert engine.search(log_probs[:0], torch.zeros(0, dtype=torch.int64)) == []
    with pytest.raises(DataError, match="1 ids of 2 utterances"):
        engine.search(log_probs, torch.tensor([4, 4]), ids[:1])


@pytest.mark.k2
def test_graphs_that_cannot_be_searched(requires_k2: Any) -> None:
    graphs = graphs_of(TWO_WORDS)
    with pytest.raises(GraphError, match="topology must be one of"):
        K2Engine(graphs.lg, topology="hmm")
    with pytest.raises(ValueError, match="max_frames"):
        K2Engine(graphs.lg, max_frames=0)
    rows = [(0, 0, 1), (1, 2, -1)]
    src, dst, token = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    unreachable = DecodingGraph(
        src, dst, token, np.zeros(2, np.float32), np.zeros(3, np.int32), np.zeros(0, np.int32),
        SymbolTable(TOKENS), SymbolTable(["<eps>"]), {"kind": "LG"},
    )  # fmt: skip
    with pytest.raises(GraphError, match="no path from its start"):
        K2Engine(unreachable)


@pytest.mark.k2
@pytest.mark.parametrize("kind", ["LG", "HLG"])
def test_parts_of_a_graph_on_no_path_change_nothing(kind: str) -> None:
    graphs = graphs_of(TWO_WORDS)
    graph = graphs.hlg if kind == "HLG" else graphs.lg
    final = graph.num_states - 1
    # a state that leads nowhere, and one that nothing leads to, before the final one
    rows = [
        *zip(graph.src.tolist(), graph.dst.tolist(), graph.token.tolist(), range(graph.num_arcs),
             strict=True),
        (0, final, 2, 0), (final + 1, 0, 1, 0),
    ]  # fmt: skip
    rows = [(src, dst + 2 if token == -1 else dst, token, arc) for src, dst, token, arc in rows]
    rows.sort(key=lambda row: row[0])
    src, dst, token, arc = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    taken = graph.arcs().take(arc)
    cluttered = DecodingGraph(
        src, dst, token, taken.score, taken.row_splits.astype(np.int32), taken.words,
        graph.token_table, graph.word_table, graph.metadata,
    )  # fmt: skip
    log_probs, lengths = log_probs_of(2, 30), torch.tensor([30, 12])
    for options in (WIDE, TIGHT):
        clean = K2Engine(graph, options).search(log_probs, lengths)
        found = K2Engine(cluttered, options).search(log_probs, lengths)
        assert all(same(a, b) for a, b in zip(clean, found, strict=True))


@pytest.mark.k2
@pytest.mark.parametrize("hidden", [0.0, 2000.0])
def test_large_scores_are_as_good_as_small_ones(hidden: float) -> None:
    """Sums of millions in float32 would not tell paths apart; ``hidden`` is above what paths can have."""
    lexicon = Lexicon([Pronunciation("X", ("x",)), Pronunciation("XX", ("x", "x"), -0.1)])
    engine = engine_for(lexicon, replace(WIDE, output_beam=0.01))
    log_probs = log_probs_of(1, 3000, scale=0.5) - 10_000.0
    log_probs[:, :, 2] = -10_000.0 + hidden  # y, which no word has
    (lattice,) = engine.search(log_probs, torch.tensor([3000]))
    path = best_path(lattice)
    assert path is not None
    assert path.score == pytest.approx(viterbi(engine, log_probs[0]), rel=0, abs=1e-6)


@pytest.mark.k2
@pytest.mark.slow
def test_two_hours() -> None:
    """180,000 frames, one search: the best path is exact, and the lattice equally thick all along."""
    engine = engine_for(TWO_WORDS, replace(WIDE, output_beam=8.0))
    num_frames = 180_000
    log_probs = log_probs_of(1, num_frames)
    (lattice,) = engine.search(log_probs, torch.tensor([num_frames]))
    path = best_path(lattice)
    assert path is not None and lattice.num_frames == num_frames
    assert path.score == pytest.approx(viterbi(engine, log_probs[0]), rel=0, abs=1e-5)
    thickness = np.bincount(lattice.frame[lattice.src] // 20_000)[:9] / 20_000
    assert thickness.max() < 1.1 * thickness.min()


@pytest.mark.k2
def test_fewer_utterances_at_once_where_a_gpu_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not run on a GPU: the memory is pretended to be short, the search done on the CPU."""
    engine, works = engine_for(TWO_WORDS), engine_for(TWO_WORDS)
    log_probs, lengths = log_probs_of(5, 7), torch.tensor([7, 3, 5, 2, 7])
    expected = works.search(log_probs, lengths)
    sizes, room = [], 2

    def search_call(log_probs: torch.Tensor, lengths: list[int], partial: bool) -> list[Lattice]:
        sizes.append(len(lengths))
        if len(lengths) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return works._search_call(log_probs, lengths, partial)

    monkeypatch.setattr(engine, "_search_call", search_call)
    with pytest.raises(RuntimeError, match="out of memory"):  # of a CPU there is no saying
        engine.search(log_probs, lengths)
    monkeypatch.setattr(engine, "device", torch.device("cuda"))
    sizes.clear()
    found = engine.search(log_probs, lengths)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert sizes == [5, 3, 2, 1, 2]
    room = 0
    with pytest.raises(DataError, match="utterance a: the search of 7 frames does not fit"):
        engine.search(log_probs, lengths, list("abcde"))


@pytest.mark.k2
def test_an_utterance_that_k2_cannot_number(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(TWO_WORDS)
    monkeypatch.setattr("moe_asr.fsa.k2_batches._MAX_ELEMENTS", 30)
    log_probs, lengths = log_probs_of(3, 7), torch.tensor([5, 6, 7])
    assert len(engine.search(log_probs[:2], lengths[:2])) == 2
    with pytest.raises(DataError, match="utterance long: 7 frames of 3 tokens are more than k2"):
        engine.search(log_probs, lengths, ["short", "middle", "long"])


@pytest.mark.k2
@pytest.mark.parametrize("active", [(5, 5), (1, 1), (0, 2**30)])
def test_active_states_that_k2_does_not_take(active: tuple[int, int]) -> None:
    """k2 wants min_active < max_active, and makes its hash for the latter."""
    options = SearchOptions(min_active=active[0], max_active=active[1])
    engine = engine_for(TWO_WORDS, options)
    assert engine._beams["max_active_states"] < 1000
    (lattice,) = engine.search(log_probs_of(1, 9), torch.tensor([9]))
    assert not lattice.is_empty


@pytest.mark.parametrize(
    "values",
    [
        {"search_beam": 0.0},
        {"output_beam": -1.0},
        {"output_beam": float("nan")},
        {"min_active": -1},
        {"max_active": 0, "min_active": 0},
        {"min_active": 100, "max_active": 10},
        {"graph_scale": -0.5},
        {"graph_scale": float("nan")},
    ],
)
def test_options_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected|positive|graph_scale"):
        SearchOptions(**values)
