"""The compiled loops over n-gram models: steps, sentences, and all paths of an acyclic automaton.

A model is given as the arrays of `moe_asr.lm.score.NgramScorer`, always in this order: ``child_splits``,
``word``, ``log_prob``, ``backoff``, ``suffix``, ``state``. Words are the model's ids.
"""

import numpy as np
from numba import njit

from moe_asr.growing import grown, grown_rows

NONE = -1
STATE, NODE, NEXT, NUMBER = range(4)  # columns of a pair
ARC, SRC, DST = range(3)  # columns of an arc that was made

_inner = njit(nogil=True)  # what only these kernels call is kept in their caches


@_inner
def _step(child_splits, word, log_prob, backoff, suffix, state, node, following):
    """The state after one more word, and log p(word | node), backing off where need be."""
    total = 0.0
    while node != 0:
        low, high = child_splits[node], child_splits[node + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if word[middle] < following:
                low = middle + 1
            else:
                high = middle
        if low < end and word[low] == following:
            return np.int64(state[low]), total + log_prob[low]
        total += backoff[node]
        node = np.int64(suffix[node])
    return np.int64(state[following + 1]), total + log_prob[following + 1]


@njit(cache=True, nogil=True)
def step_all(child_splits, word, log_prob, backoff, suffix, state, nodes, words):
    """(K,) states after each of K words in its state, int64, and their log-probabilities, float64."""
    after, score = np.empty(len(nodes), np.int64), np.empty(len(nodes))
    for i in range(len(nodes)):
        after[i], score[i] = _step(
            child_splits, word, log_prob, backoff, suffix, state, nodes[i], words[i]
        )
    return after, score


@njit(cache=True, nogil=True)
def score_all(child_splits, word, log_prob, backoff, suffix, state, start, splits, words):
    """(W,) float64: the log-probability of every word of N sequences, each beginning in state ``start``."""
    score = np.empty(len(words))
    for row in range(len(splits) - 1):
        node = start
        for i in range(splits[row], splits[row + 1]):
            node, score[i] = _step(
                child_splits, word, log_prob, backoff, suffix, state, node, words[i]
            )
    return score


@njit(cache=True, nogil=True)
def compose_all(
    child_splits, word, log_prob, backoff, suffix, state,
    start, end, arc_splits, dst, row_splits, words, weight, scale, level, rest, beam, max_arcs,
):  # fmt: skip
    """All paths of an acyclic automaton with the scores of their words; states become pairs with the model's.

    Args:
        start: state of the model in state 0.
        end: the word that ends a sentence, scored on the arcs into the final state; -1: none is.
        arc_splits, dst: S states, sorted topologically, the last one final; every arc leads to a higher one.
        row_splits, words: of every arc, ragged.
        weight: (A,) float64, what arcs score beside ``scale`` times the log-probability of their words.
        level: (S,) of each state, not decreasing but for the final one; higher after every arc.
        rest: (S,) float64, an estimate of the best score from each state to the end.
        beam: of the pairs of one level, those whose best score from the start and ``rest`` are more than this
            below the best of all of them are dropped, with the arcs into them.
        max_arcs: to make, the dropped ones included.

    Returns:
        - (B,) int64: the state of the automaton of each pair that was kept. Pairs are sorted by it; all
          that end are one. Where the beam has dropped any, some may lead nowhere.
        - (D, 3) int64: of every arc the one of the automaton, and the pairs before and after; sorted by the
          pair before it, then as in the automaton. More than ``max_arcs`` if that did not do: the rest is
          missing.
        - (D,) float64: the log-probability of the words on it.
    """
    num_states = len(arc_splits) - 1
    final = num_states - 1
    pairs, num_pairs = np.empty((256, 4), np.int64), np.int64(0)
    best = np.empty(256)  # score of a path to each pair
    table = np.full(1024, NONE, np.int64)
    first = np.full(
        num_states, NONE, np.int64
    )  # pairs of a state are linked in the order of making
    last = np.full(num_states, NONE, np.int64)
    arcs, score, num_arcs = np.empty((256, 3), np.int64), np.empty(256), np.int64(0)
    num_pairs = _make(pairs, num_pairs, table, first, last, np.int64(0), np.int64(start))
    best[0] = 0.0
    number, lowest = np.int64(0), -np.inf
    for here in range(final):
        if here == 0 or level[here] != level[here - 1]:
            lowest = _best_of_level(pairs, first, best, level, rest, here, final) - beam
        pair = first[here]
        while pair >= 0:
            if best[pair] + rest[here] < lowest:
                pair = pairs[pair, NEXT]
                continue
            pairs[pair, NUMBER] = number
            number += 1
            if num_arcs > max_arcs:
                break
            for arc in range(arc_splits[here], arc_splits[here + 1]):
                node, total = pairs[pair, NODE], 0.0
                for i in range(row_splits[arc], row_splits[arc + 1]):
                    node, value = _step(
                        child_splits, word, log_prob, backoff, suffix, state, node, words[i]
                    )
                    total += value
                there = np.int64(dst[arc])
                if there == final:
                    if end >= 0:
                        node, value = _step(
                            child_splits, word, log_prob, backoff, suffix, state, node, end
                        )
                        total += value
                    node = np.int64(0)
                place = _place(table, pairs, there, node)
                after = table[place]
                if after < 0:
                    after = num_pairs
                    if num_pairs == len(pairs):
                        pairs, best = grown_rows(pairs), grown(best)
                    best[after] = -np.inf
                    num_pairs = _make(pairs, num_pairs, table, first, last, there, node)
                    if 2 * num_pairs > len(table):
                        table = _rehashed(pairs, num_pairs, 2 * len(table))
                if num_arcs == len(score):
                    arcs, score = grown_rows(arcs), grown(score)
                arcs[num_arcs, ARC], arcs[num_arcs, SRC], arcs[num_arcs, DST] = (
                    arc,
                    number - 1,
                    after,
                )
                score[num_arcs] = total
                best[after] = max(best[after], best[pair] + weight[arc] + scale * total)
                num_arcs += 1
            pair = pairs[pair, NEXT]
    if first[final] >= 0:
        pairs[first[final], NUMBER] = number
        number += 1
    states = np.empty(number, np.int64)
    if num_arcs > max_arcs:
        return states, arcs[:num_arcs], score[:num_arcs]
    for pair in range(num_pairs):
        if pairs[pair, NUMBER] >= 0:
            states[pairs[pair, NUMBER]] = pairs[pair, STATE]
    kept = np.int64(0)
    for i in range(num_arcs):
        after = pairs[arcs[i, DST], NUMBER]
        if after >= 0:
            arcs[kept, ARC], arcs[kept, SRC], arcs[kept, DST] = arcs[i, ARC], arcs[i, SRC], after
            score[kept] = score[i]
            kept += 1
    return states, arcs[:kept], score[:kept]


@_inner
def _best_of_level(pairs, first, best, level, rest, begin, final):
    """The best estimate of a whole path through a pair of the states from ``begin`` that are on its level."""
    highest = -np.inf
    for here in range(begin, final):
        if level[here] != level[begin]:
            break
        pair = first[here]
        while pair >= 0:
            highest = max(highest, best[pair] + rest[here])
            pair = pairs[pair, NEXT]
    return highest


@_inner
def _make(pairs, num_pairs, table, first, last, there, node):
    """Adds a pair; returns how many there are."""
    pairs[num_pairs, STATE], pairs[num_pairs, NODE] = there, node
    pairs[num_pairs, NEXT], pairs[num_pairs, NUMBER] = NONE, NONE
    table[_place(table, pairs, there, node)] = num_pairs
    if first[there] < 0:
        first[there] = num_pairs
    else:
        pairs[last[there], NEXT] = num_pairs
    last[there] = num_pairs
    return num_pairs + 1


@_inner
def _place(table, pairs, there, node):
    """Where in an open-addressed table, of a power of two, a pair is or would be."""
    mask = len(table) - 1
    mixed = (there * 0x9E3779B1 + node) * 0x85EBCA77
    place = (mixed ^ (mixed >> 29)) & mask
    while table[place] >= 0:
        pair = table[place]
        if pairs[pair, NODE] == node and pairs[pair, STATE] == there:
            break
        place = (place + 1) & mask
    return place


@_inner
def _rehashed(pairs, num_pairs, size):
    table = np.full(size, NONE, np.int64)
    for pair in range(num_pairs):
        table[_place(table, pairs, pairs[pair, STATE], pairs[pair, NODE])] = pair
    return table
