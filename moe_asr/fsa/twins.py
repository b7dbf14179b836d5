"""Why a probabilistic automaton cannot be determinised: two loops that repeat the same words."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from moe_asr.fsa.probabilistic import EpsilonClosure, ProbabilisticAutomaton, Row, add_to

_TOLERANCE = 1e-6  # of log-probabilities around a loop


def find_unequal_twins(
    automaton: ProbabilisticAutomaton, closure: EpsilonClosure, max_arcs: int = 500_000
) -> tuple[int, int] | None:
    """Two loops over the same words, reached by the same words, with unequal probabilities.

    The twins property (Allauzen and Mohri, Efficient algorithms for testing the twins property, 2003):
    with such loops, the relative probability of being in one or the other after n turns takes
    infinitely many values, each of which would be a state.

    Args:
        closure: of the same automaton.
        max_arcs: of pairs of states; the search ends there.

    Returns:
        A state of each loop; None if no such loops were found.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    numbers = {(0, 0): 0}
    pairs = [(0, 0)]
    arcs: list[tuple[int, int, float]] = []  # of pairs of states; logarithm of the ratio
    successors: dict[int, dict[int, Row]] = {}
    for number, pair in enumerate(pairs):  # it grows
        for state in pair:
            if state not in successors:
                successors[state] = _by_label(automaton, closure, state)
        first, second = successors[pair[0]], successors[pair[1]]
        labels = first.keys() & second.keys()
        if len(arcs) + sum(len(first[label]) * len(second[label]) for label in labels) > max_arcs:
            break
        for label in sorted(labels):
            for one, p in first[label].items():
                for other, q in second[label].items():
                    if (one, other) not in numbers:
                        numbers[one, other] = len(pairs)
                        pairs.append((one, other))
                    arcs.append((number, numbers[one, other], p - q))
    if not arcs:
        return None
    src, dst = (np.array(column) for column in list(zip(*arcs, strict=True))[:2])
    shape = (len(pairs), len(pairs))
    graph = csr_matrix((np.ones(len(arcs), np.int8), (src, dst)), shape=shape)
    _, component = connected_components(graph, connection="strong")
    inside: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for arc in np.flatnonzero(component[src] == component[dst]):
        inside[arcs[arc][0]].append(arcs[arc][1:])
    found = _inconsistent(inside)
    return None if found is None else pairs[found]


def _by_label(
    automaton: ProbabilisticAutomaton, closure: EpsilonClosure, state: int
) -> dict[int, Row]:
    found: defaultdict[int, Row] = defaultdict(dict)
    for inner, log_probability in closure({state: 0.0}).items():
        for label, destination, arc_log_probability in automaton.arcs[inner]:
            add_to(found[label], destination, log_probability + arc_log_probability)
    return found


def _inconsistent(arcs: Mapping[int, list[tuple[int, float]]]) -> int | None:
    """A node on a cycle whose sum is not 0; every arc lies on a cycle. None if all sums are 0."""
    potential: dict[int, float] = {}
    for root in arcs:
        if root in potential:
            continue
        potential[root] = 0.0
        queue = [root]
        for node in queue:  # it grows
            for successor, value in arcs[node]:
                expected = potential[node] + value
                if successor not in potential:
                    potential[successor] = expected
                    queue.append(successor)
                elif abs(potential[successor] - expected) > _TOLERANCE:
                    return successor
    return None
