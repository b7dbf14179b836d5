"""Lattices to k2 and back, and of k2's own intersections."""

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_build import LooseArcs, build_lattice, find_token_starts
from moe_asr.fsa.lattice_k2 import lattice_from_k2, lattices_from_k2
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import (
    LatticeArc,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)
from tests.fsa.references import random_lexicon, token_sequences
from tests.fsa.test_lattice_scores import same

TOKENS = ["<blk>", "x", "y"]
NUMBERS = st.integers(0, 10**6)


def shuffled(lattice: Lattice, rng: random.Random) -> tuple[LooseArcs, int]:
    """The arcs in a random order, their states renumbered, with dead ends and unreachable parts added."""
    arcs = arcs_of_lattice(lattice)
    last = lattice.num_states - 1
    states = list(range(1, last))
    rng.shuffle(states)
    extra = [last, last + 1]  # a dead end, and a state that nothing leads to
    number = {state: place for place, state in enumerate([0, *states, *extra, last + 2])}
    rows = [a._replace(dst=last + 2 if a.dst == last else a.dst) for a in arcs]
    before_end = [a.src for a in rows if a.token == -1]
    rows.append(LatticeArc(0, last, 1, True, 0.5, 0.0, (1,)))
    rows.append(LatticeArc(last + 1, last, 0, False, 0.5, 0.0, ()))
    rows.append(LatticeArc(last + 1, before_end[0], 0, False, 0.5, 0.0, ()))
    rng.shuffle(rows)
    loose = LooseArcs(
        src=np.array([number[a.src] for a in rows], np.int32),
        dst=np.array([number[a.dst] for a in rows], np.int32),
        label=np.array([a.token for a in rows], np.int32),
        acoustic=np.array([a.acoustic for a in rows], np.float32),
        graph=np.array([a.graph for a in rows], np.float32),
        row_splits=np.cumsum([0] + [len(a.words) for a in rows]),
        words=np.array([word for a in rows for word in a.words], np.int32),
        starts_token=np.array([a.starts_token for a in rows]),
    )
    return loose, last + 3


@given(NUMBERS, st.booleans())
def test_arcs_in_any_order_make_the_lattice(number: int, derive: bool) -> None:
    rng = random.Random(number)
    lattice = random_lattice(rng, skips=False)
    loose, num_states = shuffled(lattice, rng)
    if derive:
        loose = replace(loose, starts_token=None)
    built = build_lattice(loose, num_states, lattice.num_frames)
    assert built.is_connected
    assert built.num_states == lattice.num_states and built.num_arcs == lattice.num_arcs
    assert built.frame.tolist() == lattice.frame.tolist()
    assert sorted(p[1:] for p in paths_of(built)) == sorted(p[1:] for p in paths_of(lattice))


@given(NUMBERS)
def test_tokens_by_the_standard_topology(number: int) -> None:
    """Whatever states merge, the tokens of a path are what CTC makes of its labels, or it is refused."""
    rng = random.Random(number)
    lattice = random_lattice(rng, skips=False)
    token = np.where(lattice.token > 0, [rng.randint(0, 2) for _ in lattice.token], lattice.token)
    token = token.astype(np.int32)
    try:
        starts = find_token_starts(lattice.src, lattice.dst, token)
    except GraphError as error:
        assert "entered by label" in str(error)
        pairs = {pair for path in paths_of(lattice) for pair in itertools.pairwise(path.arcs)}
        follows = {b: {token[a] for a, other in pairs if other == b} for _, b in pairs}
        assert any(
            token[arc] > 0 and token[arc] in labels and len(labels) > 1
            for arc, labels in follows.items()
        )
        return
    told = replace(lattice, token=token, starts_token=starts)
    for path in paths_of(told):
        assert {path.tokens} == token_sequences(path.labels, modified=False)


