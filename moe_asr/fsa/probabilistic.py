"""Probabilistic automata: epsilons removed, determinised and minimised with probabilities added up.

Each state of a `ProbabilisticAutomaton` says with which probability each word, or the end, comes next.
A sentence's probability is the sum over its paths (the log semiring), so what comes out is
deterministic and is itself a language model: of every state the probabilities sum to one.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.openfst import from_kaldifst, import_kaldifst, to_kaldifst

_SMALLEST = 1e-200  # far above where doubles lose precision
_RESOLUTION = 1e8  # log-probabilities that agree to 1 / this are taken for equal
Row = dict[int, float]


@dataclass
class ProbabilisticAutomaton:
    """States 0 (the start) to n-1; of each, all outgoing probabilities and ``final`` sum to one.

    Attributes:
        arcs: [state] (label above 0, destination, probability).
        epsilons: [state] (destination, probability).
        final: [state] probability of ending.
    """

    arcs: list[list[tuple[int, int, float]]] = field(default_factory=list)
    epsilons: list[list[tuple[int, float]]] = field(default_factory=list)
    final: list[float] = field(default_factory=list)

    def add_state(self, final: float = 0.0) -> int:
        """A new state without arcs."""
        self.arcs.append([])
        self.epsilons.append([])
        self.final.append(final)
        return len(self.final) - 1

    @property
    def num_states(self) -> int:
        """Of all, reachable or not."""
        return len(self.final)

    @property
    def num_arcs(self) -> int:
        """Those with a label; epsilons are not counted."""
        return sum(map(len, self.arcs))


class TooLargeError(GraphError):
    """An automaton outgrew its limit."""


def epsilon_closures(automaton: ProbabilisticAutomaton, max_entries: int) -> dict[int, Row]:
    """Of each state with epsilons: in which state the next word (or the end) is chosen.

    The probabilities of all epsilon paths are added up, cycles included: Gaussian elimination of the
    equations ``row(p) = itself + sum of probability * row(destination)``, along a depth-first search.

    Returns:
        Rows of probabilities that sum to one, over states that have arcs or are final.

    Raises:
        TooLargeError: if the rows have more than ``max_entries`` entries.
    """
    rows: dict[int, Row] = {}
    order: list[int] = []
    entries = 0
    for root in range(automaton.num_states):
        if not automaton.epsilons[root] or root in rows:
            continue
        for state in _postorder(automaton, root, rows):
            row: defaultdict[int, float] = defaultdict(float)
            if automaton.arcs[state] or automaton.final[state]:
                row[state] = 1.0
            for destination, probability in automaton.epsilons[state]:
                if not automaton.epsilons[destination]:
                    row[destination] += probability
                else:  # a negative key is a row that is not known yet
                    row[~destination] += probability
            _substitute(row, rows)
            loop = row.pop(~state, 0.0)
            rows[state] = {key: value / (1.0 - loop) for key, value in row.items()}
            order.append(state)
            entries += len(row)
            if entries > max_entries:
                raise TooLargeError(f"more than {max_entries:,} ways through optional parts")
    for state in reversed(order):  # what was not known then is now
        known: defaultdict[int, float] = defaultdict(float, rows[state])
        _substitute(known, rows)
        rows[state] = dict(known)
    return rows


def _substitute(row: defaultdict[int, float], rows: Mapping[int, Row]) -> None:
    while True:
        found = [key for key in row if key < 0 and ~key in rows]
        if not found:
            return
        for key in found:
            factor = row.pop(key)
            for inner, probability in rows[~key].items():
                row[inner] += factor * probability


def _postorder(
    automaton: ProbabilisticAutomaton, root: int, finished: Mapping[int, Row]
) -> list[int]:
    """States reachable by epsilons that have epsilons themselves, in the order they are left."""
    order, seen, stack = [], {root}, [(root, iter(automaton.epsilons[root]))]
    while stack:
        state, rest = stack[-1]
        for destination, _ in rest:
            new = destination not in seen and destination not in finished
            if new and automaton.epsilons[destination]:
                seen.add(destination)
                stack.append((destination, iter(automaton.epsilons[destination])))
                break
        else:
            order.append(state)
            stack.pop()
    return order


def determinize(
    automaton: ProbabilisticAutomaton, closures: Mapping[int, Row], max_arcs: int
) -> ProbabilisticAutomaton:
    """The deterministic automaton without epsilons that gives every sentence the same probability.

    A state is the distribution over states of ``automaton`` after some words (the forward vector of a
    hidden Markov model), so an arc's probability is that of its word given the words before. Mohri,
    Weighted automata algorithms (2009), section 6, in the log semiring.

    Args:
        closures: `epsilon_closures` of the automaton.

    Raises:
        TooLargeError: if more than ``max_arcs`` are needed; some automata with cycles need infinitely
            many states.
    """
    result = ProbabilisticAutomaton()
    numbers = {_key({0: 1.0}): result.add_state()}
    queue: list[Row] = [{0: 1.0}]
    size = 0  # arcs, and states that the new states are distributions over
    for number, distribution in enumerate(queue):  # it grows
        after: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        final = 0.0
        for state, probability in close(distribution, closures).items():
            final += probability * automaton.final[state]
            for label, destination, arc_probability in automaton.arcs[state]:
                after[label][destination] += probability * arc_probability
        result.final[number] = final
        for label in sorted(after):
            row = after[label]
            total = math.fsum(row.values())
            if min(row.values()) < total * _SMALLEST or total < _SMALLEST:
                raise TooLargeError(
                    "a derivation is more than 1e200 times less likely than another of the same words"
                )
            successor = {state: p / total for state, p in row.items()}
            key = _key(successor)
            if key not in numbers:
                numbers[key] = result.add_state()
                queue.append(successor)
                size += len(successor)
            result.arcs[number].append((label, numbers[key], total))
        size += len(result.arcs[number])
        if size > 2 * max_arcs:
            raise TooLargeError(f"more than {max_arcs:,} arcs in the deterministic automaton")
    return result


def close(distribution: Row, closures: Mapping[int, Row]) -> Row:
    """Where the next word (or the end) is chosen, given a distribution over states."""
    closed: defaultdict[int, float] = defaultdict(float)
    for state, probability in distribution.items():
        for inner, factor in closures.get(state, {state: 1.0}).items():
            closed[inner] += probability * factor
    return closed


def _key(distribution: Row) -> tuple[int, ...]:
    if len(distribution) == 1:
        return tuple(distribution)
    items = sorted(distribution.items())
    return tuple(part for state, p in items for part in (state, _rounded(p)))


def _rounded(probability: float) -> int:
    return round(math.log(probability) * _RESOLUTION)


def minimize(automaton: ProbabilisticAutomaton) -> Fst:
    """The smallest acceptor of a deterministic automaton; natural logs, arcs sorted by label.

    Since every state is normalised, two states are equivalent exactly if they have the same labels with
    the same probabilities leading to equivalent states: the labels are taken together with their
    probabilities as letters of an unweighted automaton, which OpenFst minimises (Mohri 2009, section 7,
    for which the normalisation is the weight pushing).
    """
    letters: dict[tuple[int, int], int] = {}
    values: list[tuple[int, float]] = [(0, 0.0)]  # letter 0 is epsilon
    end = automaton.num_states
    rows = []
    for state in range(end):
        final = automaton.final[state]
        arcs = [*automaton.arcs[state], *([(0, end, final)] if final > 0.0 else [])]
        for label, destination, probability in arcs:
            key = (label, _rounded(probability))
            if key not in letters:
                letters[key] = len(values)
                values.append((label, math.log(probability)))
            rows.append((state, destination, letters[key], letters[key], 0.0))
    theirs = to_kaldifst(Fst.from_list(rows, {end: 0.0}))
    import_kaldifst().minimize(theirs)
    return _decode(from_kaldifst(theirs), values)


def _decode(fst: Fst, values: list[tuple[int, float]]) -> Fst:
    """Letters back into labels and probabilities; states in breadth-first order from the start."""
    label = np.array([value[0] for value in values], np.int32)[fst.ilabel]
    score = np.array([value[1] for value in values])[fst.ilabel]
    final_score = np.full(fst.num_states, -np.inf)
    final_score[fst.src[label == 0]] = score[label == 0]
    inner = np.flatnonzero(label)
    inner = inner[np.lexsort([label[inner], fst.src[inner]])]
    src, dst = fst.src[inner], fst.dst[inner]
    splits = np.searchsorted(src, np.arange(fst.num_states + 1)).tolist()
    successors = dst.tolist()
    order, seen = [0], {0}
    for state in order:  # it grows
        for successor in successors[splits[state] : splits[state + 1]]:
            if successor not in seen:
                seen.add(successor)
                order.append(successor)
    number = np.zeros(fst.num_states, np.int32)
    number[order] = np.arange(len(order))
    return Fst.from_arcs(
        number[src], number[dst], label[inner], label[inner], score[inner], final_score[order]
    )
