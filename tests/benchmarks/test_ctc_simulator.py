"""Simulated CTC posteriors: they are distributions, repeatable, and say what they were made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ctc_simulator import (
    FRAMES_PER_SECOND,
    CtcSimulator,
    SimulatorOptions,
    confusable_tokens,
    posterior_statistics,
)

SYMBOLS = ["<blk>", "ab", "ac", "b", "bcd", "xyz", "xy", "z", "q", "rst"]
SENTENCES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=5)


def collapse(log_probs: np.ndarray) -> list[int]:
    """Greedy search by its definition."""
    labels = log_probs.argmax(axis=1).tolist()
    return [b for a, b in zip([0, *labels], labels, strict=False) if b not in (0, a)]


@given(words=SENTENCES, seed=st.integers(0, 1000), peakiness=st.sampled_from([0.3, 1.0, 2.0]))
def test_rows_are_log_probabilities(words: list[list[int]], seed: int, peakiness: float) -> None:
    simulator = CtcSimulator(SYMBOLS, SimulatorOptions(peakiness=peakiness), seed)
    log_probs = simulator.utterance(words)
    assert log_probs.dtype == np.float32 and log_probs.shape[1] == len(SYMBOLS)
    assert len(log_probs) >= sum(map(len, words))
    np.testing.assert_allclose(np.exp(log_probs.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)


@given(words=SENTENCES, seed=st.integers(0, 1000))
def test_without_noise_greedy_search_finds_the_tokens(words: list[list[int]], seed: int) -> None:
    simulator = CtcSimulator(SYMBOLS, SimulatorOptions(noise=0.0), seed)
    tokens = [token for word in words for token in word]
    for _ in range(2):
        assert collapse(simulator.utterance(words)) == tokens


def test_equal_neighbours_keep_a_blank_between() -> None:
    simulator = CtcSimulator(SYMBOLS, SimulatorOptions(noise=0.0, tokens_per_second=10.0))
    assert collapse(simulator.utterance([[3] * 40])) == [3] * 40


def test_noise_makes_errors() -> None:
    simulator = CtcSimulator(SYMBOLS)
    words = [[1, 2, 3], [4, 5]] * 40
    assert collapse(simulator.utterance(words)) != [1, 2, 3, 4, 5] * 40


def test_the_same_at_every_call() -> None:
    words = [[1, 2], [2, 3, 3]]
    first, second = (CtcSimulator(SYMBOLS, seed=7) for _ in range(2))
    for _ in range(2):  # not only the first utterance
        np.testing.assert_array_equal(first.utterance(words), second.utterance(words))
    other = CtcSimulator(SYMBOLS, seed=8).utterance(words)
    again = CtcSimulator(SYMBOLS, seed=7).utterance(words)
    assert other.shape != again.shape or not np.array_equal(other, again)


def test_peakiness_lowers_the_entropy() -> None:
    words = [[1, 2], [2, 3, 3], [5, 6]] * 5
    entropies, certainties = [], []
    for peakiness in (0.5, 0.8, 1.0, 1.5):
        simulator = CtcSimulator(SYMBOLS, SimulatorOptions(peakiness=peakiness), 3)
        statistics = posterior_statistics([simulator.utterance(words) for _ in range(3)])
        entropies.append(statistics.entropy)
        certainties.append(statistics.mean_best)
    assert entropies == sorted(entropies, reverse=True) and entropies[0] > 2 * entropies[-1]
    assert certainties == sorted(certainties)


@pytest.mark.parametrize("rate", [3.5, 4.5])
def test_tokens_come_at_their_rate(rate: float) -> None:
    simulator = CtcSimulator(SYMBOLS, SimulatorOptions(tokens_per_second=rate))
    words = [[1, 2, 3, 4]] * 500
    seconds = len(simulator.utterance(words)) / FRAMES_PER_SECOND
    assert 2000 / seconds == pytest.approx(rate, rel=0.12)  # less the pauses between words


def test_confusable_tokens_are_spelled_alike() -> None:
    nearest = confusable_tokens(SYMBOLS, 3)
    assert nearest.shape == (len(SYMBOLS), 3)
    assert (nearest[1:] != 0).all(), "blank is no token"
    for token in range(1, len(SYMBOLS)):
        assert token not in nearest[token] and len(set(nearest[token])) == 3
    assert nearest[1, 0] in (2, 3) and nearest[5, 0] == 6 and nearest[6, 0] == 5


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"peakiness": 0.0}, {"noise": -1.0}, {"tokens_per_second": 30.0}):
        with pytest.raises(ValueError, match="expected peakiness"):
            SimulatorOptions(**wrong)


def test_statistics_of_known_rows() -> None:
    sure, token, even = [0.996, 0.002, 0.002], [0.25, 0.75, 0.0], [1 / 3 + 1e-9, 1 / 3, 1 / 3]
    with np.errstate(divide="ignore"):
        rows = np.log(np.array([sure, token, even]))
    statistics = posterior_statistics([rows[:1], rows[1:]])
    assert statistics.num_frames == 3
    assert statistics.sure_blank == pytest.approx(1 / 3)
    assert statistics.best_is_token == pytest.approx(1 / 3)
    assert statistics.mean_best == pytest.approx((0.996 + 0.75 + 1 / 3) / 3)
    expected = -0.996 * np.log(0.996) - 0.004 * np.log(0.002)
    expected += -0.25 * np.log(0.25) - 0.75 * np.log(0.75) + np.log(3)
    assert statistics.entropy == pytest.approx(expected / 3)
    assert statistics.near_blank == pytest.approx(3) and statistics.near_token == 2