def test_frames_that_do_not_fit_are_named() -> None:
    lattice = lattice_of(
        [
            LatticeArc(0, 1, 1, True, 0.0, 0.0, ()),
            LatticeArc(1, 2, 0, False, 0.0, 0.0, ()),
            LatticeArc(2, 3, -1, False, 0.0, 0.0, ()),
        ],
        [0, 1, 2, 2],
        2,
    )
    loose, num_states = shuffled(lattice, random.Random(0))
    short = replace(loose, dst=np.where(loose.src == 0, 2, loose.dst).astype(np.int32))
    with pytest.raises(GraphError, match="state . is reached at several frames"):
        build_lattice(replace(short, src=np.array([0, 0, 1, 2, 2, 2], np.int32)), num_states)
    loop = LooseArcs(
        *(np.array(column, np.int32) for column in ([0, 1, 1], [1, 1, 2], [1, 0, -1])),
        *np.zeros((2, 3), np.float32), np.zeros(4, np.int64), np.zeros(0, np.int32),
    )  # fmt: skip
    with pytest.raises(GraphError, match="state 1 is reached at several frames"):
        build_lattice(loop, 3)
    frames = np.array([0, 1, 1])
    with pytest.raises(GraphError, match="the frames of states do not increase"):
        build_lattice(replace(loop, src_frame=frames), 3)
    with pytest.raises(GraphError, match=r"state 1 is at several frames \(2 and another\)"):
        build_lattice(replace(loop, src_frame=np.array([0, 2, 1])), 3)
    with pytest.raises(GraphError, match="state . is at frame -3"):
        build_lattice(replace(loop, src_frame=np.array([-3, -2, -1])), 3)
    assert build_lattice(replace(loop, label=loop.label * 0), 0, 4).num_frames == 4


@pytest.mark.k2
def test_there_and_back_is_exact() -> None:
    """Also frames left out, tokens of the modified topology, scores whose sum is rounded."""
    k2 = import_k2()
    for number in range(200):
        rng = random.Random(number)
        exact, modified = number % 3 == 0, number % 2 == 0
        lattice = random_lattice(rng, exact=exact, modified=modified)
        lattice = replace(
            lattice, acoustic=np.where(lattice.token < 0, 0, lattice.acoustic * 1e4).astype("f4"),
            is_partial=number % 5 == 0, num_frames=lattice.num_frames + number % 7,
        )  # fmt: skip
        fsa = lattice.to_k2()
        assert torch.equal(fsa.scores, fsa.am_scores + fsa.lm_scores)
        same(Lattice.from_k2(fsa), lattice)
        vector = k2.create_fsa_vec([fsa, fsa])
        if not lattice.is_partial:
            same(lattices_from_k2(vector, [lattice.num_frames] * 2)[1], lattice)
    empty = replace(Lattice.empty(5), is_partial=True)
    same(Lattice.from_k2(empty.to_k2()), empty)


@pytest.mark.k2
def test_k2_can_work_on_it() -> None:
    k2 = import_k2()
    for number in range(50):
        lattice = random_lattice(random.Random(number), exact=False)
        best = best_path(lattice)
        assert best is not None
        fsa = k2.shortest_path(k2.create_fsa_vec([lattice.to_k2()]), use_double_scores=True)
        path = best_path(lattices_from_k2(fsa, [lattice.num_frames])[0])
        assert path is not None
        assert path.score == pytest.approx(best.score, abs=1e-4)
        for what in ("labels", "label_frames", "tokens", "token_frames", "words"):
            assert getattr(path, what) == getattr(best, what)
        assert path.acoustic == pytest.approx(best.acoustic)
        assert path.graph == pytest.approx(best.graph)


def intersect(lexicon: Lexicon, log_probs: torch.Tensor, lengths: list[int]) -> Any:
    """What k2 finds with wide beams; ``lm_scores`` are handed on from the graph."""
    k2 = import_k2()
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    fsa = k2.arc_sort(build_graphs(lexicon, g, SymbolTable(TOKENS)).hlg.to_k2())
    fsa.lm_scores = fsa.scores.clone()
    segments = torch.tensor([[i, 0, length] for i, length in enumerate(lengths)], dtype=torch.int32)
    dense = k2.DenseFsaVec(log_probs, segments)
    return k2.intersect_dense_pruned(k2.create_fsa_vec([fsa]), dense, 100.0, 50.0, 1000, 100000)


