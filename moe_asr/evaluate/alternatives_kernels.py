"""The edit distance between two graphs of words, compiled (`moe_asr.evaluate.alternatives`).

A graph has states 0..S-1, S-1 the final one; arcs lead to higher states and are sorted by where they lead:
those into state s are ``splits[s]`` to ``splits[s + 1] - 1``, from ``source``, with ``unit``, -1 for none.
"""

import numpy as np
from numba import njit

_ERROR = 1 << 32  # more than a text has units
_FAR = 1 << 62


@njit(cache=True, nogil=True)
def best_paths(left_splits, left_source, left_unit, right_splits, right_source, right_unit):
    """The arcs of the two paths that differ by the fewest errors, of these with the longest left one.

    Costs are errors, and what they have in common less the units of the left path.

    Returns:
        (L,) and (R,) int64: the arcs of the left and of the right path, backwards; those without a unit
        are left out.
    """
    height, width = len(left_splits) - 1, len(right_splits) - 1
    costs = np.full((height, width), _FAR, np.int64)
    for k in range(height):
        for m in range(width):
            best = np.int64(0 if k == 0 and m == 0 else _FAR)
            for left in range(left_splits[k], left_splits[k + 1]):
                i, unit = left_source[left], left_unit[left]
                best = min(best, costs[i, m] + (_ERROR - 1 if unit >= 0 else 0))
                if unit >= 0:
                    for right in range(right_splits[m], right_splits[m + 1]):
                        if right_unit[right] >= 0:
                            wrong = 0 if right_unit[right] == unit else _ERROR
                            best = min(best, costs[i, right_source[right]] + wrong - 1)
            for right in range(right_splits[m], right_splits[m + 1]):
                cost = _ERROR if right_unit[right] >= 0 else 0
                best = min(best, costs[k, right_source[right]] + cost)
            costs[k, m] = best
    lefts, rights = np.empty(height, np.int64), np.empty(width, np.int64)
    num_left = num_right = 0
    k, m = height - 1, width - 1
    while k > 0 or m > 0:
        cost, from_k, from_m, left_arc, right_arc = costs[k, m], -1, -1, -1, -1
        for left in range(left_splits[k], left_splits[k + 1]):
            i, unit = left_source[left], left_unit[left]
            if costs[i, m] + (_ERROR - 1 if unit >= 0 else 0) == cost:
                from_k, from_m, left_arc, right_arc = i, m, left, -1
            if unit >= 0:
                for right in range(right_splits[m], right_splits[m + 1]):
                    if right_unit[right] >= 0:
                        wrong = 0 if right_unit[right] == unit else _ERROR
                        j = right_source[right]
                        if costs[i, j] + wrong - 1 == cost:
                            from_k, from_m, left_arc, right_arc = i, j, left, right
        if from_k < 0:
            for right in range(right_splits[m], right_splits[m + 1]):
                if (
                    costs[k, right_source[right]] + (_ERROR if right_unit[right] >= 0 else 0)
                    == cost
                ):
                    from_k, from_m, left_arc, right_arc = k, right_source[right], -1, right
        assert from_k >= 0
        if left_arc >= 0 and left_unit[left_arc] >= 0:
            lefts[num_left] = left_arc
            num_left += 1
        if right_arc >= 0 and right_unit[right_arc] >= 0:
            rights[num_right] = right_arc
            num_right += 1
        k, m = from_k, from_m
    return lefts[:num_left].copy(), rights[:num_right].copy()
