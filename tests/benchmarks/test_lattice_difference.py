"""Two lattices of one utterance: the same but for rounding, or not."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lattice_difference import EDGE, TOLERANCE, compare_lattices
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import arc_log_posteriors, prune, renumbered
from tests.fsa.random_lattices import random_lattice

BEAM = 8.0
lattices = st.builds(
    lambda seed, exact: random_lattice(random.Random(seed), 6, 4, exact),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


def shuffled(lattice: Lattice, rng: np.random.Generator) -> Lattice:
    """The same with states of one frame, and arcs of one state, in another order."""
    inner = np.arange(lattice.num_states - 1)
    order = [*np.lexsort((rng.permutation(inner), lattice.frame[:-1])), lattice.num_states - 1]
    number = np.empty(lattice.num_states, np.int32)
    number[order] = np.arange(lattice.num_states, dtype=np.int32)
    arc = np.lexsort((rng.permutation(lattice.num_arcs), number[lattice.src]))
    return renumbered(lattice, arc, number, lattice.frame[order])


@given(lattices, st.integers(0, 2**32 - 1))
def test_order_and_rounding_make_no_difference(lattice: Lattice, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = shuffled(lattice, rng)
    noise = rng.uniform(-1e-5, 1e-5, other.num_arcs).astype(np.float32)
    other = replace(other, acoustic=other.acoustic + noise * (other.token >= 0))
    found = compare_lattices(lattice, other, 1000.0)
    assert found.is_same and found.num_shared == lattice.num_arcs and found.num_at_edge == 0
    assert found.largest_score <= 2e-5 and found.largest_margin <= 2e-4


@given(lattices, st.data())
def test_any_change_is_found(lattice: Lattice, data: st.DataObject) -> None:
    """Of a label, a word, a score; the arc is in both lattices, so that two or more are different."""
    arc = data.draw(st.integers(0, lattice.num_arcs - 1))
    arcs = np.arange(lattice.num_arcs) == arc
    step = np.float32(20 * TOLERANCE)
    changed = {
        "graph": replace(lattice, graph=lattice.graph + step * arcs),
        "frames": replace(lattice, num_frames=lattice.num_frames + 1),
    }
    if lattice.token[arc] >= 0:
        changed["acoustic"] = replace(lattice, acoustic=lattice.acoustic - step * arcs)
        token = np.where(arcs, lattice.token + 7, lattice.token).astype(np.int32)
        changed["token"] = replace(lattice, token=token)
    if len(lattice.words_of(arc)):
        words = lattice.words.copy()
        words[lattice.word_row_splits[arc]] += 9
        changed["word"] = replace(lattice, words=words)
    for name, other in changed.items():
        for pair in ((lattice, other), (other, lattice)):
            assert compare_lattices(*pair, 1000.0).num_different >= 2, name


@given(lattices, st.floats(0.0, 6.0))
def test_arcs_of_one_side_must_be_at_the_edge(lattice: Lattice, beam: float) -> None:
    margin = -arc_log_posteriors(lattice, "tropical")
    narrow = prune(lattice, beam)
    lost = margin > beam + 1e-6
    if (np.abs(margin - beam) < 1e-5).any():
        return
    for output_beam in (BEAM, beam + EDGE / 2):
        found = compare_lattices(lattice, narrow, output_beam)
        assert found.num_shared == narrow.num_arcs
        assert found.num_at_edge == (lost & (margin >= output_beam - EDGE)).sum()
        assert found.num_different == (lost & (margin < output_beam - EDGE)).sum()
    assert compare_lattices(lattice, narrow, beam).is_same


def test_an_empty_lattice() -> None:
    empty, other = Lattice.empty(5), random_lattice(random.Random(1), skips=False)
    assert compare_lattices(empty, empty, BEAM).is_same
    assert not compare_lattices(empty, Lattice.empty(6), BEAM).is_same
    found = compare_lattices(Lattice.empty(other.num_frames), other, BEAM)
    assert found.num_different + found.num_at_edge == other.num_arcs > 0
    with pytest.raises(AttributeError):
        found.num_different = 0
