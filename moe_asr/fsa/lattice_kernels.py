"""The compiled loops over lattices."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def accumulate(
    src: np.ndarray,
    dst: np.ndarray,
    score: np.ndarray,
    num_states: int,
    backward: bool,
    log: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Total scores of all partial paths of every state, in one pass over the arcs.

    Args:
        src, dst: (A,) int32 states, topologically sorted, arcs sorted by src.
        score: (A,) float64, finite.
        num_states: S, at least 1.
        backward: paths from each state to state S-1, instead of from state 0.
        log: sum paths (log semiring), instead of taking the best (tropical semiring).

    Returns:
        - (S,) float64: the totals; -inf where there is no path.
        - (S,) int64: the arc that the best of these totals comes over; of several the first, -1 for none.
    """
    # A state's total is highest + log(mass): one exponential an arc, and one logarithm a state.
    highest = np.full(num_states, -np.inf)
    mass = np.zeros(num_states)
    best = np.full(num_states, -1, np.int64)
    origin = num_states - 1 if backward else 0
    highest[origin], mass[origin] = 0.0, 1.0
    num_arcs = len(src)
    for step in range(num_arcs):
        arc = num_arcs - 1 - step if backward else step
        before, after = src[arc], dst[arc]
        if backward:
            before, after = after, before
        if mass[before] == 0.0:
            continue
        if mass[before] != 1.0:  # all of its arcs have been seen
            highest[before] += np.log(mass[before])
            mass[before] = 1.0
        value = highest[before] + score[arc]
        if value > highest[after] or (backward and value == highest[after]):
            mass[after] = 1.0 + (mass[after] * np.exp(highest[after] - value) if log else 0.0)
            highest[after] = value
            best[after] = arc
        elif log:
            mass[after] += np.exp(value - highest[after])
    for state in range(num_states):
        if mass[state] > 1.0:
            highest[state] += np.log(mass[state])
    return highest, best


@njit(cache=True, nogil=True)
def distances(arc_splits: np.ndarray, dst: np.ndarray, length: np.ndarray) -> tuple:
    """How far each state is from state 0, if it is the same over all paths.

    Args:
        arc_splits: (S + 1,) int64; the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``.
        dst, length: (A,) int32.

    Returns:
        - (S,) int32: the distances; -1 where state 0 does not lead.
        - an arc that leads to a state farther away, or nearer, than another does; -1 if there is none.
    """
    num_states = len(arc_splits) - 1
    distance = np.full(num_states, -1, np.int32)
    waiting = np.empty(num_states, np.int64)
    waiting[0], distance[0] = 0, 0
    first, end = 0, 1
    while first < end:
        state = waiting[first]
        first += 1
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            following = distance[state] + length[arc]
            if distance[dst[arc]] == -1:
                distance[dst[arc]] = following
                waiting[end] = dst[arc]
                end += 1
            elif distance[dst[arc]] != following:
                return distance, arc
    return distance, -1
