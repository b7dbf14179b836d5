"""CTC prefix beam search of one utterance, compiled; `moe_asr.fsa.prefix_beam` explains it.

Prefixes are nodes of a trie, each sequence of tokens one node, node 0 the empty one. The beam holds nodes,
best first, with the scores of their alignments that end in a blank and of those that end in their last token.
The best alignment of each kind is a chain of links, one a token, that prefixes share as they share tokens.
"""

import numpy as np
from numba import njit

from moe_asr.growing import grown_rows

# columns of a node, of a link, and of the integers and scores of a prefix in the beam or a candidate for it
PARENT, TOKEN, DEPTH, FIRST_CHILD, SIBLING = range(5)
BEFORE, BEGIN, END_BEFORE = range(3)  # END_BEFORE: the last frame of the token before
NODE, ADDED, BLANK_LINK, BLANK_END, TOKEN_LINK, TOKEN_END, IS_NEW_LINK = range(7)
BLANK_SUM, TOKEN_SUM, SUM, BLANK_BEST, TOKEN_BEST = range(5)
NONE = -1

_inner = njit(nogil=True)  # what only this kernel calls is kept in its cache


@njit(cache=True, nogil=True)
def search_prefixes(log_probs, beam_size, token_beam, n):
    """The n best prefixes after the last frame.

    Args:
        log_probs: (T, C) float32, blank 0, below infinity.
        beam_size: prefixes kept after each frame.
        token_beam: how far below the best label of a frame a token may be to begin a prefix.

    Returns:
        - (R, 2) float64: score over all alignments, and of the best one, best first; R is at most n.
        - (R + 1,) int64 splits of the tokens, and (U, 3) int64: token, first frame, last frame.
    """
    num_frames, num_labels = log_probs.shape
    nodes, num_nodes = np.zeros((256, 5), np.int64), np.int64(1)  # a bare 1 is of another type
    nodes[0, PARENT], nodes[0, TOKEN], nodes[0, FIRST_CHILD], nodes[0, SIBLING] = -1, 0, -1, -1
    links, num_links = np.empty((256, 3), np.int64), np.int64(0)
    slot_of = np.full(256, NONE, np.int64)  # of a node, in the beam
    # prefixes in the beam, and those that will be
    state, score = np.empty((beam_size, 7), np.int64), np.empty((beam_size, 5))
    new_state, new_score = np.empty((beam_size, 7), np.int64), np.empty((beam_size, 5))
    heap = np.empty(beam_size, np.int64)
    covered = np.full(
        num_labels, NONE, np.int64
    )  # the slot whose extension by a label is in the beam
    allowed = np.empty(num_labels, np.int64)
    first_child, sibling = np.empty(beam_size, np.int64), np.empty(beam_size, np.int64)
    stay_state, stay_score = np.empty(7, np.int64), np.empty(5)

    size = np.int64(1)
    slot_of[0] = 0
    for column in range(7):
        state[0, column] = NONE
    state[0, NODE] = 0
    score[0, BLANK_SUM], score[0, TOKEN_SUM], score[0, SUM] = 0.0, -np.inf, 0.0
    score[0, BLANK_BEST], score[0, TOKEN_BEST] = 0.0, -np.inf

    for frame in range(num_frames):
        blank = np.float64(log_probs[frame, 0])
        best_token = np.float64(-np.inf)
        for token in range(1, num_labels):
            covered[token] = NONE
            if log_probs[frame, token] > best_token:
                best_token = np.float64(log_probs[frame, token])
        lowest = max(best_token, blank) - token_beam
        for slot in range(size):
            first_child[slot] = NONE
        for slot in range(size):
            parent = nodes[state[slot, NODE], PARENT]
            above = slot_of[parent] if parent >= 0 else NONE
            sibling[slot] = NONE
            if above >= 0:
                sibling[slot], first_child[above] = first_child[above], slot

        filled = np.int64(0)
        for slot in range(size):  # prefixes that stay as they are
            parent = nodes[state[slot, NODE], PARENT]
            above = slot_of[parent] if parent >= 0 else NONE
            _stay(log_probs, frame, nodes, state, score, slot, above, stay_state, stay_score)
            if stay_score[SUM] == -np.inf:
                continue
            for column in range(7):
                new_state[filled, column] = stay_state[column]
            for column in range(5):
                new_score[filled, column] = stay_score[column]
            _push(nodes, new_state, new_score, heap, filled, filled)
            filled += 1
        worst = new_score[heap[0], SUM] if filled == beam_size else -np.inf
        num_allowed = np.int64(0)  # what the best prefix cannot take, no other can
        for token in range(1, num_labels):
            value = np.float64(log_probs[frame, token])
            if value >= lowest and score[0, SUM] + value >= worst:
                allowed[num_allowed] = token
                num_allowed += 1
        for slot in range(size):  # prefixes that grow
            if score[slot, SUM] + best_token < worst:
                break  # neither do those behind, which are no better
            child = first_child[slot]
            while child >= 0:
                covered[nodes[state[child, NODE], TOKEN]] = slot
                child = sibling[child]
            node = state[slot, NODE]
            last = nodes[node, TOKEN]
            for index in range(num_allowed):
                token = allowed[index]
                value = np.float64(log_probs[frame, token])
                total = value + (score[slot, BLANK_SUM] if token == last else score[slot, SUM])
                if total < worst or total == -np.inf or covered[token] == slot:
                    continue
                place = filled
                if filled == beam_size:
                    if total == worst and not _is_before(nodes, node, token, new_state, heap[0]):
                        continue
                    place = heap[0]
                    _pop(nodes, new_state, new_score, heap, filled)
                    filled -= 1
                new_state[place, NODE], new_state[place, ADDED] = node, token
                new_score[place, SUM] = total
                _push(nodes, new_state, new_score, heap, filled, place)
                filled += 1
                worst = new_score[heap[0], SUM] if filled == beam_size else -np.inf

        while num_nodes + filled > len(nodes):
            nodes, slot_of = grown_rows(nodes), _grown(slot_of)
        while num_links + filled > len(links):
            links = grown_rows(links)
        for rank in range(filled - 1, -1, -1):  # the worst first; heap[rank] is free then
            place = heap[0]
            _pop(nodes, new_state, new_score, heap, rank + 1)
            heap[rank] = place
            if new_state[place, ADDED] != NONE:
                _extend(
                    log_probs, frame, nodes, state, score, slot_of[new_state[place, NODE]],
                    new_state, new_score, place,
                )  # fmt: skip
            if new_state[place, IS_NEW_LINK]:
                links[num_links, BEFORE] = new_state[place, TOKEN_LINK]
                links[num_links, BEGIN] = frame
                links[num_links, END_BEFORE] = new_state[place, TOKEN_END]
                new_state[place, TOKEN_LINK] = num_links
                num_links += 1
            new_state[place, TOKEN_END] = frame
        for slot in range(size):
            slot_of[state[slot, NODE]] = NONE
        for rank in range(filled):
            place = heap[rank]
            node = new_state[place, NODE]
            if new_state[place, ADDED] != NONE:
                node, num_nodes = _child(nodes, num_nodes, node, new_state[place, ADDED])
            for column in range(7):
                state[rank, column] = new_state[place, column]
            for column in range(5):
                score[rank, column] = new_score[place, column]
            state[rank, NODE] = node
            slot_of[node] = rank
        size = filled

    return _results(nodes, links, state, score, min(size, n))


