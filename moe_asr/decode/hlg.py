"""One-best decoding on a graph: the words of the best path through the lattice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moe_asr.decode.registry import DecodingMethod, DecodingResources, Hypothesis, register
from moe_asr.errors import ConfigError
from moe_asr.fsa.engines import AUTO, ENGINES, make_engine
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.native.options import NativeSearchOptions
from moe_asr.fsa.topology import TOPOLOGIES

if TYPE_CHECKING:
    from moe_asr.fsa.lattice_scores import LatticePath


@dataclass(frozen=True)
class OneBestOptions(NativeSearchOptions):
    """How the graph is searched: the beams, the topology of an LG or T, what native adds, and this.

    Attributes:
        engine: one of `ENGINES`; ``auto`` is k2 on a GPU if it is installed, and native everywhere else.
        partial: where no path ends as the graph wants it, take the best one that stands anywhere, instead
            of giving no words.
        num_threads: utterances of a batch that the native engine searches at a time.
    """

    engine: str = AUTO
    partial: bool = False
    num_threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("engine", ENGINES), ("topology", TOPOLOGIES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, found {getattr(self, name)!r}"
                )
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, found {self.num_threads}")


@register("one_best")
class OneBest(DecodingMethod):
    """The words of the best path through the lattice; on a graph of tokens, the words that they spell.

    Attributes:
        lattice_sink: is called with the name and the lattice of every utterance, if it is set.

    Raises:
        ConfigError: if there is no graph, or the engine cannot do what the options ask for.
        GraphError: if the graph is not over the tokenizer's tokens, or the engine cannot search it.
        MissingDependencyError: if the engine needs k2, and there is none.
    """

    options_type = OneBestOptions
    options: OneBestOptions

    def __init__(self, resources: DecodingResources, options: OneBestOptions) -> None:
        super().__init__(resources, options)
        if resources.graph is None:
            raise ConfigError("one_best searches a graph: none was given")
        resources.graph.check_tokens(resources.tokenizer.tokens)
        self._engine = make_engine(
            options.engine,
            resources.graph,
            options,
            resources.device,
            num_threads=options.num_threads,
        )
        self.lattice_sink: Callable[[str, Lattice], None] | None = None
        self._get_ready()

    @property
    def graph(self) -> DecodingGraph:
        """What is searched; lattices are over its tokens and words."""
        return self._engine.graph

    @property
    def unit(self) -> str:
        """Words; on a graph of tokens, what those spell."""
        return "word" if self._has_words else self.token_unit

    def decode(
        self, log_probs: Tensor, lengths: Tensor, utterance_ids: Sequence[str]
    ) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; an utterance without a path has no words and no score.

        Raises:
            DataError: naming the utterance that has NaN or +inf in its frames.
        """
        from moe_asr.fsa.lattice_scores import best_path  # imports numba

        lattices = self._engine.search(log_probs, lengths, utterance_ids, self.options.partial)
        hypotheses = []
        for name, lattice in zip(utterance_ids, lattices, strict=True):
            if self.lattice_sink is not None:
                self.lattice_sink(name, lattice)
            path = best_path(lattice)
            if path is None:
                hypotheses.append(Hypothesis(name, "", (), None, ()))
                continue
            words = self._words(path)
            hypotheses.append(Hypothesis(name, " ".join(words), words, path.score, path.tokens))
        return hypotheses

    def _get_ready(self) -> None:
        """What only a first search does (compile, hand k2 the graph) is done while no time is taken."""
        from moe_asr.fsa.lattice_scores import best_path

        frame = torch.zeros(1, 1, len(self.graph.token_table))
        self._engine.search(frame, torch.tensor([1]))
        (standing,) = self._engine.search(frame, torch.tensor([0]), partial=True)
        best_path(standing)

    @property
    def _has_words(self) -> bool:
        return self.graph.kind in ("HLG", "LG")

    def _words(self, path: "LatticePath") -> tuple[str, ...]:
        if self._has_words:
            return tuple(self.graph.word_symbols(path.words))
        return tuple(self.resources.tokenizer.decode(list(path.words)).split())
