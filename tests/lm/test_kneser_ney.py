"""Training against the formulas, in dictionaries; every history's probabilities sum to 1."""

import math
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, TextError
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import FALLBACK_DISCOUNTS, find_discounts, train_kneser_ney
from moe_asr.lm.model import BOS, LOG_ZERO
from moe_asr.lm.perplexity import measure_perplexity, sentence_log_probs
from tests.lm.conftest import as_dictionaries, ngrams_of
from tests.lm.references import KneserNey, random_text

PROVERBS = """
a bird in the hand is worth two in the bush
the early bird gets the worm
two birds with one stone
a rolling stone gathers no moss
the worm will turn
the bird is the word
no stone in the hand
two in the hand
the bird in the bush
the bird in the bush gets the worm in the hand
""".strip().split("\n")


def large_text() -> tuple[list[str], list[str]]:
    """Enough skewed text for all discounts to come from its counts; and more that has its words."""
    sentences = random_text(random.Random(7), 700, 150)
    known = {word for sentence in sentences[:600] for word in sentence.split()}
    held_out = [[w for w in s.split() if w in known] for s in sentences[600:]]
    return sentences[:600], [" ".join(words) for words in held_out if words]


def same_as_reference(
    sentences: list[str], order: int, min_counts: list[int], vocabulary: list[str] | None = None
) -> None:
    reference = KneserNey(sentences, order, min_counts, vocabulary)
    trained = train_kneser_ney(corpus_of(sentences, vocabulary), order, min_counts)
    model = trained.model
    ngrams = ngrams_of(model)
    assert set(ngrams) - {()} == reference.ngrams()
    for n, row in enumerate(trained.statistics, start=1):
        assert row.discounts == pytest.approx(reference.discounts[n - 1], rel=1e-12), n
    words = reference.vocabulary
    ids = np.array([model.words[word] for word in words])
    for node, history in enumerate(ngrams):
        if len(history) < order or order == 1:
            found = np.exp(model.conditional(np.full(len(ids), node), ids))
            expected = [reference.probability(history, word) for word in words]
            np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=str(history))
            assert sum(expected) == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(model.probability_sums(), 1.0, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("min_counts", [[1], [1, 2], [2], [1, 1, 2, 3]])
@pytest.mark.parametrize("text", ["proverbs", "random"])
def test_probabilities_are_those_of_the_formulas(
    text: str, order: int, min_counts: list[int]
) -> None:
    sentences = PROVERBS if text == "proverbs" else random_text(random.Random(1), 60, 12)
    same_as_reference(sentences, order, min_counts[:order])


@example(number=0, order=3, limit=1, closed=False)
@given(
    number=st.integers(0, 10**6),
    order=st.integers(1, 4),
    limit=st.integers(1, 3),
    closed=st.booleans(),
)
def test_random_texts(number: int, order: int, limit: int, closed: bool) -> None:
    rng = random.Random(number)
    sentences = random_text(rng)
    min_counts = sorted(rng.randint(1, limit) for _ in range(rng.randint(1, order)))
    vocabulary = ["w3", "never", "w0"] if closed else None
    same_as_reference(sentences, order, min_counts, vocabulary)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_perplexity_is_that_of_the_formulas(order: int) -> None:
    sentences, held_out = large_text()
    reference = KneserNey(sentences, order)
    trained = train_kneser_ney(corpus_of(sentences), order)
    assert all(not row.is_fallback for row in trained.statistics)
    log_probs = [reference.log_prob(sentence.split()) for sentence in held_out]
    np.testing.assert_allclose(sentence_log_probs(trained.model, held_out), log_probs, rtol=1e-9)
    tokens = sum(len(sentence.split()) + 1 for sentence in held_out)
    report = measure_perplexity(trained.model, corpus_of(held_out))
    assert report.perplexity == pytest.approx(math.exp(-sum(log_probs) / tokens), rel=1e-9)


def test_unknown_words_are_counted_as_unk() -> None:
    sentences = ["a b a", "a x b", "y a", "a b"]
    model = train_kneser_ney(corpus_of(sentences, ["a", "b", "z"]), 2).model
    replaced = train_kneser_ney(
        corpus_of(["a b a", "a <unk> b", "<unk> a", "a b"], ["a", "b", "z"]), 2
    )
    np.testing.assert_array_equal(model.log_prob, replaced.model.log_prob)
    assert list(model.words) == ["<unk>", "<s>", "</s>", "a", "b", "z"]
    p = as_dictionaries(model).p
    assert p((), "<unk>") > p((), "z") > 0  # <unk> was seen, z was not
    assert p(("a",), "<unk>") > p(("b",), "<unk>")


def test_unk_of_an_open_vocabulary_has_its_part_of_the_uniform_distribution() -> None:
    trained = train_kneser_ney(corpus_of(["a b", "b c c"]), 1)
    p = as_dictionaries(trained.model).p
    d1, d2, _ = FALLBACK_DISCOUNTS
    taken = d1 + 3 * d2  # a once; b, c and </s> twice
    assert p((), "<unk>") == pytest.approx(taken / 7 / 5)
    assert trained.model.log_prob[trained.model.words[BOS] + 1] == LOG_ZERO


def test_counts_are_those_of_the_text() -> None:
    trained = train_kneser_ney(corpus_of(PROVERBS), 3)
    reference = KneserNey(PROVERBS, 3)
    for ngram, count in zip(ngrams_of(trained.model), trained.counts.tolist(), strict=True):
        if ngram:
            assert count == reference.occurrences[ngram], ngram
    tokens = sum(len(sentence.split()) + 1 for sentence in PROVERBS)
    assert trained.counts[0] == tokens
    histories = np.exp(trained.history_log_prob)
    assert histories[trained.model.words[BOS] + 1] == pytest.approx(len(PROVERBS) / tokens)


def test_discounts_of_known_counts() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 20, 10, 5, 3])
    found, discounts = find_discounts(counts)
    assert found == (40, 20, 10, 5)
    y = 40 / 80
    assert discounts == pytest.approx((1 - 2 * y / 2, 2 - 3 * y / 2, 3 - 4 * y / 2))


