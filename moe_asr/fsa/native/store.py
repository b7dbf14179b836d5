"""The memory of the native search: what a stream keeps, and what a thread works with."""

import numpy as np

from moe_asr.fsa.native.layout import NUM_BUCKETS, NUM_COUNTS, NUM_STEPS

Arrays = tuple[np.ndarray, ...]
_STATES = (np.float32, np.float32, np.int32)
_LINKS = (np.int32, np.int32, np.int32, np.float32, np.float32)
_FRONTIER = (np.uint32, np.uint32, np.uint32, np.float32, np.float32)
_CANDIDATE_LINKS = (np.int32, np.uint32, np.int32, np.float32, np.float32)
_STEPS = (np.int64, np.int64, np.int64)


def _empty(dtypes: tuple[type, ...], size: int) -> Arrays:
    """Columns of ``size``."""
    return tuple(np.empty(size, dtype) for dtype in dtypes)


def _grown(arrays: Arrays, used: int, size: int) -> Arrays:
    larger = tuple(np.empty(size, array.dtype) for array in arrays)
    for old, new in zip(arrays, larger, strict=True):
        new[:used] = old[:used]
    return larger


class Store:
    """States, links and steps of one stream, as `moe_asr.fsa.native.layout` describes them.

    Args:
        start: the frontier of no frames: search state, last label, state of blank, best arc score, score.
        context: the context state of no frames, where there are contextual phrases.
    """

    def __init__(self, start: tuple[float, ...], context: int | None = None) -> None:
        self.states = _empty(_STATES, 2048)
        self.links = _empty(_LINKS, 4096)
        self.steps = _empty(_STEPS, 128)
        self.counts = np.zeros(NUM_COUNTS, np.int64)
        self.frontier = _empty(_FRONTIER, 1024)
        for column, value in zip(self.frontier, start, strict=True):
            column[0] = value
        # with contextual phrases: context states of the frontier, gains of links
        self.context: Arrays | None = None
        if context is not None:
            frontier, links = len(self.frontier[0]), len(self.links[0])
            self.context = np.empty(frontier, np.uint32), np.empty(links, np.float32)
            self.context[0][0] = context
        self.states[0][0] = 0.0
        self.steps[0][:2] = 0, 1
        self.steps[1][0] = self.steps[2][0] = 0

    @property
    def arrays(self) -> tuple[Arrays, Arrays, Arrays, Arrays]:
        """What the kernels take."""
        return self.states, self.links, self.steps, self.frontier

    @property
    def context_states(self) -> np.ndarray | None:
        """(frontier,) uint32, where there are phrases."""
        return None if self.context is None else self.context[0]

    @property
    def gains(self) -> np.ndarray | None:
        """(links,) float32, what phrases added to the score of each, where there are phrases."""
        return None if self.context is None else self.context[1]

    @property
    def newest(self) -> int:
        """The last step's number; steps are numbered from the oldest one kept."""
        return int(self.counts[NUM_STEPS])

    @property
    def num_states(self) -> int:
        return int(self.steps[0][self.newest + 1])

    @property
    def num_active(self) -> int:
        """States of the newest step."""
        return self.num_states - int(self.steps[0][self.newest])

    @property
    def num_links(self) -> int:
        return int(self.steps[1][self.newest])

    @property
    def num_bytes(self) -> int:
        """Memory taken, used or not."""
        parts = (*self.arrays, self.context or ())
        return sum(array.nbytes for part in parts for array in part)

    def grow(self) -> None:
        """Doubles the steps, if they are full; else states, links and frontier."""
        if self.newest + 3 > len(self.steps[0]):
            self.steps = _grown(self.steps, self.newest + 2, 2 * len(self.steps[0]))
        else:
            self._resize_states(2 * len(self.states[0]))
            self._resize_links(2 * len(self.links[0]))
            self._resize_frontier(2 * len(self.frontier[0]))

    def shrink(self) -> None:
        """Gives back what a busy passage took, once it is committed."""
        if len(self.links[0]) > 4096 and 8 * self.num_links < len(self.links[0]):
            self._resize_links(max(4096, 2 * self.num_links))
        if len(self.states[0]) > 2048 and 8 * self.num_states < len(self.states[0]):
            self._resize_states(max(2048, 2 * self.num_states))
        if len(self.frontier[0]) > 1024 and 8 * self.num_active < len(self.frontier[0]):
            self._resize_frontier(max(1024, 2 * self.num_active))

    def _resize_states(self, size: int) -> None:
        self.states = _grown(self.states, self.num_states, size)

    def _resize_links(self, size: int) -> None:
        self.links = _grown(self.links, self.num_links, size)
        if self.context is not None:
            frontier, gains = self.context
            self.context = frontier, *_grown((gains,), self.num_links, size)

    def _resize_frontier(self, size: int) -> None:
        self.frontier = _grown(self.frontier, self.num_active, size)
        if self.context is not None:
            frontier, gains = self.context
            self.context = *_grown((frontier,), self.num_active, size), gains


class Workspace:
    """What one thread needs to search one frame after another, of any stream of a graph.

    Args:
        num_states: of the search graph.
        num_tokens: of the model.
        most_arcs: that leave one of its states.
    """

    def __init__(self, num_states: int, num_tokens: int, most_arcs: int) -> None:
        self._fixed = (
            np.zeros(
                num_states, np.int64
            ),  # slot: a step's number << 32 + place among its candidates
            np.zeros(1, np.int64),  # that number
            np.empty(num_tokens, np.float32),
            np.empty(num_tokens, np.uint32),
            np.empty(NUM_BUCKETS, np.int64),
            np.empty(max(most_arcs, num_tokens) + 1, np.uint32),
        )
        self._allocate(16384)

    def _allocate(self, size: int) -> None:
        self._candidates = _empty(_FRONTIER, size)
        self._links = _empty(_CANDIDATE_LINKS, size)
        self._busy = np.empty(size, np.uint32)
        self._context: Arrays | None = None

    @property
    def arrays(self) -> tuple[Arrays, Arrays, Arrays]:
        """What the kernels take: fixed arrays, candidate states, links."""
        return (*self._fixed, self._busy), self._candidates, self._links

    @property
    def context(self) -> Arrays:
        """For searches with contextual phrases: context states of candidates, gains of links; a hash table.

        The table has keys (context state << 32 | search state) and slots, as the states have, in turn.
        """
        if self._context is None:
            size = len(self._busy)
            assert size & (size - 1) == 0, size
            self._context = (
                np.empty(size, np.uint32),
                np.empty(size, np.float32),
                np.zeros(4 * size, np.int64),
            )
        return self._context

    def grow(self) -> None:
        """Makes room for twice as many links a frame."""
        self._allocate(2 * len(self._links[0]))
