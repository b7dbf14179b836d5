"""L and L_disambig against the lexicon itself, and what is read back from them."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import GraphError, TextError
from moe_asr.fsa.check import check_lexicon, pronunciations_of
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.text.lexicon import Lexicon, Pronunciation, add_disambig_symbols
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import IdScores, fst_language, random_lexicon

TOKENS = SymbolTable(["<blk>", "x", "y", "z"])


def expected_language(lexicon: Lexicon, disambig: bool, num_labels: int) -> IdScores:
    words = lexicon.word_table()
    spelled = [entry.tokens for entry in lexicon.pronunciations]
    if disambig:
        spelled, _ = add_disambig_symbols(lexicon)
    label = {**{s: i for i, s in enumerate(TOKENS)}, **{f"#{i}": 4 + i for i in range(9)}}
    loops = [
        (tuple(label[symbol] for symbol in symbols), words[entry.word], entry.log_prob)
        for entry, symbols in zip(lexicon.pronunciations, spelled, strict=True)
    ]
    if disambig:
        loops.append(((4,), words["#0"], 0.0))
    best: IdScores = {}
    for count in range(num_labels + 1):
        for choice in itertools.product(loops, repeat=count):
            labels = tuple(itertools.chain.from_iterable(loop[0] for loop in choice))
            if len(labels) <= num_labels:
                key = labels, tuple(loop[1] for loop in choice)
                best[key] = max(sum(loop[2] for loop in choice), best.get(key, -float("inf")))
    return best


@given(st.integers(0, 10**6), st.booleans())
def test_language_is_that_of_the_lexicon(number: int, disambig: bool) -> None:
    lexicon = random_lexicon(random.Random(number), ["x", "y", "z"], max_entries=6)
    fst = lexicon_fst(lexicon, TOKENS, lexicon.word_table(), disambig)
    assert fst_language(fst, 4) == expected_language(lexicon, disambig, 4)
    assert (np.flatnonzero(np.isfinite(fst.final_score)) == [0]).all()


@given(st.integers(0, 10**6))
def test_pronunciations_are_read_back(number: int) -> None:
    lexicon = random_lexicon(random.Random(number), ["x", "y", "z"], max_entries=8)
    words = lexicon.word_table()
    fst = lexicon_fst(lexicon, TOKENS, words)
    found = pronunciations_of(fst)
    rows = [tuple(int(label) for label in row if label != -1) for row in found.labels]
    spelled, _ = add_disambig_symbols(lexicon)
    for row, word, score, symbols, entry in zip(
        rows, found.word, found.score, spelled, lexicon.pronunciations, strict=False
    ):
        assert [TOKENS.get(s, 4 + int(s[1:]) if s[0] == "#" else -1) for s in symbols] == list(row)
        assert words.symbol(int(word)) == entry.word and score == entry.log_prob
    assert len(rows) == len(lexicon) + 1 and rows[-1] == (4,)
    check_lexicon(fst, TOKENS, words)


@given(st.integers(0, 10**6))
def test_without_symbols_it_is_accepted_exactly_where_words_can_be_told_apart(number: int) -> None:
    lexicon = random_lexicon(random.Random(number), ["x", "y", "z"], max_entries=3)
    _, highest = add_disambig_symbols(lexicon)
    plain = lexicon_fst(lexicon, TOKENS, lexicon.word_table(), disambig=False)
    if highest == 0:
        check_lexicon(plain, TOKENS, lexicon.word_table())
    else:
        with pytest.raises(GraphError, match="L cannot tell"):
            check_lexicon(plain, TOKENS, lexicon.word_table())


def test_unknown_words_are_words() -> None:
    lexicon = Lexicon([Pronunciation("<unk>", ("z",)), Pronunciation("A", ("x",))])
    fst = lexicon_fst(lexicon, TOKENS, lexicon.word_table())
    assert fst_language(fst, 1)[(3,), (1,)] == 0.0


def test_what_does_not_fit_is_named() -> None:
    lexicon = Lexicon([Pronunciation("A", ("x", "y")), Pronunciation("B", ("x", "o"))])
    words = lexicon.word_table()
    with pytest.raises(TextError, match="word 'B': token 'o' is not in the token table"):
        lexicon_fst(lexicon, TOKENS, words)
    tokens, letters = SymbolTable(["o", "x", "y"]), SymbolTable(["<blk>", "o", "x", "y"])
    with pytest.raises(TextError, match="word 'B': token 0, 'o', is blank"):
        lexicon_fst(lexicon, tokens, words)
    with pytest.raises(TextError, match="word 'B' of the lexicon is not in some words"):
        lexicon_fst(lexicon, letters, SymbolTable(["<eps>", "A", "#0"], "some words"))


def test_size_of_a_large_lexicon() -> None:
    rng = random.Random(0)
    spellings = {tuple(rng.choices("xyz", k=rng.randint(5, 12))) for _ in range(20000)}
    lexicon = Lexicon(Pronunciation(f"w{i}", tokens) for i, tokens in enumerate(spellings))
    fst = lexicon_fst(lexicon, TOKENS, lexicon.word_table())
    symbols = sum(map(len, add_disambig_symbols(lexicon)[0]))
    assert fst.num_arcs == symbols + 1
    assert fst.num_states == symbols - len(lexicon) + 1
    assert pronunciations_of(fst).labels.shape[0] == len(lexicon) + 1