@pytest.mark.parametrize(
    "counts", [[1, 1, 2], [2, 3, 4], [5, 6], [], [1] * 9 + [2] + [3] * 50 + [4]]
)
def test_counts_that_give_no_discounts_fall_back(counts: list[int]) -> None:
    assert find_discounts(np.array(counts, np.int64))[1] is None


def test_one_word_is_enough() -> None:
    trained = train_kneser_ney(corpus_of(["a"]), 3)
    assert [row.is_fallback for row in trained.statistics] == [True] * 3
    np.testing.assert_allclose(trained.model.probability_sums(), 1.0, atol=1e-12)
    assert trained.model.counts == [4, 2, 1]


def test_orders_beyond_64_bits_of_packed_words() -> None:
    """15 words of 40000: their ids alone would need 230 bits."""
    rng = random.Random(3)
    vocabulary = [f"w{i}" for i in range(40_000)]
    sentences = [" ".join(rng.choices(vocabulary, k=16)) for _ in range(20)]
    model = train_kneser_ney(corpus_of([*sentences, *sentences[:5]], vocabulary), 15).model
    assert model.order == 15
    np.testing.assert_allclose(model.probability_sums(), 1.0, atol=1e-9)
    seen, new = sentence_log_probs(model, [sentences[0], " ".join(rng.choices(vocabulary, k=16))])
    assert seen > new + 50


@pytest.mark.parametrize(
    ("order", "min_counts", "message"),
    [
        (0, [1], "order is 0"),
        (2, [1, 1, 1], "expected 1 to 2 of them"),
        (2, [], "expected 1 to 2 of them"),
        (2, [0], "each at least 1"),
        (3, [1, 3, 2], "2 for order 3 is less than 3 for order 2"),
    ],
)
def test_bad_settings_are_named(order: int, min_counts: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_kneser_ney(corpus_of(["a b"]), order, min_counts)


def test_an_order_longer_than_any_sentence_is_refused() -> None:
    with pytest.raises(TextError, match="no n-grams of 6 words.*longest sentence has 5"):
        train_kneser_ney(corpus_of(["a b c", "a"]), 6)
    assert train_kneser_ney(corpus_of(["a b c", "a"]), 5).model.order == 5


# KenLM 0.3.0 on the two texts of large_text(): lmplz -o 2 and -o 3 --prune 0 1 2, then its query: the sum
# of log10 probabilities, and the n-grams of the model by order.
KENLM: list[tuple[int, list[int], float, list[int]]] = [
    (2, [1], -728.646236538887, [148, 1128]),
    (3, [1, 2, 3], -732.1673567295074, [148, 430, 116]),
]


@pytest.mark.parametrize(("order", "min_counts", "log10_prob", "num_ngrams"), KENLM)
def test_figures_of_kenlm(
    order: int, min_counts: list[int], log10_prob: float, num_ngrams: list[int]
) -> None:
    sentences, held_out = large_text()
    model = train_kneser_ney(corpus_of(sentences), order, min_counts).model
    assert model.counts == num_ngrams
    found = sentence_log_probs(model, held_out).sum() / math.log(10)
    assert found == pytest.approx(log10_prob, rel=1e-6)
