"""Scores over lattices against the enumeration of all paths, and against k2."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import (
    arc_log_posteriors,
    arc_posteriors,
    backward_scores,
    best_path,
    connect,
    forward_scores,
    keep_arcs,
    log_num_paths,
    path_of_arcs,
    prune,
    prune_to_size,
    total_score,
)
from tests.fsa.random_lattices import (
    LatticeArc,
    ListedPath,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)

SCALES = st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0), (0.1, 0.3)])
NUMBERS = st.integers(0, 10**6)
FIELDS = [
    "src", "dst", "token", "starts_token", "acoustic", "graph", "word_row_splits", "words", "frame",
]  # fmt: skip


def lattice_for(number: int) -> Lattice:
    rng = random.Random(number)
    return random_lattice(rng, exact=rng.random() < 0.5, modified=rng.random() < 0.5)


def same(a: Lattice, b: Lattice) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (a.num_frames, a.is_partial) == (b.num_frames, b.is_partial)


def score(path: ListedPath, scales: tuple[float, float]) -> float:
    return scales[0] * path.acoustic + scales[1] * path.graph


def log_sum(values: list[float]) -> float:
    return float(np.logaddexp.reduce(values)) if values else -math.inf


@given(NUMBERS, SCALES)
def test_best_path_is_the_best_of_all(number: int, scales: tuple[float, float]) -> None:
    lattice = lattice_for(number)
    paths = {path.arcs: path for path in paths_of(lattice)}
    best = best_path(lattice, *scales)
    assert best is not None
    path = paths[best.arcs]
    assert best.score == pytest.approx(max(score(p, scales) for p in paths.values()), abs=1e-9)
    assert best.score == pytest.approx(score(path, scales), abs=1e-9)
    assert (best.labels, best.tokens, best.words) == (path.labels, path.tokens, path.words)
    assert best.acoustic == pytest.approx(path.acoustic, abs=1e-9)
    assert best.graph == pytest.approx(path.graph, abs=1e-9)
    arcs = arcs_of_lattice(lattice)
    read = [arcs[arc] for arc in best.arcs if arcs[arc].token >= 0]
    frames = [int(lattice.frame[arc.dst]) - 1 for arc in read]
    assert best.label_frames == tuple(frames)
    assert best.token_frames == tuple(
        f for f, arc in zip(frames, read, strict=True) if arc.starts_token
    )
    assert best == best_path(lattice, *scales)


@given(NUMBERS, SCALES)
def test_forward_and_backward_sum_all_paths(number: int, scales: tuple[float, float]) -> None:
    lattice = lattice_for(number)
    arcs, paths = arcs_of_lattice(lattice), paths_of(lattice)
    before: dict[int, set[tuple[int, ...]]] = {0: {()}}
    after: dict[int, set[tuple[int, ...]]] = {lattice.num_states - 1: {()}}
    for path in paths:
        for place, arc in enumerate(path.arcs):
            before.setdefault(arcs[arc].dst, set()).add(path.arcs[: place + 1])
            after.setdefault(arcs[arc].src, set()).add(path.arcs[place:])

    def part(part_of_path: tuple[int, ...]) -> float:
        taken = [arcs[arc] for arc in part_of_path]
        return sum(scales[0] * arc.acoustic + scales[1] * arc.graph for arc in taken)

    for parts, scores in ((before, forward_scores), (after, backward_scores)):
        for semiring, total in (("log", log_sum), ("tropical", max)):
            expected = [total([part(p) for p in parts[s]]) for s in range(lattice.num_states)]
            np.testing.assert_allclose(scores(lattice, semiring, *scales), expected, atol=1e-9)
    whole = [score(path, scales) for path in paths]
    assert total_score(lattice, "log", *scales) == pytest.approx(log_sum(whole), abs=1e-9)
    assert total_score(lattice, "tropical", *scales) == pytest.approx(max(whole), abs=1e-9)
    assert math.exp(log_num_paths(lattice)) == pytest.approx(len(paths))


@given(NUMBERS, SCALES)
def test_posteriors_are_shares_of_all_paths(number: int, scales: tuple[float, float]) -> None:
    lattice = lattice_for(number)
    paths = paths_of(lattice)
    over = [[score(p, scales) for p in paths if arc in p.arcs] for arc in range(lattice.num_arcs)]
    whole = [score(path, scales) for path in paths]
    expected = [log_sum(some) - log_sum(whole) for some in over]
    found = arc_log_posteriors(lattice, "log", *scales)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.max() <= 0.0
    np.testing.assert_allclose(arc_posteriors(lattice, *scales), np.exp(expected), atol=1e-9)
    below = [max(some) - max(whole) for some in over]
    found = arc_log_posteriors(lattice, "tropical", *scales)
    np.testing.assert_allclose(found, below, atol=1e-9)
    assert arc_posteriors(lattice)[lattice.token == -1].sum() == pytest.approx(1.0)


@given(NUMBERS, st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 10.0]), SCALES)
def test_pruning_keeps_exactly_the_arcs_of_good_paths(
    number: int, beam: float, scales: tuple[float, float]
) -> None:
    """Ties with the beam included: the scores are such that there are many."""
    lattice = random_lattice(random.Random(number))
    paths = paths_of(lattice)
    best = max(score(path, scales) for path in paths)
    kept = sorted({a for p in paths if score(p, scales) >= best - beam - 1e-9 for a in p.arcs})
    pruned = prune(lattice, beam, *scales)
    assert pruned.is_connected
    before, after = arcs_of_lattice(lattice), arcs_of_lattice(pruned)
    states = sorted({s for arc in kept for s in (before[arc].src, before[arc].dst)})
    expected = [
        before[arc]._replace(src=states.index(before[arc].src), dst=states.index(before[arc].dst))
        for arc in kept
    ]
    assert after == expected
    assert pruned.frame.tolist() == lattice.frame[states].tolist()
    assert pruned.num_frames == lattice.num_frames
    same(prune(pruned, beam, *scales), pruned)
    same(prune(lattice, math.inf, *scales), lattice)


@given(NUMBERS, st.integers(1, 40), SCALES)
def test_pruning_to_a_size_is_pruning_with_the_beam_for_it(
    number: int, max_arcs: int, scales: tuple[float, float]
) -> None:
    """Of all beams that leave a lattice of this size or smaller none leaves more, but for ties."""
    lattice = random_lattice(random.Random(number))
    found = prune_to_size(lattice, max_arcs, *scales)
    if lattice.num_arcs <= max_arcs:
        assert found is lattice
        return
    through = [
        max(
            (score(path, scales) for path in paths_of(lattice) if arc in path.arcs),
            default=-math.inf,
        )
        for arc in range(lattice.num_arcs)
    ]
    beam = max(through) - sorted(through, reverse=True)[max_arcs - 1]
    same(found, prune(lattice, beam, *scales))
    best = best_path(lattice, *scales)
    kept = best_path(found, *scales)
    assert best is not None and kept is not None and kept.tokens == best.tokens
    assert found.num_arcs >= max_arcs


@given(NUMBERS, st.floats(0.1, 0.9))
def test_kept_arcs_are_connected(number: int, share: float) -> None:
    lattice = random_lattice(random.Random(number))
    kept = np.random.default_rng(number).random(lattice.num_arcs) < share
    smaller = keep_arcs(lattice, kept)
    paths = [path for path in paths_of(lattice) if kept[list(path.arcs)].all()]
    described = [path[1:] for path in paths_of(smaller)]
    assert described == [path[1:] for path in paths]
    assert smaller.is_connected and smaller.is_empty == (not paths)


def test_what_is_on_no_path_is_removed() -> None:
    arcs = [
        LatticeArc(0, 1, 1, True, -1.0, 0.0, (1,)),
        LatticeArc(0, 2, 2, True, -2.0, 0.0, ()),  # a dead end
        LatticeArc(1, 4, 0, False, -3.0, 0.0, ()),
        LatticeArc(3, 4, 0, False, 9.0, 0.0, (2, 2)),  # not reached
        LatticeArc(4, 5, -1, False, 0.0, -0.5, (3,)),
    ]
    lattice = replace(lattice_of(arcs, [0, 1, 1, 1, 2, 2], 2), is_partial=True)
    assert not lattice.is_connected
    connected = connect(lattice)
    assert arcs_of_lattice(connected) == [
        arcs[0], arcs[2]._replace(dst=2), arcs[4]._replace(src=2, dst=3)
    ]  # fmt: skip
    assert connected.is_partial and connect(connected) is connected
    assert forward_scores(lattice)[3] == backward_scores(lattice)[2] == -math.inf
    np.testing.assert_array_equal(arc_posteriors(lattice), [1.0, 0.0, 1.0, 0.0, 1.0])
    same(prune(lattice, 5.0), connected)
    path = best_path(lattice)
    assert path is not None and path.words == (1, 3) and path.score == -4.5


def no_path() -> Lattice:
    """States and arcs, but nothing from the start to the end."""
    arcs = [LatticeArc(0, 1, 1, True, -1.0, 0.0, ()), LatticeArc(2, 3, -1, False, 0.0, 0.0, ())]
    return replace(lattice_of(arcs, [0, 1, 1, 1], 2), is_partial=True)


@pytest.mark.parametrize("lattice", [Lattice.empty(7), no_path()])
@pytest.mark.parametrize("semiring", ["log", "tropical"])
def test_without_a_path(lattice: Lattice, semiring: Any) -> None:
    assert total_score(lattice, semiring) == log_num_paths(lattice) == -math.inf
    assert best_path(lattice) is None
    assert len(forward_scores(lattice, semiring)) == lattice.num_states
    assert len(backward_scores(lattice, semiring)) == lattice.num_states
    posteriors = arc_log_posteriors(lattice, semiring)
    np.testing.assert_array_equal(posteriors, np.full(lattice.num_arcs, -np.inf))
    for smaller in (connect(lattice), prune(lattice, 1.0), prune(lattice, math.inf)):
        assert smaller.is_empty and smaller.num_states == 0
        assert smaller.num_frames == lattice.num_frames
        assert smaller.is_partial == lattice.is_partial
    with pytest.raises(GraphError, match="no path of its"):
        path_of_arcs(lattice, np.array([], np.int64))


def test_huge_scores_stay_numbers() -> None:
    """Of float32's largest, and so far apart that one vanishes beside the other."""
    big = 3e38
    arcs = [
        LatticeArc(0, 1, 1, True, -big, -big, ()),
        LatticeArc(0, 1, 2, True, big, big, ()),
        LatticeArc(1, 2, 1, True, -big, 0.0, ()),
        LatticeArc(2, 3, -1, False, 0.0, 1.0, ()),
    ]
    lattice = lattice_of(arcs, [0, 1, 2, 2], 2)
    assert total_score(lattice) == pytest.approx(big)
    np.testing.assert_array_equal(arc_posteriors(lattice), [0.0, 1.0, 1.0, 1.0])
    assert arcs_of_lattice(prune(lattice, 1e38)) == arcs_of_lattice(
        keep_arcs(lattice, np.array([False, True, True, True]))
    )
    assert prune(lattice, 4.1 * big).num_arcs == 4


