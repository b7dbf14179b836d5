"""Other n-gram models in lattices and n-best lists, against enumeration and graphs of these models."""

import functools
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError, TextError
from moe_asr.fsa.build import build_lg
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path, keep_arcs
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.lm_rescore import rescore_lattice, rescore_nbest, rescore_nbests
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.ngram_fst import ngram_fst, token_ngram_fst
from moe_asr.fsa.token_graph import token_graph
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.score import NgramScorer
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import (
    LatticeArc,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)
from tests.fsa.test_ngram_fst import best_by_definition
from tests.lm.conftest import as_dictionaries
from tests.lm.references import Backoff, random_text
from tests.lm.test_score import any_model, sentence_scores

SEEDS = st.integers(0, 10**6)
NUM_MODELS = 24  # of an order
TABLE = SymbolTable(["<eps>", "w1", "unheard", "w0", "#0"], "words.txt")
WIDE = NativeSearchOptions(search_beam=1e4, output_beam=1e3, min_active=0, max_active=10**6)


@functools.cache
def model_of(number: int, order: int) -> tuple[NgramScorer, Backoff]:
    model = any_model(number, order)
    return NgramScorer(model, TABLE), as_dictionaries(model)


def scorer_of(number: int, order: int) -> tuple[NgramScorer, Backoff]:
    return model_of(number % NUM_MODELS, order)


def log_prob(
    reference: Backoff, words: Sequence[int], ends: bool = True, history: Sequence[int] = ()
) -> float:
    """By the definition; of the words after the history alone."""
    symbols = [TABLE.symbol(word) for word in (*history, *words)]
    scores = sentence_scores(reference, symbols)
    return math.fsum(scores[len(history) : len(scores) if ends else -1])


def listed(lattice: Lattice) -> list[tuple]:
    """All paths, by all that is on them, graph scores last."""
    return sorted(
        (
            tuple(lattice.frame[[0, *lattice.dst[list(path.arcs)]]].tolist()),
            path.labels, path.tokens, path.words, path.acoustic, path.graph,
        )
        for path in paths_of(lattice)
    )  # fmt: skip


def reordered(rng: random.Random, lattice: Lattice) -> Lattice:
    """The same with its states in another topological order, not that of their frames."""
    arcs, order = arcs_of_lattice(lattice), [0]
    while len(order) < lattice.num_states - 1:
        blocked = {arc.dst for arc in arcs if arc.src not in order}
        free = set(range(lattice.num_states - 1)) - blocked - set(order)
        order.append(rng.choice(sorted(free)))
    order.append(lattice.num_states - 1)
    number = {state: i for i, state in enumerate(order)}
    moved = [arc._replace(src=number[arc.src], dst=number[arc.dst]) for arc in arcs]
    frame = [int(lattice.frame[state]) for state in order]
    moved.sort(key=lambda arc: arc.src)
    return lattice_of(moved, frame, lattice.num_frames, lattice.is_partial)


