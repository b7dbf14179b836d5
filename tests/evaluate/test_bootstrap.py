"""Bootstrap intervals against closed forms and drawing by hand; what they depend on and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate import bootstrap
from moe_asr.evaluate.bootstrap import paired_difference, wer_interval


def data(num_utterances: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two systems, and lengths."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 25, num_utterances)
    errors = generator.binomial(lengths, generator.beta(1, 9, num_utterances))
    return errors, generator.binomial(errors, 0.9), lengths


def test_one_error_in_a_word_is_binomial() -> None:
    # utterances of one word: the number of errors of a sample is Binomial(U, p)
    num_utterances, num_errors = 300, 45
    errors = np.repeat([1, 0], [num_errors, num_utterances - num_errors])
    found = wer_interval(errors, np.ones(num_utterances, int), num_samples=40000, level=0.9)
    expected = binom.ppf([0.05, 0.95], num_utterances, num_errors / num_utterances)
    step = 100 / num_utterances
    assert found.estimate == pytest.approx(15.0)
    assert [found.low, found.high] == pytest.approx(expected * step, abs=step * 1.01)
    assert found.high - found.low == pytest.approx(
        (expected[1] - expected[0]) * step, abs=step * 1.01
    )


def test_probability_of_improvement_is_the_sign_test() -> None:
    # of 12 utterances the second is better in 4 and worse in 2: a trinomial, enumerated
    other = np.array([0, 0, 0, 0, 2, 2, 1, 1, 1, 1, 1, 1])
    found = paired_difference(np.ones(12, int), other, np.full(12, 5), num_samples=100000)
    better = 0.0
    for wins in range(13):
        given_wins = binom.pmf(wins, 12, 4 / 12)
        losses = np.arange(13 - wins)
        chance = binom.pmf(losses, 12 - wins, 2 / 8)
        better += given_wins * (chance[losses < wins].sum() + 0.5 * chance[losses == wins].sum())
    assert found.estimate == pytest.approx(-100 * 2 / 60)
    assert found.probability_better == pytest.approx(better, abs=0.005)
    assert found.low < found.estimate < 0 < found.high and not found.is_significant


@pytest.mark.parametrize("by_block", [False, True])
def test_intervals_approach_the_normal_ones(by_block: bool) -> None:
    errors, other, lengths = data(600)
    blocks = np.arange(600) // 3 if by_block else np.arange(600)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(blocks, values)

    rate = errors.sum() / lengths.sum()
    deviation = np.sqrt((summed(errors - rate * lengths) ** 2).sum()) / lengths.sum()
    found = wer_interval(errors, lengths, 20000, blocks=blocks if by_block else None)
    assert found.estimate == pytest.approx(100 * rate)
    assert (found.high - found.low) / 2 == pytest.approx(196.0 * deviation, rel=0.04)
    assert (found.high + found.low) / 2 == pytest.approx(100 * rate, rel=0.01)

    gap = (other.sum() - errors.sum()) / lengths.sum()
    spread = np.sqrt((summed(other - errors - gap * lengths) ** 2).sum()) / lengths.sum()
    difference = paired_difference(
        errors, other, lengths, 20000, blocks=blocks if by_block else None
    )
    assert difference.estimate == pytest.approx(100 * gap)
    assert (difference.high - difference.low) / 2 == pytest.approx(196.0 * spread, rel=0.05)
    assert difference.is_significant and difference.probability_better > 0.99
    # pairing: far narrower than if the systems were drawn apart
    assert difference.high - difference.low < 0.6 * (found.high - found.low)


def test_counts_of_pairs_are_drawn_like_utterances() -> None:
    errors, other, lengths = data(25)
    drawn = np.random.default_rng(5).integers(0, 25, (20000, 25))
    rates = 100 * errors[drawn].sum(1) / lengths[drawn].sum(1)
    differences = 100 * other[drawn].sum(1) / lengths[drawn].sum(1) - rates
    found = wer_interval(errors, lengths, 20000, level=0.8)
    assert [found.low, found.high] == pytest.approx(np.percentile(rates, [10, 90]), rel=0.03)
    paired = paired_difference(errors, other, lengths, 20000, level=0.8)
    expected = np.percentile(differences, [10, 90])
    assert [paired.low, paired.high] == pytest.approx(expected, abs=0.05)


@settings(max_examples=20)
@given(st.permutations(range(12)), st.integers(0, 3))
def test_neither_order_nor_names_of_blocks_matter(order: list[int], seed: int) -> None:
    errors, other, lengths = data(12)
    blocks = np.array(list("ssttuuvvwwxx"))
    for chosen in (None, blocks):
        first = paired_difference(errors, other, lengths, 200, seed=seed, blocks=chosen)
        moved = None if chosen is None else [f"speaker {name}" for name in chosen[order]]
        assert first == paired_difference(
            errors[order], other[order], lengths[order], 200, seed=seed, blocks=moved
        )


def test_the_seed_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, _, lengths = data()
    first = wer_interval(errors, lengths, 1000)
    assert first == wer_interval(errors, lengths, 1000, seed=0)
    assert first != wer_interval(errors, lengths, 1000, seed=1)
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    assert first == wer_interval(errors, lengths, 1000)


def test_blocks_are_drawn_whole() -> None:
    errors, _, lengths = data(40)
    whole = wer_interval(errors, lengths, 500)
    halves = np.concatenate([errors // 2, errors - errors // 2])
    parts = np.concatenate([lengths // 2, lengths - lengths // 2])
    assert wer_interval(halves, parts, 500, blocks=[*range(40), *range(40)]) == whole
    assert wer_interval(errors, lengths, 500, blocks=range(40)) == whole


def test_samples_without_words_are_left_out() -> None:
    found = wer_interval([1, 3], [2, 0], 1000)
    assert 0.0 < found.low < found.high < float("inf")
    same = paired_difference([1, 0], [1, 0], [2, 2])
    assert (same.estimate, same.low, same.high, same.probability_better) == (0.0, 0.0, 0.0, 0.5)


def test_what_is_refused() -> None:
    for errors, lengths, message in (
        ([1, 2], [3], r"errors must have the shape \(1,\), found \(2,\)"),
        ([1, -2], [3, 3], "errors must be whole numbers that are not negative"),
        ([1, 0.5], [3, 3], "errors must be whole numbers"),
        ([1, 2], [0, 0], "no reference has a word"),
        ([], [], "no reference has a word"),
        ([1], [5], "one utterance is not enough"),
    ):
        with pytest.raises(DataError, match=message):
            wer_interval(errors, lengths)
    with pytest.raises(DataError, match="one block is not enough"):
        wer_interval([1, 2], [3, 3], blocks=["a", "a"])
    with pytest.raises(DataError, match="1 blocks for 2 utterances"):
        wer_interval([1, 2], [3, 3], blocks=["a"])
    with pytest.raises(DataError, match="other_lengths must have the shape"):
        paired_difference([1, 2], [1, 2], [3, 3], other_lengths=[1])
    for options, message in (({"num_samples": 0}, "num_samples"), ({"level": 1.0}, "level")):
        with pytest.raises(ConfigError, match=message):
            wer_interval([1, 2], [3, 3], **options)