@_inner
def _stay(log_probs, frame, nodes, state, score, slot, above, stay_state, stay_score):
    """A prefix of the beam after one more frame: a blank, its last token again, or that token begun.

    Args:
        above: the slot of the prefix without its last token; `NONE` if that is not in the beam.
    """
    node = state[slot, NODE]
    blank, last = np.float64(log_probs[frame, 0]), nodes[node, TOKEN]
    stay_state[NODE], stay_state[ADDED], stay_state[IS_NEW_LINK] = node, NONE, 0
    stay_score[BLANK_SUM] = score[slot, SUM] + blank
    ends_blank = score[slot, BLANK_BEST] >= score[slot, TOKEN_BEST]
    stay_score[BLANK_BEST] = max(score[slot, BLANK_BEST], score[slot, TOKEN_BEST]) + blank
    stay_state[BLANK_LINK] = state[slot, BLANK_LINK] if ends_blank else state[slot, TOKEN_LINK]
    stay_state[BLANK_END] = state[slot, BLANK_END] if ends_blank else state[slot, TOKEN_END]
    stay_score[TOKEN_SUM] = stay_score[TOKEN_BEST] = -np.inf
    stay_state[TOKEN_LINK], stay_state[TOKEN_END] = state[slot, TOKEN_LINK], frame
    if last > 0:
        value = np.float64(log_probs[frame, last])
        stay_score[TOKEN_SUM] = score[slot, TOKEN_SUM] + value
        stay_score[TOKEN_BEST] = score[slot, TOKEN_BEST] + value
        if above >= 0:
            is_repeat = nodes[state[above, NODE], TOKEN] == last
            total = score[above, BLANK_SUM] if is_repeat else score[above, SUM]
            stay_score[TOKEN_SUM] = _log_add(stay_score[TOKEN_SUM], total + value)
            _begin(state, score, above, is_repeat, value, stay_state, stay_score)
    stay_score[SUM] = _log_add(stay_score[BLANK_SUM], stay_score[TOKEN_SUM])


