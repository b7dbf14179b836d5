"""What the search benchmark asks of an engine, and which engines there are."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from moe_asr.fsa.graph import DecodingGraph

Setting = dict[str, Any]


@dataclass(frozen=True)
class WordLattice:
    """What is needed of a lattice to score it: arcs sorted topologically, with their words.

    Attributes:
        src, dst: (A,) int32; sorted by src, every arc leads to a higher state; 0 is the start, the highest
            state the final one. Without arcs there is no path.
        row_splits, words: int32, ragged [arc][word].
    """

    src: np.ndarray
    dst: np.ndarray
    row_splits: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Decoded:
    """What became of one utterance.

    Attributes:
        words: of the best path; none if there is no path.
        score: of the best path, natural log; None if there is none.
        lattice: None if the engine makes none.
    """

    words: list[int]
    score: float | None
    lattice: WordLattice | None = None


class Engine(ABC):
    """One way to search, over several settings. Calls come in this order, `search` many times.

    Attributes:
        name: as in the table.
        graph_kind: of the graph that it searches, LG or HLG.
        makes_lattices: whether the oracle error rate is that of lattices; else it is that of the best path.
    """

    name: ClassVar[str]
    graph_kind: ClassVar[str] = "HLG"
    makes_lattices: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def why_not(cls) -> str | None:
        """What is missing to run it here; None if nothing is."""

    @classmethod
    @abstractmethod
    def settings(cls, quick: bool = False) -> list[Setting]:
        """Settings to run, each of plain JSON values; a few of them to be ``quick``."""

    def tune(self, graph: DecodingGraph, log_probs: Sequence[np.ndarray]) -> Setting:
        """What to add to every setting for the best speed on this machine; tried on a few utterances."""
        return {}

    @abstractmethod
    def prepare(self, graph: DecodingGraph, setting: Setting) -> None:
        """Converts the graph; what settings can share is converted once. Not timed."""

    @abstractmethod
    def load(self, log_probs: Sequence[np.ndarray]) -> Any:
        """The utterances in memory as the engine wants them: what `search` takes. Not timed."""

    @abstractmethod
    def search(self, loaded: Any) -> list[Any]:
        """All utterances, as the engine's own results. This is timed, in wall time."""

    @abstractmethod
    def results(self, found: list[Any]) -> list[Decoded]:
        """What `search` found, in the order of the utterances. Not timed."""

    def arcs_expanded(self) -> int | None:
        """How many arcs the last `search` expanded; None if the engine does not tell."""
        return None


# by name, in the order in which they are shown; a module is imported only where its engine runs
_ENGINES = {
    "native": ("benchmarks.search_engine_native", "NativeLattices"),
    "k2": ("benchmarks.search_engine_k2", "K2Lattices"),
    "faster": ("benchmarks.search_engine_kaldi", "KaldiBestPaths"),
    "lattice_simple": ("benchmarks.search_engine_kaldi", "KaldiLattices"),
}


def engine_names() -> list[str]:
    """All engines."""
    return list(_ENGINES)


def engine_class(name: str) -> type[Engine]:
    """The engine of a name."""
    module, attribute = _ENGINES[name]
    engine: type[Engine] = getattr(importlib.import_module(module), attribute)
    assert engine.name == name, engine
    return engine


def without_sure_blanks(log_probs: Sequence[np.ndarray], threshold: float) -> list[np.ndarray]:
    """What ``blank_skip`` leaves of each utterance, for engines that have no such option.

    A frame goes if its blank has at least this posterior, and so has the frame before it.
    """
    kept = []
    for rows in log_probs:
        is_blank = rows[:, 0] >= np.float32(math.log(threshold))
        is_blank[1:] &= is_blank[:-1].copy()
        is_blank[:1] = False
        kept.append(np.ascontiguousarray(rows[~is_blank]))
    return kept


def missing_module(name: str, load: Callable[[], object]) -> str | None:
    """Why a module cannot be had; None if it can."""
    try:
        load()
    except (ImportError, OSError) as error:
        return f"{name} cannot be imported: {error}"
    return None
