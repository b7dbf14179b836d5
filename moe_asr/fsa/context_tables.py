"""Tables of what units do in an automaton over letters, and what the arcs of a graph or lattice spell."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.fsa.aho_corasick import OTHER, Automaton

MAX_BYTES = 1 << 29  # of a context graph's tables
NONE, ANY = 0, 1  # classes: of what changes nothing, and of what is in no phrase


@dataclass(frozen=True, eq=False)
class Tables:
    """Transitions and gains of K states; what leads alike everywhere is one of C classes.

    Attributes:
        class_of: (symbols,) int32.
        next: (K, C) int32.
        gain: (K, C) float32.
    """

    class_of: np.ndarray
    next: np.ndarray
    gain: np.ndarray


@dataclass(frozen=True, eq=False)
class Symbols:
    """What arcs spell, in one number: 0 for nothing, a unit's id, or ``num_units`` + a sequence's number.

    Attributes:
        of_arc: (A,) uint32.
        sequences: (S, longest) int32, units, filled up with 0.
    """

    of_arc: np.ndarray
    sequences: np.ndarray


def symbols_of_words(row_splits: np.ndarray, words: np.ndarray, num_words: int) -> Symbols:
    """Of arcs whose words are ``words[row_splits[a]:row_splits[a + 1]]``, ids below ``num_words``."""
    counts = np.diff(row_splits)
    symbols = np.zeros(len(counts), np.uint32)
    single = np.flatnonzero(counts == 1)
    symbols[single] = words[row_splits[single]]
    several = np.flatnonzero(counts > 1)
    if len(several) == 0:
        return Symbols(symbols, np.zeros((0, 0), np.int32))
    longest = int(counts.max())
    padded = np.zeros((len(several), longest), np.int32)
    for place in range(longest):
        has = counts[several] > place
        padded[has, place] = words[row_splits[several[has]] + place]
    sequences, number = np.unique(padded, axis=0, return_inverse=True)
    symbols[several] = num_words + number.reshape(-1)
    return Symbols(symbols, sequences)


def symbols_of_tokens(token: np.ndarray, starts_token: np.ndarray) -> Symbols:
    """Of arcs that spell their token if they begin it."""
    symbols = np.where(starts_token, token, 0).astype(np.uint32)
    return Symbols(symbols, np.zeros((0, 0), np.int32))


def compose_tables(automaton: Automaton, units: Sequence[tuple[int, ...]]) -> Tables:
    """The tables of units that spell letters, the first of them none.

    If no unit spells more than one letter, class c is the letter c - 1.

    Raises:
        ConfigError: if they are larger than `MAX_BYTES`.
    """
    if all(len(spelled) <= 1 for spelled in units):
        num_rows, num_letters = automaton.next.shape
        _check_size(num_rows * (num_letters + 1))
        following = np.empty((num_rows, num_letters + 1), np.int32)
        gain = np.zeros(following.shape, np.float32)
        following[:, NONE] = np.arange(num_rows)
        letters = np.arange(num_letters)
        for row in range(num_rows):  # all at once they take five times the memory
            following[row, 1:] = automaton.row[automaton.next[row]]
            gain[row, 1:] = automaton.gain(np.array(row), letters)
        classes = [spelled[0] + 1 if spelled else NONE for spelled in units]
        return Tables(np.array(classes, np.int32), following, gain)
    columns = _Columns(automaton)
    # the order of a dictionary: spellings that begin alike are neighbours, and their beginning is read once
    class_of = {spelled: columns.of(spelled) for spelled in sorted({(), (OTHER,), *units})}
    assert (class_of[()], class_of[(OTHER,)]) == (NONE, ANY)
    following, gain = columns.tables()
    return Tables(np.array([class_of[unit] for unit in units], np.int32), following, gain)


class _Columns:
    """Columns of the tables, each once."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._numbers: dict[bytes, int] = {}
        self._next: list[np.ndarray] = []
        self._gain: list[np.ndarray] = []
        # of the beginnings of what was spelled last
        nothing = np.arange(automaton.num_rows, dtype=np.int32), np.zeros(automaton.num_rows)
        self._read: list[tuple[np.ndarray, np.ndarray]] = [nothing]
        self._spelled: tuple[int, ...] = ()

    def of(self, letters: tuple[int, ...]) -> int:
        """The number of the column of a spelling."""
        common = 0
        while self._spelled[common : common + 1] == letters[common : common + 1] != ():
            common += 1
        del self._read[common + 1 :]
        for letter in letters[common:]:
            rows, gain = self._read[-1]
            steps = self._automaton.gain(rows, letter)
            after = self._automaton.row[self._automaton.next[rows, letter]]
            self._read.append((after, gain + steps))
        self._spelled = letters
        states, gain = self._read[-1]
        rounded = gain.astype(np.float32) + np.float32(0.0)  # -0 is 0
        # nothing and what is in no phrase are never taken for one another
        digest = hashlib.blake2b(bytes([letters == ()]), digest_size=16)
        digest.update(states.tobytes())
        digest.update(rounded.tobytes())
        key = digest.digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._next)
            self._next.append(states)
            self._gain.append(rounded)
            _check_size(len(self._next) * len(states))
        return self._numbers[key]

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        return np.stack(self._next, axis=1), np.stack(self._gain, axis=1)


def _check_size(num_entries: int) -> None:
    if num_entries > max_entries():
        raise too_large()


def max_entries() -> int:
    """Of tables: a state and a gain in each."""
    return MAX_BYTES // 8


def too_large() -> ConfigError:
    """The error of tables that are larger."""
    return ConfigError(
        f"the tables of the phrases take more than {MAX_BYTES >> 20} MiB: take fewer phrases; single words, "
        "matched by words, take hardly anything"
    )


def with_sequences(tables: Tables, automaton: Automaton, sequences: np.ndarray) -> Tables:
    """The same tables with symbols for sequences of words: ``num_units`` + the number of each.

    Args:
        tables: of units of one letter each, see `compose_tables`.
        sequences: (S, longest) int32, see `Symbols`.
    """
    if len(sequences) == 0:
        return tables
    rows = tables.class_of[sequences]
    with_phrases = (rows > ANY).any(axis=1)
    ways, number = np.unique(rows[with_phrases], axis=0, return_inverse=True)
    num_rows, num_classes = tables.next.shape
    _check_size((num_classes + len(ways)) * num_rows)
    following = np.empty((num_rows, num_classes + len(ways)), np.int32)
    gain = np.empty(following.shape, np.float32)
    following[:, :num_classes], gain[:, :num_classes] = tables.next, tables.gain
    for row in range(num_rows):
        rows_after, total = np.full(len(ways), row), np.zeros(len(ways))
        for classes in ways.T:
            letters, is_read = np.maximum(classes - 1, 0), classes != NONE
            total += np.where(is_read, automaton.gain(rows_after, letters), 0.0)
            after = automaton.row[automaton.next[rows_after, letters]]
            rows_after = np.where(is_read, after, rows_after)
        following[row, num_classes:], gain[row, num_classes:] = rows_after, total
    class_of = np.full(len(sequences), ANY, np.int32)
    class_of[with_phrases] = num_classes + number.reshape(-1)
    return replace(
        tables,
        class_of=np.concatenate([tables.class_of, class_of]),
        next=following,
        gain=gain,
    )
