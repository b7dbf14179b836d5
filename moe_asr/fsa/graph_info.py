"""What there is to know about a graph without searching it: sizes, labels, structure, scores."""

from typing import Any

import numpy as np

from moe_asr.fsa.view import GraphView

PERCENTILES = (50, 90, 99)


def graph_info(view: GraphView) -> dict[str, Any]:
    """Figures of a graph, as plain JSON values.

    Returns:
        ``kind``, ``metadata``, ``memory_bytes`` (of the arrays), and

        - ``states``: ``num``, ``final``, ``final_arcs`` (arcs of label -1, how a decoding graph ends),
          ``unreachable`` (from the start), ``dead_ends`` (that no final state is reached from).
        - ``arcs``: ``num``, ``self_loops``, ``out_degree`` and ``in_degree`` (mean, percentiles, max;
          percentiles are values that occur).
        - ``input``: ``arcs_epsilon`` or ``arcs_blank`` (label 0), ``distinct`` labels (0 and -1 not
          counted), ``table_size``, ``deterministic`` (no two arcs of a state with the same label, epsilon
          being one), ``nondeterministic_states``, ``sorted`` (in every state); arcs of -1 apart.
        - ``output``: ``arcs_without`` any, ``distinct``, ``table_size``, ``max_per_arc``.
        - ``structure``: ``connected``, ``acyclic``, ``epsilon_cycle`` (a cycle that reads nothing),
          ``components`` (strongly connected) and the number of states in the ``largest_component``.
        - ``scores``: ``min``, ``mean``, ``max`` of the arcs, ``positive_arcs``; ``final_min``, ``final_max``.
        - ``mass``: of the states that can be left, final scores included: ``min`` and ``max`` of
          log(sum(exp(score))), and ``states_above_one``, those where it exceeds 1e-4.

        What does not exist (the least score of no arcs) is None.
    """
    num_states, num_arcs = view.num_states, view.num_arcs
    is_final = np.isfinite(view.final_score)
    loops = int((view.src == view.dst).sum())
    unreachable, dead_ends, components, largest = _structure(view.src, view.dst, is_final)
    arrays = [view.src, view.dst, view.ilabel, view.score, view.row_splits, view.outputs]
    return {
        "kind": view.kind,
        "metadata": dict(view.metadata),
        "memory_bytes": sum(array.nbytes for array in [*arrays, view.final_score]),
        "states": {
            "num": num_states,
            "final": int(is_final.sum()),
            "final_arcs": int((view.ilabel == -1).sum()),
            "unreachable": unreachable,
            "dead_ends": dead_ends,
        },
        "arcs": {
            "num": num_arcs,
            "self_loops": loops,
            "out_degree": _distribution(np.diff(view.arc_splits)),
            "in_degree": _distribution(np.bincount(view.dst, minlength=num_states)),
        },
        "input": _input_labels(view),
        "output": _output_labels(view),
        "structure": {
            "connected": unreachable == 0 and dead_ends == 0,
            "acyclic": components == num_states and loops == 0,
            "epsilon_cycle": view.epsilon_inputs and _has_cycle(view, view.ilabel == 0),
            "components": components,
            "largest_component": largest,
        },
        "scores": _scores(view),
        "mass": _mass(view),
    }


def log_mass(view: GraphView) -> np.ndarray:
    """(S,) float64: log of the sum of exp(score) of each state's arcs and its final score.

    -inf of a state that is not final and has no arcs.
    """
    highest = view.final_score.astype(np.float64)
    leaving = np.flatnonzero(np.diff(view.arc_splits))
    starts = view.arc_splits[leaving]
    score = view.score.astype(np.float64)
    if len(leaving):
        highest[leaving] = np.maximum(highest[leaving], np.maximum.reduceat(score, starts))
    safe = np.where(np.isfinite(highest), highest, 0.0)
    total = np.exp(view.final_score - safe)
    if len(leaving):
        total[leaving] += np.add.reduceat(np.exp(score - safe[view.src]), starts)
    with np.errstate(divide="ignore"):
        return safe + np.log(total)


def _distribution(values: np.ndarray) -> dict[str, float]:
    ranked = np.percentile(values, PERCENTILES, method="inverted_cdf")
    return {
        "mean": float(values.mean()),
        **{f"p{rank}": int(value) for rank, value in zip(PERCENTILES, ranked, strict=True)},
        "max": int(values.max()),
    }


