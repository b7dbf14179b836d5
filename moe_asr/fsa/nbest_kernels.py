"""The n best label sequences of an acyclic automaton, compiled; `moe_asr.fsa.nbest` explains the search.

Automata are `LabelArcs`: S states sorted topologically, the last one final, and A arcs (``arc_splits``,
``dst``, ``label`` from 1, 0 for none) with ``score`` (A,) int64. No sum along a path exceeds 2**60 by much.
"""

import numpy as np
from numba import njit

from moe_asr.growing import grown, grown_rows

NONE = -(1 << 62)  # below every sum
END = -1  # the label of the end of a sequence: below every label
# columns of an open prefix, of a prefix, of a state of a subset, and of a step of an alignment
SCORE, PARENT, LABEL, BEGIN, STOP = range(5)
NODE_PARENT, NODE_LABEL, NODE_DEPTH = range(3)
STATE, STATE_SCORE = range(2)
STEP_SCORE, STEP_BEFORE, STEP_ARC = range(3)

_inner = njit(nogil=True)  # what only these kernels call is kept in their caches


@njit(cache=True, nogil=True)
def best_to_end(arc_splits, dst, score):
    """(S,) int64: the best score of a path from each state to the last; `NONE` where there is none."""
    num_states = len(arc_splits) - 1
    best = np.full(num_states, NONE, np.int64)
    best[num_states - 1] = 0
    for state in range(num_states - 2, -1, -1):
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            rest = best[dst[arc]]
            if rest != NONE and score[arc] + rest > best[state]:
                best[state] = score[arc] + rest
    return best


@njit(cache=True, nogil=True)
def best_sequences(arc_splits, dst, label, score, rest, num_labels, n):
    """The n best distinct label sequences, best first; of equal ones the lexicographically first.

    Args:
        rest: (S,) of `best_to_end`; not `NONE` for state 0.
        num_labels: labels are 0..num_labels.

    Returns:
        scores (R,), splits (R + 1,) and labels, ragged; all int64.
    """
    num_states, num_arcs = len(arc_splits) - 1, len(dst)
    reached = np.full(num_states, NONE, np.int64)
    waiting = np.empty(num_states, np.int64)
    found = np.empty((num_arcs, 3), np.int64)  # where labelled arcs lead: state, score, next one
    first = np.full(num_labels + 1, -1, np.int64)  # of a label's
    children = np.empty(num_labels + 1, np.int64)
    row_of = np.full(num_states, -1, np.int64)

    nodes = np.zeros((256, 3), np.int64)
    num_nodes = 1
    items, heap = np.empty((256, 5), np.int64), np.empty(256, np.int64)
    num_items = size = np.int64(0)  # of a bare 0 numba compiles versions of their own
    pool, used = np.empty((1024, 2), np.int64), 1
    pool[0, STATE], pool[0, STATE_SCORE] = 0, 0
    certified, num_certified = np.empty(256, np.int64), np.int64(1)
    certified[0] = rest[0]
    ends, end_scores = np.empty(256, np.int64), np.empty(256, np.int64)
    num_ends = 0

    node, begin, stop, inherited = 0, 0, 1, rest[0]
    while True:
        bound = certified[0] if num_certified == n else NONE
        num_found, num_children, end_score = _expand(
            arc_splits, dst, label, score, rest, bound, pool[begin:stop],
            reached, waiting, found, first, children,
        )  # fmt: skip
        for number in range(num_children + 1):
            child = END if number == num_children else children[number]
            if child == END and end_score == NONE:
                continue
            if num_items == len(items) or used + num_found > len(pool):
                items, heap, pool, used = _pack(
                    items, nodes, heap, size, n - num_ends, pool, num_found, rest, bound
                )
                num_items = size = min(size, n - num_ends)
            items[num_items, PARENT], items[num_items, LABEL] = node, child
            items[num_items, BEGIN] = used
            best = end_score
            if child != END:
                used, best = _collect(found, first[child], pool, used, row_of, rest)
                first[child] = -1
            items[num_items, STOP], items[num_items, SCORE] = used, best
            _push_item(items, nodes, heap, size, num_items)
            num_items, size = num_items + 1, size + 1
            if best == inherited:  # the sequence that the parent stood for
                inherited = NONE
                continue
            if num_certified == len(certified):
                certified = grown(certified)
            if num_certified < n:
                _push(certified, num_certified, best)
                num_certified += 1
            elif best > certified[0]:
                _pop(certified, n)
                _push(certified, n - 1, best)
        assert inherited == NONE

        label_of_best = END
        while size > 0 and num_ends < n:
            item = _pop_item(items, nodes, heap, size)
            size -= 1
            label_of_best = items[item, LABEL]
            if label_of_best != END:
                break
            if num_ends == len(ends):
                ends, end_scores = grown(ends), grown(end_scores)
            ends[num_ends], end_scores[num_ends] = items[item, PARENT], items[item, SCORE]
            num_ends += 1
        if label_of_best == END:
            break
        if num_nodes == len(nodes):
            nodes = grown_rows(nodes)
        parent = items[item, PARENT]
        nodes[num_nodes, NODE_PARENT], nodes[num_nodes, NODE_LABEL] = parent, label_of_best
        nodes[num_nodes, NODE_DEPTH] = nodes[parent, NODE_DEPTH] + 1
        node, inherited = num_nodes, items[item, SCORE]
        begin, stop = items[item, BEGIN], items[item, STOP]
        num_nodes += 1

    splits = np.zeros(num_ends + 1, np.int64)
    for i in range(num_ends):
        splits[i + 1] = splits[i] + nodes[ends[i], NODE_DEPTH]
    labels = np.empty(splits[num_ends], np.int64)
    for i in range(num_ends):
        node = ends[i]
        for place in range(splits[i + 1] - 1, splits[i] - 1, -1):
            labels[place] = nodes[node, NODE_LABEL]
            node = nodes[node, NODE_PARENT]
    return end_scores[:num_ends].copy(), splits, labels