@settings(max_examples=150)
@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
def test_every_path_has_the_score_it_must(number: int, new_order: int, old_order: int) -> None:
    rng = random.Random(number)
    lattice = random_lattice(rng, num_frames=5, wordless=rng.choice([0.3, 0.6]))
    lattice = reordered(rng, replace(lattice, is_partial=rng.random() < 0.3))
    new, new_reference = scorer_of(number, new_order)
    old, old_reference = scorer_of(number // 2, old_order)
    new_scale, old_scale = rng.choice([(1.0, 1.0), (0.7, 0.3), (0.0, 1.0), (1.0, 0.0)])
    history = rng.choice([(), (1,), (2, 3, 1)])
    has_old = rng.random() < 0.7
    rescored = rescore_lattice(
        lattice, new, old if has_old else None, new_scale, old_scale, history=history
    )
    assert rescored.is_connected
    assert (rescored.num_frames, rescored.is_partial) == (lattice.num_frames, lattice.is_partial)
    expected = []
    for *rest, graph in listed(lattice):
        ends = not lattice.is_partial
        graph += new_scale * log_prob(new_reference, rest[3], ends, history)
        if has_old:
            graph -= old_scale * log_prob(old_reference, rest[3], ends, history)
        expected.append((*rest, graph))
    found = listed(rescored)
    assert [path[:-1] for path in found] == [path[:-1] for path in sorted(expected)]
    for path, wanted in zip(found, sorted(expected), strict=True):
        assert path[-1] == pytest.approx(wanted[-1], abs=1e-4)


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 4), st.sampled_from([0.0, 0.5, 3.0]))
def test_the_beam_and_the_n_best(number: int, order: int, beam: float) -> None:
    """Of the rescored lattice: what is within the beam; and the same list as from all sequences, rescored."""
    rng = random.Random(number)
    lattice = random_lattice(rng, num_frames=5)
    new, old = scorer_of(number, order)[0], scorer_of(number + 1, 2)[0]
    scales = {"acoustic_scale": 0.5, "graph_scale": 2.0}
    rescored = rescore_lattice(lattice, new, old, 0.8, 0.9)
    pruned = rescore_lattice(lattice, new, old, 0.8, 0.9, beam, **scales)
    totals = {path.arcs: 0.5 * path.acoustic + 2 * path.graph for path in paths_of(rescored)}
    kept = np.zeros(rescored.num_arcs, np.bool_)
    best = max(totals.values())
    margins = [best - beam - total for total in totals.values()]
    for path, total in totals.items():
        kept[list(path)] |= total >= best - beam - 1e-9
    if min(map(abs, margins)) > 1e-6:  # none at the edge, by rounding
        assert listed(pruned) == listed(keep_arcs(rescored, kept))

    everything = nbest(lattice, 10**6, **scales)
    again = rescore_nbest(everything, new, old, 0.8, 0.9, **scales)
    # a path is the best of its words before and after: models score words alone
    for found, wanted in zip(nbest(rescored, 10**6, **scales), again, strict=True):
        assert found.score == pytest.approx(wanted.score, abs=1e-3)
    assert {path.words for path in again} == {path.words for path in nbest(rescored, 10**6)}
    for path in again:
        assert path.score == pytest.approx(0.5 * path.acoustic + 2 * path.graph, abs=1e-9)


def kept_by_beam(
    lattice: Lattice, new: NgramScorer, old: NgramScorer, search_beam: float
) -> tuple[list[tuple[int, ...]], float]:
    """The arcs of the paths that the search beam leaves, and how near any decision was; frame by frame."""
    arcs, frame, final = arcs_of_lattice(lattice), lattice.frame.tolist(), lattice.num_states - 1
    rest = [-math.inf] * final + [0.0]
    for arc in reversed(sorted(arcs, key=lambda arc: arc.src)):
        rest[arc.src] = max(rest[arc.src], arc.acoustic + arc.graph + rest[arc.dst])

    def after(states: tuple[int, int], words: Sequence[int]) -> tuple[tuple[int, int], float]:
        total = 0.0
        for word in words:
            steps = [
                model.step([state], np.array([word]))
                for model, state in zip((new, old), states, strict=True)
            ]
            states = tuple(int(state[0]) for state, _ in steps)
            total += steps[0][1][0] - steps[1][1][0]
        return states, total

    starts = new.start_state, old.start_state
    score: dict[tuple[int, tuple[int, int]], float] = {(0, starts): 0.0}
    kept, margin = set(), math.inf
    for now in sorted(set(frame)):
        here = {key: value + rest[key[0]] for key, value in score.items() if frame[key[0]] == now}
        lowest = max(here.values()) - search_beam if here else 0.0
        for (state, states), value in here.items():
            margin = min(margin, abs(value - lowest))
            if value < lowest:
                continue
            kept.add((state, states))
            for arc in arcs:
                if arc.src == state and arc.dst != final:
                    following, added = after(states, arc.words)
                    total = score[state, states] + arc.acoustic + arc.graph + added
                    key = arc.dst, following
                    score[key] = max(score.get(key, -math.inf), total)
    found = []
    for path in paths_of(lattice):
        states, passed = starts, [(0, starts)]
        for index in path.arcs[:-1]:
            states = after(states, arcs[index].words)[0]
            passed.append((arcs[index].dst, states))
        if kept.issuperset(passed):
            found.append(path.arcs)
    return found, margin


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 3), st.sampled_from([0.7, 2.1, 4.3]))
def test_the_search_beam(number: int, order: int, search_beam: float) -> None:
    rng = random.Random(number)
    lattice = random_lattice(rng, num_frames=4)
    new, old = scorer_of(number, order)[0], scorer_of(number + 1, 2)[0]
    found = rescore_lattice(reordered(rng, lattice), new, old, search_beam=search_beam)
    assert found.is_connected
    kept, margin = kept_by_beam(lattice, new, old, search_beam)
    if margin > 1e-6:
        every = {path.arcs: path[1:-1] for path in paths_of(lattice)}
        assert sorted(path[1:-1] for path in paths_of(found)) == sorted(every[p] for p in kept)
    full = listed(rescore_lattice(lattice, new, old))
    best = max(path[-2] + path[-1] for path in full)
    safe = rescore_lattice(lattice, new, old, search_beam=100.0, beam=1.0)
    assert max(path[-2] + path[-1] for path in listed(safe)) == pytest.approx(best, abs=1e-4)


