"""Scores of words of another table, by dictionaries of n-grams."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.lm.model import NgramModel, model_of_levels
from moe_asr.lm.score import NgramScorer
from moe_asr.text.symbol_table import SymbolTable
from tests.lm.conftest import as_dictionaries
from tests.lm.references import Backoff
from tests.lm.test_model import random_model

TABLE = SymbolTable(["<eps>", "w2", "unheard", "w0", "<unk>", "w1", "</s>", "#0"], "words.txt")


def any_model(number: int, order: int) -> NgramModel:
    """Half of them with any scores at all, and backoff weights where nothing follows."""
    model = random_model(number, order)
    if number % 4 < 2:
        return model
    rng = np.random.RandomState(number % 2**32)
    backoff = rng.normal(0.0, 0.5, model.num_nodes)
    backoff[0] = 0.0
    backoff[model.order_nodes(model.order)] = 0.0
    return replace(model, log_prob=-rng.exponential(2.0, model.num_nodes), backoff=backoff)


def sentence_scores(reference: Backoff, words: list[str]) -> list[float]:
    """Of every word and the end, from the definition."""
    known = [word if (word,) in reference.probability else "<unk>" for word in words]
    sentence = ["<s>", *known, "</s>"]
    return [
        math.log(reference.p(tuple(sentence[max(0, i - reference.order + 1) : i]), sentence[i]))
        for i in range(1, len(sentence))
    ]


@settings(max_examples=60)
@given(number=st.integers(0, 10**6), order=st.integers(1, 4))
def test_against_dictionaries(number: int, order: int) -> None:
    model = any_model(number, order)
    scorer, reference = NgramScorer(model, TABLE), as_dictionaries(model)
    rng = random.Random(number)
    sequences = [[rng.randint(1, 5) for _ in range(rng.randint(0, 8))] for _ in range(10)]
    words = [[TABLE.symbol(word) for word in sequence] for sequence in sequences]
    expected = [sentence_scores(reference, sentence) for sentence in words]
    splits, scores = scorer.word_scores(sequences)
    assert np.diff(splits).tolist() == [len(sequence) + 1 for sequence in sequences]
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=1e-9)
    np.testing.assert_allclose(scorer.score(sequences), [sum(e) for e in expected], rtol=1e-9)

    # word by word, all sequences together
    states = np.full(len(sequences), scorer.start_state)
    totals = np.zeros(len(sequences))
    for place in range(8):
        going = np.array([i for i, s in enumerate(sequences) if len(s) > place], np.int64)
        following = np.array([sequences[i][place] for i in going], np.int64)
        states[going], steps = scorer.step(states[going], following)
        np.testing.assert_allclose(steps, [expected[i][place] for i in going], rtol=1e-9)
        totals[going] += steps
    np.testing.assert_allclose(totals + scorer.final(states), scorer.score(sequences), rtol=1e-9)
    assert [scorer.state_after(sequence) for sequence in sequences] == states.tolist()


@settings(max_examples=30)
@given(number=st.integers(0, 10**6), order=st.integers(2, 4))
def test_states_tell_only_what_matters(number: int, order: int) -> None:
    """No state could be a shorter history with the same scores for all words; lattices stay small by this."""
    model = random_model(number, order)
    scorer = NgramScorer(model, SymbolTable(["<eps>", *sorted(set(model.words) - {"<s>", "</s>"})]))
    rng = random.Random(number)
    last = len(scorer.word_table) - 1
    for _ in range(20):
        state = scorer.state_after([rng.randint(1, last) for _ in range(rng.randint(0, 6))])
        assert state == 0 or model.has_children[state] or model.backoff[state] != 0.0


def test_of_nothing() -> None:
    scorer = NgramScorer(random_model(1, 3), TABLE)
    assert scorer.score([]).shape == (0,)
    assert scorer.score([[], []]).tolist() == [scorer.final(np.array([scorer.start_state]))[0]] * 2
    states, scores = scorer.step(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert states.shape == scores.shape == (0,)


def small_model(*words: str) -> NgramModel:
    table = SymbolTable(words, "lm.arpa")
    ids = np.arange(len(words))
    zeros = np.zeros(len(words))
    return model_of_levels(table, [np.zeros(len(words), np.int64)], [ids], [zeros - 1.0], [zeros])


def test_unknown_words() -> None:
    table = SymbolTable(["<eps>", "yes", "no", "<UNK>", "#0"], "words.txt")
    without = NgramScorer(small_model("<s>", "</s>", "yes"), table)
    assert without.score([[1]]).tolist() == [-2.0]
    with pytest.raises(TextError, match=r"lm.arpa: cannot score 'no', which it does not know"):
        without.score([[1], [1, 2]])
    with_unknown = NgramScorer(small_model("<s>", "</s>", "yes", "<unk>"), table)
    assert with_unknown.score([[2, 3]]).tolist() == [-3.0]
    assert with_unknown.model_ids.tolist() == [-1, 2, 3, 3, -1]
    for word in (0, 4):
        with pytest.raises(TextError, match="which is no word"):
            with_unknown.step(np.array([0]), np.array([word]))
    for word in (-1, 5):
        with pytest.raises(TextError, match=f"words.txt: no word id {word} among 5"):
            with_unknown.score([[word]])


@pytest.mark.parametrize(("words", "missing"), [(("<s>", "a"), "</s>"), (("a", "</s>"), "<s>")])
def test_models_without_ends(words: tuple[str, ...], missing: str) -> None:
    with pytest.raises(TextError, match=f"lm.arpa: no {missing} among the unigrams"):
        NgramScorer(small_model(*words), TABLE)
