"""Epsilon removal that keeps every output: k2's own keeps one word of those that sound alike.

``k2.remove_epsilon`` works on the input labels only: of two epsilon paths between the same states
it drops the worse, although their words may differ. Homophones (one spelling, told apart by
disambiguation symbols, which become epsilons) are such paths; a lattice should hold them all.
"""

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs, concatenate, follow


def remove_epsilons(arcs: Arcs) -> Arcs:
    """An equivalent FST without arcs of label 0, in the tropical semiring.

    For every input, each output (word sequence) keeps the score of its best path. States keep their
    numbers; those that only epsilons led to have no arcs any more.

    Returns:
        Arcs sorted by (src, label, dst), of which no two are the same but for their scores.

    Raises:
        GraphError: if there is a cycle of epsilons.
    """
    is_epsilon = arcs.label == 0
    epsilons = arcs.take(np.flatnonzero(is_epsilon))
    others = arcs.take(np.flatnonzero(~is_epsilon))
    num_states = int(max(arcs.src.max(initial=0), arcs.dst.max(initial=0))) + 1
    if has_cycle(epsilons.src, epsilons.dst, num_states):
        raise GraphError("a cycle of epsilons (or disambiguation symbols) cannot be removed")
    begins = np.zeros(
        num_states, bool
    )  # what only epsilons lead to is left out: no path begins there
    begins[0] = True
    begins[others.dst] = True
    paths = epsilons.take(np.flatnonzero(begins[epsilons.src]))
    pieces = [others.take(np.flatnonzero(begins[others.src]))]
    while len(paths):  # paths of one epsilon, two, ...; each is continued by an arc that is none
        pieces.append(follow(paths, others))
        paths = follow(paths, epsilons).best_of_equals()
    return concatenate(pieces).best_of_equals()


def has_cycle(src: np.ndarray, dst: np.ndarray, num_states: int) -> bool:
    """Whether arcs ``src -> dst`` between states 0 to ``num_states - 1`` lead back to where they began."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if (src == dst).any():
        return True
    ones = np.ones(len(src), np.int8)
    matrix = csr_matrix((ones, (src, dst)), shape=(num_states, num_states))
    number, _ = connected_components(matrix, directed=True, connection="strong")
    return bool(number < num_states)
