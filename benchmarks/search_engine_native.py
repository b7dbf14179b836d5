"""The toolkit's own CPU engine in the search benchmark."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.search_engines import Decoded, Engine, Setting, WordLattice, missing_module
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native.options import NativeSearchOptions


def _import_native() -> Any:
    return importlib.import_module("moe_asr.fsa.native")


# `benchmarks.search_options` says what they cost and bring
ACCELERATIONS: Setting = {"blank_skip": 0.99, "token_beam": 9.0}


class NativeLattices(Engine):
    """On the LG, one utterance a time."""

    name = "native"
    graph_kind = "LG"

    def __init__(self) -> None:
        self._engine: Any = None
        self._arcs_expanded = 0

    @classmethod
    def why_not(cls) -> str | None:
        return missing_module("moe_asr.fsa.native", _import_native)

    @classmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        # k2's lattices hold many arcs that are worse than its output_beam, and so do their oracles:
        # to be no worse than those, a wider one is needed here
        exact = [(16, 8), (20, 10)] if quick else [(12, 8), (14, 8), (16, 8), (18, 10), (20, 10)]
        pruned = [(20, 10)] if quick else [(14, 8), (16, 8), (18, 10), (20, 10)]
        return [
            {
                "search_beam": float(search_beam),
                "output_beam": float(output_beam),
                "min_active": 30,
                "max_active": 2000,
                **extra,
            }
            for beams, extra in ((exact, {}), (pruned, ACCELERATIONS))
            for search_beam, output_beam in beams
        ]

    def prepare(self, graph: DecodingGraph, setting: Setting) -> None:
        self._engine = _import_native().NativeEngine(graph, NativeSearchOptions(**setting))

    def load(self, log_probs: Sequence[np.ndarray]) -> Any:
        return [torch.from_numpy(rows) for rows in log_probs]

    def search(self, loaded: Any) -> list[Any]:
        """Each utterance as a stream of one chunk, as offline search does it: streams count their arcs."""
        engine, lattices = self._engine, []
        self._arcs_expanded = 0
        for rows in loaded:
            stream = engine.start()
            engine.advance([stream], [rows])
            lattices.append(engine.finish(stream))
            self._arcs_expanded += stream.arcs_expanded
        return lattices

    def arcs_expanded(self) -> int | None:
        """Arcs of the LG; those that the topology implies are not counted."""
        return self._arcs_expanded

    def results(self, found: list[Any]) -> list[Decoded]:
        return [decoded_of_lattice(lattice) for lattice in found]


def decoded_of_lattice(lattice: Lattice) -> Decoded:
    """The best path of a lattice, and its words."""
    words = WordLattice(lattice.src, lattice.dst, lattice.word_row_splits, lattice.words)
    best = best_path(lattice)
    if best is None:
        return Decoded([], None, words)
    return Decoded(list(best.words), best.score, words)
