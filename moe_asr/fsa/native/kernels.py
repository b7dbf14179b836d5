"""The inner loops of the native search, compiled by numba: in one file, for numba's cache looks no further.

A stream's store holds what its search has found and not yet handed on, step by step; a step is a frame that
was searched. States and links lie in the order in which they were made:

    states: graph state, score (relative to the best of its step), extra cost
    links: source and target (positions within their steps), arc, acoustic score, deficit
    steps: first state, first link that leaves it, score of its best state, frames read

A link's deficit is how much worse it is than the best link into its target, 0 for that one. The sum of the
deficits along a path is how much worse it is than the best path to its end, so the least such sum from a
state to the newest step, its extra cost, says whether a path through it can ever come within the output beam
(Povey et al., "Generating exact lattices in the WFST framework", 2012). Deficits need no absolute scores: the
precision of float32 is spent on differences, however long the stream.

An arc >= 0 is one of the search graph; -1 - token is a frame of blank or of a repeated token, which the CTC
topology implies.
"""

import numpy as np
from numba import njit

EXPLICIT, STANDARD, MODIFIED = 0, 1, 2  # topology
DONE, GROW_WORKSPACE, GROW_STORE, NO_PATH = 0, 1, 2, 3  # outcomes of `search_steps`
NUM_BUCKETS = 64
# counts of a stream
NUM_STEPS, MERGED_STEP, STATUS, TOTAL_STEPS, ARCS_EXPANDED, STATES_ACTIVE, FORCED_MERGES = range(7)
NUM_COUNTS = 7
_DEAD = np.float32(np.inf)


