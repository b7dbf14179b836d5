"""The inner loop of the native search; see `moe_asr.fsa.native.layout` for what its arrays hold."""

import numpy as np
from numba import njit

from moe_asr.fsa.native.layout import (
    ARCS_EXPANDED,
    BEST_ARC,
    BUCKETS_A_NAT,
    DONE,
    EXPLICIT,
    GROW_STORE,
    GROW_WORKSPACE,
    INTERVAL,
    LISTED_WIDTH,
    MAX_ACTIVE,
    MIN_ACTIVE,
    MODIFIED,
    NO_PATH,
    NOWHERE,
    NUM_BUCKETS,
    NUM_STEPS,
    OUTPUT_BEAM,
    PRUNE,
    SEARCH_BEAM,
    STANDARD,
    STATES_ACTIVE,
    STATUS,
    STRICT_MAX_ACTIVE,
    TOKEN_BEAM,
    TOTAL_STEPS,
    WIDEST_BEAM,
)


@njit(cache=True, nogil=True)
def search_steps(
    log_probs, frames, begin, topology, graph, limits, workspace, store, counts, beam, context
):
    """Searches rows ``begin`` and on of ``log_probs``, until they end or the outcome says what is to be done.

    Args:
        log_probs: (R, C) float32, contiguous.
        frames: (R,) int64, the frames read when the row has been read.
        topology: EXPLICIT, STANDARD or MODIFIED.
        graph: records (Q, 4) uint32 (first arc, end of arcs, last label, blank state), best arc score (Q,)
            float32, arcs sorted by token within a state: token, target uint32, score float32. What indexes
            arrays is unsigned: numba then does not look whether it is below 0.
        limits: float64, by the names of the layout.
        workspace: see `Workspace`.
        store, counts: see the layout.
        beam: (1,) float64, the beam as it is adapted.
        context: of contextual phrases, None without them: arrays of `SearchContext`, of the store, and of the
            workspace. A state of the search is then a search state and a context state. (Numba compiles a
            version without these branches where it is None.)

    Returns:
        The first row that was not searched; counts[STATUS] is the outcome.
    """
    records, best_arc, arc_token, arc_target, arc_score = graph
    slot, epoch, row, token_list, bucket_end, hits, busy = workspace[0]
    new_state, new_last, new_blank, new_best, new_score = workspace[1]
    link_src, link_dst, link_arc, link_score, link_acoustic = workspace[2]
    st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    fr_graph, fr_last, fr_blank, fr_best, fr_score = store[3]
    if context is not None:
        symbol, class_of, following, gains, most_gain, can_gain = context[0]
        fr_context, lk_gain = context[1]
        new_context, link_gain, table = context[2]
    output_beam = np.float32(limits[OUTPUT_BEAM])
    strict = limits[STRICT_MAX_ACTIVE] > 0
    num_targets = 2 if topology == MODIFIED else 1
    lowest_token = 0 if topology == EXPLICIT else 1  # of arcs
    counts[STATUS] = DONE
    for now in range(begin, len(log_probs)):
        step = counts[NUM_STEPS]
        state_begin = step_state[step + 1]
        num_active = state_begin - step_state[step]
        if step + 3 > len(step_frame):
            counts[STATUS] = GROW_STORE
            return now
        if 2 * num_active + 2 > len(link_src):
            counts[STATUS] = GROW_WORKSPACE
            return now

        # the beam, adapted as k2 does
        adapted = beam[0]
        if strict or num_active <= limits[MAX_ACTIVE]:
            if num_active >= limits[MIN_ACTIVE]:
                adapted = 0.8 * adapted + 0.2 * limits[SEARCH_BEAM]
            else:
                adapted = max(adapted, limits[SEARCH_BEAM]) * 1.25
                adapted = min(adapted, max(WIDEST_BEAM, limits[SEARCH_BEAM]))
        else:
            adapted = min(adapted, limits[SEARCH_BEAM]) * 0.8
        width = np.float32(adapted)

        given = log_probs[now]
        top = _relative_row(given, lowest_token, np.float32(limits[TOKEN_BEAM]), row)

        # states worse than the best max_active are left out, where that limit is strict
        floor = np.float32(-np.inf)
        if strict and num_active > limits[MAX_ACTIVE]:
            floor = _score_of_rank(fr_score[:num_active], int(limits[MAX_ACTIVE]), link_score)

        # the best arc of the best state bounds the best of the next step from below
        leader = 0
        for i in range(num_active):
            if fr_score[i] > fr_score[leader]:
                leader = i
        best = np.float32(-np.inf)
        last = fr_last[leader]
        score = fr_score[leader]
        if topology != EXPLICIT:
            if topology == STANDARD or last == 0:
                best = score + row[0]
            if last > 0:
                best = max(best, score + row[last])
        # with phrases: of the arc that is best without their gains; looking up all would take too long
        most, likely = np.float32(-np.inf), records[fr_graph[leader], 0]
        for arc in range(records[fr_graph[leader], 0], records[fr_graph[leader], 1]):
            if arc_token[arc] != last:
                total = score + (arc_score[arc] + row[arc_token[arc]])
                if context is None:
                    best = max(best, total)
                elif total > most:
                    most = total
                    likely = arc
        if context is not None and most > -np.inf:
            weight = arc_score[likely] + gains[fr_context[leader], class_of[symbol[likely]]]
            best = max(best, score + (weight + row[arc_token[likely]]))
        cutoff = _below(best, width)

        # the best tokens by their score, in buckets, for states with many arcs
        listed_from = top - LISTED_WIDTH
        best_arc_of_all = np.float32(limits[BEST_ARC])
        if context is not None:
            best_arc_of_all += context[3]
        if top > -np.inf and top >= cutoff - best_arc_of_all:
            _fill_buckets(row, lowest_token, top, hits, token_list, bucket_end)

        # slots of earlier steps are below the base: nothing needs to be cleared
        epoch[0] += 1
        base = epoch[0] << 32
        num_new = 0
        num_links = 0
        expanded = 0
        if topology != EXPLICIT:
            # blank or the same token again: every target is new, so that nothing has to be looked up
            for i in range(num_active):
                last = fr_last[i]
                total = fr_score[i] + row[last]
                if total > cutoff and fr_score[i] >= floor:
                    best = max(best, total)
                    new_state[num_new] = fr_graph[i]
                    new_last[num_new] = last
                    new_blank[num_new] = fr_blank[i]
                    new_best[num_new] = fr_best[i]
                    new_score[num_new] = total
                    if context is None:
                        slot[fr_graph[i]] = base + num_new
                    else:
                        new_context[num_new] = fr_context[i]
                        link_gain[num_new] = 0.0
                        if fr_context[i] == 0:
                            slot[fr_graph[i]] = base + num_new
                        else:
                            _find_pair(fr_graph[i], fr_context[i], base, num_new, table)
                    link_src[num_new] = i
                    link_dst[num_new] = num_new
                    link_arc[num_new] = -1 - last
                    link_score[num_new] = total
                    link_acoustic[num_new] = given[last]
                    num_new += 1
            num_links = num_new
            cutoff = _below(best, width)
            # from a token to blank
            for i in range(num_active):
                last = fr_last[i]
                label = 0 if topology == STANDARD else last
                total = fr_score[i] + row[label]
                if last > 0 and total > cutoff and fr_score[i] >= floor:
                    if total > best:
                        best = total
                        cutoff = _below(best, width)
                    target = fr_blank[i]
                    more = np.float32(0.0)
                    if context is None:
                        position = _find(target, base, num_new, slot)
                    else:
                        if fr_context[i] == 0:
                            position = _find(target, base, num_new, slot)
                        else:
                            position = _find_pair(target, fr_context[i], base, num_new, table)
                        if can_gain[target]:
                            more = most_gain[fr_context[i]]
                        new_context[num_new] = fr_context[i]
                        link_gain[num_links] = 0.0
                    num_new, num_links = _reach(
                        position, target, more, total, i, -1 - label, given[label], output_beam, records,
                        best_arc,
                        new_state, new_last, new_blank, new_best, new_score,
                        link_src, link_dst, link_arc, link_score, link_acoustic, num_new, num_links,
                    )  # fmt: skip

        # arcs: those of tokens below cutoff - score - fr_best cannot come above the cutoff
        num_busy = 0
        if top > -np.inf:
            for i in range(num_active):
                busy[num_busy] = i
                num_busy += cutoff - fr_score[i] - fr_best[i] <= top and fr_score[i] >= floor
        for position in range(num_busy):
            i = busy[position]
            score = fr_score[i]
            last = fr_last[i]
            least = cutoff - score - fr_best[i]
            if least > top:
                continue
            arc_begin = np.int64(records[fr_graph[i], 0])
            arc_end = np.int64(records[fr_graph[i], 1])
            if num_links + num_targets * (arc_end - arc_begin) > len(link_src):
                counts[STATUS] = GROW_WORKSPACE
                return now
            wanted = arc_end - arc_begin
            if least >= listed_from:
                wanted = bucket_end[min(int((top - least) * BUCKETS_A_NAT), NUM_BUCKETS - 1)]
            num_hits = 0
            if wanted * 24 < arc_end - arc_begin:
                for place in range(wanted):
                    token = token_list[place]
                    if row[token] >= least and token != last:
                        arc = _first_arc(arc_token, arc_begin, arc_end, token)
                        while arc < arc_end and arc_token[arc] == token:
                            hits[num_hits] = arc
                            num_hits += 1
                            arc += 1
            else:
                for arc in range(arc_begin, arc_end):
                    token = arc_token[arc]
                    hits[num_hits] = arc
                    num_hits += row[token] >= least and token != last
            expanded += num_hits
            for hit in range(num_hits):
                arc = hits[hit]
                token = arc_token[arc]
                weight = arc_score[arc]
                if context is not None:
                    column = class_of[symbol[arc]]
                    gain = gains[fr_context[i], column]
                    weight += gain
                total = score + (weight + row[token])
                if total > cutoff:
                    if total > best:
                        best = total
                        cutoff = _below(best, width)
                    target = arc_target[arc]
                    for _ in range(num_targets):
                        more = np.float32(0.0)
                        if context is None:
                            position = _find(target, base, num_new, slot)
                        else:
                            after = following[fr_context[i], column]
                            if after == 0:
                                position = _find(target, base, num_new, slot)
                            else:
                                position = _find_pair(target, after, base, num_new, table)
                            if can_gain[target]:
                                more = most_gain[after]
                            new_context[num_new] = after
                            link_gain[num_links] = gain
                        num_new, num_links = _reach(
                            position, target, more, total, i, arc, given[token], output_beam, records,
                            best_arc,
                            new_state, new_last, new_blank, new_best, new_score,
                            link_src, link_dst, link_arc, link_score, link_acoustic, num_new, num_links,
                        )  # fmt: skip
                        target = records[target, 3]

        # keep what is above the final cutoff
        room = state_begin + num_new <= len(st_extra) and num_new <= len(fr_graph)
        if not room or step_link[step] + num_links > len(lk_src):
            counts[STATUS] = GROW_STORE
            return now
        counts[ARCS_EXPANDED] += expanded
        counts[STATES_ACTIVE] += num_active
        kept = 0
        for i in range(num_new):
            score = new_score[i]
            fr_graph[kept] = new_state[i]
            fr_last[kept] = new_last[i]
            fr_blank[kept] = new_blank[i]
            fr_best[kept] = new_best[i]
            fr_score[kept] = score - best
            if context is not None:
                fr_context[kept] = new_context[i]
            st_extra[state_begin + kept] = -1.0
            is_kept = score > cutoff
            new_state[i] = kept if is_kept else NOWHERE
            kept += is_kept
        if kept == 0:
            counts[STATUS] = NO_PATH
            return now
        position = step_link[step]
        for i in range(num_links):
            target = link_dst[i]
            total = link_score[i]
            deficit = new_score[target] - total
            target = new_state[target]
            lk_src[position] = link_src[i]
            lk_dst[position] = target
            lk_arc[position] = link_arc[i]
            lk_acoustic[position] = link_acoustic[i]
            lk_deficit[position] = deficit
            if context is not None:
                lk_gain[position] = link_gain[i]
            position += target != NOWHERE and deficit <= output_beam and total > cutoff
        beam[0] = adapted
        step_link[step + 1] = position
        step_state[step + 2] = state_begin + kept
        step_frame[step + 1] = frames[now]
        counts[NUM_STEPS] = step + 1
        counts[TOTAL_STEPS] += 1
        if counts[TOTAL_STEPS] % limits[INTERVAL] == 0:
            counts[STATUS] = PRUNE
            return now + 1
    return len(log_probs)


