"""One stream of the native search: frames in, committed pieces and the best words so far out."""

import numpy as np

from moe_asr.fsa.native.context import SearchContext
from moe_asr.fsa.native.lattice_kernels import drop_steps, force_merge, prune_steps
from moe_asr.fsa.native.layout import (
    ARCS_EXPANDED,
    DONE,
    FORCED_MERGES,
    GROW_STORE,
    GROW_WORKSPACE,
    MAX_PENDING,
    MERGED_STEP,
    NO_PATH,
    NUM_STEPS,
    OUTPUT_BEAM,
    PRUNE,
    STATES_ACTIVE,
    STATUS,
    TOTAL_STEPS,
)
from moe_asr.fsa.native.path_labels import PathLabels
from moe_asr.fsa.native.pieces import Piece, cut_piece
from moe_asr.fsa.native.search_graph import SearchGraph
from moe_asr.fsa.native.search_kernels import search_steps
from moe_asr.fsa.native.store import Store, Workspace

_PIECE = 64  # steps that are worth the cutting of a piece


class NativeStream:
    """The state of a stream: a store, the pieces that can no longer change, and counters.

    Attributes:
        graph: that it goes through.
        context: the phrases that it listens for, if there are any.
        num_frames: read so far.
        is_dead: no path can go on; frames are counted and not searched.
        pieces: committed, the oldest first, without those that were released.
        committed: what is on the best path of the pieces, also of those released.
    """

    def __init__(
        self, graph: SearchGraph, search_beam: float, context: SearchContext | None = None
    ) -> None:
        self.graph = graph
        self.context = context
        start = graph.start
        if context is not None:
            first = context.start
            start = (*start[:3], start[3] + float(context.most_gain[first]), start[4])
        self.store = Store(start, None if context is None else first)
        self.beam = np.array([search_beam], np.float64)
        self.num_frames = 0
        self.is_dead = False
        self.is_finished = False
        self.pieces: list[Piece] = []
        self.committed = PathLabels()
        self.after_blank = False  # whether the frame before was blank beyond the threshold

    @property
    def num_steps(self) -> int:
        """Frames searched."""
        return int(self.store.counts[TOTAL_STEPS])

    @property
    def arcs_expanded(self) -> int:
        """Arcs of the graph whose scores were summed; arcs that the topology implies are not counted."""
        return int(self.store.counts[ARCS_EXPANDED])

    @property
    def states_active(self) -> int:
        """Active states, summed over the frames."""
        return int(self.store.counts[STATES_ACTIVE])

    @property
    def forced_merges(self) -> int:
        """How often paths were given up because too many frames were waiting."""
        return int(self.store.counts[FORCED_MERGES])

    @property
    def num_bytes(self) -> int:
        """Memory of the store and of the pieces that wait to be released."""
        return self.store.num_bytes + sum(piece.num_bytes for piece in self.pieces)

    def read(
        self,
        log_probs: np.ndarray,
        frames: np.ndarray,
        limits: np.ndarray,
        workspace: Workspace,
    ) -> None:
        """Searches rows (R, C) float32; ``frames`` (R,) int64 are the frames read after each."""
        graph, store, output_beam = self.graph, self.store, np.float32(limits[OUTPUT_BEAM])
        row = 0
        while row < len(log_probs) and not self.is_dead:
            context = None
            if self.context is not None:
                context = (
                    self.context.arrays, store.context, workspace.context, self.context.best_gain,
                )  # fmt: skip
            row = search_steps(
                log_probs, frames, row, graph.topology, graph.arrays, limits,
                workspace.arrays, store.arrays, store.counts, self.beam, context,
            )  # fmt: skip
            status = store.counts[STATUS]
            if status == GROW_WORKSPACE:
                workspace.grow()
            elif status == GROW_STORE:
                store.grow()
            elif status == NO_PATH:
                self.is_dead = True
            elif status == PRUNE:
                prune_steps(output_beam, False, store.arrays, store.counts, store.gains)
                if store.counts[NUM_STEPS] - store.counts[MERGED_STEP] > limits[MAX_PENDING]:
                    force_merge(store.arrays, store.counts, store.context_states)
                    prune_steps(output_beam, True, store.arrays, store.counts, store.gains)
                if store.counts[MERGED_STEP] >= _PIECE:
                    self._commit(float(output_beam))
            else:
                assert status == DONE, status

    def _commit(self, output_beam: float) -> None:
        step = int(self.store.counts[MERGED_STEP])
        piece = cut_piece(self.store, step, np.zeros(1, np.float32), output_beam)
        self.pieces.append(piece)
        self.committed.extend(self.graph, piece.best, piece.best_frame)
        drop_steps(step, self.store.arrays, self.store.counts, self.store.gains)
        self.store.shrink()