@njit(cache=True, nogil=True)
def search_steps(
    log_probs,
    frames,
    begin,
    topology,
    graph,
    limits,
    interval,
    workspace,
    store,
    counts,
    beam,
):  # fmt: skip
    """Searches rows ``begin`` and on of ``log_probs`` until they end, or the outcome says what is missing.

    Args:
        log_probs: (R, C) float32, contiguous.
        frames: (R,) int64, the frames read when the row has been read.
        topology: EXPLICIT, STANDARD or MODIFIED.
        graph: records (Q, 4) int32 (first arc, end of arcs, last label, blank state), best arc score (Q,)
            float32, arcs sorted by token within a state: token, target int32, score float32.
        limits: float64: search beam, output beam, min_active, max_active, token beam, whether max_active is
            strict, the best score of any arc, steps that may wait for their paths to merge.
        interval: steps from one pruning of the lattice to the next.
        workspace: see `Workspace`.
        store: see above.
        counts: int64, see above.
        beam: (1,) float64, the beam as it is adapted.

    Returns:
        The first row that was not searched; counts[STATUS] is the outcome.
    """
    records, best_arc, arc_token, arc_target, arc_score = graph
    slot, row, token_list, bucket_end, hits = workspace[0]
    candidates, links = workspace[1], workspace[2]
    new_state, new_score = candidates
    link_src, link_dst, link_arc, link_score, link_acoustic = links
    st_graph, st_score, st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    search_beam, output_beam = limits[0], np.float32(limits[1])
    min_active, max_active, token_beam, exact_max = limits[2], limits[3], limits[4], limits[5] > 0
    best_of_all, max_pending = np.float32(limits[6]), limits[7]
    num_targets = 2 if topology == MODIFIED else 1
    num_tokens = log_probs.shape[1]
    counts[STATUS] = DONE
    for now in range(begin, len(log_probs)):
        step = counts[NUM_STEPS]
        first, end = step_state[step], step_state[step + 1]
        num_active = end - first
        if step + 3 > len(step_frame):
            counts[STATUS] = GROW_STORE
            return now

        # the beam, adapted as k2 does
        adapted = beam[0]
        if exact_max or num_active <= max_active:
            if num_active >= min_active:
                adapted = 0.8 * adapted + 0.2 * search_beam
            else:
                adapted = max(adapted, search_beam) * 1.25
        else:
            adapted = min(adapted, search_beam) * 0.8
        width = np.float32(adapted)

        # the row, without the tokens that are pruned
        top = np.float32(-np.inf)
        for token in range(num_tokens):
            value = log_probs[now, token]
            row[token] = value
            top = max(top, value)
        if token_beam < np.inf:
            floor = top - np.float32(token_beam)
            for token in range(1, num_tokens):
                if row[token] < floor:
                    row[token] = -np.inf

        # states worse than the best max_active are left out, where that limit is strict
        floor = np.float32(-np.inf)
        if exact_max and num_active > max_active:
            if num_active > len(link_score):
                counts[STATUS] = GROW_WORKSPACE
                return now
            floor = _score_of_rank(st_score[first:end], int(max_active), link_score)

        # the best arc of the best state bounds the best of the next step from below
        best_state = first
        for state in range(first, end):
            if st_score[state] > st_score[best_state]:
                best_state = state
        best = np.float32(-np.inf)
        if end > first:
            q = st_graph[best_state]
            last = records[q, 2]
            base = st_score[best_state]
            if topology != EXPLICIT:
                if topology == STANDARD or last == 0:
                    best = base + row[0]
                if last > 0:
                    best = max(best, base + row[last])
            for arc in range(records[q, 0], records[q, 1]):
                if arc_token[arc] != last:
                    best = max(best, base + (arc_score[arc] + row[arc_token[arc]]))

        # tokens by their score, in buckets: those that no state can use are left out
        top = np.float32(-np.inf)
        bound = np.float32(np.inf)
        lowest_token = 0 if topology == EXPLICIT else 1
        for token in range(lowest_token, num_tokens):
            value = row[token]
            if value > -np.inf:
                top = max(top, value)
                bound = min(bound, value)
        cutoff = best - width
        bound = max(bound, cutoff - best_of_all)
        scale = np.float32(0.0)
        num_listed = 0
        if top > -np.inf and top >= bound:
            scale = np.float32(NUM_BUCKETS) / max(top - bound, np.float32(1e-3))
            num_listed = _fill_buckets(row, lowest_token, top, bound, scale, token_list, bucket_end)

        num_new = 0
        num_links = 0
        expanded = 0
        room = len(link_src) - 2
        for state in range(first, end):
            score = st_score[state]
            if score < floor:
                continue
            q = st_graph[state]
            arc_begin, arc_end, last = records[q, 0], records[q, 1], records[q, 2]
            if num_links + num_targets * (arc_end - arc_begin) > room:
                for i in range(num_new):
                    slot[new_state[i]] = -1
                counts[STATUS] = GROW_WORKSPACE
                return now
            source = state - first

            # frames that the topology implies: blank or the same token again, then from a token to blank
            num_implied = 0 if topology == EXPLICIT else (1 if last == 0 else 2)
            label, target = last, q
            for _ in range(num_implied):
                acoustic = row[label]
                total = score + acoustic
                if total > cutoff:
                    if total > best:
                        best = total
                        cutoff = best - width
                    num_new, num_links = _reach(
                        target, total, source, -1 - label, acoustic, output_beam,
                        slot, candidates, links, num_new, num_links,
                    )  # fmt: skip
                label = 0 if topology == STANDARD else last
                target = records[q, 3]

            # arcs: those of tokens below `least` cannot come above the cutoff
            if num_listed == 0 or arc_begin == arc_end:
                continue
            least = cutoff - score - best_arc[q]
            if least > top:
                continue
            wanted = num_listed
            if least > bound:
                wanted = bucket_end[min(int((top - least) * scale), NUM_BUCKETS - 1)]
            num_hits = 0
            if wanted * 6 < arc_end - arc_begin:
                for position in range(wanted):
                    token = token_list[position]
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
            for position in range(num_hits):
                arc = hits[position]
                acoustic = row[arc_token[arc]]
                total = score + (arc_score[arc] + acoustic)
                if total > cutoff:
                    if total > best:
                        best = total
                        cutoff = best - width
                    target = arc_target[arc]
                    for _ in range(num_targets):
                        num_new, num_links = _reach(
                            target, total, source, arc, acoustic, output_beam,
                            slot, candidates, links, num_new, num_links,
                        )  # fmt: skip
                        target = records[target, 3]

        # keep what is above the final cutoff
        state_begin = end
        if state_begin + num_new > len(st_graph) or step_link[step] + num_links > len(lk_src):
            for i in range(num_new):
                slot[new_state[i]] = -1
            counts[STATUS] = GROW_STORE
            return now
        kept = 0
        for i in range(num_new):
            q = new_state[i]
            slot[q] = -1
            if new_score[i] > cutoff:
                st_graph[state_begin + kept] = q
                st_score[state_begin + kept] = new_score[i] - best
                st_extra[state_begin + kept] = -1.0
                new_state[i] = kept
                kept += 1
            else:
                new_state[i] = -1
        counts[ARCS_EXPANDED] += expanded
        counts[STATES_ACTIVE] += num_active
        if kept == 0:
            counts[STATUS] = NO_PATH
            return now
        position = step_link[step]
        for i in range(num_links):
            target = new_state[link_dst[i]]
            deficit = new_score[link_dst[i]] - link_score[i]
            if target >= 0 and deficit <= output_beam and link_score[i] > cutoff:
                lk_src[position] = link_src[i]
                lk_dst[position] = target
                lk_arc[position] = link_arc[i]
                lk_acoustic[position] = link_acoustic[i]
                lk_deficit[position] = deficit
                position += 1
        beam[0] = adapted
        step_link[step + 1] = position
        step_state[step + 2] = state_begin + kept
        step_score[step + 1] = step_score[step] + best
        step_frame[step + 1] = frames[now]
        counts[NUM_STEPS] = step + 1
        counts[TOTAL_STEPS] += 1
        if counts[TOTAL_STEPS] % interval == 0:
            prune_steps(output_beam, False, store, counts)
            if counts[NUM_STEPS] - counts[MERGED_STEP] > max_pending:
                _force_merge(store, counts)
                prune_steps(output_beam, True, store, counts)
    return len(log_probs)