def _input_labels(view: GraphView) -> dict[str, Any]:
    zero = int((view.ilabel == 0).sum())
    key = (view.src.astype(np.int64) << 32) + view.ilabel
    key = key[view.ilabel >= 0]
    is_sorted = not (key[1:] < key[:-1]).any()
    if not is_sorted:
        key = np.sort(key)
    ambiguous = np.unique(key[1:][key[1:] == key[:-1]] >> 32)
    return {
        ("arcs_epsilon" if view.epsilon_inputs else "arcs_blank"): zero,
        "distinct": _num_distinct(view.ilabel),
        "table_size": None if view.isymbols is None else len(view.isymbols),
        "deterministic": len(ambiguous) == 0,
        "nondeterministic_states": len(ambiguous),
        "sorted": is_sorted,
    }


def _output_labels(view: GraphView) -> dict[str, Any]:
    counts = np.diff(view.row_splits)
    return {
        "arcs_without": int((counts == 0).sum()),
        "distinct": _num_distinct(view.outputs),
        "table_size": None if view.osymbols is None else len(view.osymbols),
        "max_per_arc": int(counts.max(initial=0)),
    }


def _num_distinct(labels: np.ndarray) -> int:
    labels = labels[labels > 0]
    if len(labels) == 0:
        return 0
    if labels.max() > 2 * len(labels) + 1000:  # too sparse to count by position
        return len(np.unique(labels))
    return int((np.bincount(labels) > 0).sum())


def _scores(view: GraphView) -> dict[str, Any]:
    finals = view.final_score[np.isfinite(view.final_score)]
    some = view.num_arcs > 0
    return {
        "min": float(view.score.min()) if some else None,
        "mean": float(view.score.mean(dtype=np.float64)) if some else None,
        "max": float(view.score.max()) if some else None,
        "positive_arcs": int((view.score > 0).sum()),
        "final_min": float(finals.min()) if len(finals) else None,
        "final_max": float(finals.max()) if len(finals) else None,
    }


def _mass(view: GraphView) -> dict[str, Any]:
    mass = log_mass(view)
    left = np.diff(view.arc_splits) > 0
    if not view.epsilon_inputs:  # the last state of a decoding graph is there to end in
        mass = mass[left]
    mass = mass[np.isfinite(mass)]
    return {
        "min": float(mass.min()) if len(mass) else None,
        "max": float(mass.max()) if len(mass) else None,
        "states_above_one": int((mass > 1e-4).sum()),
    }


def _structure(src: np.ndarray, dst: np.ndarray, is_final: np.ndarray) -> tuple[int, int, int, int]:
    """Numbers: of unreachable states, of dead ends, of components, of states in the largest of these."""
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    finals, end = np.flatnonzero(is_final), len(is_final)  # one more state, that all finals lead to
    graph = _matrix(
        np.concatenate([src, finals]), np.concatenate([dst, np.full(len(finals), end)]), end + 1
    )
    forward = _mask(breadth_first_order(graph, 0, return_predecessors=False), end)
    backward = _mask(breadth_first_order(graph.T.tocsr(), end, return_predecessors=False), end)
    number, component = connected_components(graph, directed=True, connection="strong")
    sizes = np.bincount(component[:end])
    return int((~forward).sum()), int((~backward).sum()), int(number) - 1, int(sizes.max())


def _mask(states: np.ndarray, num_states: int) -> np.ndarray:
    """(num_states,) bool: whether each state is among ``states``, where state ``num_states`` may be too."""
    mask = np.zeros(num_states + 1, bool)
    mask[states] = True
    return mask[:num_states]


def _matrix(src: np.ndarray, dst: np.ndarray, num_states: int) -> Any:
    """The arcs as a scipy matrix.

    Made from coordinates, which merges parallel arcs: with duplicates in the matrix scipy's search for
    strongly connected components may never come to an end.
    """
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(dst), np.float32), (src, dst)), shape=(num_states, num_states))


def _has_cycle(view: GraphView, which: np.ndarray) -> bool:
    from scipy.sparse.csgraph import connected_components

    src, dst = view.src[which], view.dst[which]
    graph = _matrix(src, dst, view.num_states)
    number, _ = connected_components(graph, directed=True, connection="strong")
    return int(number) < view.num_states or bool((src == dst).any())
