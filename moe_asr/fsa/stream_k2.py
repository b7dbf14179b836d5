"""Streams on k2: its online intersection fed with a varying set of streams.

It has been run with k2 1.23.4, one chunk an utterance (more chunks lose paths there), and with a stand-in for
the module that has the interface of k2 1.24; it has not been run with k2 1.24 itself.

Legend: N streams, T frames of a chunk, C tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import DataError, MissingDependencyError
from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.k2_graph import K2Graph
from moe_asr.fsa.k2_lattice import lattice_without_frames
from moe_asr.fsa.k2_module import import_k2, k2_version
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_build import LooseArcs, build_lattice
from moe_asr.fsa.lattice_scores import prune
from moe_asr.fsa.log_probs import frame_offsets

_EXACT_SINCE = (1, 24)


@dataclass(eq=False)
class K2Stream:
    """What a stream carries from chunk to chunk.

    Attributes:
        decode_state: k2's ``DecodeStateInfo``: all frames so far.
        offsets: of each chunk, (T,) float64: what was taken out of the frames' log-probabilities.
        num_frames: read so far.
        fsas, row: the lattices that k2 gave last, and which is this stream's.
        is_finished: no more frames can come.
    """

    decode_state: Any
    offsets: list[np.ndarray] = field(default_factory=list)
    num_frames: int = 0
    fsas: Any = None
    row: int = 0
    is_finished: bool = False


class K2Streams:
    """Streams over one graph.

    In k2 every state of the graph is final here, so that it always gives the lattice of all active states;
    the graph's own final arcs are put back afterwards. k2 prunes such a lattice by ``output_beam`` from the
    best active state, final or not: where the best end is x below that, paths more than ``output_beam - x``
    below the best end may be missing. Nor is the beam wider in the last five frames, as it is offline. A
    stream without any path left has an empty lattice, also a partial one.

    k2 keeps all frames of a stream, and gives the lattice of all of them with every chunk.

    Args:
        beams: k2's, by name.
        output_beam: that lattices are pruned to in the end.
        max_streams: that are given to k2 at once.
        even_if_lossy: also on versions of k2 that lose paths between chunks.
    """

    def __init__(
        self,
        graph: K2Graph,
        beams: dict[str, Any],
        output_beam: float,
        device: torch.device,
        max_streams: int,
        even_if_lossy: bool = False,
    ) -> None:
        version = k2_version()
        self._is_exact = version[:2] >= _EXACT_SINCE
        if not (self._is_exact or even_if_lossy):
            raise MissingDependencyError(
                f"k2 {'.'.join(map(str, version))} cannot stream: its online intersection loses paths "
                "between chunks, and with them words (1.24 does not). Take the native engine"
            )
        self._graph, self._beams, self._output_beam = graph, beams, output_beam
        self._device, self._max_streams = device, max_streams
        self._intersecter: tuple[int, Any] = (0, None)  # of how many streams, and k2's object

    def start(self) -> K2Stream:
        """A new stream; k2 1.24 wants an empty state of it, the versions before none."""
        return K2Stream(import_k2().DecodeStateInfo() if self._is_exact else None)

    def advance(self, streams: Sequence[K2Stream], log_probs: Sequence[Tensor]) -> None:
        """See `SearchEngine.advance`; values and vocabulary have been checked.

        k2's object is made for a number of streams, whose chunks must be equally long for it not to take the
        shorter ones for ended: those of one length go together, and no stream is made up.

        Raises:
            DataError: if a stream has ended, or comes twice.
        """
        if len(streams) != len(log_probs) or len({id(stream) for stream in streams}) != len(
            streams
        ):
            raise DataError(
                f"expected one chunk for each of different streams, found {len(log_probs)} chunks "
                f"for {len(streams)} streams"
            )
        if any(stream.is_finished for stream in streams):
            raise DataError("the stream is finished: no more frames can come")
        by_length: dict[int, list[int]] = {}
        for index, chunk in enumerate(log_probs):
            by_length.setdefault(len(chunk), []).append(index)
        by_length.pop(0, None)
        for group in by_length.values():
            for first in range(0, len(group), self._max_streams):
                part = group[first : first + self._max_streams]
                chunks = torch.stack([log_probs[index] for index in part])
                self._advance([streams[index] for index in part], chunks)

    def _advance(self, streams: list[K2Stream], log_probs: Tensor) -> None:
        k2 = import_k2()
        number, num_frames = log_probs.shape[:2]
        if self._intersecter[0] != number:
            made = k2.OnlineDenseIntersecter(
                decoding_graph=self._graph.all_final, num_streams=number, **self._beams
            )
            self._intersecter = number, made
        shifted = log_probs.detach().to(self._device, torch.float32)
        offsets = frame_offsets(shifted)
        segments = torch.tensor([[row, 0, num_frames] for row in range(number)], dtype=torch.int32)
        dense = k2.DenseFsaVec((shifted - offsets[:, :, None]).contiguous(), segments)
        fsas, states = self._intersecter[1].decode(dense, [s.decode_state for s in streams])
        taken_out = offsets.double().cpu().numpy()
        for row, (stream, state) in enumerate(zip(streams, states, strict=True)):
            stream.decode_state, stream.fsas, stream.row = state, fsas, row
            stream.num_frames += num_frames
            stream.offsets.append(taken_out[row])

    def lattice(self, stream: K2Stream, partial: bool) -> Lattice:
        """The lattice of all frames so far, see `SearchEngine.lattice`."""
        if stream.num_frames == 0:
            return lattice_without_frames(self._graph, partial, self._output_beam)
        graph, num_frames = self._graph, stream.num_frames
        src, dst, place, score, num_states = _arcs_of(stream)
        final = num_states - 1
        inner = dst != final
        ends = np.unique(src[~inner])
        src, dst, place, score = src[inner], dst[inner], place[inner], score[inner]
        state = np.zeros(num_states, np.int32)  # the graph's
        state[dst] = graph.dst[place]
        final_place, end = graph.final_arcs_of(state[ends])
        is_partial = len(final_place) == 0
        if len(ends) == 0 or (is_partial and not partial):
            return Lattice.empty(num_frames)
        if is_partial:
            final_place, end = np.full(len(ends), graph.num_arcs), np.arange(len(ends))
        place = np.concatenate([place, final_place])
        row_splits, words = take_ragged(graph.row_splits, graph.words, place)
        arcs = LooseArcs(
            src=np.concatenate([src, ends[end]]).astype(np.int32),
            dst=np.append(dst, np.full(len(end), final)).astype(np.int32),
            label=graph.token[place],
            acoustic=np.append(score, np.zeros(len(end), np.float32)),
            graph=graph.score[place],
            row_splits=row_splits,
            words=words,
            starts_token=graph.starts_token[place],
        )
        lattice = build_lattice(arcs, num_states, num_frames, is_partial)
        return prune(self._with_acoustic(lattice, stream), self._output_beam)

    def _with_acoustic(self, lattice: Lattice, stream: K2Stream) -> Lattice:
        """Given k2's scores as acoustic ones: without the graph's part, with what was taken out."""
        offsets = np.concatenate([*stream.offsets, np.zeros(1)])
        reads = lattice.token != FINAL
        acoustic = lattice.acoustic.astype(np.float64) - lattice.graph
        acoustic += offsets[lattice.frame[lattice.dst] - 1]
        return replace(lattice, acoustic=np.where(reads, acoustic, 0.0).astype(np.float32))

    def finish(self, stream: K2Stream, partial: bool) -> Lattice:
        """Ends the stream and frees what it carries."""
        lattice = self.lattice(stream, partial)
        stream.is_finished = True
        stream.decode_state = stream.fsas = None
        stream.offsets = []
        return lattice


def _arcs_of(stream: K2Stream) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Of the stream's lattice in k2: src, dst, place in the graph, score, and the number of states."""
    shape = stream.fsas.arcs
    state_splits = shape.row_splits(1)[stream.row : stream.row + 2].tolist()
    first, end = (int(shape.row_splits(2)[state]) for state in state_splits)
    columns = shape.values()[first:end].cpu().numpy()
    src, dst, _, score = (np.ascontiguousarray(column) for column in columns.T)
    place = stream.fsas.graph_arc[first:end].cpu().numpy()
    return src, dst, place, score.view(np.float32), state_splits[1] - state_splits[0]