@njit(cache=True, nogil=True)
def _reach(
    target, total, source, arc, acoustic, output_beam, slot, candidates, links, num_new, num_links
):
    """Notes that an arc leads to ``target`` with the score ``total``, unless far better ones are known."""
    new_state, new_score = candidates
    position = slot[target]
    if position < 0:
        position = num_new
        slot[target] = position
        new_state[position] = target
        new_score[position] = total
        num_new += 1
    else:
        known = new_score[position]
        if total > known:
            new_score[position] = total
        elif total < known - output_beam:
            return num_new, num_links
    link_src, link_dst, link_arc, link_score, link_acoustic = links
    link_src[num_links] = source
    link_dst[num_links] = position
    link_arc[num_links] = arc
    link_score[num_links] = total
    link_acoustic[num_links] = acoustic
    return num_new, num_links + 1


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
def _fill_buckets(row, lowest, top, bound, scale, token_list, bucket_end):
    """Tokens of at least ``bound``, in buckets from the best down: bucket_end[b] are in buckets 0..b."""
    for bucket in range(NUM_BUCKETS):
        bucket_end[bucket] = 0
    for token in range(lowest, len(row)):
        if row[token] >= bound:
            bucket_end[min(int((top - row[token]) * scale), NUM_BUCKETS - 1)] += 1
    total = 0
    for bucket in range(NUM_BUCKETS):
        count = bucket_end[bucket]
        bucket_end[bucket] = total
        total += count
    for token in range(lowest, len(row)):
        if row[token] >= bound:
            bucket = min(int((top - row[token]) * scale), NUM_BUCKETS - 1)
            token_list[bucket_end[bucket]] = token
            bucket_end[bucket] += 1
    return total


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


