"""k2 in the search benchmark: ``intersect_dense_pruned`` on batches of utterances."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.search_engines import (
    Decoded,
    Engine,
    Setting,
    WordLattice,
    missing_module,
    without_sure_blanks,
)
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import arrays_of_k2, import_k2

BATCH_SIZES = (1, 4, 8)


class K2Lattices(Engine):
    """Batches of similar length, padded; making ``DenseFsaVec`` of them is part of the search."""

    name = "k2"

    def __init__(self) -> None:
        self._graph: DecodingGraph | None = None
        self._graphs: Any = None  # in k2
        self._beams: Setting = {}
        self._batch_size = 1
        self._blank_skip = 1.0

    @classmethod
    def why_not(cls) -> str | None:
        return missing_module("k2", import_k2)

    @classmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        usual = {"search_beam": 20.0, "output_beam": 8.0, "min_active": 30, "max_active": 2000}
        if quick:
            return [usual]
        return [
            usual,
            {**usual, "max_active": 7000},
            {**usual, "search_beam": 14.0},  # as narrow as native may be
            {**usual, "blank_skip": 0.99},  # of the same frames as native's
        ]

    def tune(self, graph: DecodingGraph, log_probs: Sequence[np.ndarray]) -> Setting:
        """The fastest size of a batch."""
        seconds = {}
        for size in BATCH_SIZES:
            self.prepare(graph, {**self.settings()[0], "batch_size": size})
            loaded = self.load(log_probs)
            start = time.perf_counter()
            self.search(loaded)
            seconds[size] = time.perf_counter() - start
        return {"batch_size": min(seconds, key=lambda size: seconds[size])}

    def prepare(self, graph: DecodingGraph, setting: Setting) -> None:
        k2 = import_k2()
        self._batch_size = setting.get("batch_size", 1)
        self._blank_skip = setting.get("blank_skip", 1.0)
        self._beams = {
            "search_beam": setting["search_beam"],
            "output_beam": setting["output_beam"],
            "min_active_states": setting["min_active"],
            "max_active_states": setting["max_active"],
        }
        if self._graph is not graph:  # the converted graph stays
            self._graph, self._graphs = graph, k2.create_fsa_vec([k2.arc_sort(graph.to_k2())])

    def load(self, log_probs: Sequence[np.ndarray]) -> Any:
        """Batches of (indices, (N, T, C) tensor, (N,) lengths), the longest first."""
        log_probs = without_sure_blanks(log_probs, self._blank_skip)
        order = sorted(range(len(log_probs)), key=lambda index: -len(log_probs[index]))
        batches = []
        for first in range(0, len(order), self._batch_size):
            indices = order[first : first + self._batch_size]
            rows = [torch.from_numpy(log_probs[index]) for index in indices]
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            batches.append((indices, padded, torch.tensor([len(row) for row in rows])))
        return batches

    def search(self, loaded: Any) -> list[Any]:
        k2 = import_k2()
        found = []
        for indices, rows, lengths in loaded:
            places = torch.arange(len(indices))
            segments = torch.stack([places, torch.zeros_like(places), lengths], dim=1)
            dense = k2.DenseFsaVec(rows, segments.to(torch.int32))
            found.append((indices, k2.intersect_dense_pruned(self._graphs, dense, **self._beams)))
        return found

    def results(self, found: list[Any]) -> list[Decoded]:
        decoded: dict[int, Decoded] = {}
        for indices, lattices in found:
            paths = import_k2().shortest_path(lattices, use_double_scores=True)
            for row, index in enumerate(indices):
                path = paths[row]
                if path.num_arcs == 0:
                    decoded[index] = Decoded([], None, word_lattice_of_k2(None))
                    continue
                words = arrays_of_k2(path)[5].tolist()
                score = float(path.scores.double().sum())
                decoded[index] = Decoded(words, score, word_lattice_of_k2(lattices[row]))
        return [decoded[index] for index in range(len(decoded))]


def word_lattice_of_k2(lattice: Any) -> WordLattice:
    """A single lattice that k2's pruned intersection made; None stands for one without a path."""
    if lattice is None:
        none = np.zeros(0, np.int32)
        return WordLattice(none, none, np.zeros(1, np.int32), none)
    src, dst, _, _, row_splits, words = arrays_of_k2(lattice)
    assert (dst > src).all() and (np.diff(src) >= 0).all(), "k2 orders states by frame"
    return WordLattice(src, dst, row_splits, words)
