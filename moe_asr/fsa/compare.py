"""Where two automata differ: deterministic acceptors state by state, any two graphs up to renumbering."""

from collections.abc import Iterator

import numpy as np

from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.fst import Fst

_TOLERANCE = 1e-5  # of scores, absolute and relative: float32 after another way of computing them
_MIX = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 2
_SHOWN = 10


def array_differences(found: Fst, expected: Fst) -> Iterator[tuple[str, int]]:
    """(array, index) wherever two FSTs, of equally many states and arcs, are not the same bit by bit."""
    for name in ("src", "dst", "ilabel", "olabel", "score", "final_score"):
        for index in np.flatnonzero(getattr(found, name) != getattr(expected, name)).tolist():
            yield name, index


def acceptor_differences(found: Fst, expected: Fst, relay_label: int) -> Iterator[str]:
    """Where two deterministic acceptors give a sequence of labels different scores, or only one gives any.

    Both are walked together from their start states; every pair of states that the same labels lead to must
    have the same labels, scores and final score. States may be numbered and merged differently, but a
    score must be on the same arc in both. States that can only be left by ``relay_label`` (the backoff of an
    n-gram that no word follows) are passed over, as converters differ in whether they make them.

    Args:
        found: deterministic on input labels.
        expected: likewise.
        relay_label: the label of backoff arcs.

    Yields:
        One line a difference, in terms of states and input labels of ``found``; nothing if they are equal.
    """
    one, two = _without_relays(found, relay_label), _without_relays(expected, relay_label)
    if not _close(one[1], two[1]):
        yield f"the start has score {one[1]:.5f}, expected {two[1]:.5f}"
    a, b = one[0], two[0]
    pairs = np.array([[one[2], two[2]]])
    seen = pairs[:, 0] * b.num_states + pairs[:, 1]
    while len(pairs):
        mine, other = a.final_score[pairs[:, 0]], b.final_score[pairs[:, 1]]
        for row in np.flatnonzero(~_close(mine, other)).tolist():
            yield f"state {pairs[row, 0]}: final score {mine[row]:.5f}, expected {other[row]:.5f}"
        following = []
        arcs_a, row_a = _leaving(a, pairs[:, 0])
        arcs_b, row_b = _leaving(b, pairs[:, 1])
        width = 1 + max(int(a.ilabel.max(initial=0)), int(b.ilabel.max(initial=0)))
        key_a = row_a * width + a.ilabel[arcs_a]
        key_b = row_b * width + b.ilabel[arcs_b]
        for key in np.setdiff1d(key_a, key_b).tolist():
            row, label = divmod(key, width)
            yield f"state {pairs[row, 0]}: an arc for label {label}, expected none"
        for key in np.setdiff1d(key_b, key_a).tolist():
            row, label = divmod(key, width)
            yield f"state {pairs[row, 0]}: no arc for label {label}, expected one"
        common, at_a, at_b = np.intersect1d(key_a, key_b, return_indices=True)
        arcs_a, arcs_b = arcs_a[at_a], arcs_b[at_b]
        unequal = ~_close(a.score[arcs_a], b.score[arcs_b])
        for index in np.flatnonzero(unequal).tolist():
            row, label = divmod(int(common[index]), width)
            yield (
                f"state {pairs[row, 0]}: the arc for label {label} has score "
                f"{a.score[arcs_a[index]]:.5f}, expected {b.score[arcs_b[index]]:.5f}"
            )
        following = np.stack([a.dst[arcs_a], b.dst[arcs_b]], axis=1).astype(np.int64)
        keys, first = np.unique(following[:, 0] * b.num_states + following[:, 1], return_index=True)
        new = ~np.isin(keys, seen)
        seen = np.concatenate([seen, keys[new]])
        pairs = following[first[new]]


def graph_differences(found: Arcs, expected: Arcs) -> tuple[int, list[str]]:
    """How many arcs of two graphs in k2's form have no counterpart, and the first of them in words.

    Graphs that differ only in the numbering of states and the order of arcs have none. The comparison is of
    the multisets of arcs, each with what is around it up to two arcs away, by 64-bit hashes (the colour
    refinement of Weisfeiler and Leman, 1968): equal graphs are always found equal, and a changed score,
    label, word or destination is found unless it gives the same graph again.
    """
    if _identical(found, expected):
        return 0, []
    for mine, other in zip(_signatures(found), _signatures(expected), strict=True):
        if len(mine) == len(other) and np.array_equal(np.sort(mine), np.sort(other)):
            continue
        extra, missing = _unmatched(mine, other), _unmatched(other, mine)
        number = max(len(extra), len(missing))
        moved = _positions(found, expected)
        if len(found) == len(expected) and len(moved) <= number:  # numbered alike: say which
            pairs = [(_describe(found, arc), _describe(expected, arc)) for arc in moved[:_SHOWN]]
            return len(moved), [f"{one}: expected {two}" for one, two in pairs]
        lines = [f"{_describe(found, arc)}: expected no such arc" for arc in extra[:_SHOWN]]
        lines += [f"expected {_describe(expected, arc)}" for arc in missing[:_SHOWN]]
        return number, lines
    return 0, []


