"""The edit distance of words to all paths of an automaton at once, compiled (`moe_asr.fsa.expected_errors`).

Automata are `LabelDistribution`: S states sorted topologically, the last one final, and A arcs
(``arc_splits``, ``dst``, ``label`` from 1, 0 for none, ``probability``). ``words`` are H labels; one that is
on no arc is -1.

A column is the row of distances that a path has come to: of its words so far, to the first 0, 1, .. H of
``words``. It is kept as a window of rows, relative to the first of them: the rows before and after the window
are those next to it plus one for each step. Columns are numbered in the order in which they are found, and so
by state topologically where that matters: all into a state are found before those out of it.
"""

import numpy as np
from numba import njit

from moe_asr.growing import grown, grown_rows

_inner = njit(nogil=True)  # what only these kernels call is kept in their caches
_ABSENT = 1 << 20  # above every distance
# columns of the numbers kept for a column: its state, first row, rows, where these are, the next of the state
STATE, LOW, ROWS, BEGIN, NEXT = range(5)
# its probability; this times the mean of the distance in its first row
MASS, BASE = range(2)
WORD, GAP = range(2)


@njit(cache=True, nogil=True)
def rest_bounds(arc_splits, dst, label, words):
    """(2, S, H + 1) int32: how far what follows ``words[:h]`` is from what follows a state.

    At 0 the least distance over all paths to the end, at 1 a number that none exceeds.
    """
    num_states, length = len(arc_splits) - 1, len(words)
    bounds = np.empty((2, num_states, length + 1), np.int32)
    for row in range(length + 1):
        bounds[0, num_states - 1, row] = bounds[1, num_states - 1, row] = length - row
    for state in range(num_states - 2, -1, -1):
        for row in range(length, -1, -1):
            least, most = _ABSENT, 0
            for arc in range(arc_splits[state], arc_splits[state + 1]):
                to, word = dst[arc], label[arc]
                low, high = bounds[0, to, row], bounds[1, to, row]
                if word > 0:
                    low, high = low + 1, high + 1
                    if row < length:
                        wrong = 0 if words[row] == word else 1
                        low = min(low, bounds[0, to, row + 1] + wrong)
                        high = min(high, bounds[1, to, row + 1] + wrong)
                least, most = min(least, low), max(most, high)
            if row < length:
                least = min(least, bounds[0, state, row + 1] + 1)
                most = min(most, bounds[1, state, row + 1] + 1)
            bounds[0, state, row], bounds[1, state, row] = least, most
    return bounds


@njit(cache=True, nogil=True)
def spread_columns(arc_splits, dst, label, probability, words, bounds, most, least_mass):
    """Follows all paths with their columns, those with equal columns together.

    Args:
        bounds: of `rest_bounds`.
        most: columns of a state that are followed: the most probable.
        least_mass: columns below this probability are not followed.

    Returns:
        - the sum of the distances of all paths that are followed, each times its probability;
        - the probability of all that are followed, to the end;
        - the least and the greatest that this sum can be over the other paths;
        - numbers (N, 5) int64, values (N, 2), rows (int32, ragged), (S,) first columns, and the table by
          which columns are found.
    """
    num_states, length = len(arc_splits) - 1, len(words)
    first = np.full(num_states, -1, np.int64)
    numbers, values = np.empty((256, 5), np.int64), np.zeros((256, 2))
    rows, used = np.empty(1024 + length, np.int32), 1
    table = np.full(1024, -1, np.int64)
    numbers[0, STATE], numbers[0, LOW], numbers[0, ROWS], numbers[0, BEGIN] = 0, 0, 1, 0
    numbers[0, NEXT], rows[0], values[0, MASS], num_columns = -1, 0, 1.0, np.int64(1)
    first[0] = 0
    new = np.empty(length + 1, np.int32)
    masses = np.empty(256)
    risk = followed = low_rest = high_rest = 0.0
    for state in range(num_states - 1):
        count, column = 0, first[state]
        while column >= 0:
            if count == len(masses):
                masses = grown(masses)
            masses[count] = values[column, MASS]
            count, column = count + 1, numbers[column, NEXT]
        threshold = least_mass
        if count > most:
            threshold = max(threshold, np.sort(masses[:count])[count - most])
        column = first[state]
        while column >= 0:
            mass, base = values[column, MASS], values[column, BASE]
            low, size, begin = (
                numbers[column, LOW],
                numbers[column, ROWS],
                numbers[column, BEGIN],
            )
            if mass < threshold and column > 0:
                nearest, farthest = np.int32(_ABSENT), np.int32(_ABSENT)
                for row in range(low, low + size):
                    here = np.int32(rows[begin + row - low])
                    nearest = min(nearest, here + bounds[0, state, row])
                    farthest = min(farthest, here + bounds[1, state, row])
                low_rest += base + mass * nearest
                high_rest += base + mass * farthest
                values[column, MASS] = 0.0
                column = numbers[column, NEXT]
                continue
            for arc in range(arc_splits[state], arc_splits[state + 1]):
                to, share = dst[arc], probability[arc]
                new_low, new_end, shift = _advance(
                    rows, begin, low, size, label[arc], words, bounds, to, new
                )
                if to == num_states - 1:
                    followed += share * mass
                    final = shift + length - new_low  # all rows but one are redundant at the end
                    for row in range(new_low, new_end):
                        final = min(final, shift + new[row] - new[new_low] + length - row)
                    risk += share * (base + mass * final)
                    continue
                if num_columns == len(numbers):
                    numbers, values = grown_rows(numbers), _longer_values(values)
                if 2 * num_columns >= len(table):
                    table = _rehashed(table, numbers, rows, num_columns)
                if used + length + 1 > len(rows):
                    rows = _longer_rows(rows)
                place, found = _find(table, numbers, rows, to, new, new_low, new_end)
                if found < 0:
                    found = table[place] = num_columns
                    numbers[found, STATE], numbers[found, LOW] = to, new_low
                    numbers[found, ROWS], numbers[found, BEGIN] = new_end - new_low, used
                    numbers[found, NEXT], first[to] = first[to], found
                    for row in range(new_low, new_end):
                        rows[used] = new[row] - new[new_low]
                        used += 1
                    values[found, MASS] = values[found, BASE] = 0.0
                    num_columns += 1
                values[found, MASS] += share * mass
                values[found, BASE] += share * (base + mass * shift)
            column = numbers[column, NEXT]
    return (
        risk,
        followed,
        low_rest,
        high_rest,
        numbers[:num_columns].copy(),
        values[:num_columns].copy(),
        rows,
        first,
        table,
    )


