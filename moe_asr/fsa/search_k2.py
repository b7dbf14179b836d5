"""The search engine on k2: log-probabilities intersected with a decoding graph, in batches.

Legend: N utterances, T frames, C tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import ConfigError, DataError
from moe_asr.fsa.context import ContextGraph
from moe_asr.fsa.engine import Contexts, SearchEngine, SearchOptions, contexts_of
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_batches import BatchLimits, allowed_max_active
from moe_asr.fsa.k2_graph import K2Graph
from moe_asr.fsa.k2_lattice import (
    lattice_of_the_start,
    lattice_without_frames,
    lattices_of_batch,
)
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path, prune, total_score
from moe_asr.fsa.log_probs import check_log_probs, frame_offsets, name_of
from moe_asr.fsa.stream_k2 import K2Stream, K2Streams
from moe_asr.fsa.topology import check_topology

# of a call: a GPU gains by a thousand seconds (in frames of 40 ms) at once; on a CPU, one utterance after
# another is up to a quarter faster, and only very short ones gain by company
MAX_FRAMES, MAX_FRAMES_ON_CPU = 25_000, 500
# k2 prunes by sums of float32; what it keeps beyond the output beam is pruned again, exactly
OUTPUT_MARGIN = 0.5
# from this score on a float32 is a hundredth apart from its neighbour
_LARGE_SCORE = 2.0**16


class K2Engine(SearchEngine):
    """k2's pruned intersection on a CPU or GPU; the graph is converted once and kept.

    The pruning is k2's (``intersect_dense_pruned``). Of the arcs that leave a frame's active states, those go
    on that end less than a beam below the best. The beam starts as ``search_beam`` and is adapted in
    every frame before it is used. Of more than ``max_active`` states: cut to ``search_beam``, if it was
    more, and times 0.8. Of fewer than ``min_active``: raised to ``search_beam``, if it was less, and times
    1.25. Else it moves a fifth of the way to ``search_beam``. In an utterance's last five frames it does not
    shrink, and grows for fewer than ``max_active / 2`` states; all final arcs are taken.

    An utterance's lattice depends on it alone: so do k2's beams, and what k2 leaves to chance, the order of
    states on a GPU, is put in order. Lattices are pruned once more, in float64, to exactly the arcs whose
    best path is within ``output_beam`` of the best; k2 keeps a few more.

    k2 adds scores up in float32. What is large and common to all paths is taken out before: each frame's
    best log-probability; and if the best path is still beyond 65536 (after hours of speech that the graph
    does not fit), the utterance is searched again without that path's scores. The scores in lattices are
    those that were given, to the bit. An utterance of any length is one search: k2 prunes every 20 frames.

    Args:
        graph: an HLG or HT, or an LG or T, which is composed with ``topology`` here.
        options: the beams.
        device: of the search, as torch names it; log-probabilities may be on any.
        topology: for a graph whose topology is implied: ``standard`` or ``modified``.
        max_frames: of the utterances that k2 is given at once, by default 500 on a CPU and 25,000 elsewhere.
            If they do not fit a GPU's memory, they are given half by half.

    Streams need k2 1.24, see `K2Streams`.

    Raises:
        GraphError: if the graph accepts nothing, or is no composition with a CTC topology.
        MissingDependencyError: if there is no k2.
    """

    _even_if_lossy = False  # for tests: stream on any version of k2

    def __init__(
        self,
        graph: DecodingGraph,
        options: SearchOptions | None = None,
        device: str = "cpu",
        topology: str = "standard",
        max_frames: int | None = None,
    ) -> None:
        check_topology(topology)
        if max_frames is None:
            on_cpu = torch.device(device).type == "cpu"
            max_frames = MAX_FRAMES_ON_CPU if on_cpu else MAX_FRAMES
        if max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, found {max_frames}")
        self.graph = graph
        self.options = options = options or SearchOptions()
        self.device = torch.device(device)
        self._graph = K2Graph(graph, topology, options.graph_scale, device)
        max_active = allowed_max_active(options.max_active, self._graph.num_states)
        self._beams = {
            "search_beam": options.search_beam,
            "output_beam": options.output_beam + OUTPUT_MARGIN,
            "min_active_states": min(options.min_active, max_active - 1),  # k2 asks for less
            "max_active_states": max_active,
        }
        num_tokens = len(graph.token_table)
        self._limits = BatchLimits.of(self._graph.num_states, num_tokens, max_active, max_frames)

    def search(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        utterance_ids: Sequence[str] | None = None,
        partial: bool = False,
        contexts: Contexts = None,
    ) -> list[Lattice]:
        """See `SearchEngine.search`. Frames of -inf only are allowed: no path leads through them.

        Raises:
            ConfigError: if there are phrases.
            DataError: also naming an utterance that is too long for k2 (2**31 log-probabilities), or for
                the GPU's memory.
        """
        frames = check_log_probs(log_probs, lengths, self.graph, utterance_ids)
        for context in contexts_of(contexts, len(frames)):
            _refuse(context)
        lattices = [Lattice.empty(length) for length in frames]
        for index, length in enumerate(frames):
            if length == 0:
                beam = self.options.output_beam
                lattices[index] = lattice_without_frames(self._graph, partial, beam)
            elif not self._limits.fits_alone(length):
                raise DataError(
                    f"utterance {name_of(index, utterance_ids)}: {length} frames of "
                    f"{log_probs.shape[2]} tokens are more than k2 can number (2**31); cut it, or take "
                    "the native engine"
                )
        asked = [index for index, length in enumerate(frames) if length > 0]
        self._search_all(log_probs, frames, asked, lattices, False, utterance_ids)
        if partial:
            asked = [index for index in asked if lattices[index].is_empty]
            self._search_all(log_probs, frames, asked, lattices, True, utterance_ids)
            for index in asked:
                if lattices[index].is_empty:
                    lattices[index] = self._as_far_as_it_goes(log_probs[index, : frames[index]])
        return lattices

    def _search_all(
        self,
        log_probs: Tensor,
        frames: list[int],
        asked: list[int],
        lattices: list[Lattice],
        partial: bool,
        utterance_ids: Sequence[str] | None,
    ) -> None:
        """Puts the lattices of the utterances ``asked`` into ``lattices``."""
        calls = self._limits.split([frames[index] for index in asked])
        waiting = [[asked[place] for place in call] for call in reversed(calls)]
        while waiting:
            call = waiting.pop()
            lengths = [frames[index] for index in call]
            try:
                found = self._search_call(log_probs[call, : max(lengths)], lengths, partial)
            except RuntimeError as error:
                if self.device.type == "cpu" or "out of memory" not in str(error):
                    raise
                if len(call) == 1:
                    raise DataError(
                        f"utterance {name_of(call[0], utterance_ids)}: the search of {lengths[0]} frames "
                        f"does not fit the memory of {self.device}; lower max_active or search_beam"
                    ) from error
                found = None
            if found is None:  # outside of the handler, which holds what was allocated
                torch.cuda.empty_cache()
                half = (len(call) + 1) // 2
                waiting += [call[half:], call[:half]]
                continue
            for index, lattice in zip(call, found, strict=True):
                lattices[index] = lattice

    def _as_far_as_it_goes(self, log_probs: Tensor) -> Lattice:
        """The partial lattice of an utterance (T, C) in whose midst all paths end, up to that frame.

        k2 does not tell which frame that is: it is found by halving.
        """
        length = len(log_probs)
        lattice = lattice_of_the_start(self._graph, length)
        reached, too_far = 0, length
        while too_far - reached > 1:
            middle = (reached + too_far) // 2
            (found,) = self._search_call(log_probs[None, :middle], [middle], True)
            if found.is_empty:
                too_far = middle
            else:
                reached, lattice = middle, replace(found, num_frames=length)
        return lattice

    def _search_call(self, log_probs: Tensor, lengths: list[int], partial: bool) -> list[Lattice]:
        """One call of k2: ``log_probs`` (N, T, C) of utterances from the longest to the shortest."""
        offsets = frame_offsets(log_probs)
        lattices = self._intersect(log_probs, offsets, lengths, partial)
        for row, (length, lattice) in enumerate(zip(lengths, lattices, strict=True)):
            taken_out = float(offsets[row, :length].double().sum())
            score = total_score(lattice, "tropical")
            if np.isfinite(score) and abs(score - taken_out) > _LARGE_SCORE:
                whole = log_probs[row : row + 1, :length]
                path = best_path_offsets(lattice)[None]
                lattices[row] = self._intersect(whole, path, [length], partial)[0]
        return lattices

    def _intersect(
        self, log_probs: Tensor, offsets: Tensor, lengths: list[int], partial: bool
    ) -> list[Lattice]:
        """Lattices, the search being done on ``log_probs - offsets``: (N, T, C) and (N, T)."""
        k2 = import_k2()
        segments = torch.zeros(len(lengths), 3, dtype=torch.int32)
        segments[:, 0] = torch.arange(len(lengths))
        segments[:, 2] = torch.tensor(lengths)
        shifted = log_probs.detach().to(self.device, torch.float32)
        shifted = shifted - offsets.to(self.device, torch.float32)[:, :, None]
        graph = self._graph.all_final if partial else self._graph.as_is
        fsas: Any = k2.intersect_dense_pruned(
            graph, k2.DenseFsaVec(shifted, segments), **self._beams, frame_idx_name="frame"
        )
        found = lattices_of_batch(fsas, self._graph, log_probs, lengths, partial)
        return [prune(lattice, self.options.output_beam) for lattice in found]

    @cached_property
    def _streams(self) -> K2Streams:
        return K2Streams(
            self._graph,
            self._beams,
            self.options.output_beam,
            self.device,
            self._limits.max_utterances,
            self._even_if_lossy,
        )

    def start(self, context: ContextGraph | None = None) -> K2Stream:
        """The state of a new stream, see `K2Streams` on what differs from `search`.

        Raises:
            ConfigError: if there are phrases.
            MissingDependencyError: if this is a k2 before 1.24: it loses paths between chunks.
        """
        _refuse(context)
        return self._streams.start()

    def advance(self, states: Sequence[K2Stream], log_probs: Sequence[Tensor]) -> None:
        """See `SearchEngine.advance`.

        Raises:
            GraphError: if C is not the graph's number of tokens.
            DataError: on NaN or +inf, a chunk that is no matrix, a stream that is finished or comes twice;
                no stream has advanced then.
        """
        for index, chunk in enumerate(log_probs):
            length = torch.tensor([len(chunk)])
            check_log_probs(chunk[None], length, self.graph, [f"{index} of the streams"])
        self._streams.advance(states, log_probs)

    def lattice(self, state: K2Stream, partial: bool = True) -> Lattice:
        """See `SearchEngine.lattice`."""
        return self._streams.lattice(state, partial)

    def finish(self, state: K2Stream, partial: bool = False) -> Lattice:
        """See `SearchEngine.finish`."""
        return self._streams.finish(state, partial)


def best_path_offsets(lattice: Lattice) -> Tensor:
    """(T,) float64: what each frame adds to the score of the best path, acoustic and graph; 0 if none."""
    offsets = np.zeros(lattice.num_frames)
    path = best_path(lattice)
    if path is not None:
        arcs = np.array(path.arcs[:-1], np.int64)
        offsets[list(path.label_frames)] = (
            lattice.acoustic[arcs].astype(np.float64) + lattice.graph[arcs]
        )
    return torch.from_numpy(offsets)


def _refuse(context: ContextGraph | None) -> None:
    if context is not None and not context.is_empty:
        raise ConfigError(
            "the k2 engine cannot listen for phrases while it searches; the native engine does "
            "(engine=native), or put them on its lattices (apply_context)"
        )
