"""Expected errors, alignments with all paths and MBR, against the enumeration of all paths."""

import math
import random
from collections import defaultdict

import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa import expected_errors
from moe_asr.fsa.confidence import word_confidences
from moe_asr.fsa.expected_errors import ExpectedErrors
from moe_asr.fsa.label_arcs import label_arcs
from moe_asr.fsa.label_distribution import label_distribution
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.mbr import minimum_bayes_risk
from tests.fsa.random_lattices import LatticeArc, lattice_of, paths_of, random_lattice

SEEDS = st.integers(0, 2**32)
Words = tuple[int, ...]
Scales = tuple[float, float]
SCALES = st.sampled_from([(1.0, 1.0), (0.3, 0.5), (0.0, 0.0)])
UNITS = st.sampled_from(["word", "token"])


def distance(one: Words, other: Words) -> int:
    return kaldialign.edit_distance(list(one), list(other))["total"]


def some_lattice(rng: random.Random) -> Lattice:
    return random_lattice(
        rng,
        num_frames=rng.choice([3, 5]),
        exact=rng.random() < 0.5,
        modified=rng.random() < 0.3,
        wordless=rng.choice([0.2, 0.5, 0.8]),
    )


def shares(lattice: Lattice, unit: str, scales: Scales) -> dict[Words, float]:
    """The probability of every sequence, by enumeration."""
    weights: dict[Words, float] = defaultdict(float)
    for path in paths_of(lattice):
        key = path.words if unit == "word" else path.tokens
        weights[key] += math.exp(scales[0] * path.acoustic + scales[1] * path.graph)
    total = sum(weights.values())
    return {words: weight / total for words, weight in weights.items()}


def expected_risk(words: Words, sequences: dict[Words, float]) -> float:
    return sum(share * distance(words, other) for other, share in sequences.items())


def random_words(rng: random.Random, sequences: dict[Words, float]) -> Words:
    """A path with errors, or anything; also a word that no lattice has."""
    words = rng.choice(sorted(sequences))
    if rng.random() < 0.5:
        words = tuple(rng.choice([1, 2, 3, 9]) for _ in range(rng.randint(0, 6)))
    return tuple(word for word in words if rng.random() < 0.9)


def slow_alignment(words: Words, path: Words) -> list[tuple[int | None, int]]:
    """(place in words or None, label or 0) pairs of the alignment that is documented, by the whole table."""
    table = np.zeros((len(words) + 1, len(path) + 1), int)
    table[:, 0], table[0] = np.arange(len(words) + 1), np.arange(len(path) + 1)
    for i, word in enumerate(words, 1):
        for j, label in enumerate(path, 1):
            table[i, j] = min(
                table[i - 1, j - 1] + (word != label), table[i - 1, j] + 1, table[i, j - 1] + 1
            )
    pairs: list[tuple[int | None, int]] = []
    i, j = len(words), len(path)
    while i or j:
        here = table[i, j]
        if i and j and table[i - 1, j - 1] + (words[i - 1] != path[j - 1]) == here:
            i, j = i - 1, j - 1
            pairs.append((i, path[j]))
        elif i and table[i - 1, j] + 1 == here:
            i -= 1
            pairs.append((i, 0))
        else:
            j -= 1
            pairs.append((None, path[j]))
    return pairs[::-1]


@settings(max_examples=200)
@given(SEEDS, UNITS, SCALES)
def test_the_distribution_is_that_of_all_paths(seed: int, unit: str, scales: Scales) -> None:
    lattice = some_lattice(random.Random(seed))
    sequences = shares(lattice, unit, scales)
    graph = label_distribution(lattice, unit, *scales)
    assert graph.num_arcs <= len(label_arcs(lattice, unit).dst)
    reached: list[dict[Words, float]] = [defaultdict(float) for _ in range(graph.num_states)]
    reached[0][()] = 1.0
    for state in range(graph.num_states - 1):
        arcs = range(graph.arc_splits[state], graph.arc_splits[state + 1])
        assert sum(graph.probability[arc] for arc in arcs) == pytest.approx(1.0)
        assert len({(graph.dst[arc], graph.label[arc]) for arc in arcs}) == len(arcs)
        for arc in arcs:
            assert graph.dst[arc] > state
            label = (int(graph.label[arc]),) if graph.label[arc] else ()
            for words, share in reached[state].items():
                reached[graph.dst[arc]][words + label] += share * graph.probability[arc]
    assert dict(reached[-1]) == pytest.approx(sequences, abs=1e-9)
    errors = ExpectedErrors(graph)
    for words, share in list(sequences.items())[:5]:
        assert errors.posterior(words) == pytest.approx(share, abs=1e-9)
    assert errors.posterior((9,)) == 0.0


