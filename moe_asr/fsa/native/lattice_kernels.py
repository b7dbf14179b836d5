"""Kernels over the store of a stream: pruning, tracing back, forgetting; see `moe_asr.fsa.native.layout`."""

from numba import njit

from moe_asr.fsa.native.layout import DEAD, FORCED_MERGES, MERGED_STEP, NUM_STEPS


@njit(cache=True, nogil=True)
def prune_steps(output_beam, every_step, store, counts, lk_gain):
    """Drops the links and states that no continuation can bring within the beam, and closes the gaps.

    Goes back from the newest step until extra costs are what they were, or to the oldest. Also finds
    counts[MERGED_STEP], the last step before the newest in which all paths that are left pass a single state.
    ``lk_gain`` is a further column of links, where there are contextual phrases.
    """
    st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    newest = counts[NUM_STEPS]
    for state in range(step_state[newest], step_state[newest + 1]):
        if st_extra[state] < DEAD:
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
            if st_extra[state] < DEAD:
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
            if st_extra[state] < DEAD:
                place += 1
    free = step_link[lowest]
    begin = free
    for step in range(lowest, newest):
        end = step_link[step + 1]
        step_link[step] = free
        for link in range(begin, end):
            if lk_deficit[link] < DEAD:
                lk_src[free] = st_place[step_state[step] + lk_src[link]]
                lk_dst[free] = st_place[step_state[step + 1] + lk_dst[link]]
                lk_arc[free] = lk_arc[link]
                lk_acoustic[free] = lk_acoustic[link]
                lk_deficit[free] = lk_deficit[link]
                if lk_gain is not None:
                    lk_gain[free] = lk_gain[link]
                free += 1
        begin = end
    step_link[newest] = free
    free = step_state[lowest]
    begin = free
    for step in range(lowest, newest + 1):
        end = step_state[step + 1]
        step_state[step] = free
        for state in range(begin, end):
            if st_extra[state] < DEAD:
                st_extra[free] = st_extra[state]
                free += 1
        begin = end
    step_state[newest + 1] = free


@njit(cache=True, nogil=True)
def force_merge(store, counts, fr_context):
    """Gives up all paths that do not pass the state which the best path passes, half the steps back.

    The best link into a state may be among those given up: scores and deficits are then taken anew. What is
    given up is only marked: `prune_steps` over every step is to follow. ``fr_context`` is a further column of
    the frontier, where there are contextual phrases.
    """
    st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    fr_graph, fr_last, fr_blank, fr_best, fr_score = store[3]
    newest = counts[NUM_STEPS]
    middle = (counts[MERGED_STEP] + newest) // 2
    size = step_state[newest + 1] - step_state[newest]
    place = 0
    for i in range(size):
        if fr_score[i] > fr_score[place]:
            place = i
    for step in range(newest - 1, middle - 1, -1):
        place = lk_src[best_link(step_link[step], step_link[step + 1], place, store)]
    # st_fresh: how much worse the best path to a state is than it was
    for state in range(step_state[middle], step_state[middle + 1]):
        st_fresh[state] = DEAD
    st_fresh[step_state[middle] + place] = 0.0
    for step in range(middle, newest):
        first, following = step_state[step], step_state[step + 1]
        for state in range(following, step_state[step + 2]):
            st_fresh[state] = DEAD
        for link in range(step_link[step], step_link[step + 1]):
            lk_deficit[link] += st_fresh[first + lk_src[link]]
            target = following + lk_dst[link]
            st_fresh[target] = min(st_fresh[target], lk_deficit[link])
        for link in range(step_link[step], step_link[step + 1]):
            if lk_deficit[link] < DEAD:
                lk_deficit[link] -= st_fresh[following + lk_dst[link]]
        for state in range(following, step_state[step + 2]):
            if not st_fresh[state] < DEAD:
                st_extra[state] = DEAD
    first = step_state[newest]
    kept = 0
    for i in range(size):
        if st_extra[first + i] < DEAD:
            fr_graph[kept] = fr_graph[i]
            fr_last[kept] = fr_last[i]
            fr_blank[kept] = fr_blank[i]
            fr_best[kept] = fr_best[i]
            fr_score[kept] = fr_score[i] - st_fresh[first + i]
            if fr_context is not None:
                fr_context[kept] = fr_context[i]
            kept += 1
    counts[FORCED_MERGES] += 1


