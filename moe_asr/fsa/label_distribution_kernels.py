"""The contraction of weighted arcs, compiled (`moe_asr.fsa.label_distribution`)."""

import numpy as np
from numba import njit

from moe_asr.growing import grown_rows

_inner = njit(nogil=True)  # what only these kernels call is kept in their caches
# columns of an arc that waits at its destination: where it is from, its label, the next one there
FROM, LABEL, NEXT = range(3)
WEIGHT, FRAME = range(2)


@njit(cache=True, nogil=True)
def contract(arc_splits, dst, label, weight, frame):
    """Takes out states between arcs of which one has no label, where that adds no arcs; one pass.

    Args:
        arc_splits, dst, label: as in `LabelArcs`, S states.
        weight, frame: (A,) float64.

    Returns:
        - (S,) bool: the states that are kept, the first and the last among them.
        - src, dst, label (int64), weight, frame (float64) of the arcs between them, sorted by dst; src and
          dst as before. There is one arc for a source, destination and label.
    """
    num_states = len(arc_splits) - 1
    kept = np.ones(num_states, np.bool_)
    size = max(len(dst), 16)
    waiting, values, used = np.empty((size, 3), np.int64), np.empty((size, 2)), 0
    first = np.full(num_states, -1, np.int64)
    heads, head_values = np.empty((64, 2), np.int64), np.empty((64, 2))  # arcs into a state, sorted
    made, made_values, num_made = np.empty((size, 3), np.int64), np.empty((size, 2)), 0
    for state in range(num_states):
        num_in = np.int64(0)
        row = first[state]
        while row >= 0:
            if num_in == len(heads):
                heads, head_values = grown_rows(heads), grown_rows(head_values)
            num_in = _insert(heads, head_values, num_in, waiting, values, row)
            row = waiting[row, NEXT]
        begin, end = arc_splits[state], arc_splits[state + 1]
        num_out = end - begin
        if 0 < state < num_states - 1 and num_in * num_out <= num_in + num_out:
            free = True
            for i in range(num_in):
                free = free and heads[i, LABEL] == 0
            if not free:
                free = True
                for arc in range(begin, end):
                    free = free and label[arc] == 0
            kept[state] = not free
        while used + max(num_in * num_out, num_out) > len(waiting):
            waiting, values = grown_rows(waiting), grown_rows(values)
        for arc in range(begin, end):
            to = dst[arc]
            if kept[state]:
                waiting[used, FROM], waiting[used, LABEL] = state, label[arc]
                values[used, WEIGHT], values[used, FRAME] = weight[arc], frame[arc]
                waiting[used, NEXT], first[to] = first[to], used
                used += 1
                continue
            for i in range(num_in):
                waiting[used, FROM] = heads[i, FROM]
                waiting[used, LABEL] = heads[i, LABEL] + label[arc]  # one of them is 0
                values[used, WEIGHT] = head_values[i, WEIGHT] * weight[arc]
                values[used, FRAME] = head_values[i, FRAME] if label[arc] == 0 else frame[arc]
                waiting[used, NEXT], first[to] = first[to], used
                used += 1
        if kept[state]:
            while num_made + num_in > len(made):
                made, made_values = grown_rows(made), grown_rows(made_values)
            for i in range(num_in):
                made[num_made, 0], made[num_made, 1] = heads[i, FROM], state
                made[num_made, 2] = heads[i, LABEL]
                made_values[num_made, WEIGHT] = head_values[i, WEIGHT]
                made_values[num_made, FRAME] = head_values[i, FRAME]
                num_made += 1
    return (
        kept,
        made[:num_made, 0].copy(),
        made[:num_made, 1].copy(),
        made[:num_made, 2].copy(),
        made_values[:num_made, WEIGHT].copy(),
        made_values[:num_made, FRAME].copy(),
    )


@_inner
def _insert(heads, head_values, num_in, waiting, values, row):
    """Puts an arc among the sorted ones, or adds it to the one with the same source and label."""
    source, label = waiting[row, FROM], waiting[row, LABEL]
    low, high = np.int64(0), num_in
    while low < high:
        middle = (low + high) // 2
        if heads[middle, FROM] < source or (
            heads[middle, FROM] == source and heads[middle, LABEL] < label
        ):
            low = middle + 1
        else:
            high = middle
    weight, frame = values[row, WEIGHT], values[row, FRAME]
    if low < num_in and heads[low, FROM] == source and heads[low, LABEL] == label:
        both = head_values[low, WEIGHT] + weight
        if both > 0.0:  # the mean; weights may be too small for a float
            head_values[low, FRAME] += (frame - head_values[low, FRAME]) * (weight / both)
        head_values[low, WEIGHT] = both
        return num_in
    for i in range(num_in, low, -1):
        heads[i, FROM], heads[i, LABEL] = heads[i - 1, FROM], heads[i - 1, LABEL]
        head_values[i, WEIGHT], head_values[i, FRAME] = (
            head_values[i - 1, WEIGHT],
            head_values[i - 1, FRAME],
        )
    heads[low, FROM], heads[low, LABEL] = source, label
    head_values[low, WEIGHT], head_values[low, FRAME] = weight, frame
    return num_in + 1