def test_lists_of_a_batch() -> None:
    new, reference = scorer_of(8, 3)
    lattices = [random_lattice(random.Random(number)) for number in range(6)]
    lists = [nbest(lattice, 5) for lattice in lattices] + [[]]
    partial = [True, False, True, False, False, False, True]
    found = rescore_nbests(lists, new, None, 0.5, is_partial=partial)
    for one, flag, after in zip(lists, partial, found, strict=True):
        alone = rescore_nbest(one, new, None, 0.5, is_partial=flag)
        assert [path.words for path in alone] == [path.words for path in after]
        assert [path.score for path in alone] == [path.score for path in after]
    for before, after, is_partial in zip(lists, found, partial, strict=True):
        graph_of = {path.words: path.graph for path in before}
        assert [-path.score for path in after] == sorted(-path.score for path in after)
        for path in after:
            added = 0.5 * log_prob(reference, path.words, not is_partial)
            assert path.graph == pytest.approx(graph_of[path.words] + added, abs=1e-9)
    assert rescore_nbests([], new) == [] and rescore_nbest([], new) == []


def test_of_many_histories() -> None:
    """5 ** 300 sequences, more states than there is room for at first; against Viterbi over histories."""
    rng = random.Random(5)
    table = SymbolTable(["<eps>", "w0", "w1", "w2", "w3", "w4"])
    model = train_kneser_ney(corpus_of(random_text(random.Random(3), 200)), 3).model
    scorer, reference = NgramScorer(model, table), as_dictionaries(model)
    slots = [[rng.randint(-40, 0) / 8 for _ in range(5)] for _ in range(300)]
    arcs = [
        LatticeArc(slot, slot + 1, word, True, score, 0.0, (word,))
        for slot, scores in enumerate(slots)
        for word, score in enumerate(scores, start=1)
    ]
    arcs.append(LatticeArc(300, 301, -1, False, 0.0, 0.0, ()))
    lattice = lattice_of(arcs, [*range(301), 300], 300)
    p: dict[tuple[str, ...], dict[str, float]] = {}
    best: dict[tuple[str, ...], float] = {("<s>",): 0.0}
    for scores in slots:
        after: dict[tuple[str, ...], float] = defaultdict(lambda: -math.inf)
        for history, total in best.items():
            known = p.setdefault(history, {})
            for word, score in enumerate(scores, start=1):
                symbol = table.symbol(word)
                if symbol not in known:
                    known[symbol] = math.log(reference.p(history, symbol))
                key = (*history, symbol)[-2:]
                after[key] = max(after[key], total + score + known[symbol])
        best = dict(after)
    expected = max(total + math.log(reference.p(h, "</s>")) for h, total in best.items())
    rescored = rescore_lattice(lattice, scorer)
    assert rescored.num_arcs > 5 * 300 * 5
    found = best_path(rescored)
    assert found is not None and found.score == pytest.approx(expected, abs=1e-3)
    with pytest.raises(GraphError, match="needs more than 1000 arcs .* of an n-gram of order 3"):
        rescore_lattice(lattice, scorer, max_arcs=1000)
    assert (
        rescore_lattice(lattice, scorer, max_arcs=rescored.num_arcs).num_arcs == rescored.num_arcs
    )
    with pytest.raises(GraphError, match="needs more than"):
        rescore_lattice(lattice, scorer, max_arcs=rescored.num_arcs - 1)


def trained(order: int, number: int = 3, words: int = 4):
    return train_kneser_ney(corpus_of(random_text(random.Random(number), 40, words)), order).model


