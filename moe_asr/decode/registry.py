"""Decoding methods by name: what recipes and the command line choose from."""

import dataclasses
import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    TypeVar,
)

from torch import Tensor

from moe_asr.config import from_dict
from moe_asr.errors import ConfigError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.tokenizer import Tokenizer

# Modules that register methods; imported when a method is first asked for.
_MODULES = ("moe_asr.decode.greedy", "moe_asr.decode.hlg")
_METHODS: dict[str, type["DecodingMethod"]] = {}
M = TypeVar("M", bound=type["DecodingMethod"])


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a method found in one utterance.

    Attributes:
        utterance_id: as given.
        text: the recognised text, '' if nothing was found.
        words: its words.
        score: natural log score of the path; None if there is no path at all.
        tokens: token ids without blanks and repetitions.
    """

    utterance_id: str
    text: str
    words: tuple[str, ...]
    score: float | None
    tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class DecodingResources:
    """What methods may need beside log-probabilities.

    Attributes:
        tokenizer: the model's.
        graph: the decoding graph, for methods that search one.
        device: where the search runs.
    """

    tokenizer: Tokenizer
    graph: DecodingGraph | None = None
    device: str = "cpu"


class DecodingMethod(ABC):
    """One way from log-probabilities to text.

    Attributes:
        name: set by `register`.
        options_type: a frozen dataclass.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Any]]

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
    def decode(
        self, log_probs: Tensor, lengths: Tensor, utterance_ids: Sequence[str]
    ) -> list[Hypothesis]:
        """Decodes a batch.

        Args:
            log_probs: (N, T, C) float32, natural log, blank = 0.
            lengths: (N,) frames of each utterance.
            utterance_ids: N names.

        Returns:
            N hypotheses in the order given.
        """


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
