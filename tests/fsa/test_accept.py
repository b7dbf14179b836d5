"""Scores of sentences against enumeration, and LG and HLG against L and G."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, TextError
from moe_asr.fsa.accept import (
    best_score_of_words,
    score_g,
    score_labels,
    score_lg,
    score_sentence,
    spellings_of,
    token_sequences_of,
)
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.fst import Fst
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import (
    brute_force_with_g,
    grammar_score,
    graph_paths,
    random_g,
    random_lexicon,
)

TOKENS = ["<blk>", "x", "y"]


def ids_of(words: SymbolTable, sentence: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(words[word] for word in sentence)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["standard", "modified"]))
def test_labels_score_what_enumeration_of_the_graph_finds(number: int, topology: str) -> None:
    rng = random.Random(number)
    lexicon = random_lexicon(rng, TOKENS[1:])
    graphs = build_graphs(lexicon, random_g(rng, lexicon), SymbolTable(TOKENS), topology, "openfst")
    words = lexicon.word_table()
    for graph, length in ((graphs.hlg, 3), (graphs.lg, 2)):
        expected = graph_paths(graph, length)
        sentences = {key[1] for key in expected} | {(word,) for word in lexicon.words}
        for labels in itertools.product(range(3), repeat=length):
            for sentence in sentences:
                found = score_labels(graph, labels, ids_of(words, sentence))
                assert found == pytest.approx(expected.get((labels, sentence)), abs=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_sentences_score_what_l_and_g_give(number: int) -> None:
    rng = random.Random(number)
    lexicon = random_lexicon(rng, TOKENS[1:])
    g, tokens, words = random_g(rng, lexicon), SymbolTable(TOKENS), lexicon.word_table()
    graphs = build_graphs(lexicon, g, tokens, rng.choice(["standard", "modified"]), "openfst")
    spellings = spellings_of(lexicon, tokens, words)
    # by enumeration: frames of blanks between tokens say which tokens they are
    frames = brute_force_with_g(lexicon, g, TOKENS, 4)
    best: dict[tuple[int, ...], float] = {}
    for (labels, names), score in frames.items():
        sequence = tuple(label for label, _ in itertools.groupby(labels) if label)
        sentence = ids_of(words, names)
        assert score_lg(spellings, g, sentence, sequence) == pytest.approx(score, abs=1e-5)
        for graph in (graphs.lg, graphs.hlg):
            assert score_sentence(graph, sequence, sentence) == pytest.approx(score, abs=1e-4)
        best[sentence] = max(score, best.get(sentence, -np.inf))
    for length in range(3):
        for sentence in itertools.product(spellings, repeat=length):
            expected = score_lg(spellings, g, sentence)
            if sentence in best and all(len(t) == 1 for w in sentence for t, _ in spellings[w]):
                assert expected == pytest.approx(best[sentence], abs=1e-5)
            for graph in (graphs.lg, graphs.hlg):
                found = best_score_of_words(graph, spellings, sentence)
                assert found == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 10**6))
def test_g_against_enumeration(number: int) -> None:
    rng = random.Random(number)
    lexicon = random_lexicon(rng, TOKENS[1:])
    g, words = random_g(rng, lexicon), lexicon.word_table()
    for length in range(4):
        for sentence in itertools.product(range(1, len(words) - 1), repeat=length):
            expected = grammar_score(g, sentence)
            found = score_g(g, sentence)
            assert (found if found is not None else -np.inf) == pytest.approx(expected)


def test_spellings_and_their_products() -> None:
    lexicon = Lexicon(
        [
            Pronunciation("A", ("x",), -1.0),
            Pronunciation("B", ("y", "x")),
            Pronunciation("A", ("y", "y"), -0.5),
        ]
    )
    spellings = spellings_of(lexicon, SymbolTable(TOKENS), lexicon.word_table())
    assert spellings == {1: [((1,), -1.0), ((2, 2), -0.5)], 2: [((2, 1), 0.0)]}
    assert set(token_sequences_of(spellings, [1, 2, 1])) == {
        (1, 2, 1, 1), (1, 2, 1, 2, 2), (2, 2, 2, 1, 1), (2, 2, 2, 1, 2, 2),
    }  # fmt: skip
    assert list(token_sequences_of(spellings, [])) == [()]
    g = Fst.from_list([(0, 0, 1, 1, -0.25), (0, 0, 2, 2, -2.0)], {0: -4.0})
    assert score_lg(spellings, g, [1, 2]) == -0.5 - 0.25 - 2.0 - 4.0
    assert score_lg(spellings, g, [1, 2], [1, 2, 1]) == -1.0 - 0.25 - 2.0 - 4.0
    assert score_lg(spellings, g, [1, 2], [1, 2, 2]) is None
    assert score_lg(spellings, g, [1, 2], [1, 2]) is None
    for call in (
        lambda: list(token_sequences_of(spellings, [1, 3])),
        lambda: score_lg(spellings, g, [3]),
        lambda: score_lg(spellings, g, [3], [1]),
    ):
        with pytest.raises(TextError, match="word 3 has no spelling"):
            call()


def test_ambiguous_cuts_take_the_best_pronunciations() -> None:
    """x | x x and x x | x are both 'A A': the better one counts."""
    lexicon = Lexicon([Pronunciation("A", ("x",), -1.0), Pronunciation("A", ("x", "x"), -0.25)])
    spellings = spellings_of(lexicon, SymbolTable(TOKENS), lexicon.word_table())
    g = Fst.from_list([(0, 0, 1, 1, 0.0)], {0: 0.0})
    assert score_lg(spellings, g, [1, 1], [1, 1, 1]) == -1.25
    assert score_lg(spellings, g, [1, 1], [1, 1]) == -2.0


def test_a_backoff_circle_that_gains_is_refused() -> None:
    g = Fst.from_list([(0, 1, 2, 0, 1.0), (1, 0, 2, 0, 0.0)], {0: 0.0})
    with pytest.raises(GraphError, match="cycle of arcs without output"):
        score_g(g, [])