@settings(max_examples=300)
@given(SEEDS, UNITS, SCALES)
def test_risk_and_alignments_against_all_paths(seed: int, unit: str, scales: Scales) -> None:
    rng = random.Random(seed)
    lattice = some_lattice(rng)
    sequences = shares(lattice, unit, scales)
    words = random_words(rng, sequences)
    errors = ExpectedErrors(label_distribution(lattice, unit, *scales))
    risk = errors.risk(words)
    expected = pytest.approx(expected_risk(words, sequences), abs=1e-9)
    assert risk.errors == risk.lowest == risk.highest == expected
    assert risk.covered == pytest.approx(1.0)
    found = errors.align(words)
    assert found.risk == risk
    column = {int(label): i for i, label in enumerate(found.labels)}
    in_place, in_gap = np.zeros_like(found.in_place), np.zeros_like(found.in_gap)
    in_gap[:, 0] = 1.0
    confidences = np.zeros(len(words))
    for path, share in sequences.items():
        last, gap = {}, 0
        for place, label in slow_alignment(words, path):
            if place is None:
                last[gap] = label
                continue
            gap = place + 1
            in_place[place, column[label]] += share
            confidences[place] += share * (label == words[place])
        for gap, label in last.items():
            in_gap[gap, column[label]] += share
            in_gap[gap, 0] -= share
    np.testing.assert_allclose(found.in_place, in_place, atol=1e-9)
    np.testing.assert_allclose(found.in_gap, in_gap, atol=1e-9)
    np.testing.assert_allclose(found.confidences, confidences, atol=1e-9)
    assert not len(words) or 0.0 <= found.confidences.min() <= found.confidences.max() <= 1.0


@settings(max_examples=200)
@given(SEEDS, UNITS, SCALES)
def test_mbr_against_all_sequences(seed: int, unit: str, scales: Scales) -> None:
    """Of all sequences of the lattice the best; with the iteration, no worse, and locally the best."""
    lattice = some_lattice(random.Random(seed))
    sequences = shares(lattice, unit, scales)
    risks = {words: expected_risk(words, sequences) for words in sequences}
    found = minimum_bayes_risk(lattice, 100_000, unit, *scales, iterate=False)
    assert found is not None
    assert found.risk == pytest.approx(min(risks.values()), abs=1e-8)
    assert found.risk == pytest.approx(risks[found.words], abs=1e-9)
    assert found.rank is not None
    assert found.posterior == pytest.approx(sequences[found.words], abs=1e-9)
    better = minimum_bayes_risk(lattice, 100_000, unit, *scales)
    assert better is not None and better.risk <= found.risk + 1e-8
    assert better.risk == pytest.approx(expected_risk(better.words, sequences), abs=1e-9)
    assert (better.rank is None) == (better.words not in sequences)
    assert better.best_path_risk == found.best_path_risk >= found.risk - 1e-9
    assert len(better.word_confidences) == len(better.word_frames) == len(better.words)
    assert (np.diff(better.word_frames) >= 0).all()
    if better.is_proven:
        near = [words[:i] + (w,) + words[i + cut :] for words in (better.words,)
                for i in range(len(words) + 1) for w in (1, 2, 3) for cut in (0, 1)]  # fmt: skip
        near += [better.words[:i] + better.words[i + 1 :] for i in range(len(better.words))]
        assert min(expected_risk(words, sequences) for words in near) >= better.risk - 1e-9


@settings(max_examples=100)
@given(SEEDS, st.sampled_from([1, 2, 4]))
def test_bounds_where_columns_are_left_out(seed: int, most: int) -> None:
    """The risk is between them; with a wide lattice they are apart."""
    rng = random.Random(seed)
    lattice = random_lattice(rng, num_frames=6, width=4, wordless=0.3)
    errors = ExpectedErrors(label_distribution(lattice), most)
    exact = ExpectedErrors(label_distribution(lattice))
    words = tuple(rng.choice([1, 2, 3]) for _ in range(rng.randint(0, 8)))
    for risk in (errors.risk(words), exact.risk(words, 0.05)):
        true = exact.risk(words).errors
        assert risk.lowest - 1e-9 <= true <= risk.highest + 1e-9
        assert risk.errors == pytest.approx(0.5 * (risk.lowest + risk.highest))
        assert risk.covered < 1.0 - 1e-9 or risk.lowest == pytest.approx(risk.highest)
    paths = errors.align(words)
    np.testing.assert_allclose(paths.in_place.sum(1), 1.0)
    np.testing.assert_allclose(paths.in_gap.sum(1), 1.0)


