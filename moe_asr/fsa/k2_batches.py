"""How a batch is cut into calls of k2's intersection, none of which hits a limit of k2.

The limits, as k2's ``intersect_dense_pruned.cu`` tells (1.23 and 1.24): it numbers by int32 the elements of
the matrix of scores (a row for every frame and one more for every utterance, a column for every token and one
more), and the buckets of the hash of active states, of which it makes ``4 * N * max_active``, rounded up to a
power of two, at once. The key of the hash is an utterance and a state of the graph; beyond 2**32 keys the
other half of its 64 bits, which numbers a frame's arcs, becomes scarce.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_MAX_KEYS = 2**32 - 1
_MAX_ELEMENTS = 2**31 - 1
_MAX_BUCKETS = 2**26  # of 8 bytes


@dataclass(frozen=True)
class BatchLimits:
    """What one call may hold.

    Attributes:
        max_frames: of all its utterances together; a longer utterance is a call of its own.
        max_utterances: of a call.
        num_columns: of k2's matrix of scores, one more than tokens.
    """

    max_frames: int
    max_utterances: int
    num_columns: int

    @classmethod
    def of(
        cls, num_graph_states: int, num_tokens: int, max_active: int, max_frames: int
    ) -> "BatchLimits":
        """k2's limits for a graph, and half a GiB for its hash, unless one utterance needs more."""
        utterances = min(_MAX_KEYS // num_graph_states, _MAX_BUCKETS // (4 * max_active))
        return cls(max_frames, max(utterances, 1), num_tokens + 1)

    def fits_alone(self, length: int) -> bool:
        """Whether an utterance of ``length`` frames can be searched at all."""
        return self._elements(1, length) <= _MAX_ELEMENTS

    def split(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which utterances go together: places in ``lengths``, the longest first, of similar length.

        Every utterance is in one of the calls; ``lengths`` are 1 or more.
        """
        calls: list[list[int]] = []
        frames = 0
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            frames += lengths[index]
            size = len(calls[-1]) + 1 if calls else 1
            if not calls or size > self.max_utterances or not self._fits(size, frames):
                calls.append([])
                frames = lengths[index]
            calls[-1].append(index)
        return calls

    def _fits(self, size: int, frames: int) -> bool:
        return frames <= self.max_frames and self._elements(size, frames) <= _MAX_ELEMENTS

    def _elements(self, size: int, frames: int) -> int:
        return (frames + size) * self.num_columns


def allowed_max_active(max_active: int, num_graph_states: int) -> int:
    """``max_active`` as k2 may be told: it makes its hash for it, however few states the graph has.

    More than twice the graph's states mean no limit, neither where k2 lowers its beam nor where, in the last
    five frames, it widens it for fewer than half of them.
    """
    return min(max_active, 2 * num_graph_states + 2)