@njit(cache=True, nogil=True)
def _find(state, base, num_new, slot):
    """The candidate that a search state is, or a negative number: then it is to be the next, ``num_new``."""
    position = slot[state] - base
    if position < 0:
        slot[state] = base + num_new
    return position


@njit(cache=True, nogil=True)
def _find_pair(state, context, base, num_new, table):
    """The same for a search state in a context state other than 0, in which most are.

    These share a table of keys and slots in turn, by open addressing with linear probing; entries of earlier
    frames are below the base and count as free. It is never more than half full. (One array, not two: each
    call counts its references.)
    """
    key = (np.int64(context) << 32) | np.int64(state)
    last = np.uint64(len(table) - 2)  # of a power of two, even numbers
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)  # golden ratio (Knuth, volume 3, 6.4)
    entry = (mixed >> np.uint64(32)) & last
    while table[entry + np.uint64(1)] >= base and table[entry] != key:
        entry = (entry + np.uint64(2)) & last
    position = table[entry + np.uint64(1)] - base
    if position < 0:
        table[entry] = key
        table[entry + np.uint64(1)] = base + num_new
    return position


@njit(cache=True, nogil=True)
def _reach(
    position, target, more, total, source, arc, acoustic, output_beam, records, best_arc,
    new_state, new_last, new_blank, new_best, new_score,
    link_src, link_dst, link_arc, link_score, link_acoustic, num_new, num_links,
):  # fmt: skip
    """Notes that an arc leads to ``target`` with the score ``total``, unless far better ones are known.

    ``position`` is that of `_find`, ``more`` what arcs from the target can gain by phrases. Arrays come one
    by one: numba counts references of what is taken from a tuple, at each call; and the function is simple
    enough for it to see that it need not.
    """
    if position < 0:
        position = num_new
        new_state[position] = target
        new_last[position] = records[target, 2]
        new_blank[position] = records[target, 3]
        new_best[position] = best_arc[target] + more
        new_score[position] = total
        num_new += 1
    else:
        known = new_score[position]
        if total > known:
            new_score[position] = total
        elif total < known - output_beam:
            return num_new, num_links
    link_src[num_links] = source
    link_dst[num_links] = position
    link_arc[num_links] = arc
    link_score[num_links] = total
    link_acoustic[num_links] = acoustic
    return num_new, num_links + 1