def wide_lattice(num_words: int) -> Lattice:
    """Any of two words, or none, in each of the places."""
    arcs = [
        LatticeArc(place, place + 1, token, token > 0, score, 0.0, words)
        for place in range(num_words)
        for token, score, words in ((1, -0.1, (1,)), (2, -0.9, (2,)), (0, -1.0, ()))
    ]
    arcs.append(LatticeArc(num_words, num_words + 1, -1, False, 0.0, 0.0, ()))
    return lattice_of(arcs, [*range(num_words + 1), num_words], num_words)


def test_many_columns() -> None:
    """3 ** 16 paths, more columns than there is room for at first; against whole columns, none forgotten."""
    scores = {1: math.exp(-0.01), 2: math.exp(-0.09), 0: math.exp(-0.1)}
    words = (1, 2, 1, 1, 9, 1, 2, 2, 1, 1, 2, 1, 2, 2)
    columns = {tuple(range(len(words) + 1)): 1.0}
    for _ in range(16):
        after: dict[Words, float] = defaultdict(float)
        for column, share in columns.items():
            for label, score in scores.items():
                new = [column[0] + 1]
                for row, word in enumerate(words):
                    new.append(
                        min(column[row] + (word != label), column[row + 1] + 1, new[row] + 1)
                    )
                key = tuple(new) if label else column
                after[key] += share * score / sum(scores.values())
        columns = after
    expected = sum(column[-1] * share for column, share in columns.items())
    distribution = label_distribution(wide_lattice(16), "word", 0.1)
    errors = ExpectedErrors(distribution, 10_000)
    assert len(errors._spread(words, 0.0)[3][0]) > 600
    exact = errors.risk(words)
    assert distribution.num_arcs == 3 * 16
    assert exact.errors == pytest.approx(expected)
    few, more = (ExpectedErrors(distribution, most).risk(words) for most in (20, 80))
    assert few.lowest < more.lowest < expected < more.highest < few.highest
    assert few.covered < more.covered < 0.99
    assert errors.align(words).in_place.sum() == pytest.approx(len(words))


def test_hypotheses_ruled_out_by_bounds_are_no_better() -> None:
    """Few of them are evaluated, and the best of all is found."""
    lattice = wide_lattice(7)
    sequences = shares(lattice, "word", (0.2, 1.0))
    least = min(expected_risk(words, sequences) for words in sequences)
    found = minimum_bayes_risk(lattice, 10_000, "word", 0.2, iterate=False)
    assert found is not None and found.risk == pytest.approx(least)
    assert found.num_evaluated < 0.2 * len(sequences)
    assert not found.is_proven and found.risk_error < 1e-9


def test_the_iteration_finds_what_the_nbest_has_not() -> None:
    """The best path is unlike all others, which agree on two words of three."""
    arcs = []
    for first, score, words in ((0, 1.0, (7, 8, 9)), (1, 0.9, (4, 2, 3)), (2, 0.9, (1, 5, 3)),
                                (3, 0.9, (1, 2, 6))):  # fmt: skip
        arcs.append(LatticeArc(0, 1 + first, 1, True, math.log(score), 0.0, words))
    arcs += [LatticeArc(1 + i, 5, -1, False, 0.0, 0.0, ()) for i in range(4)]
    lattice = lattice_of(arcs, [0, 1, 1, 1, 1, 1], 1)
    found = minimum_bayes_risk(lattice, 4)
    assert found is not None and found.words == (1, 2, 3) and found.rank is None
    assert found.risk == pytest.approx((3 * 0.9 + 3.0) / 3.7)
    np.testing.assert_allclose(found.word_confidences, [1.8 / 3.7] * 3)
    alone = minimum_bayes_risk(lattice, 4, iterate=False)
    assert (
        alone is not None
        and alone.rank == 1
        and alone.best_path_risk == pytest.approx(3 * 2.7 / 3.7)
    )
    assert found.best_path_risk == alone.best_path_risk


