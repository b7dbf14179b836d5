"""Entropy pruning against the divergence summed over all words, and backoff weights by normalisation."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import TrainedModel, train_kneser_ney
from moe_asr.lm.model import LOG_ZERO, NgramModel
from moe_asr.lm.perplexity import measure_perplexity
from moe_asr.lm.prune import model_history_log_prob, prune, recompute_backoffs
from tests.lm.conftest import as_dictionaries, ngrams_of
from tests.lm.references import Backoff, random_text, widest_gap


def trained_on(seed: int, order: int, num_sentences: int = 12) -> TrainedModel:
    return train_kneser_ney(corpus_of(random_text(random.Random(seed), num_sentences)), order)


def same_models(model: NgramModel, reference: Backoff) -> None:
    found = as_dictionaries(model)
    assert set(found.probability) == set(reference.probability)
    assert found.probability == pytest.approx(reference.probability, rel=1e-12)
    for ngram, weight in found.weight.items():
        expected = reference.weight.get(ngram, 1.0)
        assert weight == pytest.approx(expected, rel=1e-6, abs=1e-9), ngram


@pytest.mark.parametrize("from_counts", [False, True])
@settings(max_examples=40)
@given(number=st.integers(0, 10**6), order=st.integers(2, 4))
def test_prunes_what_the_divergence_says(from_counts: bool, number: int, order: int) -> None:
    trained = trained_on(number, order, num_sentences=8)
    reference = as_dictionaries(trained.model)
    counted = None
    if from_counts:
        values = np.exp(trained.history_log_prob).tolist()
        counted = dict(zip(ngrams_of(trained.model), values, strict=True))
    growths = reference.growths(counted)
    threshold = widest_gap(list(growths.values()))
    log_prob = trained.history_log_prob if from_counts else None
    pruned = prune(trained.model, threshold, log_prob)
    same_models(pruned, reference.pruned(threshold, growths))
    np.testing.assert_allclose(pruned.probability_sums(), 1.0, atol=1e-6)
    for history in as_dictionaries(pruned).histories():
        p = as_dictionaries(pruned)
        assert sum(p.p(history, word) for word in p.vocabulary) == pytest.approx(1.0, abs=1e-6)


def test_histories_of_the_reference_and_of_the_model_weigh_the_same() -> None:
    model = trained_on(5, 3).model
    reference = as_dictionaries(model)
    for ngram, value in zip(ngrams_of(model), model_history_log_prob(model), strict=True):
        assert np.exp(value) == pytest.approx(reference.history_probability(ngram)), ngram


@pytest.mark.parametrize("order", [2, 3, 4])
def test_higher_thresholds_leave_fewer_ngrams_and_higher_perplexity(order: int) -> None:
    trained = train_kneser_ney(corpus_of(random_text(random.Random(1), 400, 30)), order)
    corpus = corpus_of(random_text(random.Random(1), 400, 30))
    sizes, perplexities = [trained.model.num_nodes], []
    for threshold in (1e-6, 1e-5, 1e-4, 1e-3):
        pruned = prune(trained.model, threshold, trained.history_log_prob)
        np.testing.assert_allclose(pruned.probability_sums(), 1.0, atol=1e-6)
        sizes.append(pruned.num_nodes)
        perplexities.append(measure_perplexity(pruned, corpus).perplexity)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 2
    assert perplexities == sorted(perplexities)


def test_a_high_threshold_leaves_the_unigrams() -> None:
    model = trained_on(3, 3).model
    pruned = prune(model, 100.0)
    assert pruned.order == 1 and pruned.counts == [len(model.words)]
    np.testing.assert_array_equal(pruned.log_prob, model.log_prob[: pruned.num_nodes])
    assert not pruned.backoff.any()


def test_recomputed_backoffs_are_those_that_training_found() -> None:
    model = trained_on(11, 4, 40).model
    again = recompute_backoffs(replace(model, backoff=np.full(model.num_nodes, 0.7)))
    np.testing.assert_allclose(again.backoff, model.backoff, atol=1e-9)


def test_histories_with_nothing_left_over_keep_their_ngrams() -> None:
    """After a every word has a bigram, and those sum to 1: there is no backoff to weigh against them."""
    model = train_kneser_ney(corpus_of(["a b a", "b a b b"]), 2).model
    node = model.words["a"] + 1
    children = np.flatnonzero(model.parent == node)
    log_prob = model.log_prob.copy()
    log_prob[children] = np.log(np.exp(log_prob[children]) / np.exp(log_prob[children]).sum())
    closed = recompute_backoffs(replace(model, log_prob=log_prob))
    assert closed.backoff[node] == LOG_ZERO
    pruned = prune(closed, 100.0)
    assert pruned.counts[1] == len(children)
    np.testing.assert_allclose(pruned.probability_sums(), 1.0, atol=1e-9)


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_thresholds_that_are_none(threshold: float) -> None:
    with pytest.raises(ConfigError, match="pruning threshold"):
        prune(trained_on(3, 2).model, threshold)