@pytest.mark.parametrize(("acoustic", "graph"), [(-1e30, 0.0), (1e30, -1e30), (-1e8, 0.0)])
def test_scores_that_overflow_are_refused(acoustic: float, graph: float) -> None:
    """No infinity and no NaN comes out, of one score or of a sum of finite ones; and no warning."""
    arcs = [LatticeArc(i, i + 1, 1, i == 0, acoustic, graph, ()) for i in range(3)]
    lattice = lattice_of([*arcs, LatticeArc(3, 4, -1, False, 0.0, 0.0, ())], [0, 1, 2, 3, 3], 3)
    for compute in (
        best_path,
        arc_posteriors,
        lambda lattice, *scales: forward_scores(lattice, "log", *scales),
        lambda lattice, *scales: prune(lattice, 1.0, *scales),
    ):
        with pytest.raises(ConfigError, match=r"scores overflow with scales 1e\+300 and 1e\+300"):
            compute(lattice, 1e300, 1e300)


def test_pruning_of_a_late_piece_is_as_exact() -> None:
    """Rounding grows with the frames that are read, not with the place in the stream."""
    arcs = [
        LatticeArc(0, 1, 1, True, -100.0, 0.0, (1,)),
        LatticeArc(0, 1, 2, True, -100.0, -1e-6, (2,)),
        LatticeArc(1, 2, -1, False, 0.0, 0.0, ()),
    ]
    late = 2**31 - 2
    assert prune(lattice_of(arcs, [late, late + 1, late + 1], late + 1), 0.0).num_arcs == 2