@njit(cache=True, nogil=True)
def align_paths(
    arc_splits, dst, label, probability, frame, words, bounds, numbers, values, rows, first, table, num_labels
):  # fmt: skip
    """What each word, and each gap between two, is aligned with: shares of all paths that are followed.

    Of the best alignments of a path the one is taken that, from the end, prefers equal words, then different
    ones, then a word of ``words`` alone, then one of the path alone.

    Args:
        frame: (A,) float64, of the arcs.
        numbers, values, rows, first, table: of `spread_columns`, with the same ``bounds``.
        num_labels: above all labels.

    Returns:
        - (H, num_labels): of each word, the probability of each label in its place; at 0, of none.
        - (H + 1, num_labels): of each gap, the probability of each label as the last one in it; at 0 it is 0.
        - (H,): the sum of the frames of the labels in its place, each times its probability.
    """
    num_states, length = len(arc_splits) - 1, len(words)
    in_place, in_gap = np.zeros((length, num_labels)), np.zeros((length + 1, num_labels))
    frames = np.zeros(length)
    # of each column the probability that the alignment is at a row, with nothing in the gap yet or something
    at_row = np.zeros((len(numbers), length + 1, 2))
    old, new = np.empty(length + 1, np.int32), np.empty(length + 1, np.int32)
    end = np.zeros((length + 1, 2))
    end[length, WORD] = 1.0
    for state in range(num_states - 2, -1, -1):
        column = first[state]
        while column >= 0:
            mass = values[column, MASS]
            low, size, begin = (
                numbers[column, LOW],
                numbers[column, ROWS],
                numbers[column, BEGIN],
            )
            for row in range(length + 1):
                old[row] = _row(rows, begin, low, size, row)
            for arc in range(arc_splits[state], arc_splits[state + 1]):
                if mass == 0.0:
                    break
                to, word = dst[arc], label[arc]
                new_low, new_end, shift = _advance(
                    rows, begin, low, size, word, words, bounds, to, new
                )
                flow, found = mass * probability[arc], -1
                if to < num_states - 1:
                    found = _find(table, numbers, rows, to, new, new_low, new_end)[1]
                    if values[found, MASS] == 0.0:
                        continue
                    flow /= values[found, MASS]
                # relative to the first row of the old one; rows outside of the window too
                first_value, last_value = new[new_low], new[new_end - 1]
                for row in range(length + 1):
                    if row < new_low:
                        new[row] = first_value + new_low - row
                    elif row >= new_end:
                        new[row] = last_value + row - new_end + 1
                    new[row] += shift - first_value
                for start in range(length + 1):
                    for kind in range(2):
                        share = flow * (
                            end[start, kind] if found < 0 else at_row[found, start, kind]
                        )
                        if share == 0.0:
                            continue
                        if word == 0:
                            at_row[column, start, kind] += share
                            continue
                        row = start
                        while True:
                            if row > 0 and (words[row - 1] == word or old[row - 1] + 1 == new[row]):
                                in_place[row - 1, word] += share
                                frames[row - 1] += share * frame[arc]
                                at_row[column, row - 1, WORD] += share
                                break
                            if row > 0 and new[row - 1] + 1 == new[row]:
                                # no gap behind it: one word for another would be cheaper than both
                                row -= 1
                                in_place[row, 0] += share
                                continue
                            assert old[row] + 1 == new[row]
                            if kind == WORD:
                                in_gap[row, word] += share
                            at_row[column, row, GAP] += share
                            break
            column = numbers[column, NEXT]
    for row in range(length + 1):
        share = at_row[0, row, WORD] + at_row[0, row, GAP]
        for before in range(row):
            in_place[before, 0] += share
    return in_place, in_gap, frames