@njit(cache=True, nogil=True)
def prune_steps(output_beam, every_step, store, counts):
    """Drops the links and states that no continuation can bring within the beam, and closes the gaps.

    Goes back from the newest step until extra costs are what they were, or to the oldest. Also finds
    counts[MERGED_STEP], the last step before the newest in which all paths that are left pass a single state.
    """
    st_graph, st_score, st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    newest = counts[NUM_STEPS]
    for state in range(step_state[newest], step_state[newest + 1]):
        if st_extra[state] < _DEAD:
            st_extra[state] = 0.0
    lowest = newest
    for step in range(newest - 1, -1, -1):
        lowest = step
        extra_of_links(step, output_beam, store, st_extra, st_fresh)
        changed = False
        num_alive = 0
        for state in range(step_state[step], step_state[step + 1]):
            if st_fresh[state] != st_extra[state]:
                changed = True
                st_extra[state] = st_fresh[state]
            if st_extra[state] < _DEAD:
                num_alive += 1
        if num_alive == 1 and step > counts[MERGED_STEP]:
            counts[MERGED_STEP] = step
        if not (changed or every_step):
            break

    # states are renumbered first, for links need both ends
    for step in range(lowest, newest + 1):
        place = 0
        for state in range(step_state[step], step_state[step + 1]):
            st_place[state] = place
            if st_extra[state] < _DEAD:
                place += 1
    free = step_link[lowest]
    begin = free
    for step in range(lowest, newest):
        end = step_link[step + 1]
        step_link[step] = free
        for link in range(begin, end):
            if lk_deficit[link] < _DEAD:
                lk_src[free] = st_place[step_state[step] + lk_src[link]]
                lk_dst[free] = st_place[step_state[step + 1] + lk_dst[link]]
                lk_arc[free] = lk_arc[link]
                lk_acoustic[free] = lk_acoustic[link]
                lk_deficit[free] = lk_deficit[link]
                free += 1
        begin = end
    step_link[newest] = free
    free = step_state[lowest]
    begin = free
    for step in range(lowest, newest + 1):
        end = step_state[step + 1]
        step_state[step] = free
        for state in range(begin, end):
            if st_extra[state] < _DEAD:
                st_graph[free] = st_graph[state]
                st_score[free] = st_score[state]
                st_extra[free] = st_extra[state]
                free += 1
        begin = end
    step_state[newest + 1] = free


@njit(cache=True, nogil=True)
def _force_merge(store, counts):
    """Gives up all paths that do not pass the state which the best path passes, half the steps back.

    The best link into a state may be among those given up: scores and deficits are then taken anew.
    """
    st_graph, st_score, st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    newest = counts[NUM_STEPS]
    middle = (counts[MERGED_STEP] + newest) // 2
    place = 0
    for state in range(step_state[newest], step_state[newest + 1]):
        if st_score[state] > st_score[step_state[newest] + place]:
            place = state - step_state[newest]
    for step in range(newest - 1, middle - 1, -1):
        for link in range(step_link[step], step_link[step + 1]):
            if lk_dst[link] == place and lk_deficit[link] == 0.0:
                place = lk_src[link]
                break
    # st_fresh: how much worse the best path to a state is than it was
    for state in range(step_state[middle], step_state[middle + 1]):
        st_fresh[state] = _DEAD
    st_fresh[step_state[middle] + place] = 0.0
    for step in range(middle, newest):
        first, following = step_state[step], step_state[step + 1]
        for state in range(following, step_state[step + 2]):
            st_fresh[state] = _DEAD
        for link in range(step_link[step], step_link[step + 1]):
            lk_deficit[link] += st_fresh[first + lk_src[link]]
            target = following + lk_dst[link]
            st_fresh[target] = min(st_fresh[target], lk_deficit[link])
        for link in range(step_link[step], step_link[step + 1]):
            if lk_deficit[link] < _DEAD:
                lk_deficit[link] -= st_fresh[following + lk_dst[link]]
        for state in range(following, step_state[step + 2]):
            if st_fresh[state] < _DEAD:
                st_score[state] -= st_fresh[state]
            else:
                st_extra[state] = _DEAD
    counts[FORCED_MERGES] += 1


