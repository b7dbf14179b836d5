"""Sentences through given arcs: accepted, over the arc, the shortest there are."""

import itertools

import numpy as np

from moe_asr.fsa.cover import sentences_through
from moe_asr.fsa.fst import Fst


def paths(fst: Fst, longest: int) -> list[list[int]]:
    """All paths from the start to a final state of up to ``longest`` arcs."""
    found, frontier = [], [([], 0)]
    for _ in range(longest + 1):
        found += [path for path, state in frontier if np.isfinite(fst.final_score[state])]
        frontier = [
            ([*path, arc], int(fst.dst[arc]))
            for path, state in frontier
            for arc in range(*fst.arc_splits[state : state + 2])
        ]
    return found


def test_every_arc_is_on_a_shortest_path() -> None:
    rng = np.random.RandomState(0)
    tried = 0
    for _ in range(200):
        num_states, num_arcs = rng.randint(1, 4), rng.randint(1, 6)
        src, dst = rng.randint(num_states, size=(2, num_arcs))
        label = rng.randint(0, 4, num_arcs)
        final = np.where(rng.randint(3, size=num_states), -np.inf, 0.0)
        fst = Fst.from_arcs(src, dst, label, label, np.zeros(num_arcs), final).connect()
        sentences = list(sentences_through(fst, np.arange(fst.num_arcs)))
        assert len(sentences) == fst.num_arcs
        accepted = paths(fst, 5)  # two to the arc, it, two from there
        for arc, sentence in enumerate(sentences):
            over = [path for path in accepted if arc in path]
            shortest = min(map(len, over))
            says = {
                tuple(int(fst.olabel[a]) for a in path if fst.olabel[a])
                for path in over
                if len(path) == shortest
            }
            assert sentence in says
            tried += 1
    assert tried > 50


def test_only_the_arcs_asked_for() -> None:
    fst = Fst.from_list([(0, 1, 1, 1, 0.0), (0, 1, 2, 2, 0.0), (1, 2, 3, 3, 0.0)], {2: 0.0})
    assert list(sentences_through(fst, np.array([1, 2]))) == [(2, 3), (1, 3)]
    assert list(itertools.islice(sentences_through(fst, np.array([], int)), 1)) == []
