"""A lattice's words and their posteriors against the enumeration of all paths."""

import json
import math
import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_info import lattice_info
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.lattice_words import END, START, word_graph
from tests.fsa.random_lattices import (
    LatticeArc,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)

NUMBERS = st.integers(0, 10**6)


def shares(lattice: Lattice, scales: tuple[float, float]) -> list[tuple[tuple[int, ...], float]]:
    """Each path's words and its share of all paths."""
    paths = paths_of(lattice)
    weights = [math.exp(scales[0] * p.acoustic + scales[1] * p.graph) for p in paths]
    return [(p.words, w / sum(weights)) for p, w in zip(paths, weights, strict=True)]


@given(NUMBERS, st.sampled_from([(1.0, 1.0), (0.3, 0.5)]), st.integers(0, 9))
def test_words_are_shares_of_all_paths(number: int, scales: tuple, merged: int) -> None:
    """However they are merged: by words, the posteriors are the expected numbers of occurrences."""
    lattice = random_lattice(random.Random(number), exact=False)
    graph = word_graph(lattice, merged, *scales)
    expected: dict[int, float] = defaultdict(float)
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    for words, share in shares(lattice, scales):
        for word in words:
            expected[word] += share
        ends = [-START - 1, *words, -END - 1]
        for pair in zip(ends[:-1], ends[1:], strict=True):
            pairs[pair] += share
    found: dict[int, float] = defaultdict(float)
    for word in graph.words[2:]:
        assert word.word > 0 and 0.0 <= word.posterior <= 1.0 + 1e-9
        assert 0.0 <= word.frame <= lattice.num_frames
        found[word.word] += word.posterior
    assert found == pytest.approx(expected, abs=1e-6)
    names = [-START - 1, -END - 1, *(word.word for word in graph.words[2:])]
    found_pairs: dict[tuple[int, int], float] = defaultdict(float)
    for (first, second), share in graph.links.items():
        found_pairs[names[first], names[second]] += share
    assert found_pairs == pytest.approx(pairs, abs=1e-6)
    for place, word in enumerate(graph.words):
        into = sum(share for ends, share in graph.links.items() if ends[1] == place)
        out = sum(share for ends, share in graph.links.items() if ends[0] == place)
        assert place == START or into == pytest.approx(word.posterior, abs=1e-6)
        assert place == END or out == pytest.approx(word.posterior, abs=1e-6)
    best = best_path(lattice, *scales)
    assert best is not None
    on_best = [word.word for word in graph.words[2:] if word.is_best]
    assert sorted(on_best) == sorted(best.words)


def test_what_is_merged() -> None:
    """A word at about the same time is one; a repeated one is not, nor one far away."""
    half, no = math.log(0.5), ()
    arcs = [
        LatticeArc(0, 1, 1, True, half, 0.0, (1,)),
        LatticeArc(0, 2, 0, False, half, 0.0, no),
        LatticeArc(1, 3, 1, True, 0.0, 0.0, (1,)),
        LatticeArc(2, 3, 1, True, 0.0, 0.0, (1,)),
        LatticeArc(3, 4, 1, True, half, 0.0, (2, 1)),
        LatticeArc(3, 5, -1, False, 0.0, half, no),
        LatticeArc(4, 5, -1, False, 0.0, 0.0, no),
    ]
    lattice = lattice_of(arcs[:5] + [arcs[6]], [0, 1, 1, 2, 50, 50], 60)
    words = word_graph(lattice, 8).words
    assert [(w.word, w.frame) for w in words] == [
        (0, 0.0), (0, 50.0), (1, 0.0), (1, 1.0), (2, 49.0), (1, 49.0)
    ]  # fmt: skip
    assert [w.posterior for w in words] == pytest.approx([1, 1, 0.5, 1.0, 1, 1])
    apart = replace(lattice, starts_token=lattice.starts_token.copy())
    apart.src[2], apart.token[2] = 1, 0
    apart.starts_token[2], apart.words[1] = False, 3  # 1 3 or 1: no path repeats the word
    words = word_graph(apart, 8).words
    assert [(w.word, round(w.posterior, 6)) for w in words[2:]] == [
        (1, 1),
        (3, 0.5),
        (2, 1),
        (1, 1),
    ]
    assert words[2].frame == pytest.approx(0.5)
    assert [w.word for w in word_graph(apart, 0).words[2:]] == [1, 3, 1, 2, 1]


def test_of_no_path() -> None:
    graph = word_graph(Lattice.empty(4))
    assert [(w.word, w.frame, w.posterior) for w in graph.words] == [(0, 0.0, 0.0), (0, 4.0, 0.0)]
    assert graph.links == {}


@given(NUMBERS)
def test_figures(number: int) -> None:
    lattice = random_lattice(random.Random(number), exact=False)
    arcs, paths = arcs_of_lattice(lattice), paths_of(lattice)
    numpys = replace(lattice, num_frames=np.int64(lattice.num_frames), is_partial=np.bool_(True))
    json.dumps(lattice_info(numpys))
    info = lattice_info(lattice, 0.5, 2.0)
    assert 10 ** info["log10_paths"] == pytest.approx(len(paths))
    assert info["distinct_words"] == len({word for path in paths for word in path.words})
    assert info["word_arcs"] == sum(bool(arc.words) for arc in arcs)
    assert info["final_arcs"] == sum(arc.token == -1 for arc in arcs)
    totals = [0.5 * path.acoustic + 2.0 * path.graph for path in paths]
    assert info["best"]["score"] == pytest.approx(max(totals))
    assert info["log_score"] == pytest.approx(np.logaddexp.reduce(totals))
    frame = lattice.frame.tolist()
    over = [
        sum(frame[arc.src] <= time < frame[arc.dst] for arc in arcs) for time in range(frame[-1])
    ]
    if over:
        assert info["depth"] == pytest.approx(sum(over) / len(over))
        assert info["max_depth"] == max(over)
        assert info["density"] == pytest.approx(len(arcs) / len(over))
    else:
        assert info["depth"] is info["max_depth"] is info["density"] is None


def test_figures_of_very_many_frames() -> None:
    """Memory is that of states and arcs."""
    arcs = [LatticeArc(0, 1, 1, True, 0.0, 0.0, ()), LatticeArc(1, 2, -1, False, 0.0, 0.0, ())]
    last = 2**31 - 1
    info = lattice_info(lattice_of(arcs, [0, last, last], last))
    assert (info["depth"], info["max_depth"], info["density"]) == (1.0, 1, 2 / last)


def test_figures_of_no_path() -> None:
    info = lattice_info(Lattice.empty(9))
    assert info["frames"] == 9 and info["states"] == info["arcs"] == 0
    missing = ("best", "log_score", "log10_paths", "depth", "density", "first_frame")
    assert all(info[key] is None for key in missing)