@_inner
def _expand(
    arc_splits, dst, label, score, rest, bound, subset, reached, waiting, found, first, children
):
    """Follows arcs without labels from a subset; lists what arcs with labels lead to, by label.

    Returns:
        how many are in ``found``, how many labels in ``children``, and the score of the end or `NONE`.
    """
    final = len(arc_splits) - 2
    size, num_found, num_children = np.int64(0), 0, 0
    for row in range(len(subset)):
        state = subset[row, STATE]
        if subset[row, STATE_SCORE] + rest[state] >= bound:
            reached[state] = subset[row, STATE_SCORE]
            _push(waiting, size, state)
            size += 1
    end_score = NONE
    while size > 0:
        state = _pop(waiting, size)  # the lowest: no arc from the others leads there
        size -= 1
        so_far = reached[state]
        reached[state] = NONE
        if state == final:
            end_score = so_far
        for arc in range(arc_splits[state], arc_splits[state + 1]):
            to, total = dst[arc], so_far + score[arc]
            if rest[to] == NONE or total + rest[to] < bound:
                continue
            if label[arc] == 0:
                if reached[to] == NONE:
                    _push(waiting, size, to)
                    size += 1
                if total > reached[to]:
                    reached[to] = total
                continue
            if first[label[arc]] < 0:
                children[num_children] = label[arc]
                num_children += 1
            found[num_found, 0], found[num_found, 1] = to, total
            found[num_found, 2] = first[label[arc]]
            first[label[arc]] = num_found
            num_found += 1
    return num_found, num_children, end_score


@_inner
def _collect(found, row, pool, used, row_of, rest):
    """Writes a child's subset, each state once, at ``pool[used:]``; returns its end and best score."""
    begin, best = used, NONE
    while row >= 0:
        state, total = found[row, 0], found[row, 1]
        if row_of[state] < 0:
            row_of[state] = used
            pool[used, STATE], pool[used, STATE_SCORE] = state, total
            used += 1
        elif total > pool[row_of[state], STATE_SCORE]:
            pool[row_of[state], STATE_SCORE] = total
        best = max(best, total + rest[state])
        row = found[row, 2]
    for place in range(begin, used):
        row_of[pool[place, STATE]] = -1
    return used, best


@_inner
def _pack(items, nodes, heap, size, keep, pool, room, rest, bound):
    """Copies the best ``keep`` open prefixes, sorted, and what counts of their subsets."""
    keep = min(size, keep)
    packed = np.empty((max(len(items), 2 * keep), 5), np.int64)
    total = 0
    for i in range(keep):
        item = _pop_item(items, nodes, heap, size - i)
        for column in range(5):
            packed[i, column] = items[item, column]
        total += packed[i, STOP] - packed[i, BEGIN]
    target = np.empty((max(len(pool), 2 * (total + room)), 2), np.int64)
    used = 0
    for i in range(keep):
        begin, stop = packed[i, BEGIN], packed[i, STOP]
        packed[i, BEGIN] = used
        for row in range(begin, stop):
            if pool[row, STATE_SCORE] + rest[pool[row, STATE]] >= bound:
                target[used, STATE] = pool[row, STATE]
                target[used, STATE_SCORE] = pool[row, STATE_SCORE]
                used += 1
        packed[i, STOP] = used
    order = np.empty(len(packed), np.int64)
    for i in range(keep):
        order[i] = i
    return packed, order, target, used