@_inner
def _extend(log_probs, frame, nodes, state, score, slot, new_state, new_score, place):
    """Fills in what a candidate lacks: it is the prefix in ``slot`` and one token more."""
    token = new_state[place, ADDED]
    is_repeat = nodes[new_state[place, NODE], TOKEN] == token
    new_score[place, BLANK_SUM], new_score[place, TOKEN_SUM] = -np.inf, new_score[place, SUM]
    new_score[place, BLANK_BEST] = new_score[place, TOKEN_BEST] = -np.inf
    new_state[place, BLANK_LINK] = new_state[place, BLANK_END] = NONE
    value = np.float64(log_probs[frame, token])
    _begin(state, score, slot, is_repeat, value, new_state[place], new_score[place])


@_inner
def _begin(state, score, slot, is_repeat, value, new_state, new_score):
    """The best alignment that begins a token after the prefix in ``slot``, if it beats the one there is.

    The new link is made later, with `TOKEN_LINK` and `TOKEN_END` as those of the token before.
    """
    ends_blank = is_repeat or score[slot, BLANK_BEST] >= score[slot, TOKEN_BEST]
    total = value + (score[slot, BLANK_BEST] if ends_blank else score[slot, TOKEN_BEST])
    if total > new_score[TOKEN_BEST]:
        new_score[TOKEN_BEST], new_state[IS_NEW_LINK] = total, 1
        new_state[TOKEN_LINK] = state[slot, BLANK_LINK] if ends_blank else state[slot, TOKEN_LINK]
        new_state[TOKEN_END] = state[slot, BLANK_END] if ends_blank else state[slot, TOKEN_END]


@_inner
def _child(nodes, num_nodes, node, token):
    """The node of a prefix and one token more, and the number of nodes; a sequence has one node for ever."""
    child = nodes[node, FIRST_CHILD]
    while child >= 0 and nodes[child, TOKEN] != token:
        child = nodes[child, SIBLING]
    if child >= 0:
        return child, num_nodes
    child = num_nodes
    nodes[child, PARENT], nodes[child, TOKEN] = node, token
    nodes[child, DEPTH] = nodes[node, DEPTH] + 1
    nodes[child, FIRST_CHILD], nodes[child, SIBLING] = NONE, nodes[node, FIRST_CHILD]
    nodes[node, FIRST_CHILD] = child
    return child, num_nodes + 1


