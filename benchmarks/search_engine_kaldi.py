"""Kaldi's decoders in the search benchmark, as kaldi-decoder wraps them: on an OpenFst graph.

`FasterDecoder` keeps the best path only. `LatticeSimpleDecoder` makes lattices of all arcs within its beams,
but knows no ``max_active``. Input labels of their graph are those of frames plus one: ``DecodableCtc`` takes
one off again, which is what `DecodingGraph.to_fst` writes.
"""

import weakref
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.search_engines import (
    Decoded,
    Engine,
    Setting,
    WordLattice,
    missing_module,
    without_sure_blanks,
)
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.openfst import import_kaldifst, to_kaldifst


def _import_kaldi_decoder() -> Any:
    import kaldi_decoder

    return kaldi_decoder


class KaldiEngine(Engine):
    """What both have in common."""

    def __init__(self) -> None:
        self._source: Any = None  # a weak reference: only the OpenFst form is kept
        self._fst: Any = None
        self._decoder: Any = None
        self._blank_skip = 1.0

    @classmethod
    def why_not(cls) -> str | None:
        return missing_module("kaldi_decoder", _import_kaldi_decoder)

    def prepare(self, graph: DecodingGraph, setting: Setting) -> None:
        if self._source is None or self._source() is not graph:
            self._source, self._fst = weakref.ref(graph), to_kaldifst(graph.to_fst())
        options = dict(setting)
        self._blank_skip = options.pop("blank_skip", 1.0)
        self._decoder = self._make(self._fst, options)

    @abstractmethod
    def _make(self, fst: Any, setting: Setting) -> Any:
        """The decoder."""

    def load(self, log_probs: Sequence[np.ndarray]) -> Any:
        kept = without_sure_blanks(log_probs, self._blank_skip)
        return [np.ascontiguousarray(rows, np.float32) for rows in kept]

    def search(self, loaded: Any) -> list[Any]:
        kaldi_decoder = _import_kaldi_decoder()
        return [self._search_one(kaldi_decoder.DecodableCtc(rows)) for rows in loaded]

    @abstractmethod
    def _search_one(self, decodable: Any) -> Any:
        """The best path, or the lattice; None if there is no path."""


class KaldiBestPaths(KaldiEngine):
    """One-best; its best path is all that it gives."""

    name = "faster"
    makes_lattices = False

    @classmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        beams = [(12, 7000), (16, 7000)]
        if not quick:
            beams += [(14, 7000), (18, 7000), (18, 2000), (20, 2000)]
        plain = [{"beam": float(beam), "max_active": active} for beam, active in beams]
        same_frames = () if quick else (plain[1], plain[-1])  # as native's with this blank_skip
        return [*plain, *({**setting, "blank_skip": 0.99} for setting in same_frames)]

    def _make(self, fst: Any, setting: Setting) -> Any:
        kaldi_decoder = _import_kaldi_decoder()
        return kaldi_decoder.FasterDecoder(fst, kaldi_decoder.FasterDecoderOptions(**setting))

    def _search_one(self, decodable: Any) -> Any:
        self._decoder.decode(decodable)
        if not self._decoder.reached_final():
            return None
        found, path = self._decoder.get_best_path()
        return path if found else None

    def results(self, found: list[Any]) -> list[Decoded]:
        kaldifst = import_kaldifst()
        decoded = []
        for path in found:
            if path is None:
                decoded.append(Decoded([], None))
                continue
            _, _, words, weight = kaldifst.get_linear_symbol_sequence(path)
            score = -(weight.value1 + weight.value2)
            decoded.append(Decoded([word for word in words if word > 0], score))
        return decoded


class KaldiLattices(KaldiEngine):
    """Raw lattices, not determinised."""

    name = "lattice_simple"

    @classmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        beams = (12,) if quick else (12, 14)
        return [{"beam": float(beam), "lattice_beam": 8.0} for beam in beams]

    def _make(self, fst: Any, setting: Setting) -> Any:
        kaldi_decoder = _import_kaldi_decoder()
        config = kaldi_decoder.LatticeSimpleDecoderConfig(**setting, determinize_lattice=False)
        return kaldi_decoder.LatticeSimpleDecoder(fst, config)

    def _search_one(self, decodable: Any) -> Any:
        if not self._decoder.decode(decodable):
            return None
        found, lattice = self._decoder.get_raw_lattice()
        return lattice if found else None

    def results(self, found: list[Any]) -> list[Decoded]:
        return [Decoded([], None) if raw is None else decoded_of_lattice(raw) for raw in found]


def decoded_of_lattice(raw: Any) -> Decoded:
    """The best path and the words of a ``kaldifst.Lattice``."""
    kaldifst = import_kaldifst()
    best = kaldifst.shortest_path(raw)
    _, _, words, weight = kaldifst.get_linear_symbol_sequence(best)
    score = -(weight.value1 + weight.value2)
    rows = []
    for line in raw.to_str().splitlines():  # the binding has no iterators over its lattices
        fields = line.split()
        state = int(fields[0])
        if len(fields) > 2:  # source, destination, input, output, and costs if there are any
            rows.append((state, int(fields[1]), int(fields[3])))
        else:
            rows.append((state, raw.num_states, 0))
    src, dst, olabel = np.array(rows, np.int64).T
    return Decoded(
        [word for word in words if word > 0], score, sort_lattice(src, dst, olabel, raw.start)
    )


def sort_lattice(src: np.ndarray, dst: np.ndarray, olabel: np.ndarray, start: int) -> WordLattice:
    """States in topological order, by their longest distance from the start."""
    level = np.zeros(max(src.max(), dst.max()) + 1, np.int64)
    while True:  # as often as the longest path has arcs
        new = level.copy()
        np.maximum.at(new, dst, level[src] + 1)
        if (new == level).all():
            break
        level = new
    place = np.empty_like(level)
    place[np.lexsort((np.arange(len(level)) != start, level))] = np.arange(len(level))
    src, dst = place[src], place[dst]
    order = np.argsort(src, kind="stable")
    has_word = olabel[order] > 0
    row_splits = np.concatenate([[0], np.cumsum(has_word)])
    return WordLattice(
        src[order].astype(np.int32),
        dst[order].astype(np.int32),
        row_splits.astype(np.int32),
        olabel[order][has_word].astype(np.int32),
    )
