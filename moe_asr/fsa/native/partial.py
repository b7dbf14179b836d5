"""The best words of a stream so far, and how many of them can no longer change."""

from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.native.lattice_kernels import last_common_step
from moe_asr.fsa.native.pieces import trace
from moe_asr.fsa.native.search_graph import SearchGraph
from moe_asr.fsa.native.stream import NativeStream


@dataclass(frozen=True)
class PartialResult:
    """The best path of what has been read.

    Attributes:
        words: word ids.
        frames: for each word, the frame in which its label was passed (graphs need not put it at its start).
        num_stable: the words at the beginning that all paths which are still followed have in common: they
            can no longer change.
        num_frames: read so far.
    """

    words: tuple[int, ...]
    frames: tuple[int, ...]
    num_stable: int
    num_frames: int


def partial_result(state: NativeStream, graph: SearchGraph) -> PartialResult:
    """The best words of a stream; those of committed pieces are among the stable ones."""
    store = state.store
    newest = store.newest
    links = trace(store, newest, int(np.argmax(store.frontier[4][: store.num_active])))
    arcs = store.links[2][links]
    words, steps = graph.words_of(arcs)
    sources = np.full(store.num_states, -1, np.int32)
    common = int(last_common_step(newest, store.arrays, sources))
    frames = store.steps[2][1 : newest + 1][steps] - 1
    return PartialResult(
        words=(*state.words, *words.tolist()),
        frames=(*state.word_frames, *frames.tolist()),
        num_stable=len(state.words) + int(np.searchsorted(steps, common)),
        num_frames=state.num_frames,
    )
