"""A stand-in for the k2 module with the online interface of k2 1.24, which notes how it is called.

Its search is exact and prunes nothing. As in k2, final arcs of a stream's lattice are of no arc of the graph:
they have the attributes' default.
"""

from typing import Any

import torch
from torch import Tensor


class Ragged:
    """Arcs (A, 4) int32 and the row splits of their axes."""

    def __init__(self, arcs: Tensor, *row_splits: list[int]) -> None:
        self._arcs, self._row_splits = arcs, row_splits

    def values(self) -> Tensor:
        return self._arcs

    def row_splits(self, axis: int) -> Tensor:
        return torch.tensor(self._row_splits[axis - 1], dtype=torch.int32)


class Fsa:
    """One FSA: src, dst, label, and score as bits."""

    def __init__(self, arcs: Tensor) -> None:
        self.arcs = arcs
        self.graph_arc = torch.zeros(0, dtype=torch.int32)


class FsaVec:
    """Several FSAs, each rows of (src, dst, label, score bits, graph_arc) and a number of states."""

    def __init__(self, fsas: list[tuple[list[list[int]], int]]) -> None:
        states, splits, rows = [0], [0], []
        for arcs, num_states in fsas:
            states.append(states[-1] + num_states)
            for state in range(num_states):
                rows += [row for row in arcs if row[0] == state]
                splits.append(len(rows))
        table = torch.tensor(rows, dtype=torch.int32).reshape(-1, 5)
        self.arcs = Ragged(table[:, :4].contiguous(), states, splits)
        self.graph_arc = table[:, 4]


def create_fsa_vec(fsas: list[Fsa]) -> FsaVec:
    (fsa,) = fsas
    rows = [
        [*arc, place] for arc, place in zip(fsa.arcs.tolist(), fsa.graph_arc.tolist(), strict=True)
    ]
    return FsaVec([(rows, 1 + max(row[1] for row in rows))])


class DenseFsaVec:
    """The frames (T, C) of each segment."""

    def __init__(self, log_probs: Tensor, segments: Tensor) -> None:
        assert log_probs.dtype == torch.float32 and segments.dtype == torch.int32
        self.chunks = [
            log_probs[row, first : first + size] for row, first, size in segments.tolist()
        ]


class DecodeStateInfo:
    """All frames of a stream."""

    def __init__(self) -> None:
        self.frames: list[Tensor] = []


def _bits(score: float) -> int:
    return int(torch.tensor([score], dtype=torch.float32).view(torch.int32))


class OnlineDenseIntersecter:
    """Notes the calls of all of its kind in `calls`: each the states' frames so far, and the chunk's."""

    calls: list[list[tuple[int, int]]] = []

    def __init__(
        self,
        decoding_graph: FsaVec,
        num_streams: int,
        search_beam: float,
        output_beam: float,
        min_active_states: int,
        max_active_states: int,
    ) -> None:
        self.arcs = decoding_graph.arcs.values().tolist()
        self.scores = decoding_graph.arcs.values()[:, 3].view(torch.float32).tolist()
        self.places = decoding_graph.graph_arc.tolist()
        self.num_streams = num_streams

    def decode(self, dense_fsas: DenseFsaVec, decode_states: list[Any]) -> tuple[FsaVec, list[Any]]:
        assert len(decode_states) == len(dense_fsas.chunks) == self.num_streams
        assert all(isinstance(state, DecodeStateInfo) for state in decode_states)
        sizes = [len(chunk) for chunk in dense_fsas.chunks]
        assert len(set(sizes)) == 1 and sizes[0] > 0, "k2 takes shorter ones for ended"
        self.calls.append(
            [(len(state.frames), size) for state, size in zip(decode_states, sizes, strict=True)]
        )
        following = []
        for state, chunk in zip(decode_states, dense_fsas.chunks, strict=True):
            new = DecodeStateInfo()
            new.frames = [*state.frames, *chunk]
            following.append(new)
        return FsaVec([self._lattice(state.frames) for state in following]), following

    def _lattice(self, frames: list[Tensor]) -> tuple[list[list[int]], int]:
        rows, active, count = [], {0: 0}, 1  # the graph's state -> the lattice's
        for frame in frames:
            reached: dict[int, int] = {}
            for (src, dst, label, _), score, place in zip(
                self.arcs, self.scores, self.places, strict=True
            ):
                if src in active and label >= 0 and float(frame[label]) > -float("inf"):
                    if dst not in reached:
                        reached[dst] = count
                        count += 1
                    total = _bits(score + float(frame[label]))
                    rows.append([active[src], reached[dst], label, total, place])
            active = reached
        for (src, _, label, bits), _ in zip(self.arcs, self.places, strict=True):
            if src in active and label == -1:
                rows.append([active[src], count, -1, bits, 0])
        return rows, count + 1
