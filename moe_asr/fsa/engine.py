"""What the search engines share: their options and their interface."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from torch import Tensor

from moe_asr.errors import DataError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph

Contexts = Union["ContextGraph", Sequence[Union["ContextGraph", None]], None]


def contexts_of(contexts: Contexts, num_utterances: int) -> list["ContextGraph | None"]:
    """The phrases of each utterance.

    Raises:
        DataError: if they are those of another number of utterances.
    """
    if contexts is None or not isinstance(contexts, Sequence):
        return [contexts] * num_utterances
    if len(contexts) != num_utterances:
        raise DataError(f"found {len(contexts)} contexts of {num_utterances} utterances")
    return list(contexts)


@dataclass(frozen=True)
class SearchOptions:
    """Pruning, as in ``k2.intersect_dense_pruned``.

    Attributes:
        search_beam: a state is dropped if its score is this much below the best of its frame.
        output_beam: an arc of the lattice is dropped if its best path is this much below the best.
        min_active, max_active: states a frame that the beam is adapted to; advisory.
        graph_scale: multiplies the graph's scores (those of the language model and the lexicon).
    """

    search_beam: float = 20.0
    output_beam: float = 8.0
    min_active: int = 30
    max_active: int = 10000
    graph_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (self.search_beam > 0 and self.output_beam > 0):
            raise ValueError(
                f"beams must be positive, found search_beam={self.search_beam}, "
                f"output_beam={self.output_beam}"
            )
        if not 0 <= self.min_active <= self.max_active or self.max_active < 1:
            raise ValueError(
                "expected 0 <= min_active <= max_active and max_active >= 1, "
                f"found {self.min_active} and {self.max_active}"
            )
        if not 0.0 <= self.graph_scale < float("inf"):
            raise ValueError(f"graph_scale must be finite, 0 or more, found {self.graph_scale}")


class SearchEngine(ABC):
    """Log-probabilities in, lattices out: a batch at once, or streams chunk by chunk.

    A stream is a state that `start` makes, `advance` changes, and `finish` ends; states are independent of
    one another and may join, wait and leave at any time.
    """

    graph: DecodingGraph
    options: SearchOptions

    @abstractmethod
    def search(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        utterance_ids: Sequence[str] | None = None,
        partial: bool = False,
        contexts: Contexts = None,
    ) -> list[Lattice]:
        """The lattices of a batch, in the order given.

        Args:
            log_probs: (N, T, C) float32, natural log, blank = 0; -inf is allowed. What is behind an
                utterance's length is not looked at.
            lengths: (N,) frames of each utterance, 0..T.
            utterance_ids: for messages.
            partial: where no path ends in a final state, let all paths end where they stand, instead of
                giving an empty lattice; where no path leads through a frame, before that frame.
            contexts: contextual phrases, the same for all utterances or those of each.

        Raises:
            ConfigError: if the engine cannot listen for phrases, and there are some.
            GraphError: if C is not the graph's number of tokens.
            DataError: naming the utterance, if it has NaN or +inf, or a length out of range.
        """

    @abstractmethod
    def start(self, context: "ContextGraph | None" = None) -> Any:
        """The state of a new stream, with the phrases that it listens for."""

    @abstractmethod
    def advance(self, states: Sequence[Any], log_probs: Sequence[Tensor]) -> None:
        """Feeds each of ``states`` its next frames, ``log_probs[i]`` (T_i, C)."""

    @abstractmethod
    def lattice(self, state: Any, partial: bool = True) -> Lattice:
        """The lattice of what the stream has read so far; the stream goes on."""

    @abstractmethod
    def finish(self, state: Any, partial: bool = False) -> Lattice:
        """Ends a stream: the lattice of all its frames."""