@njit(cache=True, nogil=True)
def _relative_row(log_probs, lowest, token_beam, row):
    """Scores relative to the best, without those more than ``token_beam`` below it; blank stays.

    So frames of scores far from 0 lose nothing of their differences. Returns the best of ``row`` from the
    token ``lowest`` (0 or 1) on.
    """
    top = np.float32(-np.inf)
    for token in range(1, len(row)):
        top = max(top, log_probs[token])
    peak = max(top, log_probs[0])
    if lowest == 0:
        top = peak
    if peak == -np.inf:
        peak = np.float32(0.0)
    for token in range(len(row)):
        row[token] = log_probs[token] - peak
    if token_beam < np.inf:
        for token in range(1, len(row)):
            if row[token] < -token_beam:
                row[token] = -np.inf
    top -= peak
    return top if top >= -token_beam else np.float32(-np.inf)


@njit(cache=True, nogil=True)
def _below(best, width):
    """What scores must exceed: ``width`` below the best, and below it in any case.

    A beam narrower than what float32 tells apart would drop the best path too: where more than ``max_active``
    states are as good as one another, or scores are huge.
    """
    return best - max(width, np.float32(1e-6) * (abs(best) + np.float32(1.0)))


@njit(cache=True, nogil=True)
def _first_arc(arc_token, low, high, token):
    """The first arc from ``low`` to ``high`` whose token is not below ``token``, by bisection."""
    while low < high:
        middle = (low + high) >> 1
        if arc_token[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _fill_buckets(row, lowest, top, found, token_list, bucket_end):
    """Tokens within LISTED_WIDTH of ``top``, best bucket first: bucket_end[b] are in buckets 0..b."""
    num_found = 0
    floor = top - LISTED_WIDTH
    for token in range(lowest, len(row)):
        found[num_found] = token
        num_found += row[token] >= floor
    for bucket in range(NUM_BUCKETS):
        bucket_end[bucket] = 0
    for place in range(num_found):
        bucket = min(int((top - row[found[place]]) * BUCKETS_A_NAT), NUM_BUCKETS - 1)
        bucket_end[bucket] += 1
    total = 0
    for bucket in range(NUM_BUCKETS):
        count = bucket_end[bucket]
        bucket_end[bucket] = total
        total += count
    for place in range(num_found):
        token = found[place]
        bucket = min(int((top - row[token]) * BUCKETS_A_NAT), NUM_BUCKETS - 1)
        token_list[bucket_end[bucket]] = token
        bucket_end[bucket] += 1


@njit(cache=True, nogil=True)
def _score_of_rank(scores, rank, scratch):
    """The ``rank``-th best of more than ``rank`` scores, by Hoare's quickselect."""
    low, high = 0, len(scores) - 1
    for i in range(len(scores)):
        scratch[i] = scores[i]
    wanted = rank - 1
    while low < high:
        pivot = scratch[(low + high) >> 1]
        left, right = low, high
        while left <= right:
            while scratch[left] > pivot:
                left += 1
            while scratch[right] < pivot:
                right -= 1
            if left <= right:
                scratch[left], scratch[right] = scratch[right], scratch[left]
                left += 1
                right -= 1
        if wanted <= right:
            high = right
        elif wanted >= left:
            low = left
        else:
            break
    return scratch[wanted]