def test_many_paths_are_summed_exactly() -> None:
    """2 ** 5000 paths, more than a float64 can count; each has the same share."""
    length, score = 5000, -0.75
    step = np.arange(length, dtype=np.int32).repeat(2)
    src = np.append(step, length).astype(np.int32)
    token = np.append(np.tile([1, 2], length), -1).astype(np.int32)
    lattice = Lattice(
        src, src + np.int32(1), token, token > 0,
        np.where(token > 0, score, 0).astype(np.float32), np.zeros(len(src), np.float32),
        np.zeros(len(src) + 1, np.int32), np.zeros(0, np.int32),
        np.append(np.arange(length + 1), length).astype(np.int32), length,
    )  # fmt: skip
    assert log_num_paths(lattice) == pytest.approx(length * math.log(2), rel=1e-12)
    assert total_score(lattice) == pytest.approx(length * (math.log(2) + score), rel=1e-12)
    np.testing.assert_allclose(arc_posteriors(lattice)[:-1], 0.5, rtol=1e-9)
    # rounding parts none of the ties: with such a scale no sum is exact
    assert prune(lattice, 0.0, 0.1).num_arcs == lattice.num_arcs


def test_of_equal_paths_the_first_arc_is_taken() -> None:
    """Into every state; so the result does not depend on how the passes are made."""
    arcs = [
        LatticeArc(0, 1, 1, True, 0.5, 0.5, ()),
        LatticeArc(0, 1, 1, True, 1.0, 0.0, ()),
        LatticeArc(0, 2, 2, True, 1.0, 0.0, ()),
        LatticeArc(1, 3, 2, True, 0.0, 0.0, ()),
        LatticeArc(2, 3, 2, False, 0.0, 0.0, ()),
        LatticeArc(3, 4, -1, False, 0.0, 1.0, ()),
        LatticeArc(3, 4, -1, False, 0.0, 1.0, ()),
    ]
    path = best_path(lattice_of(arcs, [0, 1, 1, 2, 2], 2))
    assert path is not None and path.arcs == (0, 3, 5)