@njit(cache=True, nogil=True)
def extra_of_links(step, output_beam, store, extra, fresh):
    """The extra costs of a step's states in ``fresh``, from those of the next in ``extra``.

    Links beyond the beam are given up: their deficit becomes infinite.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    first, following = step_state[step], step_state[step + 1]
    for state in range(first, following):
        fresh[state] = _DEAD
    for link in range(step_link[step], step_link[step + 1]):
        cost = lk_deficit[link] + extra[following + lk_dst[link]]
        if cost <= output_beam:
            source = first + lk_src[link]
            fresh[source] = min(fresh[source], cost)
        else:
            lk_deficit[link] = _DEAD


@njit(cache=True, nogil=True)
def mark_alive(oldest, newest, output_beam, store, extra):
    """The extra costs of steps oldest..newest - 1 in ``extra``, those of ``newest`` being in it.

    The store is not changed: which links are within the beam follows from ``extra``.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    for step in range(newest - 1, oldest - 1, -1):
        first, following = step_state[step], step_state[step + 1]
        for state in range(first, following):
            extra[state] = _DEAD
        for link in range(step_link[step], step_link[step + 1]):
            cost = lk_deficit[link] + extra[following + lk_dst[link]]
            if cost <= output_beam:
                source = first + lk_src[link]
                extra[source] = min(extra[source], cost)


@njit(cache=True, nogil=True)
def trace_back(newest, place, store, links):
    """The best path to a state, the one at ``place`` in the step ``newest``: its links, oldest first."""
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    for step in range(newest - 1, -1, -1):
        for link in range(step_link[step], step_link[step + 1]):
            if lk_dst[link] == place and lk_deficit[link] == 0.0:
                links[step] = link
                place = lk_src[link]
                break


@njit(cache=True, nogil=True)
def last_common_step(newest, store, marks):
    """The last step in which the best paths to all states of the step ``newest`` pass one state, or -1."""
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    for state in range(step_state[newest], step_state[newest + 1]):
        marks[state] = True
    left = step_state[newest + 1] - step_state[newest]
    for step in range(newest, -1, -1):
        if left == 1:
            return step
        if step == 0:
            break
        first, following = step_state[step - 1], step_state[step]
        for state in range(first, following):
            marks[state] = False
        left = 0
        for link in range(step_link[step - 1], step_link[step]):
            if lk_deficit[link] == 0.0 and marks[following + lk_dst[link]]:
                marks[following + lk_dst[link]] = False  # the first of equals, as in `trace_back`
                if not marks[first + lk_src[link]]:
                    marks[first + lk_src[link]] = True
                    left += 1
    return -1


@njit(cache=True, nogil=True)
def drop_steps(count, store, counts):
    """Forgets the first ``count`` steps; what is left moves to the front."""
    st_graph, st_score, st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_score, step_frame = store[2]
    newest = counts[NUM_STEPS]
    state, link = step_state[count], step_link[count]
    num_states, num_links = step_state[newest + 1] - state, step_link[newest] - link
    for i in range(num_states):
        st_graph[i] = st_graph[state + i]
        st_score[i] = st_score[state + i]
        st_extra[i] = st_extra[state + i]
    for i in range(num_links):
        lk_src[i] = lk_src[link + i]
        lk_dst[i] = lk_dst[link + i]
        lk_arc[i] = lk_arc[link + i]
        lk_acoustic[i] = lk_acoustic[link + i]
        lk_deficit[i] = lk_deficit[link + i]
    for step in range(newest - count + 1):
        step_state[step] = step_state[count + step] - state
        step_link[step] = step_link[count + step] - link
        step_score[step] = step_score[count + step]
        step_frame[step] = step_frame[count + step]
    step_state[newest - count + 1] = step_state[newest + 1] - state
    counts[NUM_STEPS] = newest - count
    counts[MERGED_STEP] = max(counts[MERGED_STEP] - count, 0)
