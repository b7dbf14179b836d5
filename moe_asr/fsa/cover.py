"""Sentences through given arcs of a G: sampling by probability hardly ever comes to the rare ones."""

from collections.abc import Iterator

import numpy as np

from moe_asr.fsa.fst import Fst


def sentences_through(fst: Fst, arcs: np.ndarray) -> Iterator[tuple[int, ...]]:
    """For each arc the words of a path from the start over it to a final state, with the fewest arcs.

    Args:
        fst: connected.
        arcs: indices.

    Yields:
        Output labels, epsilons left out.
    """
    entering = _first_arcs(fst.src, fst.dst, np.array([0]), fst.num_states)
    finals = np.flatnonzero(np.isfinite(fst.final_score))
    leaving = _first_arcs(fst.dst, fst.src, finals, fst.num_states)
    for arc in arcs.tolist():
        path = [arc]
        while entering[fst.src[path[-1]]] >= 0:
            path.append(int(entering[fst.src[path[-1]]]))
        path.reverse()
        while leaving[fst.dst[path[-1]]] >= 0:
            path.append(int(leaving[fst.dst[path[-1]]]))
        labels = fst.olabel[path]
        yield tuple(labels[labels > 0].tolist())


def _first_arcs(
    src: np.ndarray, dst: np.ndarray, starts: np.ndarray, num_states: int
) -> np.ndarray:
    """(num_states,) the last arc of a shortest path from ``starts`` to each state; -1 where there is none."""
    order = np.argsort(src, kind="stable")
    counts = np.bincount(src, minlength=num_states)
    begins = np.cumsum(counts) - counts
    via = np.full(num_states, -1)
    seen = np.zeros(num_states, bool)
    seen[starts] = True
    states = starts
    while len(states):
        number = counts[states]
        offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        arcs = order[np.repeat(begins[states], number) + offset]
        arcs = arcs[~seen[dst[arcs]]]
        states, first = np.unique(dst[arcs], return_index=True)
        via[states] = arcs[first]
        seen[states] = True
    return via