def test_arguments_out_of_range() -> None:
    lattice = lattice_for(0)
    for scale in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=f"graph_scale must be finite, .* {scale}"):
            best_path(lattice, 1.0, scale)
        with pytest.raises(ConfigError, match="acoustic_scale must be finite"):
            prune(lattice, 1.0, scale)
    for beam in (-1.0, math.nan):
        with pytest.raises(ConfigError, match="beam must be 0 or more"):
            prune(lattice, beam)
    with pytest.raises(ConfigError, match="max_arcs must be at least 1, found 0"):
        prune_to_size(lattice, 0)
    with pytest.raises(ConfigError, match="semiring must be one of tropical, log, found 'real'"):
        forward_scores(lattice, "real")  # type: ignore[arg-type]
    arcs = np.array(paths_of(lattice)[0].arcs)
    for wrong in (arcs[1:], arcs[:-1], arcs[::-1], arcs[[0, 0]]):
        if len(arcs) > 1:
            with pytest.raises(GraphError, match="no path"):
                path_of_arcs(lattice, wrong)
    with pytest.raises(GraphError, match="no path of its"):
        path_of_arcs(lattice, np.array([lattice.num_arcs]))


@pytest.mark.k2
@settings(max_examples=50)
@given(NUMBERS)
def test_k2_finds_the_same(number: int) -> None:
    """Forward and backward scores, posteriors, best path, pruning by posterior; in the order of our arcs."""
    k2 = import_k2()
    rng = random.Random(number)
    lattice = random_lattice(rng, exact=False, skips=False, num_frames=8)
    rows = np.stack([lattice.src, lattice.dst, lattice.token], 1).tolist()
    total = (lattice.acoustic.astype(np.float64) + lattice.graph).tolist()
    lines = [
        " ".join(map(str, [*row, f"{value:.9g}"])) for row, value in zip(rows, total, strict=True)
    ]
    fsas = k2.create_fsa_vec([k2.Fsa.from_str("\n".join([*lines, str(lattice.num_states - 1)]))])
    for semiring in ("log", "tropical"):
        log = semiring == "log"
        for ours, theirs in (
            (forward_scores(lattice, semiring), fsas.get_forward_scores(True, log)),
            (backward_scores(lattice, semiring), fsas.get_backward_scores(True, log)),
            (arc_log_posteriors(lattice, semiring), fsas.get_arc_post(True, log)),
            ([total_score(lattice, semiring)], fsas.get_tot_scores(True, log)),
        ):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)
    path = best_path(lattice)
    assert path is not None
    assert (*path.labels, -1) == tuple(k2.shortest_path(fsas, True).labels.tolist())
    beam = 2.0
    below = fsas.get_arc_post(True, False).numpy()
    if np.abs(below + beam).min() > 1e-3:
        assert prune(lattice, beam).num_arcs == (below > -beam).sum()
