"""The compiled loops of forced alignment: Viterbi and forward-backward over the graph of a text.

Legend: T frames, C tokens; V nodes and A arcs of a `TextGraph`. After a frame the alignment is in one of
A + V states: arc a is state a (its token was the label of the frame), node v is state A + v (the label was
blank, or no frame has been read). ``leaving``, ``splits`` and ``entering`` are those of the graph.

Arcs lead to higher nodes. So when nodes are handled from the last to the first, what a state takes over from
the frame before has not been overwritten, and one array of scores is enough; backwards likewise.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _advance(
    row: np.ndarray,
    token: np.ndarray,
    dst: np.ndarray,
    score: np.ndarray,
    leaving: np.ndarray,
    splits: np.ndarray,
    entering: np.ndarray,
    is_modified: bool,
    low: int,
    high: int,
    scores: np.ndarray,
    origin: np.ndarray,
    before: np.ndarray,
    first_arc: int,
    first_blank: int,
) -> int:
    """One frame of Viterbi, in place, over nodes ``low`` to ``high`` and the arcs that leave them.

    Args:
        row: (C,) float32, log-probabilities of the frame.
        scores: (A + V,) float64, of the best path into each state.
        origin: (A + V,) int32, carried along these paths.
        before: int32, filled with the state that each path was in before the frame: of arc a at
            ``a - first_arc``, of node v at ``A + v - first_blank``. Nothing is filled if it is empty.

    Returns:
        The highest node that a living state is at or leads to.
    """
    num_arcs = len(token)
    keep = len(before) > 0
    reached = low
    for node in range(high, low - 1, -1):
        # the best arc that enters, and the best one of another token
        first, second = -1, -1
        for place in range(splits[node], splits[node + 1]):
            arc = entering[place]
            if scores[arc] == -np.inf:
                continue
            if first < 0 or scores[arc] > scores[first]:
                if first >= 0 and token[first] != token[arc]:
                    second = first
                first = arc
            elif token[arc] != token[first] and (second < 0 or scores[arc] > scores[second]):
                second = arc
        blank = num_arcs + node
        for arc in range(leaving[node], leaving[node + 1]):
            source = blank
            other = first
            if first >= 0 and not is_modified and token[first] == token[arc]:
                other = second
            if other >= 0 and scores[other] > scores[blank]:
                source = other
            value = scores[source] + score[arc]
            if scores[arc] >= value:
                source, value = arc, scores[arc]
            value += row[token[arc]]
            scores[arc] = value
            if value == -np.inf:
                continue
            origin[arc] = origin[source]
            if keep:
                before[arc - first_arc] = source
            if dst[arc] > reached:
                reached = dst[arc]
        source = blank
        if first >= 0 and scores[first] > scores[blank]:
            source = first
        value = scores[source] + row[0]
        scores[blank] = value
        if value > -np.inf:
            origin[blank] = origin[source]
            if keep:
                before[blank - first_blank] = source
            if node > reached:
                reached = node
    return reached


@njit(cache=True, nogil=True)
def _last_state(scores: np.ndarray, splits: np.ndarray, entering: np.ndarray) -> int:
    """The best state at the last node; -1 if none is alive."""
    num_states = len(scores)
    best = num_states - 1
    for place in range(splits[len(splits) - 2], splits[len(splits) - 1]):
        if scores[entering[place]] > scores[best]:
            best = entering[place]
    return best if scores[best] > -np.inf else -1


@njit(cache=True, nogil=True)
def best_states(
    log_probs: np.ndarray,
    src: np.ndarray,
    dst: np.ndarray,
    token: np.ndarray,
    score: np.ndarray,
    leaving: np.ndarray,
    splits: np.ndarray,
    entering: np.ndarray,
    is_modified: bool,
    interval: int,
) -> np.ndarray:
    """The states of the best alignment, exactly.

    A first pass keeps, every ``interval`` frames, in which state each path was ``interval`` frames before
    (a cut of Hirschberg's divide and conquer, 1975, into many parts at once). Following these back from the
    end gives the states of the best path at those frames; a second pass over each interval, over what lies
    between its two states only, gives the frames between. Memory: 4 (A + V) (T / interval) bytes, and
    4 interval (A' + V') bytes for the A' arcs and V' nodes between.

    Args:
        log_probs: (T, C) float32, neither NaN nor +inf.

    Returns:
        (T,) int32: the state after each frame; empty if there is no alignment, or no frame.
    """
    num_frames, num_arcs, num_nodes = len(log_probs), len(token), len(leaving) - 1
    num_states = num_arcs + num_nodes
    states = np.empty(num_frames, np.int32)
    nothing = np.empty(0, np.int32)
    scores = np.full(num_states, -np.inf)
    origin = np.arange(num_states).astype(np.int32)
    num_parts = max(1, (num_frames + interval - 1) // interval)
    borders = np.empty(num_parts + 1, np.int64)  # the states at the ends of the parts
    borders[0] = num_arcs
    borders[num_parts] = -1
    if num_parts > 1:
        left = np.full(num_nodes, num_states, np.int64)  # tokens from each node to the end
        left[num_nodes - 1] = 0
        for arc in range(num_arcs - 1, -1, -1):
            left[src[arc]] = min(left[src[arc]], left[dst[arc]] + 1)
        origins = np.empty((num_parts - 1, num_states), np.int32)
        scores[num_arcs] = 0.0
        low, high = 0, 0
        for frame in range(num_frames):
            if frame > 0 and frame % interval == 0:
                part = frame // interval - 1
                for state in range(num_states):
                    origins[part, state] = origin[state]
                    origin[state] = state
            high = _advance(
                log_probs[frame], token, dst, score, leaving, splits, entering, is_modified, low, high,
                scores, origin, nothing, 0, 0,
            )  # fmt: skip
            # leave behind what is dead, or cannot reach the end in time
            to_come = num_frames - frame - 1
            while low < high:
                if scores[num_arcs + low] > -np.inf and left[low] <= to_come:
                    break
                alive = False
                for arc in range(leaving[low], leaving[low + 1]):
                    if scores[arc] > -np.inf and left[dst[arc]] <= to_come:
                        alive = True
                if alive:
                    break
                scores[num_arcs + low] = -np.inf
                for arc in range(leaving[low], leaving[low + 1]):
                    scores[arc] = -np.inf
                low += 1
        state = _last_state(scores, splits, entering)
        if state < 0:
            return nothing
        borders[num_parts] = state
        for part in range(num_parts - 1, 0, -1):
            state = origin[state] if part == num_parts - 1 else origins[part, state]
            borders[part] = state
    for part in range(num_parts):
        begin, end = part * interval, min((part + 1) * interval, num_frames)
        start, goal = borders[part], borders[part + 1]
        low = src[start] if start < num_arcs else start - num_arcs
        top = num_nodes - 1
        if goal >= 0:
            top = dst[goal] if goal < num_arcs else goal - num_arcs
        first_arc = leaving[low]
        width = leaving[top + 1] - first_arc
        first_blank = num_arcs + low - width
        before = np.empty((max(end - begin, 1), width + top - low + 1), np.int32)
        for state in range(num_states):
            scores[state] = -np.inf
        scores[start] = 0.0
        high = dst[start] if start < num_arcs else low
        for frame in range(begin, end):
            high = min(top, high)
            high = _advance(
                log_probs[frame], token, dst, score, leaving, splits, entering, is_modified, low, high,
                scores, origin, before[frame - begin], first_arc, first_blank,
            )  # fmt: skip
        state = goal if goal >= 0 else _last_state(scores, splits, entering)
        if state < 0:
            return nothing
        for frame in range(end - 1, begin - 1, -1):
            states[frame] = state
            offset = first_arc if state < num_arcs else first_blank
            state = before[frame - begin, state - offset]
    return states


@njit(cache=True, nogil=True)
def _log_add(one: float, other: float) -> float:
    if one < other:
        one, other = other, one
    return one if other == -np.inf else one + np.log1p(np.exp(other - one))


@njit(cache=True, nogil=True)
def _sum_forward(
    row: np.ndarray,
    token: np.ndarray,
    score: np.ndarray,
    leaving: np.ndarray,
    splits: np.ndarray,
    entering: np.ndarray,
    is_modified: bool,
    scores: np.ndarray,
) -> None:
    """One frame of the forward scores (A + V,), in place."""
    num_arcs = len(token)
    for node in range(len(leaving) - 2, -1, -1):
        blank = num_arcs + node
        for arc in range(leaving[node], leaving[node + 1]):
            value = scores[blank]
            for place in range(splits[node], splits[node + 1]):
                if is_modified or token[entering[place]] != token[arc]:
                    value = _log_add(value, scores[entering[place]])
            scores[arc] = _log_add(scores[arc], value + score[arc]) + row[token[arc]]
        value = scores[blank]
        for place in range(splits[node], splits[node + 1]):
            value = _log_add(value, scores[entering[place]])
        scores[blank] = value + row[0]


@njit(cache=True, nogil=True)
def _sum_backward(
    row: np.ndarray,
    dst: np.ndarray,
    token: np.ndarray,
    score: np.ndarray,
    leaving: np.ndarray,
    is_modified: bool,
    scores: np.ndarray,
) -> None:
    """One frame of the backward scores (A + V,), in place: of what comes after each state."""
    num_arcs = len(token)
    for node in range(len(leaving) - 1):
        blank = num_arcs + node
        value = row[0] + scores[blank]
        for arc in range(leaving[node], leaving[node + 1]):
            value = _log_add(value, score[arc] + row[token[arc]] + scores[arc])
        scores[blank] = value
        for arc in range(leaving[node], leaving[node + 1]):
            value = _log_add(row[token[arc]] + scores[arc], row[0] + scores[num_arcs + dst[arc]])
            for other in range(leaving[dst[arc]], leaving[dst[arc] + 1]):
                if is_modified or token[other] != token[arc]:
                    value = _log_add(value, score[other] + row[token[other]] + scores[other])
            scores[arc] = value


@njit(cache=True, nogil=True)
def occupancy(
    log_probs: np.ndarray,
    dst: np.ndarray,
    token: np.ndarray,
    score: np.ndarray,
    leaving: np.ndarray,
    splits: np.ndarray,
    entering: np.ndarray,
    is_modified: bool,
    begun: np.ndarray,
    ended: np.ndarray,
    num_words: int,
    interval: int,
) -> tuple[float, np.ndarray, np.ndarray]:
    """How many frames all alignments together, weighted by their probability, spend in each word.

    Forward scores are kept every ``interval`` frames and computed again in between, so that memory is
    8 (A + V) (T / interval + interval) bytes.

    Args:
        log_probs: (T, C) float32, T at least 1.
        begun, ended: (A + V,) int32: the words that have begun, and that have ended, in each state.

    Returns:
        - the log probability of the text, over all alignments; -inf: what follows is of no use
        - (W + 1,) float64: the expected number of frames by whose end exactly w words have begun
        - (W + 1,) float64: and ended
    """
    num_frames, num_arcs, num_nodes = len(log_probs), len(token), len(leaving) - 1
    num_states = num_arcs + num_nodes
    begun_frames, ended_frames = np.zeros(num_words + 1), np.zeros(num_words + 1)
    num_parts = (num_frames + interval - 1) // interval
    kept = np.empty((num_parts, num_states))
    scores = np.full(num_states, -np.inf)
    scores[num_arcs] = 0.0
    for frame in range(num_frames):
        if frame % interval == 0:
            for state in range(num_states):
                kept[frame // interval, state] = scores[state]
        _sum_forward(log_probs[frame], token, score, leaving, splits, entering, is_modified, scores)
    backward = np.full(num_states, -np.inf)
    backward[num_states - 1] = 0.0
    total = scores[num_states - 1]
    for place in range(splits[num_nodes - 1], splits[num_nodes]):
        backward[entering[place]] = 0.0
        total = _log_add(total, scores[entering[place]])
    if total == -np.inf:
        return total, begun_frames, ended_frames
    inner = np.empty((interval, num_states))
    for part in range(num_parts - 1, -1, -1):
        first, end = part * interval, min((part + 1) * interval, num_frames)
        for state in range(num_states):
            scores[state] = kept[part, state]
        for frame in range(first, end):
            _sum_forward(
                log_probs[frame], token, score, leaving, splits, entering, is_modified, scores
            )
            for state in range(num_states):
                inner[frame - first, state] = scores[state]
        for frame in range(end - 1, first - 1, -1):
            for state in range(num_states):
                share = np.exp(inner[frame - first, state] + backward[state] - total)
                begun_frames[begun[state]] += share
                ended_frames[ended[state]] += share
            _sum_backward(log_probs[frame], dst, token, score, leaving, is_modified, backward)
    return total, begun_frames, ended_frames