@njit(cache=True, nogil=True)
def extra_of_links(step, output_beam, store, extra, fresh):
    """The extra costs of a step's states in ``fresh``, from those of the next in ``extra``.

    Links beyond the beam are given up: their deficit becomes infinite.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    first, following = step_state[step], step_state[step + 1]
    for state in range(first, following):
        fresh[state] = DEAD
    for link in range(step_link[step], step_link[step + 1]):
        cost = lk_deficit[link] + extra[following + lk_dst[link]]
        if cost <= output_beam:
            source = first + lk_src[link]
            fresh[source] = min(fresh[source], cost)
        else:
            lk_deficit[link] = DEAD


@njit(cache=True, nogil=True)
def mark_alive(oldest, newest, output_beam, store, extra):
    """The extra costs of steps oldest..newest - 1 in ``extra``, those of ``newest`` being in it.

    The store is not changed: which links are within the beam follows from ``extra``.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    for step in range(newest - 1, oldest - 1, -1):
        first, following = step_state[step], step_state[step + 1]
        for state in range(first, following):
            extra[state] = DEAD
        for link in range(step_link[step], step_link[step + 1]):
            cost = lk_deficit[link] + extra[following + lk_dst[link]]
            if cost <= output_beam:
                source = first + lk_src[link]
                extra[source] = min(extra[source], cost)


@njit(cache=True, nogil=True)
def trace_back(newest, place, store, links):
    """The best path to a state, the one at ``place`` in the step ``newest``: its links, oldest first."""
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    for step in range(newest - 1, -1, -1):
        links[step] = best_link(step_link[step], step_link[step + 1], place, store)
        place = lk_src[links[step]]


@njit(cache=True, nogil=True)
def best_link(begin, end, place, store):
    """The best link into ``place``, of those from ``begin`` to ``end``.

    Of equals that of the lowest source, and of those the first: so it is in a lattice's best path.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    best = -1
    for link in range(begin, end):
        if lk_dst[link] == place and lk_deficit[link] == 0.0:
            if best < 0 or lk_src[link] < lk_src[best]:
                best = link
    return best


@njit(cache=True, nogil=True)
def last_common_step(newest, store, sources):
    """The last step in which the best paths to all states of the step ``newest`` pass one state, or -1.

    ``sources``, (states,) int32 of -1, is to work with: the lowest source of a state, see `best_link`.
    """
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    unknown = 2**31 - 1
    for state in range(step_state[newest], step_state[newest + 1]):
        sources[state] = unknown
    left = step_state[newest + 1] - step_state[newest]
    for step in range(newest, -1, -1):
        if left == 1:
            return step
        if step == 0:
            break
        first, following = step_state[step - 1], step_state[step]
        for link in range(step_link[step - 1], step_link[step]):
            target = following + lk_dst[link]
            if lk_deficit[link] == 0.0 and sources[target] >= 0:
                sources[target] = min(sources[target], lk_src[link])
        left = 0
        for state in range(following, step_state[step + 1]):
            if sources[state] >= 0:
                source = first + sources[state]
                left += sources[source] < 0
                sources[source] = unknown
    return -1


@njit(cache=True, nogil=True)
def drop_steps(count, store, counts, lk_gain):
    """Forgets the first ``count`` steps; what is left moves to the front. ``lk_gain`` as in `prune_steps`."""
    st_extra, st_fresh, st_place = store[0]
    lk_src, lk_dst, lk_arc, lk_acoustic, lk_deficit = store[1]
    step_state, step_link, step_frame = store[2]
    newest = counts[NUM_STEPS]
    state, link = step_state[count], step_link[count]
    num_states, num_links = step_state[newest + 1] - state, step_link[newest] - link
    for i in range(num_states):
        st_extra[i] = st_extra[state + i]
    for i in range(num_links):
        lk_src[i] = lk_src[link + i]
        lk_dst[i] = lk_dst[link + i]
        lk_arc[i] = lk_arc[link + i]
        lk_acoustic[i] = lk_acoustic[link + i]
        lk_deficit[i] = lk_deficit[link + i]
        if lk_gain is not None:
            lk_gain[i] = lk_gain[link + i]
    for step in range(newest - count + 1):
        step_state[step] = step_state[count + step] - state
        step_link[step] = step_link[count + step] - link
        step_frame[step] = step_frame[count + step]
    step_state[newest - count + 1] = step_state[newest + 1] - state
    counts[NUM_STEPS] = newest - count
    counts[MERGED_STEP] = max(counts[MERGED_STEP] - count, 0)
