"""k2 in the search benchmark: ``intersect_dense_pruned`` on batches of utterances."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.search_engines import Decoded, Engine, Setting, WordLattice, missing_module
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import arrays_of_k2, import_k2
from moe_asr.fsa.search_k2 import K2Search, one_best

BATCH_SIZES = (1, 4, 8)


class K2Lattices(Engine):
    """Batches of similar length, padded; making ``DenseFsaVec`` of them is part of the search."""

    name = "k2"

    def __init__(self) -> None:
        self._search: K2Search | None = None
        self._batch_size = 1

    @classmethod
    def why_not(cls) -> str | None:
        return missing_module("k2", import_k2)

    @classmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        return [
            {"search_beam": 20.0, "output_beam": 8.0, "min_active": 30, "max_active": active}
            for active in ((2000,) if quick else (2000, 7000))
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
        beams = {name: value for name, value in setting.items() if name != "batch_size"}
        self._batch_size = setting.get("batch_size", 1)
        if self._search is None or self._search.graph is not graph:
            self._search = K2Search(graph, SearchOptions(**beams))
        self._search.options = SearchOptions(**beams)  # the converted graph stays

    def load(self, log_probs: Sequence[np.ndarray]) -> Any:
        """Batches of (indices, (N, T, C) tensor, (N,) lengths), the longest first."""
        order = sorted(range(len(log_probs)), key=lambda index: -len(log_probs[index]))
        batches = []
        for first in range(0, len(order), self._batch_size):
            indices = order[first : first + self._batch_size]
            rows = [torch.from_numpy(log_probs[index]) for index in indices]
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            batches.append((indices, padded, torch.tensor([len(row) for row in rows])))
        return batches

    def search(self, loaded: Any) -> list[Any]:
        assert self._search is not None
        return [
            (indices, self._search.intersect(rows, lengths)) for indices, rows, lengths in loaded
        ]

    def results(self, found: list[Any]) -> list[Decoded]:
        decoded: dict[int, Decoded] = {}
        for indices, lattices in found:
            for row, (index, path) in enumerate(zip(indices, one_best(lattices), strict=True)):
                if path is None:
                    decoded[index] = Decoded([], None, word_lattice_of_k2(None))
                    continue
                lattice = word_lattice_of_k2(lattices[row])
                decoded[index] = Decoded(list(path.words), path.score, lattice)
        return [decoded[index] for index in range(len(decoded))]


def word_lattice_of_k2(lattice: Any) -> WordLattice:
    """A single lattice that k2's pruned intersection made; None stands for one without a path."""
    if lattice is None:
        none = np.zeros(0, np.int32)
        return WordLattice(none, none, np.zeros(1, np.int32), none)
    src, dst, _, _, row_splits, words = arrays_of_k2(lattice)
    assert (dst > src).all() and (np.diff(src) >= 0).all(), "k2 orders states by frame"
    return WordLattice(src, dst, row_splits, words)
