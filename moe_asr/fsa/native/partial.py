"""What is known of a stream while it goes on: its best path so far, and whether it may end here."""

import math
from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.native.lattice_kernels import last_common_step
from moe_asr.fsa.native.pieces import final_arcs, trace
from moe_asr.fsa.native.search_graph import SearchGraph
from moe_asr.fsa.native.stream import NativeStream


@dataclass(frozen=True)
class PartialResult:
    """The best path of what has been read, final scores not counted, and what endpoints are found by.

    All frames are numbered as they were read, also where the search left out some.

    Attributes:
        words: word ids.
        frames: for each word, the frame in which its label was passed (graphs need not put it at its start).
        num_stable: the words at the beginning that all paths which are still followed have in common: they
            can no longer change.
        num_frames: read so far.
        tokens: token ids of the path, as CTC reads its labels.
        token_frames, token_ends: the first and the last frame of each.
        num_trailing_blanks: frames at the end that are blank, those that were left out included; all frames
            of a path without tokens. Of a dead search they are counted up to the last frame searched.
        final_relative_cost: nats, 0 or more, by which the best path that may end here, its final score
            included, is below the best path, as Kaldi has it: 0 where the best path may end at no cost,
            infinity where none may end, or the search is dead. Scores are those of the search: the graph's
            are scaled, and what the end brings to contextual phrases counts.
        is_dead: no path can go on from here, so that what is read is no longer searched.
    """

    words: tuple[int, ...]
    frames: tuple[int, ...]
    num_stable: int
    num_frames: int
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    token_ends: tuple[int, ...]
    num_trailing_blanks: int
    final_relative_cost: float
    is_dead: bool

    @property
    def has_tokens(self) -> bool:
        """Whether anything but blank has been found."""
        return bool(self.tokens)


def partial_result(state: NativeStream, graph: SearchGraph) -> PartialResult:
    """The best path of a stream; the words of its committed pieces are among the stable ones."""
    store = state.store
    newest = store.newest
    links = trace(store, newest, int(np.argmax(store.frontier[4][: store.num_active])))
    path = state.committed.copy()
    read = store.steps[2]
    steps = path.extend(graph, store.links[2][links], read[1 : newest + 1] - 1)
    sources = np.full(store.num_states, -1, np.int32)
    common = int(last_common_step(newest, store.arrays, sources))
    end = int(read[newest]) if state.is_dead else state.num_frames
    return PartialResult(
        words=tuple(path.words),
        frames=tuple(path.word_frames),
        num_stable=len(state.committed.words) + int(np.searchsorted(steps, common)),
        num_frames=state.num_frames,
        tokens=tuple(path.tokens),
        token_frames=tuple(path.token_frames),
        token_ends=tuple(path.token_ends),
        num_trailing_blanks=end - 1 - path.token_ends[-1] if path.tokens else end,
        final_relative_cost=_final_relative_cost(state, graph),
        is_dead=state.is_dead,
    )


def _final_relative_cost(state: NativeStream, graph: SearchGraph) -> float:
    store = state.store
    finals = final_arcs(store, graph, False, not state.is_dead, state.context)
    if finals is None:
        return math.inf
    score = store.frontier[4][: store.num_active].astype(np.float64)
    return max(float(score.max() - (score[finals.place] + finals.score).max()), 0.0)