@pytest.mark.k2
@settings(max_examples=20)
@given(NUMBERS)
def test_of_an_intersection(number: int) -> None:
    """Every path of k2's lattice is there, with its scores: those of its labels in the log-probs."""
    k2 = import_k2()
    rng = random.Random(number)
    torch.manual_seed(number)
    lengths = sorted((rng.randint(1, 4) for _ in range(3)), reverse=True)
    log_probs = (2.0 * torch.randn(3, 4, len(TOKENS))).log_softmax(-1)
    log_probs[2, 0] = -float("inf")  # no path
    fsas = intersect(random_lexicon(rng, TOKENS[1:]), log_probs, lengths)
    lattices = lattices_from_k2(fsas, lengths)
    assert lattices[2].is_empty
    totals = k2.shortest_path(fsas, use_double_scores=True).get_tot_scores(True, False)
    for row, lattice, total in zip(log_probs.double().numpy(), lattices[:2], totals, strict=False):
        best = best_path(lattice)
        assert best is not None and best.score == pytest.approx(float(total), abs=1e-4)
        assert lattice.frame[-1] == lattice.num_frames
        for listed in paths_of(lattice):
            frames = np.arange(lattice.num_frames)
            assert listed.acoustic == pytest.approx(
                row[frames, list(listed.labels)].sum(), abs=1e-4
            )
            assert {listed.tokens} == token_sequences(listed.labels, modified=False)
    splits = fsas.arcs.row_splits(1)
    num_arcs = fsas.arcs.row_splits(2)[splits.long()].diff()
    assert [lattice.num_arcs for lattice in lattices] == num_arcs.tolist()  # none is lost


@pytest.mark.k2
def test_what_is_no_lattice_is_refused() -> None:
    k2 = import_k2()
    fsa = random_lattice(random.Random(1), num_frames=4).to_k2()
    with pytest.raises(GraphError, match="expected a single FSA, found one of shape"):
        lattice_from_k2(k2.create_fsa_vec([fsa]))
    with pytest.raises(GraphError, match="expected FSAs of 2 utterances"):
        lattices_from_k2(k2.create_fsa_vec([fsa]), [3, 3])
    plain = k2.Fsa.from_str("0 1 1 0.5\n1 2 -1 0\n2")
    with pytest.raises(GraphError, match="expected an FSA with lm_scores"):
        lattice_from_k2(plain)
    plain.lm_scores = torch.tensor([0.25, 1.0])
    with pytest.raises(GraphError, match="expected an FSA with aux_labels"):
        lattice_from_k2(plain)
    plain.aux_labels = torch.tensor([7, -1], dtype=torch.int32)
    with pytest.raises(GraphError, match="a final arc has an acoustic score, -1.0"):
        lattice_from_k2(plain)
    plain.lm_scores = torch.tensor([0.25, 0.0])
    lattice = lattice_from_k2(plain)
    assert arcs_of_lattice(lattice) == [
        LatticeArc(0, 1, 1, True, 0.25, 0.25, (7,)), LatticeArc(1, 2, -1, False, 0.0, 0.0, ())
    ]  # fmt: skip
    assert (lattice.num_frames, lattice_from_k2(plain, 9).num_frames) == (1, 9)
    unclear = k2.Fsa.from_str("0 1 1 0\n0 1 2 0\n1 2 1 0\n2 3 -1 0\n3")
    unclear.lm_scores = unclear.scores.clone()
    unclear.aux_labels = torch.zeros(4, dtype=torch.int32)
    with pytest.raises(GraphError, match="state 1 is entered by label 1 and by others"):
        lattice_from_k2(unclear)
    unclear.starts_token = torch.tensor([1, 1, 0, 0], dtype=torch.int32)
    assert lattice_from_k2(unclear).starts_token.tolist() == [True, True, False, False]
    huge = lattice_of(
        [LatticeArc(0, 1, 1, True, 3e38, 3e38, ()), LatticeArc(1, 2, -1, False, 0.0, 0.0, ())],
        [0, 1, 1],
        1,
    )
    with pytest.raises(GraphError, match="scores too large for k2"):
        huge.to_k2()


@pytest.mark.k2
def test_changed_scores_are_believed() -> None:
    """am_scores are only taken where nobody has changed the scores since."""
    fsa = random_lattice(random.Random(4), num_frames=4, exact=False).to_k2()
    lattice = Lattice.from_k2(fsa)
    inner = torch.from_numpy(lattice.token >= 0)
    fsa.scores = fsa.scores - 2.0 * inner
    changed = Lattice.from_k2(fsa)
    expected = lattice.acoustic - np.where(lattice.token >= 0, np.float32(2.0), np.float32(0.0))
    np.testing.assert_allclose(changed.acoustic, expected, atol=1e-6)
    np.testing.assert_array_equal(changed.graph, lattice.graph)