def test_frames_are_means_over_paths() -> None:
    """A word at frame 0 or 2 with 0.2 and 0.8, the next at 4; and one that no path has."""
    arcs = [
        LatticeArc(0, 1, 1, True, math.log(0.2), 0.0, (1,)),
        LatticeArc(0, 2, 0, False, math.log(0.8), 0.0, ()),
        LatticeArc(1, 3, 0, False, 0.0, 0.0, ()),
        LatticeArc(2, 3, 1, True, 0.0, 0.0, (1,)),
        LatticeArc(3, 4, 2, True, 0.0, 0.0, (2,)),
        LatticeArc(4, 5, -1, False, 0.0, 0.0, ()),
    ]
    lattice = lattice_of(arcs, [0, 1, 1, 3, 5, 5], 5)
    paths = ExpectedErrors(label_distribution(lattice)).align((1, 2, 9))
    np.testing.assert_allclose(paths.frame, [1.6, 4.0, np.nan])
    np.testing.assert_allclose(paths.confidences, [1.0, 1.0, 0.0])
    found = minimum_bayes_risk(lattice)
    assert found is not None and found.word_frames.tolist() == [2, 4]
    assert found.is_proven and found.posterior == pytest.approx(1.0) and found.rank == 0


def test_without_paths_and_without_words() -> None:
    assert minimum_bayes_risk(Lattice.empty(5)) is None
    assert word_confidences(Lattice.empty(5), [1, 2]).tolist() == [0.0, 0.0]
    with pytest.raises(GraphError, match="without a path"):
        ExpectedErrors(label_distribution(Lattice.empty(5)))
    silent = lattice_of([LatticeArc(0, 1, -1, False, 0.0, 0.0, ())], [0, 0], 0)
    found = minimum_bayes_risk(silent)
    assert found is not None and (found.words, found.risk, found.posterior) == ((), 0.0, 1.0)
    assert word_confidences(silent, [3, 1]).tolist() == [0.0, 0.0]
    assert word_confidences(silent, []).shape == (0,)


def test_what_cannot_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = wide_lattice(3)
    distribution = label_distribution(lattice)
    for options, message in (
        ({"n": 0}, "n must be at least 1"),
        ({"unit": "char"}, "unit must be one of"),
        ({"acoustic_scale": -1.0}, "acoustic_scale must be finite"),
        ({"max_columns": 0}, "max_columns must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            minimum_bayes_risk(lattice, **options)
    monkeypatch.setattr(expected_errors, "_MAX_CELLS", 40)
    with pytest.raises(GraphError, match="4 states against 5 words need 48 cells"):
        ExpectedErrors(distribution).risk([1] * 5)
    with pytest.raises(GraphError, match="aligning 4 words needs .* cells, more than 40"):
        ExpectedErrors(distribution).align([1] * 4)


def test_a_word_of_most_paths_is_put_in() -> None:
    """The best path lacks it; two others together are more probable, by little. And the other way round."""
    for short, long in (((1,), (1, 2)), ((2,), (1, 2)), ((1, 3), (1, 2, 3)), ((1, 2), (1,))):
        arcs = [LatticeArc(0, 1, 1, True, 0.0, 0.0, short)]
        arcs += [LatticeArc(0, 1, token, True, math.log(0.6), 0.0, long) for token in (2, 3)]
        arcs.append(LatticeArc(1, 2, -1, False, 0.0, 0.0, ()))
        lattice = lattice_of(arcs, [0, 1, 1], 1)
        found = minimum_bayes_risk(lattice, 1)
        assert found is not None and found.words == long and found.rank is None
        assert found.risk == pytest.approx(1 / 2.2) and found.posterior == pytest.approx(1.2 / 2.2)
        assert found.best_path_risk == pytest.approx(1.2 / 2.2) and found.is_proven


def test_states_stay_where_arcs_would_become_more() -> None:
    """State 4 is between 3 arcs without words and 3 with: 6 arcs, without it they would be 9."""
    arcs = [LatticeArc(0, i, i, True, -1.0 * i, 0.0, (i,)) for i in (1, 2, 3)]
    arcs += [LatticeArc(i, 4, 0, False, 0.0, 0.0, ()) for i in (1, 2, 3)]
    arcs += [LatticeArc(i, 5, 0, False, -1.0, 0.0, (i,)) for i in (1, 2, 3)]
    arcs += [LatticeArc(4, 5 + i, i, True, -0.5 * i, 0.0, (i,)) for i in (1, 2, 3)]
    arcs.append(LatticeArc(5, 9, 0, False, 0.0, 0.0, ()))
    arcs += [LatticeArc(5 + i, 9, i, False, 0.0, 0.0, (i,)) for i in (1, 2, 3)]
    arcs.append(LatticeArc(9, 10, -1, False, 0.0, 0.0, ()))
    arcs.sort(key=lambda arc: arc.src)
    graph = label_distribution(lattice_of(arcs, [0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4], 4))
    assert (graph.num_states, graph.num_arcs) == (9, 15)  # states 5 and 9 are left out
