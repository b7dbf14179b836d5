"""The n best sequences, against enumeration of all paths, k2, and closed forms."""

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError
from moe_asr.fsa.k2_module import k2_of_arrays
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.nbest import NBestPath, integer_scores, nbest, nbest_sequences
from tests.fsa.random_lattices import (
    LatticeArc,
    ListedPath,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)

SEEDS = st.integers(0, 2**32)
Words = tuple[int, ...]


def sequence_of(path: NBestPath | ListedPath, unit: str) -> Words:
    return path.words if unit == "word" else path.tokens


def expected_order(scores: dict[Words, float]) -> list[tuple[Words, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def some_lattice(rng: random.Random, **options) -> Lattice:
    return random_lattice(
        rng,
        num_frames=5,
        modified=rng.random() < 0.3,
        wordless=rng.choice([0.2, 0.5, 0.8]),
        **options,
    )


@settings(max_examples=1000)
@given(SEEDS, st.sampled_from([1, 2, 3, 7, 50, 100_000]), st.sampled_from(["word", "token"]))
def test_against_all_paths(seed: int, n: int, unit: str) -> None:
    """Scores are eighths, weights a quarter and so on: ties are ties, and sums are exact."""
    rng = random.Random(seed)
    lattice = some_lattice(rng)
    acoustic_scale, graph_scale = rng.choice([(1.0, 1.0), (0.25, 1.0), (1.0, 0.0), (0.0, 0.5)])

    def score(path: ListedPath | NBestPath) -> float:
        return acoustic_scale * path.acoustic + graph_scale * path.graph

    paths = {path.arcs: path for path in paths_of(lattice)}
    best: dict[Words, float] = {}
    for path in paths.values():
        key = sequence_of(path, unit)
        best[key] = max(score(path), best.get(key, -math.inf))
    found = nbest(lattice, n, unit, acoustic_scale, graph_scale)
    assert [(sequence_of(path, unit), path.score) for path in found] == expected_order(best)[:n]
    alone = nbest_sequences(lattice, n, unit, acoustic_scale, graph_scale)
    assert alone == [sequence_of(path, unit) for path in found]
    for path in found:
        listed = paths[tuple(path.arcs.tolist())]  # it is a path of the lattice, with these labels
        assert (path.words, path.tokens) == (listed.words, listed.tokens)
        assert tuple(path.labels.tolist()) == listed.labels
        assert (path.acoustic, path.graph) == (listed.acoustic, listed.graph)
        assert path.score == score(path)
        assert path.total == listed.acoustic + listed.graph


@settings(max_examples=400)
@given(SEEDS, st.sampled_from(["word", "token"]))
def test_scores_of_any_kind(seed: int, unit: str) -> None:
    rng = random.Random(seed)
    lattice = some_lattice(rng, exact=False)
    best: dict[Words, float] = {}
    for path in paths_of(lattice):
        key, total = sequence_of(path, unit), path.acoustic + path.graph
        best[key] = max(total, best.get(key, -math.inf))
    found = nbest(lattice, len(best) + 3, unit)
    assert {sequence_of(path, unit) for path in found} == set(best)
    for path in found:
        assert path.total == pytest.approx(best[sequence_of(path, unit)], abs=1e-12)
        assert path.score == pytest.approx(path.total, abs=1e-12)
    assert [path.score for path in found] == sorted([p.score for p in found], reverse=True)


@settings(max_examples=300)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_a_shorter_list_is_the_beginning_of_a_longer_one(seed: int, n: int, more: int) -> None:
    """With the same paths, ties included."""
    lattice = some_lattice(random.Random(seed))
    long = [tuple(path.arcs) for path in nbest(lattice, n + more)]
    assert [tuple(path.arcs) for path in nbest(lattice, n)] == long[:n]


@settings(max_examples=300)
@given(SEEDS)
def test_frames_of_tokens_and_words(seed: int) -> None:
    """Tokens begin where their first frame is read and end where their run does; states tell the frames."""
    rng = random.Random(seed)
    lattice = some_lattice(rng)
    arcs = arcs_of_lattice(lattice)
    for path in nbest(lattice, 3):
        assert lattice.src[path.arcs].tolist() == [0, *lattice.dst[path.arcs[:-1]].tolist()]
        taken = [arcs[i] for i in path.arcs.tolist()]
        frames = [int(lattice.frame[arc.dst]) - 1 for arc in taken]
        assert path.label_frames.tolist() == frames[:-1]
        starts, ends = [], []
        for arc, frame in zip(taken, frames, strict=True):
            if arc.starts_token:
                starts.append(frame)
                ends.append(frame)
            elif arc.token > 0:
                ends[-1] = frame
        assert (list(path.token_frames), list(path.token_ends)) == (starts, ends)
        carried = [
            max(frame, 0) for arc, frame in zip(taken, frames, strict=True) for _ in arc.words
        ]
        assert list(path.word_frames) == carried
        assert [(t.word, t.first_frame, t.last_frame) for t in path.word_times()] == [
            (word, frame, frame) for word, frame in zip(path.words, carried, strict=True)
        ]


def sausage(slots: Sequence[Sequence[tuple[Words, float]]]) -> Lattice:
    """Alternatives in every frame, whatever was chosen before; tokens follow the words."""
    arcs = [
        LatticeArc(slot, slot + 1, words[0] if words else 0, bool(words), score, 0.0, words)
        for slot, alternatives in enumerate(slots)
        for words, score in alternatives
    ]
    last = len(slots)
    arcs.append(LatticeArc(last, last + 1, -1, False, 0.0, 0.0, ()))
    return lattice_of(arcs, [*range(last + 1), last], last)


def best_of_sausage(slots: Sequence[Sequence[tuple[Words, float]]], n: int) -> list[float]:
    """Scores alone: where every choice gives another sequence, slot by slot the n best sums."""
    sums = [0.0]
    for alternatives in slots:
        sums = sorted((a + score for a in sums for _, score in alternatives), reverse=True)[:n]
    return sums


@pytest.mark.parametrize("n", [1, 10, 1500])
def test_of_many_sequences(n: int) -> None:
    """4 ** 200 sequences: more open prefixes and states than there is room for at first."""
    rng = random.Random(n)
    slots = [[((word,), rng.randint(-400, 0) / 8) for word in (1, 2, 3, 4)] for _ in range(200)]
    found = nbest(sausage(slots), n)
    assert [path.score for path in found] == best_of_sausage(slots, n)
    assert len({path.words for path in found}) == n
    for path in found[:: max(1, n // 20)]:
        assert path.score == sum(dict(s)[word,] for s, word in zip(slots, path.words, strict=True))


def test_of_many_equal_sequences() -> None:
    """All 3 ** 100 are equally good: the first in lexicographic order, of 100 words each."""
    found = nbest(sausage([[((word,), -1.0) for word in (3, 1, 2)]] * 100), 500)
    expected = itertools.islice(itertools.product((1, 2, 3), repeat=6), 500)
    assert [path.words for path in found] == [(1,) * 94 + tail for tail in expected]
    assert {path.score for path in found} == {-100.0}


def test_wide_subsets() -> None:
    """Prefixes that lead to many states at once; by the sequences of every state."""
    rng = random.Random(5)
    lattice = random_lattice(rng, num_frames=9, width=6, skips=False, wordless=0.5, num_words=7)
    reached: list[dict[Words, float]] = [{} for _ in range(lattice.num_states)]
    reached[0][()] = 0.0
    for arc in arcs_of_lattice(lattice):
        for words, total in reached[arc.src].items():
            key, total = words + arc.words, total + arc.acoustic + arc.graph
            reached[arc.dst][key] = max(total, reached[arc.dst].get(key, -math.inf))
    assert len(reached[-1]) > 20_000
    found = [(path.words, path.score) for path in nbest(lattice, 5000)]
    assert found == expected_order(reached[-1])[:5000]


def test_ties_are_in_lexicographic_order() -> None:
    """Shorter before longer, and 0 is not less than -0."""
    lattice = sausage([[((2,), 0.0), ((), -0.0), ((1, 1), 0.0)], [((), 0.0), ((1,), -0.0)]])
    found = nbest(lattice, 10)
    assert [path.words for path in found] == [(), (1,), (1, 1), (1, 1, 1), (2,), (2, 1)]
    assert {path.score for path in found} == {0.0}


def test_parallel_arcs_with_the_same_words() -> None:
    arcs = [
        LatticeArc(0, 1, 1, True, -3.0, -1.0, (1, 2)),
        LatticeArc(0, 1, 2, True, -1.0, -2.0, (1, 2)),
        LatticeArc(0, 1, 3, True, -2.0, -1.0, (1,)),
        LatticeArc(1, 2, -1, False, 0.0, 0.0, ()),
        LatticeArc(1, 2, -1, False, 0.0, -0.5, (2,)),
    ]
    found = nbest(lattice_of(arcs, [0, 1, 1], 1), 5)
    assert [(p.words, p.tokens, p.acoustic, p.graph) for p in found] == [
        ((1,), (3,), -2.0, -1.0),
        ((1, 2), (2,), -1.0, -2.0),
        ((1, 2, 2), (2,), -1.0, -2.5),
    ]
    tokens = nbest(lattice_of(arcs, [0, 1, 1], 1), 5, "token")
    assert [(p.tokens, p.words) for p in tokens] == [((2,), (1, 2)), ((3,), (1,)), ((1,), (1, 2))]


def test_frames_left_out_and_a_later_piece_of_a_stream() -> None:
    """The piece begins at frame 10, within a token; frames 12 and 13 were left out."""
    arcs = [
        LatticeArc(0, 1, 2, False, -1.0, 0.0, ()),  # frame 10 is of a token that began before
        LatticeArc(1, 2, 3, True, -1.0, 0.0, (1,)),
        LatticeArc(2, 3, 3, False, -1.0, 0.0, ()),  # frame 14
        LatticeArc(3, 4, -1, False, 0.0, 0.0, (2,)),
    ]
    (path,) = nbest(lattice_of(arcs, [10, 11, 12, 15, 15], 15), 3)
    assert path.labels.tolist() == [2, 3, 3]
    assert path.label_frames.tolist() == [10, 11, 14]
    assert (path.tokens, path.token_frames, path.token_ends) == ((3,), (11,), (14,))
    assert (path.words, path.word_frames) == ((1, 2), (11, 14))


def test_no_frames_and_no_path() -> None:
    arcs = [
        LatticeArc(0, 1, -1, False, 0.0, -2.0, ()),
        LatticeArc(0, 1, -1, False, 0.0, -3.0, (3, 1)),
    ]
    found = nbest(lattice_of(arcs, [0, 0], 0), 5)
    assert [(p.words, p.word_frames, p.score) for p in found] == [
        ((), (), -2.0),
        ((3, 1), (0, 0), -3.0),
    ]
    assert nbest(Lattice.empty(7), 5) == []
    dead = [LatticeArc(0, 1, 1, True, 0.0, 0.0, (1,)), LatticeArc(2, 3, -1, False, 0.0, 0.0, ())]
    assert nbest(lattice_of(dead, [0, 1, 1, 1], 1), 5) == []


def test_dead_ends_are_left_aside() -> None:
    arcs = [
        LatticeArc(0, 1, 1, True, 5.0, 0.0, (1,)),
        LatticeArc(0, 2, 2, True, 0.0, 0.0, (2,)),
        LatticeArc(2, 3, -1, False, 0.0, 0.0, ()),
    ]
    assert [p.words for p in nbest(lattice_of(arcs, [0, 1, 1, 1], 1), 5)] == [(2,)]


@pytest.mark.parametrize("magnitude", [1e-30, 1e-3, 1e4, 1e30])
def test_magnitudes(magnitude: float) -> None:
    """Neither overflow nor loss: scores are told apart at the precision of float32 sums."""
    worse = float(np.nextafter(np.float32(magnitude), np.float32(np.inf)))
    slots = [[((1,), -magnitude), ((2,), -worse)]] * 30
    found = nbest(sausage(slots), 32)
    assert [sum(word == 2 for word in path.words) for path in found] == [0] + [1] * 30 + [2]
    assert found[0].score == pytest.approx(-30 * float(np.float32(magnitude)), rel=1e-12)


def test_of_a_lattice_of_very_many_frames() -> None:
    """Memory is that of states and arcs: a piece may be late in a stream, and leave out frames."""
    arcs = [
        LatticeArc(0, 1, 1, True, -1.0, 0.0, (1,)),
        LatticeArc(0, 1, 2, True, -2.0, 0.0, (2,)),
        LatticeArc(1, 2, -1, False, 0.0, 0.0, ()),
    ]
    found = nbest(lattice_of(arcs, [5, 2**31 - 1, 2**31 - 1], 1 << 60), 5)
    assert [(path.words, path.label_frames.tolist()) for path in found] == [
        ((1,), [2**31 - 2]),
        ((2,), [2**31 - 2]),
    ]


def test_integer_scores_are_exact_where_scores_are_multiples() -> None:
    lattice = sausage([[((1,), -0.375), ((2,), -1e3)], [((1,), 2.0**-20)]])
    scores, exponent = integer_scores(lattice)
    assert [math.ldexp(score, -exponent) for score in scores.tolist()] == [
        -0.375,
        -1e3,
        2.0**-20,
        0.0,
    ]
    assert 2**59 <= math.ldexp(1e3 + 2.0**-20, exponent) <= 2**60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be at least 1, found 0"),
        ({"n": math.nan}, "n must be at least 1, found nan"),
        ({"unit": "phone"}, "unit must be one of word, token, found 'phone'"),
        ({"acoustic_scale": -1.0}, "acoustic_scale must be finite, 0 or more, found -1.0"),
        ({"graph_scale": math.nan}, "graph_scale must be finite, 0 or more, found nan"),
        ({"graph_scale": 1e308}, "scores overflow"),
        ({"graph_scale": 1.9e307}, "scores overflow"),  # each is finite, the sum is not
    ],
)
@pytest.mark.parametrize("frames", [[0, 1, 1], []])
def test_options_out_of_range(options: dict, message: str, frames: list[int]) -> None:
    arcs = [
        LatticeArc(0, 1, 1, True, 0.0, -9.0, ()),
        LatticeArc(1, 2, -1, False, 0.0, -9.0, ()),
    ]
    if not frames and "overflow" in message:
        return
    lattice = lattice_of(arcs, frames, 1) if frames else Lattice.empty(3)
    with pytest.raises(ConfigError, match=message):
        nbest(lattice, **{"n": 1, **options})
    with pytest.raises(ConfigError, match=message):
        nbest_sequences(lattice, **{"n": 1, **options})


@pytest.mark.k2
def test_against_k2(requires_k2) -> None:
    """k2 finds the same best path, and for the words of every entry the same score."""
    k2 = requires_k2
    compared = 0
    for seed in range(40):
        lattice = some_lattice(random.Random(seed), exact=False)
        fsa = k2_of_arrays(
            lattice.src, lattice.dst, lattice.token, lattice.acoustic + lattice.graph,
            lattice.word_row_splits, lattice.words,
        )  # fmt: skip
        found = nbest(lattice, 10)
        best = k2.shortest_path(k2.create_fsa_vec([fsa]), use_double_scores=True)
        assert float(best.scores.double().sum()) == pytest.approx(found[0].score, abs=1e-4)
        by_words = k2.arc_sort(k2.Fsa(k2.invert(fsa).arcs))
        for path in filter(lambda path: path.words, found):  # k2 1.23.4 fails on an FSA of one arc
            words = k2.arc_sort(k2.linear_fsa(list(path.words)))
            both = k2.top_sort(k2.connect(k2.intersect(by_words, words)))
            total = k2.create_fsa_vec([both]).get_tot_scores(
                use_double_scores=True, log_semiring=False
            )
            assert float(total) == pytest.approx(path.score, abs=1e-4)
            compared += 1
    assert compared > 150