@_inner
def _results(nodes, links, state, score, num_results):
    """What `search_prefixes` returns, of the first prefixes of the beam."""
    scores, splits = np.empty((num_results, 2)), np.zeros(num_results + 1, np.int64)
    for rank in range(num_results):
        splits[rank + 1] = splits[rank] + nodes[state[rank, NODE], DEPTH]
    tokens = np.empty((splits[num_results], 3), np.int64)
    for rank in range(num_results):
        ends_blank = score[rank, BLANK_BEST] >= score[rank, TOKEN_BEST]
        scores[rank, 0] = score[rank, SUM]
        scores[rank, 1] = max(score[rank, BLANK_BEST], score[rank, TOKEN_BEST])
        node = state[rank, NODE]
        link = state[rank, BLANK_LINK] if ends_blank else state[rank, TOKEN_LINK]
        end = state[rank, BLANK_END] if ends_blank else state[rank, TOKEN_END]
        for row in range(splits[rank + 1] - 1, splits[rank] - 1, -1):
            tokens[row, 0], tokens[row, 1], tokens[row, 2] = (
                nodes[node, TOKEN],
                links[link, BEGIN],
                end,
            )
            end, link, node = links[link, END_BEFORE], links[link, BEFORE], nodes[node, PARENT]
        assert node == 0 and link == NONE
    return scores, splits, tokens


@_inner
def _log_add(a, b):
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@_inner
def _is_before(nodes, node, added, new_state, other):
    """Whether a prefix and one token more (`NONE` for none) lexicographically precede a candidate."""
    b, b_token = new_state[other, NODE], new_state[other, ADDED]
    a, a_token = node, added
    a_depth = nodes[a, DEPTH] + (a_token != NONE)
    b_depth = nodes[b, DEPTH] + (b_token != NONE)
    a_is_shorter = a_depth < b_depth
    # the last token and what is before it; the empty prefix has none, and is before everything
    if a_depth == 0 or b_depth == 0:
        return a_is_shorter
    if a_token == NONE:
        a, a_token = nodes[a, PARENT], nodes[a, TOKEN]
    if b_token == NONE:
        b, b_token = nodes[b, PARENT], nodes[b, TOKEN]
    while a_depth > b_depth:
        a, a_token, a_depth = nodes[a, PARENT], nodes[a, TOKEN], a_depth - 1
    while b_depth > a_depth:
        b, b_token, b_depth = nodes[b, PARENT], nodes[b, TOKEN], b_depth - 1
    while a != b:
        a, a_token = nodes[a, PARENT], nodes[a, TOKEN]
        b, b_token = nodes[b, PARENT], nodes[b, TOKEN]
    return a_is_shorter if a_token == b_token else a_token < b_token


@_inner
def _is_worse(nodes, new_state, new_score, one, other):
    """Whether a candidate has a lower score than another, or the same and is lexicographically later."""
    if new_score[one, SUM] != new_score[other, SUM]:
        return new_score[one, SUM] < new_score[other, SUM]
    return _is_before(nodes, new_state[other, NODE], new_state[other, ADDED], new_state, one)


@_inner
def _push(nodes, new_state, new_score, heap, size, item):
    """Puts a candidate among the ``size`` of a heap, the worst first."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        if not _is_worse(nodes, new_state, new_score, item, heap[above]):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = item


@_inner
def _pop(nodes, new_state, new_score, heap, size):
    """Takes the worst of the ``size`` candidates of a heap, ``heap[0]``, off it."""
    last, size = heap[size - 1], size - 1
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and _is_worse(
            nodes, new_state, new_score, heap[below + 1], heap[below]
        ):
            below += 1
        if not _is_worse(nodes, new_state, new_score, heap[below], last):
            break
        heap[place] = heap[below]
        place = below
    heap[place] = last


@_inner
def _grown(array):
    """A vector twice as long, with the values of ``array``; -1 behind them."""
    longer = np.full(2 * len(array), NONE, np.int64)
    for i in range(len(array)):
        longer[i] = array[i]
    return longer
