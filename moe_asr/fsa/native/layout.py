"""How the native search lays out its memory, and the numbers by which kernels and Python code speak.

A stream's store holds what its search has found and not yet handed on, step by step; a step is a frame that
was searched. States and links lie in the order in which they were made:

    states: extra cost, and two columns to work with
    links: source and target (positions within their steps), arc, acoustic score, deficit
    steps: first state, first link that leaves it, frames read
    frontier: of the states of the newest step: search state, last label, state of blank, best score of an
        arc, score relative to the best of the step

A link's deficit is how much worse it is than the best link into its target, 0 for that one. The sum of the
deficits along a path is how much worse it is than the best path to its end, so the least such sum from a
state to the newest step, its extra cost, says whether a path through it can ever come within the output beam
(Povey et al., "Generating exact lattices in the WFST framework", 2012). Deficits need no absolute scores: the
precision of float32 is spent on differences, however long the stream.

An arc >= 0 is one of the search graph; -1 - token is a frame of blank or of a repeated token, which the CTC
topology implies.

Numba's cache does not notice changes of what a kernel takes from other files: after changing a number here,
touch the kernels' files.
"""

import numpy as np

EXPLICIT, STANDARD, MODIFIED = 0, 1, 2  # topology
DONE, PRUNE, GROW_WORKSPACE, GROW_STORE, NO_PATH = 0, 1, 2, 3, 4  # outcomes of `search_steps`
# tokens this close to the best of their frame are listed, in buckets
LISTED_WIDTH, NUM_BUCKETS = np.float32(6.0), 48
BUCKETS_A_NAT = np.float32(8.0)
# counts of a stream
NUM_STEPS, MERGED_STEP, STATUS, TOTAL_STEPS, ARCS_EXPANDED, STATES_ACTIVE, FORCED_MERGES = range(7)
NUM_COUNTS = 7
NOWHERE = 2**32 - 1  # the place of a candidate that is dropped
# limits of a search
(
    SEARCH_BEAM,
    OUTPUT_BEAM,
    MIN_ACTIVE,
    MAX_ACTIVE,
    TOKEN_BEAM,
    STRICT_MAX_ACTIVE,
    BEST_ARC,
    MAX_PENDING,
    INTERVAL,
) = range(9)
NUM_LIMITS = 9
WIDEST_BEAM = 1e6  # that few active states widen a beam to: without end it would never come back
DEAD = np.float32(np.inf)  # of an extra cost or a deficit