def _without_relays(fst: Fst, label: int) -> tuple[Fst, float, int]:
    """Without the states that only one arc of ``label`` leaves; the score and state of the start."""
    splits = fst.arc_splits
    candidates = np.flatnonzero((np.diff(splits) == 1) & ~np.isfinite(fst.final_score))
    relays = candidates[fst.ilabel[splits[candidates]] == label]
    target, cost = np.arange(fst.num_states), np.zeros(fst.num_states)
    target[relays], cost[relays] = fst.dst[splits[relays]], fst.score[splits[relays]]
    is_relay = np.zeros(fst.num_states, bool)
    is_relay[relays] = True
    for _ in range(len(relays)):  # chains of them; a circle stays one
        chained = relays[is_relay[target[relays]]]
        if not len(chained):
            break
        cost[chained] += cost[target[chained]]
        target[chained] = target[target[chained]]
    merged = Fst(
        fst.src,
        target[fst.dst].astype(np.int32),
        fst.ilabel,
        fst.olabel,
        (fst.score + cost[fst.dst]).astype(np.float32),
        fst.final_score,
    )
    return merged, float(cost[0]), int(target[0])


def _leaving(fst: Fst, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All arcs that leave each of ``states`` in turn, and the row of ``states`` each belongs to."""
    starts = fst.arc_splits[states]
    counts = fst.arc_splits[states + 1] - starts
    row = np.repeat(np.arange(len(states)), counts)
    return np.arange(len(row)) + np.repeat(starts - np.cumsum(counts) + counts, counts), row


def _close(one: np.ndarray | float, two: np.ndarray | float) -> np.ndarray:
    return np.isclose(one, two, rtol=_TOLERANCE, atol=_TOLERANCE)


def _identical(one: Arcs, two: Arcs) -> bool:
    return len(one) == len(two) and not len(_positions(one, two))


def _positions(one: Arcs, two: Arcs) -> np.ndarray:
    """Where the arcs of two graphs, one after the other, are not the same; only as far as both go."""
    size = min(len(one), len(two))
    different = np.zeros(size, bool)
    for name in ("src", "dst", "label", "score", "num_words"):
        different |= getattr(one, name)[:size] != getattr(two, name)[:size]
    padded, others = one.padded_words()[:, :size], two.padded_words()[:, :size]
    for row, other in zip(padded, others, strict=False):
        different |= row != other
    return np.flatnonzero(different)


def _signatures(arcs: Arcs) -> Iterator[np.ndarray]:
    """(A,) uint64 for every radius: a hash of each arc and of what is around it."""
    num_states = int(max(arcs.src.max(initial=0), arcs.dst.max(initial=0))) + 1
    score = (arcs.score + np.float32(0)).view(np.uint32)  # -0 is 0
    own = _hash(arcs.label.astype(np.uint64) * _MIX + score)
    if len(arcs.words):  # in their order
        padded = arcs.padded_words()
        for row in padded:
            own = _hash(own * _MIX + row.astype(np.uint64))
    yield own
    color = np.zeros(num_states, np.uint64)
    color[0] = 1
    for _ in range(_ROUNDS):
        leaving = _sums(arcs.src, _hash(own + color[arcs.dst] * _MIX), num_states)
        entering = _sums(arcs.dst, _hash(own - color[arcs.src] * _MIX), num_states)
        color = _hash(color + _hash(leaving) * _MIX + entering)
        yield _hash(own + _hash(color[arcs.src]) * _MIX + color[arcs.dst])


def _sums(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """(size,) uint64: the sums of the values of each index, modulo 2 ** 64."""
    result = np.zeros(size, np.uint64)
    np.add.at(result, index, values)
    return result


def _hash(values: np.ndarray) -> np.ndarray:
    """Well mixed 64-bit values, one for each (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _unmatched(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Indices into ``one`` of values that it has more often than ``two``, the surplus of each."""
    order = np.argsort(one, kind="stable")
    ordered, others = one[order], np.sort(two)
    rank = np.arange(len(one)) - np.searchsorted(ordered, ordered)  # among its equals
    there = np.searchsorted(others, ordered, "right") - np.searchsorted(others, ordered)
    return np.sort(order[rank >= there])


def _describe(arcs: Arcs, arc: int) -> str:
    words = arcs.words[arcs.row_splits[arc] : arcs.row_splits[arc + 1]].tolist()
    return (
        f"arc {arc} ({arcs.src[arc]} -> {arcs.dst[arc]}, label {arcs.label[arc]}, words {words}, "
        f"score {arcs.score[arc]:.9g})"
    )
