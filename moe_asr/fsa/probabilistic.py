"""Probabilistic automata: epsilons removed, determinised and minimised with probabilities added up.

Each state of a `ProbabilisticAutomaton` says with which probability each word, or the end, comes next.
A sentence's probability is the sum over its paths (the log semiring), so what comes out is
deterministic and is itself a language model: of every state the probabilities sum to one.

All probabilities are kept as natural logs, in double precision: nothing underflows.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.openfst import from_kaldifst, import_kaldifst, to_kaldifst

_RESOLUTION = 1e8  # log-probabilities that agree to 1 / this are taken for equal
Row = dict[int, float]  # log-probabilities of states


@dataclass
class ProbabilisticAutomaton:
    """States 0 (the start) to n-1; of each, all outgoing probabilities and that of ending sum to one.

    Attributes:
        arcs: [state] (label above 0, destination, log-probability).
        epsilons: [state] (destination, log-probability).
        final: [state] log-probability of ending, -inf if it cannot.
    """

    arcs: list[list[tuple[int, int, float]]] = field(default_factory=list)
    epsilons: list[list[tuple[int, float]]] = field(default_factory=list)
    final: list[float] = field(default_factory=list)

    def add_state(self, final: float = -math.inf) -> int:
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


def add_to(row: Row, key: int, log_probability: float) -> None:
    """Adds a probability to that of ``key``."""
    before = row.get(key)
    if before is None:
        row[key] = log_probability
    else:
        high, low = max(before, log_probability), min(before, log_probability)
        row[key] = high + math.log1p(math.exp(low - high))


def log_sum(values: Iterable[float]) -> float:
    """The logarithm of a sum of probabilities, one or more."""
    values = list(values)
    if len(values) == 1:
        return values[0]
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


class EpsilonClosure:
    """Where the next word (or the end) is chosen, from any distribution over states.

    Probabilities of all epsilon paths are added up. Cycles of epsilons are removed once, by Gaussian
    elimination of the equations ``row(p) = itself + sum of probability * row(destination)`` along a
    depth-first search: where a row would lead to a state on a cycle that was left before, that state's own
    row takes its place. What is left has no cycles and is followed for each distribution.

    Args:
        max_entries: of rows that have grown so; they may become dense.

    Raises:
        TooLargeError: if there are more than ``max_entries``.
    """

    def __init__(self, automaton: ProbabilisticAutomaton, max_entries: int) -> None:
        # in a row, a key k >= 0 is state k, where one stays; k < 0 is state ~k, whose row follows
        self._rows: dict[int, Row] = {}
        # rows mostly lead to lower ranks, so states are followed in descending order
        self._rank: dict[int, int] = {}
        on_cycle: set[int] = set()  # their rows led to states that were not left yet
        entries = 0
        for root in range(automaton.num_states):
            if not automaton.epsilons[root] or root in self._rows:
                continue
            for state in _postorder(automaton, root, self._rows):
                row: Row = {}
                if automaton.arcs[state] or automaton.final[state] > -math.inf:
                    row[state] = 0.0
                for destination, log_probability in automaton.epsilons[state]:
                    more = automaton.epsilons[destination]
                    add_to(row, ~destination if more else destination, log_probability)
                while found := [key for key in row if ~key in on_cycle]:
                    self._substitute(row, found)
                loop = row.pop(~state, -math.inf)  # 1 + loop + loop^2 + ... times
                turns = -math.log(-math.expm1(loop))
                self._rows[state] = {key: value + turns for key, value in row.items()}
                self._rank[state] = len(self._rank)
                if any(key < 0 and ~key not in self._rows for key in row):
                    on_cycle.add(state)
                if len(row) > len(automaton.epsilons[state]) + 1:
                    entries += len(row)
                if entries > max_entries:
                    raise TooLargeError(f"more than {max_entries:,} ways through optional parts")

    def _substitute(self, row: Row, keys: list[int]) -> None:
        for key in keys:
            factor = row.pop(key)
            for inner, log_probability in self._rows[~key].items():
                add_to(row, inner, factor + log_probability)

    def __call__(self, distribution: Row) -> Row:
        """The distribution over states that have arcs or are final."""
        closed: Row = {}
        pending: Row = {}
        for state, log_probability in distribution.items():
            add_to(pending if state in self._rows else closed, state, log_probability)
        heap = [(-self._rank[state], state) for state in pending]
        heapq.heapify(heap)
        while heap:
            _, state = heapq.heappop(heap)
            log_probability = pending.pop(state)
            for key, factor in self._rows[state].items():
                if key >= 0:
                    add_to(closed, key, log_probability + factor)
                    continue
                if ~key not in pending:
                    heapq.heappush(heap, (-self._rank[~key], ~key))
                add_to(pending, ~key, log_probability + factor)
        return closed


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
    automaton: ProbabilisticAutomaton, closure: EpsilonClosure, max_arcs: int
) -> ProbabilisticAutomaton:
    """The deterministic automaton without epsilons that gives every sentence the same probability.

    A state is the distribution over states of ``automaton`` after some words (the forward vector of a
    hidden Markov model), so an arc's probability is that of its word given the words before. Mohri,
    Weighted automata algorithms (2009), section 6, in the log semiring.

    Args:
        closure: of the same automaton.

    Raises:
        TooLargeError: if more than ``max_arcs`` are needed; some automata with cycles need infinitely
            many states.
    """
    result = ProbabilisticAutomaton()
    numbers = {_key({0: 0.0}): result.add_state()}
    queue: list[Row] = [{0: 0.0}]
    size = 0  # arcs, and states that the new states are distributions over
    for number, distribution in enumerate(queue):  # it grows
        after: defaultdict[int, Row] = defaultdict(dict)
        ends = []
        for state, log_probability in closure(distribution).items():
            if automaton.final[state] > -math.inf:
                ends.append(log_probability + automaton.final[state])
            for label, destination, arc_log_probability in automaton.arcs[state]:
                add_to(after[label], destination, log_probability + arc_log_probability)
        if ends:
            result.final[number] = log_sum(ends)
        for label in sorted(after):
            row = after[label]
            total = log_sum(row.values())
            successor = {state: value - total for state, value in row.items()}
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


def _key(distribution: Row) -> tuple[int, ...]:
    if len(distribution) == 1:
        return tuple(distribution)
    items = sorted(distribution.items())
    return tuple(part for state, value in items for part in (state, round(value * _RESOLUTION)))


def minimize(automaton: ProbabilisticAutomaton) -> Fst:
    """The smallest acceptor of a deterministic automaton; arcs are sorted by label.

    Since every state is normalised, two states are equivalent exactly if they have the same labels with
    the same probabilities leading to equivalent states: the labels are taken together with their
    probabilities as letters of an unweighted automaton, which OpenFst minimises (Mohri 2009, section 7,
    for which the normalisation is the weight pushing).
    """
    letters: dict[tuple[int, int], int] = {}
    labels, values = [0], [0.0]  # of letters; letter 0 is epsilon
    end = automaton.num_states
    src, dst, letter = [], [], []
    for state in range(end):
        final = automaton.final[state]
        for label, destination, value in automaton.arcs[state] + [(0, end, final)]:
            if value == -math.inf:
                continue
            key = (label, round(value * _RESOLUTION))
            if key not in letters:
                letters[key] = len(labels)
                labels.append(label)
                values.append(value)
            src.append(state)
            dst.append(destination)
            letter.append(letters[key])
    final_score = np.full(end + 1, -np.inf)
    final_score[end] = 0.0
    theirs = to_kaldifst(Fst.from_arcs(src, dst, letter, letter, np.zeros(len(src)), final_score))
    import_kaldifst().minimize(theirs)
    fst = from_kaldifst(theirs)
    return _decode(fst, np.array(labels, np.int32)[fst.ilabel], np.array(values)[fst.ilabel])


def _decode(fst: Fst, label: np.ndarray, score: np.ndarray) -> Fst:
    """The acceptor whose arcs have these; label 0 is the end. States in breadth-first order."""
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