@njit(cache=True, nogil=True)
def sequence_probability(arc_splits, dst, label, probability, words):
    """The probability of exactly these words."""
    num_states, length = len(arc_splits) - 1, len(words)
    share = np.zeros((num_states, length + 1))
    share[0, 0] = 1.0
    for state in range(num_states):
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            to, word = dst[arc], label[arc]
            for row in range(length + 1):
                if word == 0:
                    share[to, row] += share[state, row] * probability[arc]
                elif row < length and words[row] == word:
                    share[to, row + 1] += share[state, row] * probability[arc]
    return share[num_states - 1, length]


@_inner
def _row(rows, begin, low, size, row):
    """A row of a column, relative to its first."""
    if row < low:
        return np.int32(low - row)
    if row >= low + size:
        return np.int32(rows[begin + size - 1] + row - low - size + 1)
    return np.int32(rows[begin + row - low])


@_inner
def _advance(rows, begin, low, size, word, words, bounds, to, new):
    """The column after one more word, or none, as far as it matters from state ``to`` on.

    A row from which no path gets to the end as cheaply as every path does from some other row is raised to
    what follows from the other rows; so columns that differ in nothing that matters are equal.

    Returns:
        the first row and the one after the last, of the window in ``new``, and the first row's value,
        relative to that of the column before.
    """
    end = low + size
    if word > 0:
        length = len(words)
        value = np.int32(1)  # rows before this one stay redundant
        new[low] = value
        for row in range(low + 1, length + 1):
            above = _row(rows, begin, low, size, row - 1)
            value = min(value + 1, above + (0 if words[row - 1] == word else 1))
            value = min(value, _row(rows, begin, low, size, row) + 1)
            new[row] = value
        end = length + 1
    else:
        for row in range(low, end):
            new[row] = rows[begin + row - low]
    reachable = np.int32(_ABSENT)
    for row in range(low, end):
        reachable = min(reachable, new[row] + bounds[1, to, row])
    value = np.int32(_ABSENT)
    for row in range(low, end):
        if new[row] + bounds[0, to, row] > reachable:
            new[row] = _ABSENT
        value = min(value + 1, new[row])
        new[row] = value
    for row in range(end - 1, low - 1, -1):
        value = min(value + 1, new[row])
        new[row] = value
    while low + 1 < end and new[low] == new[low + 1] + 1:
        low += 1
    while low + 1 < end and new[end - 1] == new[end - 2] + 1:
        end -= 1
    return low, end, new[low]


@_inner
def _find(table, numbers, rows, state, new, low, end):
    """Where a column is in the table, or belongs, and its number, or -1."""
    place = _hash(state, low, new, low, end) & (len(table) - 1)
    while table[place] >= 0:
        column = table[place]
        if (
            numbers[column, STATE] == state
            and numbers[column, LOW] == low
            and numbers[column, ROWS] == end - low
        ):
            same, begin = True, numbers[column, BEGIN]
            for row in range(low, end):
                if rows[begin + row - low] != new[row] - new[low]:
                    same = False
                    break
            if same:
                return place, column
        place = (place + 1) & (len(table) - 1)
    return place, np.int64(-1)


@_inner
def _hash(state, low, array, begin, end):
    """FNV-1a over a column's state, first row, and steps from row to row."""
    value = np.uint64(14695981039346656037)
    value = (value ^ np.uint64(state)) * np.uint64(1099511628211)
    value = (value ^ np.uint64(low)) * np.uint64(1099511628211)
    for place in range(begin + 1, end):
        step = np.uint64(array[place] - array[place - 1] + 2)
        value = (value ^ step) * np.uint64(1099511628211)
    return np.int64((value ^ (value >> np.uint64(32))) & np.uint64(0x7FFFFFFFFFFFFFFF))


@_inner
def _rehashed(table, numbers, rows, num_columns):
    """A table twice as long."""
    longer = np.full(2 * len(table), -1, np.int64)
    for column in range(num_columns):
        begin = numbers[column, BEGIN]
        state, low = numbers[column, STATE], numbers[column, LOW]
        place = _hash(state, low, rows, begin, begin + numbers[column, ROWS]) & (len(longer) - 1)
        while longer[place] >= 0:
            place = (place + 1) & (len(longer) - 1)
        longer[place] = column
    return longer


@_inner
def _longer_values(array):
    longer = np.zeros((2 * len(array), array.shape[1]), np.float64)
    for i in range(len(array)):
        for column in range(array.shape[1]):
            longer[i, column] = array[i, column]
    return longer


@_inner
def _longer_rows(array):
    longer = np.empty(2 * len(array), np.int32)
    for i in range(len(array)):
        longer[i] = array[i]
    return longer
