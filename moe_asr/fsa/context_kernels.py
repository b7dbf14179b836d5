"""The composition of a lattice with a context graph, compiled (`moe_asr.fsa.context_lattice`)."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def compose(in_splits, in_arc, src, column, following, gain, end_gain, start):
    """Pairs of a state and a context state that state 0 and ``start`` lead to, and the arcs between them.

    Args:
        in_splits: (S + 1,) int64; the arcs into state s are ``in_arc[in_splits[s]:in_splits[s + 1]]``.
        src, column: (A,) int32, source state and class of each arc.
        following, gain: (K, C), see `Tables`.
        end_gain: (K,) float32, on arcs into the last state, which is one for all context states.

    Returns:
        - (S + 1,) int64: the pairs of state s are ``splits[s]`` to ``splits[s + 1] - 1``.
        - (B,) int32: the pair that each arc leaves.
        - (B,) int32: the pair that it enters.
        - (B,) int32: the lattice's arc.
        - (B,) float32: what it gains.
    """
    num_states, num_contexts = len(in_splits) - 1, len(following)
    splits = np.zeros(num_states + 1, np.int64)
    known_for = np.full(
        num_contexts, -1, np.int64
    )  # the state, and its pair with each context state
    pair_of = np.empty(num_contexts, np.int32)
    context = np.empty(2 * num_states, np.int32)
    source = np.empty(2 * len(src), np.int32)
    target, arcs = np.empty(2 * len(src), np.int32), np.empty(2 * len(src), np.int32)
    gains = np.empty(2 * len(src), np.float32)
    num_pairs, num_arcs = 1, 0
    context[0] = start
    splits[1] = 1
    for state in range(1, num_states):
        for place in range(in_splits[state], in_splits[state + 1]):
            arc = in_arc[place]
            before = src[arc]
            for pair in range(splits[before], splits[before + 1]):
                after = following[context[pair], column[arc]]
                brought = gain[context[pair], column[arc]]
                if state == num_states - 1:
                    brought += end_gain[after]
                    after = 0
                if known_for[after] != state:
                    known_for[after] = state
                    pair_of[after] = num_pairs
                    if num_pairs == len(context):
                        context = _doubled(context)
                    context[num_pairs] = after
                    num_pairs += 1
                if num_arcs == len(source):
                    source, target = _doubled(source), _doubled(target)
                    arcs, gains = _doubled(arcs), _doubled(gains)
                source[num_arcs] = pair
                target[num_arcs] = pair_of[after]
                arcs[num_arcs] = arc
                gains[num_arcs] = brought
                num_arcs += 1
        splits[state + 1] = num_pairs
    return splits, source[:num_arcs], target[:num_arcs], arcs[:num_arcs], gains[:num_arcs]


@njit(cache=True, nogil=True)
def _doubled(array):
    """The same values with room for as many more."""
    larger = np.empty(2 * len(array), array.dtype)
    for i in range(len(array)):
        larger[i] = array[i]
    return larger
