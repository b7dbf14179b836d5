"""The lattice oracle against the edit distance of every path, and kaldialign."""

import random

import kaldialign
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa import oracle as oracle_module
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.oracle import Oracle, lattice_oracle, nbest_oracle
from tests.fsa.random_lattices import LatticeArc, lattice_of, paths_of, random_lattice

SEEDS = st.integers(0, 2**32)


def distance(reference: list[int], words: tuple[int, ...]) -> int:
    return kaldialign.edit_distance(reference, list(words))["total"]


def check_alignment(oracle: Oracle, reference: list[int]) -> None:
    """It spells both sides, and its gaps and differences are what was counted."""
    assert [left for left, _ in oracle.alignment if left is not None] == reference
    assert tuple(right for _, right in oracle.alignment if right is not None) == oracle.words
    pairs = oracle.alignment
    assert (None, None) not in pairs
    assert oracle.deletions == sum(right is None for _, right in pairs)
    assert oracle.insertions == sum(left is None for left, _ in pairs)
    same = sum(left == right for left, right in pairs)
    assert oracle.substitutions == len(pairs) - oracle.deletions - oracle.insertions - same
    assert oracle.errors == oracle.substitutions + oracle.deletions + oracle.insertions
    assert oracle.errors == distance(reference, oracle.words)


def random_reference(rng: random.Random) -> list[int]:
    """Also words that the lattice has not: 0 and below, and 9."""
    return [
        rng.choice([1, 2, 3, 1, 2, 3, 9, 0, -1]) for _ in range(rng.randint(0, rng.choice([4, 30])))
    ]


@settings(max_examples=1000)
@given(SEEDS, st.sampled_from(["word", "token"]))
def test_against_all_paths(seed: int, unit: str) -> None:
    rng = random.Random(seed)
    lattice = random_lattice(
        rng, num_frames=5, modified=rng.random() < 0.3, wordless=rng.choice([0.0, 0.3, 0.8])
    )
    paths = {path.words if unit == "word" else path.tokens for path in paths_of(lattice)}
    reference = random_reference(rng)
    if rng.random() < 0.5:  # a path with some errors
        reference = [word for word in rng.choice(sorted(paths)) if rng.random() < 0.9]
    oracle = lattice_oracle(lattice, reference, unit)
    assert oracle.errors == min(distance(reference, path) for path in paths)
    assert oracle.words in paths
    check_alignment(oracle, reference)


@settings(max_examples=400)
@given(SEEDS)
def test_nbest_oracle_against_each(seed: int) -> None:
    rng = random.Random(seed)
    hypotheses = [
        tuple(rng.randint(1, 3) for _ in range(rng.randint(0, 6))) for _ in range(rng.randint(1, 6))
    ]
    reference = random_reference(rng)
    number, oracle = nbest_oracle(hypotheses, reference)
    distances = [distance(reference, words) for words in hypotheses]
    assert number == distances.index(min(distances))
    assert oracle.words == hypotheses[number]
    check_alignment(oracle, reference)


@settings(max_examples=300)
@given(SEEDS)
def test_no_entry_of_the_nbest_is_better(seed: int) -> None:
    """And all sequences together are as good as the lattice."""
    rng = random.Random(seed)
    lattice, reference = random_lattice(rng, num_frames=5), random_reference(rng)
    least = lattice_oracle(lattice, reference).errors
    found = [path.words for path in nbest(lattice, 100_000)]
    errors = [nbest_oracle(found[:n], reference)[1].errors for n in (1, 2, 5, len(found))]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == least


def chain(words: list[int], spare: int) -> Lattice:
    """A path of these words, blanks between them, and ``spare`` in place of each."""
    arcs, frames = [], [0]
    for word in words:
        state = len(frames) - 1
        arcs.append(LatticeArc(state, state + 1, 1, True, 0.0, 0.0, (word,)))
        arcs.append(LatticeArc(state, state + 1, 1, True, 0.0, 0.0, (spare,)))
        arcs.append(LatticeArc(state + 1, state + 2, 0, False, 0.0, 0.0, ()))
        frames += [frames[-1] + 1, frames[-1] + 2]
    arcs.append(LatticeArc(len(frames) - 1, len(frames), -1, False, 0.0, 0.0, ()))
    return lattice_of(arcs, [*frames, frames[-1]], frames[-1])


def test_the_band_grows_until_it_holds_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 words of which most are wrong: the distance is that of the whole table."""
    rng = random.Random(1)
    words = [rng.randint(1, 5) for _ in range(500)]
    reference = [word for word in words if rng.random() < 0.8]
    reference[100:100] = [rng.randint(1, 5) for _ in range(70)]
    lattice = chain(words, 9)
    found = lattice_oracle(lattice, reference)
    expected = distance(reference, tuple(words))
    assert 60 < expected == found.errors
    check_alignment(found, reference)
    monkeypatch.setattr(oracle_module, "_FIRST_LIMIT", 10_000)
    assert lattice_oracle(lattice, reference).errors == expected


def test_memory_of_a_long_lattice_is_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 words against as many would be 800 million cells; the band is 17 wide."""
    words = [1 + place % 7 for place in range(20_000)]
    reference = [*words[:5000], 8, *words[5001:]]
    monkeypatch.setattr(oracle_module, "_MAX_CELLS", 17 * 40_002)
    assert lattice_oracle(chain(words, 9), reference).errors == 1
    with pytest.raises(GraphError, match="40002 states against 20000 words need .* cells"):
        lattice_oracle(chain(words, 9), reference[::-1])


def test_references_much_longer_or_shorter() -> None:
    lattice = chain([1, 2], 3)
    assert lattice_oracle(lattice, [1] * 300).errors == 299
    many = chain([1, 2] * 100, 3)
    assert lattice_oracle(many, []).insertions == 200
    assert lattice_oracle(many, [3] * 4).errors == 196


def test_without_paths() -> None:
    empty = Oracle((), ((4, None), (5, None)), 0, 2, 0)
    assert lattice_oracle(Lattice.empty(9), [4, 5]) == empty
    assert nbest_oracle([], [4, 5]) == (None, empty)
    assert nbest_oracle([(), ()], [4, 5]) == (0, empty)
    dead = [LatticeArc(0, 1, 1, True, 0.0, 0.0, (1,)), LatticeArc(2, 3, -1, False, 0.0, 0.0, ())]
    assert lattice_oracle(lattice_of(dead, [0, 1, 1, 1], 1), [4, 5]) == empty
    assert lattice_oracle(Lattice.empty(9), []).errors == 0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="unit must be one of word, token"):
        lattice_oracle(Lattice.empty(9), [1], "char")
    with pytest.raises(GraphError, match="0 is no word id"):
        nbest_oracle([(1, 0)], [1])
