"""The k2 search against the best of all paths, and its independence of the batch."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError, GraphError
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.search_k2 import K2Search, one_best
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import brute_force, random_lexicon

TOKENS = ["<blk>", "x", "y"]
WIDE = SearchOptions(search_beam=100.0, output_beam=50.0, min_active=1000, max_active=100000)


def search_for(lexicon: Lexicon, options: SearchOptions = WIDE) -> K2Search:
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return K2Search(build_graphs(lexicon, g, SymbolTable(TOKENS)).hlg, options)


def log_probs_of(*shape: int, scale: float = 2.0) -> torch.Tensor:
    return (scale * torch.randn(*shape, len(TOKENS))).log_softmax(-1)


@pytest.mark.k2
@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.5, 3.0]))
def test_best_path_against_enumeration(number: int, graph_scale: float) -> None:
    rng = random.Random(number)
    torch.manual_seed(number)
    lexicon = random_lexicon(rng, TOKENS[1:])
    search = search_for(lexicon, replace(WIDE, graph_scale=graph_scale))
    lengths = torch.tensor([rng.randint(1, 4) for _ in range(3)])
    log_probs = log_probs_of(3, 4)
    paths = one_best(search.intersect(log_probs, lengths))
    scores_of_words = word_loop(lexicon.words).scores
    for row, length, path in zip(log_probs.double().numpy(), lengths.tolist(), paths, strict=True):
        scored = {
            key: graph_scale * score + float(row[np.arange(length), list(key[0])].sum())
            for key, score in brute_force(lexicon, scores_of_words, TOKENS, length).items()
        }
        best = max(scored.values())
        assert path is not None  # blanks alone are always a path
        assert path.score == pytest.approx(best, abs=1e-4)
        words = tuple(search.graph.word_symbols(path.words))
        assert scored[path.tokens, words] == pytest.approx(best, abs=1e-4)


@pytest.mark.k2
def test_results_do_not_depend_on_the_batch() -> None:
    lexicon = Lexicon([Pronunciation("XY", ("x", "y")), Pronunciation("X", ("x",))])
    search = search_for(lexicon, SearchOptions())
    lengths = torch.tensor([3, 9, 1, 9, 5, 7])
    log_probs = log_probs_of(6, 9)
    together = one_best(search.intersect(log_probs, lengths))
    for index, length in enumerate(lengths.tolist()):
        alone = one_best(search.intersect(log_probs[index : index + 1, :length], lengths[[index]]))
        assert together[index] == alone[0]
    garbage = log_probs.clone()
    garbage[torch.arange(9) >= lengths[:, None]] = float("nan")  # padding is never looked at
    assert one_best(search.intersect(garbage, lengths)) == together
    order = [4, 0, 5, 3, 2, 1]
    shuffled = one_best(search.intersect(log_probs[order], lengths[order]))
    assert shuffled == [together[index] for index in order]


@pytest.mark.k2
def test_no_path_is_a_result_of_its_utterance_only() -> None:
    search = search_for(Lexicon([Pronunciation("XY", ("x", "y"))]), SearchOptions())
    log_probs = log_probs_of(3, 4)
    log_probs[0, 1:] = torch.tensor([-float("inf"), 0.0, -float("inf")])  # x to the end: no word
    log_probs[2, 2] = -float("inf")  # a frame in which nothing is possible
    for rows in ([0, 1, 2], [2, 1, 0], [0], [2], [0, 2]):
        paths = one_best(search.intersect(log_probs[rows], torch.full((len(rows),), 4)))
        assert [path is None for path in paths] == [row != 1 for row in rows]


@pytest.mark.k2
def test_lattice_tells_graph_scores_from_acoustic_ones() -> None:
    lexicon = Lexicon([Pronunciation("X", ("x",)), Pronunciation("Y", ("y",), -0.75)])
    search = search_for(lexicon)
    log_probs = log_probs_of(1, 5)
    lattice = search.intersect(log_probs, torch.tensor([5]))
    labels, acoustic = lattice.labels, (lattice.scores - lattice.lm_scores)
    inside = labels >= 0
    possible = log_probs[0][:, labels[inside].long()]  # (T, arcs): of some frame it must be
    assert ((possible - acoustic[inside]).abs().amin(0) < 1e-4).all()
    assert (acoustic[~inside].abs() < 1e-6).all()
    assert set(np.round(lattice.lm_scores.tolist(), 3).tolist()) >= {0.0, -0.693, -1.443}


@pytest.mark.k2
@pytest.mark.parametrize(
    ("value", "frame"), [(float("nan"), 2), (float("inf"), 0), (float("nan"), 3)]
)
def test_values_that_are_no_log_probs_are_named(value: float, frame: int) -> None:
    search = search_for(Lexicon([Pronunciation("X", ("x",))]))
    log_probs = log_probs_of(2, 4)
    log_probs[1, frame, 1] = value
    with pytest.raises(DataError, match=f"utterance second: log_probs of frame {frame} hold"):
        search.intersect(log_probs, torch.tensor([4, 4]), ["first", "second"])
    with pytest.raises(DataError, match="utterance 1 of the batch"):
        search.intersect(log_probs, torch.tensor([4, 4]))


@pytest.mark.k2
def test_shapes_that_do_not_fit_are_named() -> None:
    search = search_for(Lexicon([Pronunciation("X", ("x",))]))
    log_probs = log_probs_of(2, 4)
    ids = ["first", "second"]
    with pytest.raises(DataError, match="utterance second: no frames"):
        search.intersect(log_probs, torch.tensor([4, 0]), ids)
    with pytest.raises(DataError, match="utterance first: length 5, but log_probs have 4"):
        search.intersect(log_probs, torch.tensor([5, 4]), ids)
    with pytest.raises(GraphError, match="built for 3 tokens, the posteriors have 4"):
        search.intersect(torch.zeros(2, 4, 4), torch.tensor([4, 4]), ids)
    with pytest.raises(DataError, match="found"):
        search.intersect(log_probs, torch.tensor([4]), ids)
    with pytest.raises(DataError, match="found"):
        search.intersect(log_probs[:0], torch.zeros(0, dtype=torch.int64))


@pytest.mark.k2
def test_only_an_hlg_can_be_searched(requires_k2: Any) -> None:
    lexicon = Lexicon([Pronunciation("X", ("x",))])
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    graphs = build_graphs(lexicon, g, SymbolTable(TOKENS))
    with pytest.raises(GraphError, match="kind LG"):
        K2Search(graphs.lg)


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
