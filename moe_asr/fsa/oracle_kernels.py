"""The least edit distance of words to the paths of an automaton, compiled (`moe_asr.fsa.oracle`)."""

import numpy as np
from numba import njit

FAR = 1 << 30  # above every distance and every number of words


@njit(cache=True, nogil=True)
def label_counts(arc_splits, dst, label):
    """(4, S) int64: the fewest and the most labels from the start to each state, then from it to the end.

    Where there is no way, the fewest are `FAR` and the most -1.
    """
    num_states = len(arc_splits) - 1
    counts = np.empty((4, num_states), np.int64)
    for state in range(num_states):
        counts[0, state] = counts[2, state] = FAR
        counts[1, state] = counts[3, state] = -1
    counts[0, 0] = counts[1, 0] = 0
    counts[2, num_states - 1] = counts[3, num_states - 1] = 0
    for state in range(num_states):
        if counts[1, state] >= 0:
            for arc in range(arc_splits[state], arc_splits[state + 1]):
                to, one = dst[arc], 1 if label[arc] > 0 else 0
                counts[0, to] = min(counts[0, to], counts[0, state] + one)
                counts[1, to] = max(counts[1, to], counts[1, state] + one)
    for state in range(num_states - 1, -1, -1):
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            to, one = dst[arc], 1 if label[arc] > 0 else 0
            if counts[3, to] >= 0:
                counts[2, state] = min(counts[2, state], counts[2, to] + one)
                counts[3, state] = max(counts[3, state], counts[3, to] + one)
    return counts


@njit(cache=True, nogil=True)
def edit_distances(arc_splits, dst, label, reference, lowest, highest, row_splits):
    """(row_splits[-1],) int32: the least distance to each state of each number of reference words.

    Those of state s are at ``row_splits[s]``, for ``lowest[s]`` to ``highest[s]`` words; ways over any other
    are not looked at. Above `FAR`: there is no way.
    """
    cost = np.full(row_splits[-1], FAR, np.int32)
    if lowest[0] == 0 and highest[0] >= 0:
        cost[row_splits[0]] = 0
    for state in range(len(arc_splits) - 1):
        low, high = lowest[state], highest[state]
        base = row_splits[state] - low
        for place in range(low + 1, high + 1):
            cost[base + place] = min(cost[base + place], cost[base + place - 1] + 1)
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            to, word = dst[arc], label[arc]
            base_to = row_splits[to] - lowest[to]
            inserted = 1 if word > 0 else 0
            for place in range(max(low, lowest[to]), min(high, highest[to]) + 1):
                total = cost[base + place] + inserted
                cost[base_to + place] = min(cost[base_to + place], total)
            if word > 0:
                for place in range(max(low, lowest[to] - 1), min(high, highest[to] - 1) + 1):
                    total = cost[base + place] + (0 if reference[place] == word else 1)
                    cost[base_to + place + 1] = min(cost[base_to + place + 1], total)
    return cost


@njit(cache=True, nogil=True)
def trace_alignment(
    arc_splits, dst, label, reference, lowest, highest, row_splits, cost, in_splits, in_arcs
):
    """(N, 2) int64: the steps of one best alignment: arc or -1 (a deletion), and reference word or -1.

    Args:
        in_splits, in_arcs: the arcs into each state, ragged.
    """
    num_states = len(arc_splits) - 1
    src = np.empty(len(dst), np.int64)
    for state in range(num_states):
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            src[arc] = state
    steps = np.empty((num_states + len(reference), 2), np.int64)
    state, place, num_steps = num_states - 1, len(reference), 0
    while state > 0 or place > 0:
        here = cost[row_splits[state] + place - lowest[state]]
        taken, consumed, inserting = -1, 0, -1
        for i in range(in_splits[state], in_splits[state + 1]):
            arc = in_arcs[i]
            before, word = src[arc], label[arc]
            base = row_splits[before] - lowest[before]
            if lowest[before] <= place <= highest[before]:
                if word == 0 and cost[base + place] == here:
                    taken = arc
                    break
                if word > 0 and inserting < 0 and cost[base + place] + 1 == here:
                    inserting = arc
            if word > 0 and lowest[before] < place <= highest[before] + 1:
                wrong = 0 if reference[place - 1] == word else 1
                if cost[base + place - 1] + wrong == here:
                    taken, consumed = arc, 1
                    break
        if taken < 0 and inserting >= 0:
            taken = inserting
        if taken < 0:
            consumed = 1
        steps[num_steps, 0] = taken
        steps[num_steps, 1] = place - 1 if consumed else -1
        num_steps += 1
        place -= consumed
        if taken >= 0:
            state = src[taken]
    return steps[:num_steps][::-1].copy()