def search(graph: DecodingGraph, num_frames: int) -> Lattice:
    """All paths of the graph that are as long."""
    logits = torch.randn(1, num_frames, len(graph.token_table))
    log_probs = torch.log_softmax(logits, 2)
    (lattice,) = NativeEngine(graph, WIDE).search(log_probs, torch.tensor([num_frames]))
    return lattice


def spelled() -> tuple[Lexicon, SymbolTable, SymbolTable]:
    """Words of one or two tokens, one with two pronunciations; lexicon, tokens, words."""
    spellings = {"w0": ["a", "b a"], "w1": ["b"], "w2": ["a b"], "w3": ["c"]}
    lexicon = Lexicon(
        Pronunciation(word, tuple(spelling.split()))
        for word, several in spellings.items()
        for spelling in several
    )
    return lexicon, SymbolTable(["<blank>", "a", "b", "c"]), lexicon.word_table()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_graph_and_its_own_model(order: int) -> None:
    """What its scores have beyond the model's is what backing off beside n-grams wins: up to 2, nothing."""
    model = trained(order)
    lexicon, tokens, words = spelled()
    graph = build_lg(lexicon_fst(lexicon, tokens, words), ngram_fst(model, words), tokens, words)
    lattice = search(graph, 6)
    scorer, reference = NgramScorer(model, words), as_dictionaries(model)

    unchanged = rescore_lattice(lattice, scorer, scorer)
    before, after = nbest(lattice, 10**5), nbest(unchanged, 10**5)
    assert len(before) > 50
    assert [path.words for path in after] == [path.words for path in before]
    for path, other in zip(before, after, strict=True):
        assert path.graph == pytest.approx(other.graph, abs=1e-4)

    residuals = []
    for path in nbest(rescore_lattice(lattice, None, scorer), 10**5):
        symbols = [words.symbol(word) for word in path.words]
        exact = math.fsum(sentence_scores(reference, symbols))
        assert path.graph == pytest.approx(best_by_definition(reference, symbols) - exact, abs=1e-4)
        residuals.append(path.graph)
    assert min(residuals) > -1e-4
    assert (max(residuals) > 1e-2) == (order == 3)


def test_a_first_pass_with_a_bigram_becomes_one_with_a_trigram() -> None:
    """Where graphs back off exactly the rescored lattice has the list of the larger graph."""
    tokens = SymbolTable(["<blk>", "w0", "w1", "w2"])
    small, large = trained(2, 7, 3), trained(3, 7, 3)
    lattices = []
    for model in (small, large):
        torch.manual_seed(0)
        graph = token_graph(token_ngram_fst(model, tokens), tokens, "exact")
        lattices.append(search(graph, 5))
    new, old = NgramScorer(large, tokens), NgramScorer(small, tokens)
    found = nbest(rescore_lattice(lattices[0], new, old), 10**5)
    expected = nbest(lattices[1], 10**5)
    assert len(expected) > 100
    assert [path.words for path in found] == [path.words for path in expected]
    for path, other in zip(found, expected, strict=True):
        assert path.score == pytest.approx(other.score, abs=1e-4)
        assert path.graph == pytest.approx(other.graph, abs=1e-4)
    assert [path.words for path in rescore_nbest(nbest(lattices[0], 10**5), new, old)] == [
        path.words for path in expected
    ]


def test_of_an_empty_lattice() -> None:
    lattice = Lattice.empty(7)
    assert rescore_lattice(lattice, scorer_of(0, 2)[0]) is lattice


def test_what_is_refused() -> None:
    lattice = random_lattice(random.Random(0), wordless=0.1)
    new = scorer_of(0, 2)[0]
    for options in (
        {"new_scale": -1.0},
        {"old_scale": math.nan},
        {"beam": -1.0},
        {"max_arcs": 0},
        {"search_beam": math.nan},
        {"graph_scale": -1.0},
    ):
        with pytest.raises(ConfigError):
            rescore_lattice(lattice, new, new, **options)
    with pytest.raises(ConfigError, match="scales must be finite, 0 or more, found inf"):
        rescore_nbest([], new, graph_scale=math.inf)
    smaller = NgramScorer(new.model, SymbolTable(["<eps>", "w0"], "small.txt"))
    with pytest.raises(TextError, match=r"small.txt: no word id \d among 2"):
        rescore_lattice(lattice, smaller)
