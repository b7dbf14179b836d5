"""Decoding methods by name: what recipes and the command line choose from."""

import dataclasses
import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor

from moe_asr.config import from_dict
from moe_asr.errors import ConfigError, DataError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from moe_asr.decode.first_pass import FirstPass
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.fsa.nbest import NBestPath
    from moe_asr.lm.model import NgramModel
    from moe_asr.model.u2 import U2MoeModel

# Modules that register methods; imported when a method is first asked for.
_MODULES = (
    "moe_asr.decode.attention",
    "moe_asr.decode.greedy",
    "moe_asr.decode.lattice_oracle",
    "moe_asr.decode.lattice_rescoring",
    "moe_asr.decode.lm_rescoring",
    "moe_asr.decode.mbr",
    "moe_asr.decode.one_best",
    "moe_asr.decode.prefix_beam",
)
_METHODS: dict[str, type["DecodingMethod"]] = {}
M = TypeVar("M", bound=type["DecodingMethod"])


@dataclasses.dataclass(frozen=True)
class Alternative:
    """One entry of a method's n-best list.

    Attributes:
        words, tokens: as of a `Hypothesis`.
        score: natural log, by which the list is sorted.
        parts: what the score is made of, by name, unscaled (``acoustic``, ``graph``, ...).
    """

    words: tuple[str, ...]
    tokens: tuple[int, ...]
    score: float
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a method found in one utterance.

    Attributes:
        utterance_id: as given.
        text: the recognised text, '' if nothing was found.
        words: its words.
        score: natural log score of the path; None if there is no path at all.
        tokens: token ids without blanks and repetitions.
        alternatives: the n-best list of methods that have one; the hypothesis itself comes first.
        confidences: of each word, 0..1; None where the method has none.
        path: through the lattice, with the frames of tokens; None where the method has none, and where
            `DecodingResources.keep_paths` does not ask for it.
        is_partial: the path may stop within a word.
    """

    utterance_id: str
    text: str
    words: tuple[str, ...]
    score: float | None
    tokens: tuple[int, ...]
    alternatives: tuple[Alternative, ...] = ()
    confidences: tuple[float, ...] | None = None
    path: "NBestPath | None" = None
    is_partial: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBatch:
    """What the encoder made of N utterances.

    Attributes:
        log_probs: (N, T, C) float32, natural log, blank = 0.
        lengths: (N,) frames of each utterance; what is behind them is not looked at.
        utterance_ids: N names.
        memory: (N, T, D) of the encoder, for methods that `need_memory`.

    Raises:
        DataError: if these are not of the same utterances and frames.
    """

    log_probs: Tensor
    lengths: Tensor
    utterance_ids: Sequence[str]
    memory: Tensor | None = None

    def __post_init__(self) -> None:
        if self.log_probs.ndim != 3:
            raise DataError(f"expected log_probs (N, T, C), found {tuple(self.log_probs.shape)}")
        if not len(self.log_probs) == len(self.lengths) == len(self.utterance_ids):
            raise DataError(
                f"{len(self.log_probs)} utterances, {len(self.lengths)} lengths, "
                f"{len(self.utterance_ids)} ids"
            )
        if self.memory is not None and self.memory.shape[:2] != self.log_probs.shape[:2]:
            raise DataError(
                f"log_probs {tuple(self.log_probs.shape)}, but memory {tuple(self.memory.shape)}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class DecodingResources:
    """What methods may need beside the batch.

    Attributes:
        tokenizer: the model's.
        graph: the decoding graph, for methods that search one.
        device: where the search runs.
        model: for methods that ask the attention decoders.
        lm: the language model that lattices and n-best lists are rescored with.
        graph_lm: the one that the graph was built with, which rescoring takes out.
        references: by utterance id, for oracles.
        context_of: the boosted phrases of an utterance, by its id; None boosts nothing.
        keep_paths: whether hypotheses of lattice methods are to have their ``path``, for word times.
        archive: lattices of an earlier run: they are taken from there, and nothing is searched.
        first_passes: the searches of lattice methods, by their options: methods that agree share one.
            A copy with other resources begins with none.
    """

    tokenizer: Tokenizer
    graph: DecodingGraph | None = None
    device: str = "cpu"
    model: "U2MoeModel | None" = None
    lm: "NgramModel | None" = None
    graph_lm: "NgramModel | None" = None
    references: Mapping[str, str] | None = None
    context_of: "Callable[[str], ContextGraph | None] | None" = None
    keep_paths: bool = False
    archive: "LatticeArchive | None" = None
    first_passes: "dict[Any, FirstPass]" = dataclasses.field(default_factory=dict, init=False)


class DecodingMethod(ABC):
    """One way from log-probabilities to text.

    Attributes:
        name: set by `register`.
        options_type: a frozen dataclass.
        needs_memory: whether batches must have the encoder's output.
        first_pass: the search that makes its lattices, shared with others; None without one.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Any]]
    needs_memory: ClassVar[bool] = False
    first_pass: "FirstPass | None" = None

    def __init__(self, resources: DecodingResources, options: Any) -> None:
        self.resources = resources
        self.options = options

    @property
    def unit(self) -> str:
        """What its texts are made of: ``word``, or the kind of token that spells no words (``phone``)."""
        return "word"

    @property
    def token_unit(self) -> str:
        """What the tokenizer's decoded tokens are: words, if they spell them."""
        tokenizer = self.resources.tokenizer
        return "word" if tokenizer.spells_words else tokenizer.kind

    @abstractmethod
    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """Decodes a batch: N hypotheses in the order given."""

    def _memory(self, batch: EncodedBatch) -> Tensor:
        if batch.memory is None:
            raise DataError(f"{self.name} needs the encoder's output: the batch has none")
        return batch.memory

    def _model(self) -> "U2MoeModel":
        if self.resources.model is None:
            raise ConfigError(f"{self.name} asks the model's attention decoders: none was given")
        return self.resources.model


def register(name: str) -> Callable[[M], M]:
    """Class decorator: makes a `DecodingMethod` available as ``name``."""

    def add(method: M) -> M:
        assert name not in _METHODS, f"two decoding methods are called {name}"
        method.name = name
        _METHODS[name] = method
        return method

    return add


def available_methods() -> list[str]:
    """The names of all methods, sorted."""
    _import_methods()
    return sorted(_METHODS)


def get_method(name: str) -> type[DecodingMethod]:
    """The class registered as ``name``; `ConfigError` with the nearest name if there is none."""
    _import_methods()
    if name not in _METHODS:
        near = difflib.get_close_matches(name, _METHODS, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"unknown decoding method '{name}'{hint} (available: {', '.join(sorted(_METHODS))})"
        )
    return _METHODS[name]


def make_method(
    name: str, resources: DecodingResources, options: Mapping[str, Any] | None = None
) -> DecodingMethod:
    """A method ready to decode, its options given as plain values; `ConfigError` on a wrong one."""
    method = get_method(name)
    return method(resources, from_dict(method.options_type, options or {}, f"options of {name}"))


def _import_methods() -> None:
    for module in _MODULES:
        importlib.import_module(module)
