"""Token n-gram graphs against their G, with backoffs as epsilons and as the n-gram model means them."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.accept import score_g, score_labels, score_sentence
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.token_graph import token_graph
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import BUILDERS, arcs_language, token_sequences

TOKENS = SymbolTable(["<blk>", "a", "b"])
BACKOFF = 3


def random_ngram(rng: random.Random) -> Fst:
    """States that back off to lower ones, the last of which has every token and the end."""
    num_states = rng.randint(1, 4)
    arcs = [
        (0, rng.randrange(num_states), label, label, rng.randint(-8, 0) / 4) for label in (1, 2)
    ]
    for state in range(1, num_states):
        arcs.append((state, rng.randrange(state), BACKOFF, 0, rng.randint(-8, 2) / 4))
        for label in (1, 2):
            if rng.random() < 0.5:
                target = rng.randrange(num_states)
                arcs.append((state, target, label, label, rng.randint(-8, 0) / 4))
    finals = {state: rng.randint(-8, 0) / 4 for state in range(num_states) if rng.random() < 0.5}
    start = rng.randrange(num_states)  # becomes 0
    swap = {0: start, start: 0}
    return Fst.from_list(
        [(swap.get(a, a), swap.get(b, b), i, o, score) for a, b, i, o, score in arcs],
        {swap.get(state, state): score for state, score in {0: -1.0, **finals}.items()},
    )


def exact_score(g: Fst, tokens: tuple[int, ...], state: int = 0) -> float:
    """An n-gram model's own: back off only where there is no arc for the next token (or no end)."""
    if not tokens and np.isfinite(g.final_score[state]):
        return float(g.final_score[state])
    for arc in np.flatnonzero(g.src == state).tolist():
        if tokens and g.ilabel[arc] == tokens[0]:
            return float(g.score[arc]) + exact_score(g, tokens[1:], int(g.dst[arc]))
    for arc in np.flatnonzero((g.src == state) & (g.ilabel == BACKOFF)).tolist():
        return float(g.score[arc]) + exact_score(g, tokens, int(g.dst[arc]))
    return -np.inf


@given(st.integers(0, 10**6))
def test_scores_are_those_of_g(number: int) -> None:
    g = random_ngram(random.Random(number))
    free = token_graph(g, TOKENS)
    exact = token_graph(g, TOKENS, "exact")
    for length in range(4):
        for tokens in itertools.product((1, 2), repeat=length):
            assert score_labels(free, tokens, tokens) == pytest.approx(score_g(g, tokens))
            expected = exact_score(g, tokens)
            found = score_labels(exact, tokens, tokens)
            assert (found if found is not None else -np.inf) == pytest.approx(expected)
            assert score_labels(free, tokens, tokens) >= (found if found is not None else -np.inf)
    keys = exact.src.astype(np.int64) * 10 + exact.token
    assert len(set(keys.tolist())) == exact.num_arcs  # deterministic
    assert exact.num_arcs <= free.num_arcs
    assert free.kind == exact.kind == "T" and exact.metadata["backoff"] == "exact"
    assert free.topology_implied and free.word_table == TOKENS
    inner = free.token > 0
    assert (free.token[inner] == free.words).all()


@pytest.mark.parametrize("builder", BUILDERS)
@settings(max_examples=15)
@given(number=st.integers(0, 10**6), topology=st.sampled_from(["standard", "modified"]))
def test_with_a_topology_frames_are_read(builder: str, number: int, topology: str) -> None:
    g = random_ngram(random.Random(number))
    t = token_graph(g, TOKENS, metadata={"order": 2})
    ht = build_hlg(t, topology, builder)
    assert ht.kind == "HT" and not ht.topology_implied
    assert ht.metadata["topology"] == topology and ht.metadata["order"] == 2
    found = arcs_language(ht.arcs(), 3)
    expected = {}
    for length in range(4):
        for labels in itertools.product(range(3), repeat=length):
            for tokens in token_sequences(labels, topology == "modified"):
                expected[labels, tokens] = score_g(g, tokens)
    assert found == pytest.approx(expected)
    assert score_sentence(ht, (1, 1, 2), (1, 1, 2)) == pytest.approx(score_g(g, (1, 1, 2)))


@pytest.mark.parametrize(
    ("arcs", "message"),
    [
        ([(0, 0, 4, 4, 0.0)], "ilabel 4, but symbol table has 4 words"),
        ([(0, 0, 1, 1, 0.0), (0, 0, 0, 0, 0.0)], "is an epsilon"),
        ([(0, 0, 1, 2, 0.0)], "arc 0 is a:b"),
        ([(0, 1, 1, 1, 0.0), (0, 1, 3, 0, 0.0), (1, 0, 3, 0, 0.0)], "lead in a circle"),
    ],
)
def test_what_is_no_token_grammar_is_refused(
    arcs: list[tuple[int, int, int, int, float]], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        token_graph(Fst.from_list(arcs, {0: 0.0}), TOKENS)
    with pytest.raises(GraphError, match="backoff must be one of epsilon, exact"):
        token_graph(random_ngram(random.Random(0)), TOKENS, "none")