@njit(cache=True, nogil=True)
def trace_paths(arc_splits, dst, label, score, rest, totals, splits, labels):
    """The best path of each of R label sequences: splits (R + 1,) and arcs, ragged, int64.

    Args:
        rest: of `best_to_end`.
        totals, splits, labels: of `best_sequences`.
    """
    num_states = len(arc_splits) - 1
    here, there = np.full(num_states, -1, np.int64), np.full(num_states, -1, np.int64)
    waiting, coming = np.empty(num_states, np.int64), np.empty(num_states, np.int64)
    steps = np.empty((1024, 3), np.int64)
    arcs, path_splits = np.empty(1024, np.int64), np.zeros(len(totals) + 1, np.int64)
    for path in range(len(totals)):
        steps[0, STEP_SCORE], steps[0, STEP_BEFORE], steps[0, STEP_ARC] = 0, -1, -1
        here[0], waiting[0], goal = 0, 0, -1
        size = num_steps = np.int64(1)
        for place in range(splits[path], splits[path + 1] + 1):
            wanted = labels[place] if place < splits[path + 1] else END
            num_coming = 0
            while size > 0:
                state = _pop(waiting, size)
                size -= 1
                step, here[state] = here[state], -1
                if state == num_states - 1 and wanted == END:
                    goal = step
                while num_steps + arc_splits[state + 1] - arc_splits[state] > len(steps):
                    steps = grown_rows(steps)
                for arc in range(arc_splits[state], arc_splits[state + 1]):
                    to, total = dst[arc], steps[step, STEP_SCORE] + score[arc]
                    if rest[to] == NONE or total + rest[to] < totals[path]:
                        continue
                    if label[arc] == 0:
                        if here[to] < 0:
                            _push(waiting, size, to)
                            size += 1
                        num_steps = _improve(here, to, steps, num_steps, total, step, arc)
                    elif label[arc] == wanted:
                        if there[to] < 0:
                            coming[num_coming] = to
                            num_coming += 1
                        num_steps = _improve(there, to, steps, num_steps, total, step, arc)
            here, there = there, here
            for i in range(num_coming):
                _push(waiting, i, coming[i])
            size = np.int64(num_coming)
        assert goal >= 0 and steps[goal, STEP_SCORE] == totals[path]
        length = 0
        step = goal
        while steps[step, STEP_ARC] >= 0:
            step = steps[step, STEP_BEFORE]
            length += 1
        path_splits[path + 1] = path_splits[path] + length
        while path_splits[path + 1] > len(arcs):
            arcs = grown(arcs)
        step = goal
        for place in range(path_splits[path + 1] - 1, path_splits[path] - 1, -1):
            arcs[place] = steps[step, STEP_ARC]
            step = steps[step, STEP_BEFORE]
    return path_splits, arcs[: path_splits[-1]].copy()


@_inner
def _improve(row_of, state, steps, num_steps, total, before, arc):
    """Notes a way to a state if it is the best yet, of equal ones that with the lowest arc."""
    row = row_of[state]
    if row < 0:
        row = row_of[state] = num_steps
        num_steps += 1
    elif total < steps[row, STEP_SCORE] or (
        total == steps[row, STEP_SCORE] and arc > steps[row, STEP_ARC]
    ):
        return num_steps
    steps[row, STEP_SCORE], steps[row, STEP_BEFORE], steps[row, STEP_ARC] = total, before, arc
    return num_steps


@_inner
def _precedes(items, nodes, one, other):
    """Whether an open prefix comes before another: a better score, or lexicographically.

    Neither is the beginning of the other, so this orders their continuations as well.
    """
    if items[one, SCORE] != items[other, SCORE]:
        return items[one, SCORE] > items[other, SCORE]
    a, label_a = items[one, PARENT], items[one, LABEL]
    b, label_b = items[other, PARENT], items[other, LABEL]
    while a != b:
        depth_a, depth_b = nodes[a, NODE_DEPTH], nodes[b, NODE_DEPTH]
        if depth_a >= depth_b:
            a, label_a = nodes[a, NODE_PARENT], nodes[a, NODE_LABEL]
        if depth_b >= depth_a:
            b, label_b = nodes[b, NODE_PARENT], nodes[b, NODE_LABEL]
    return label_a < label_b


@_inner
def _push_item(items, nodes, heap, size, item):
    """Puts an open prefix among the ``size`` of a heap."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        if not _precedes(items, nodes, item, heap[above]):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = item


@_inner
def _pop_item(items, nodes, heap, size):
    """Takes the first of the ``size`` open prefixes of a heap."""
    top, last, size = heap[0], heap[size - 1], size - 1
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and _precedes(items, nodes, heap[below + 1], heap[below]):
            below += 1
        if not _precedes(items, nodes, heap[below], last):
            break
        heap[place] = heap[below]
        place = below
    heap[place] = last
    return top


@_inner
def _push(heap, size, value):
    """Puts a number among the ``size`` of a heap, the lowest first."""
    place = size
    while place > 0 and value < heap[(place - 1) // 2]:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = value


@_inner
def _pop(heap, size):
    """Takes the lowest of the ``size`` numbers of a heap."""
    top, last, size = heap[0], heap[size - 1], size - 1
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if last <= heap[below]:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = last
    return top
