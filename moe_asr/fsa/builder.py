"""What a graph builder is: composition and determinisation by one library, k2 or OpenFst."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.fst import Fst

AUTO = "auto"


class GraphBuilder(ABC):
    """The operations that L and G go through; the FSTs between them are the library's own objects.

    All are in the tropical semiring: of several paths with the same input and output the best counts. The
    weighted language of a result does not depend on the builder; states, and where on a path the scores
    are, may.
    """

    name: ClassVar[str]

    @abstractmethod
    def compose(self, lexicon: Fst, grammar: Fst) -> Any:
        """``lexicon o grammar``, connected. Both in any order of arcs."""

    @abstractmethod
    def determinize(self, fst: Any) -> Any:
        """Deterministic on its input labels; epsilons may be left where outputs come late.

        ``fst`` itself may be changed. It must be one that can be determinised, see `moe_asr.fsa.check`.
        """

    @abstractmethod
    def size(self, fst: Any) -> tuple[int, int]:
        """States and arcs."""

    @abstractmethod
    def to_arcs(self, fst: Any) -> Arcs:
        """The FST as arrays, sorted by src; its final state is the highest. Label 0 is epsilon."""

    @abstractmethod
    def compose_topology(self, graph: Arcs, num_tokens: int, topology: str) -> Arcs:
        """H composed with an epsilon-free graph of tokens, connected, sorted by src and label.

        Labels of the result are those of frames: 0 is blank.
        """


def _k2() -> GraphBuilder:
    from moe_asr.fsa.builder_k2 import K2Builder

    return K2Builder()


def _openfst() -> GraphBuilder:
    from moe_asr.fsa.builder_openfst import OpenFstBuilder

    return OpenFstBuilder()


_BUILDERS: dict[str, Callable[[], GraphBuilder]] = {"k2": _k2, "openfst": _openfst}


def builder_names() -> list[str]:
    """What `make_builder` takes."""
    return [AUTO, *_BUILDERS]


def make_builder(name: str = AUTO) -> GraphBuilder:
    """The builder of that name; ``auto`` is k2 where it is installed, else OpenFst.

    Raises:
        GraphError: if there is no such builder.
        MissingDependencyError: saying how to install it, if its library is absent or does not load.
    """
    if name == AUTO:
        name = "k2" if importlib.util.find_spec("k2") is not None else "openfst"
    if name not in _BUILDERS:
        raise GraphError(f"no graph builder '{name}', expected {', '.join(builder_names())}")
    return _BUILDERS[name]()
