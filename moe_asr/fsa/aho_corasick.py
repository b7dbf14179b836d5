"""Finding many patterns in one pass: the automaton of Aho and Corasick (1975), with scores.

    A. Aho, M. Corasick: Efficient string matching: an aid to bibliographic search. CACM 18(6).

A state is the longest end of what was read that begins a pattern. A pattern's score is given step by step
while it is read, as a potential: a step from state s to s' brings

    gain(s -> s') = potential(s') - potential(s) + out(s')

``out(s')`` being the scores of all patterns that end there, and ``potential(s)`` the most that a pattern
begun in s has been given in advance. Potentials cancel along a path: what is left is the sum of the scores of
the patterns that were found, however it was spread (the shaping of Ng, Harada and Russell, 1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

OTHER = 0  # the letter that stands for all those that are in no pattern


@dataclass(frozen=True, eq=False)
class Automaton:
    """K states, 0 being the root, where no pattern is begun; L letters.

    A state that begins no pattern goes on as its longest end does that begins one: with the same potential,
    to the same states. The R that begin one have rows of their own; the root's is the first.

    Attributes:
        next: (R, L) int32, states.
        row: (K,) int32, the row of each state.
        state: (R,) int64, the state of each row.
        last: (K,) int64, the letter by which a state is entered; -1 of the root.
        potential, out: (K,) float64, see above; potential is 0 or more.
        found: for each state the patterns that end there, from longest to shortest.
        length: (P,) int64, letters of each pattern.
        mark: a letter of which two in a row are one, or -1.
    """

    next: np.ndarray
    row: np.ndarray
    state: np.ndarray
    last: np.ndarray
    potential: np.ndarray
    out: np.ndarray
    found: list[tuple[int, ...]]
    length: np.ndarray
    mark: int = -1

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.next)

    def gain(self, rows: np.ndarray, letters: np.ndarray | int) -> np.ndarray:
        """float64, of steps by letters from states of rows; both are broadcast."""
        gain = self._enter[self.next[rows, letters]] - self._leave[rows]
        is_mark = np.equal(letters, self.mark)
        if self.mark >= 0 and is_mark.any():
            gain = np.where(is_mark & self._after_mark[rows], 0.0, gain)
        return gain

    @cached_property
    def _enter(self) -> np.ndarray:
        """(K,) float64."""
        return self.potential + self.out

    @cached_property
    def _leave(self) -> np.ndarray:
        """(R,) float64."""
        return self.potential[self.state]

    @cached_property
    def _after_mark(self) -> np.ndarray:
        """(R,) bool."""
        return self.last[self.state] == self.mark


def build_automaton(
    patterns: Sequence[Sequence[int]],
    scores: Sequence[float],
    num_letters: int,
    mark: int = -1,
    max_entries: int | None = None,
) -> Automaton | None:
    """The automaton of P patterns; None if R * L is more than ``max_entries``.

    Args:
        patterns: letters, 1 to ``num_letters - 1``, at least one of them not ``mark``, which does not follow
            itself. Equal patterns count separately.
        scores: of each; a score above 0 is given in advance, in proportion to the letters read.
        num_letters: L, `OTHER` included.
        mark: a letter of which any number in a row are one, and which counts as no progress: after the last
            letter that is another, the whole score has been given.
    """
    children, parent, letter, depth, own, advance = _trie(patterns, scores, mark)
    num_states = len(children)
    goes_on = np.array([state == 0 or bool(some) for state, some in enumerate(children)])
    states_of_rows = np.flatnonzero(goes_on)
    if max_entries is not None and len(states_of_rows) * num_letters > max_entries:
        return None
    following = np.zeros((len(states_of_rows), num_letters), np.int32)
    row = np.where(goes_on, np.cumsum(goes_on) - 1, 0).astype(np.int32)
    fail = np.zeros(num_states, np.int32)
    potential, out = np.array(advance), np.zeros(num_states)
    found: list[tuple[int, ...]] = [()] * num_states
    order = np.argsort(depth, kind="stable")
    depths = np.array(depth)[order]
    parents, letters = np.array(parent), np.array(letter)
    for level in range(int(depths[-1]) + 1):
        states = order[np.searchsorted(depths, level) : np.searchsorted(depths, level + 1)]
        if level > 1:
            fail[states] = following[row[fail[parents[states]]], letters[states]]
        if level > 0:
            # the row of a state is that of its longest end, which is complete, and its children
            inner, ends = states[goes_on[states]], states[~goes_on[states]]
            following[row[inner]] = following[row[fail[inner]]]
            row[ends] = row[fail[ends]]
            potential[states] = np.maximum(potential[states], potential[fail[states]])
        for state in states.tolist():
            for symbol, child in children[state].items():
                following[row[state], symbol] = child
            suffix = int(fail[state])
            found[state] = (*own[state], *(found[suffix] if state else ()))
            out[state] = sum(scores[pattern] for pattern in found[state])
    last = np.where(depth, letters, -1)
    if mark >= 0:
        after_mark = states_of_rows[last[states_of_rows] == mark]
        following[row[after_mark], mark] = after_mark
    length = np.array([len(pattern) for pattern in patterns], np.int64)
    return Automaton(following, row, states_of_rows, last, potential, out, found, length, mark)


def _trie(
    patterns: Sequence[Sequence[int]], scores: Sequence[float], mark: int
) -> tuple[
    list[dict[int, int]], list[int], list[int], list[int], list[tuple[int, ...]], list[float]
]:
    """For each state: children, parent, the letter from there, depth, patterns that end, score in advance."""
    children: list[dict[int, int]] = [{}]
    parent, letter, depth = [0], [0], [0]
    own: list[tuple[int, ...]] = [()]
    advance = [0.0]
    for number, (pattern, score) in enumerate(zip(patterns, scores, strict=True)):
        assert len(pattern) and all(symbol != OTHER for symbol in pattern), pattern
        total = sum(symbol != mark for symbol in pattern)
        assert total, pattern
        state, read = 0, 0
        for position, symbol in enumerate(pattern, start=1):
            if symbol not in children[state]:
                children[state][symbol] = len(children)
                children.append({})
                parent.append(state)
                letter.append(symbol)
                depth.append(position)
                own.append(())
                advance.append(0.0)
            state = children[state][symbol]
            read += symbol != mark
            if position < len(pattern):
                advance[state] = max(advance[state], score * (read / total))
        own[state] = (*own[state], number)
    return children, parent, letter, depth, own, advance
