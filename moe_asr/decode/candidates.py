"""Rescoring: candidates whose score is a weighted sum of parts; so weights are tuned without decoding."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from moe_asr.decode.one_best import hypothesis_of
from moe_asr.decode.registry import Alternative, DecodingMethod, EncodedBatch, Hypothesis
from moe_asr.fsa.lattice import Lattice

if TYPE_CHECKING:
    from moe_asr.fsa.nbest import NBestPath

Parts = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The n candidates of one utterance.

    Attributes:
        utterance_id: its name.
        words, tokens: [candidate]; as of a `Hypothesis`.
        parts: by name (n,) float64, what `RescoringMethod.total` adds up.
        paths: [candidate] through the lattice; none where there is no lattice.
        is_partial: that of the lattice.
    """

    utterance_id: str
    words: tuple[tuple[str, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    parts: Parts
    paths: "tuple[NBestPath, ...]" = ()
    is_partial: bool = False


def lattice_candidates(
    name: str, lattice: Lattice, paths: "Sequence[NBestPath]", words: Sequence[tuple[str, ...]],
    boost: np.ndarray, parts: Parts,
) -> Candidates:  # fmt: skip
    """The candidates of an n-best list: acoustic and graph scores without boosts, boosts, tokens, and more.

    Args:
        words: of each path.
        boost: (n,) of phrases, in the graph scores.
        parts: what the method adds to them, or puts in their place.
    """
    common = {
        "acoustic": np.array([path.acoustic for path in paths]),
        "graph": np.array([path.graph for path in paths]) - boost,
        "boost": boost,
        "length": np.array([len(path.tokens) for path in paths], np.float64),
    }
    tokens = tuple(path.tokens for path in paths)
    return Candidates(
        name, tuple(words), tokens, {**common, **parts}, tuple(paths), lattice.is_partial
    )


class RescoringMethod(DecodingMethod):
    """A method that lists candidates and takes the one whose parts have the largest weighted sum.

    Attributes:
        scales: the options that are weights, with the values that tuning tries by default.
        is_tuned: whether candidates are to have all parts, also those whose weight is 0 now.
    """

    scales: ClassVar[Mapping[str, tuple[float, ...]]]
    is_tuned: bool = False

    def is_possible(self, name: str, value: float) -> bool:
        """Whether the option ``name``, one of `scales`, can have ``value`` with these resources."""
        return True

    @abstractmethod
    def candidates(self, batch: EncodedBatch) -> list[Candidates]:
        """Of N utterances; what is in them does not depend on the options that are `scales`."""

    @staticmethod
    @abstractmethod
    def total(parts: Parts, options: Any) -> np.ndarray:
        """(n,) float64, the scores of candidates, larger is better."""

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; of equal candidates the first is taken."""
        return [self.choose(found) for found in self.candidates(batch)]

    def choose(self, found: Candidates) -> Hypothesis:
        """The candidates in the order of their scores; the best is the result."""
        total = self.total(found.parts, self.options)
        order = np.argsort(-total, kind="stable").tolist()
        alternatives = tuple(
            Alternative(
                found.words[i],
                found.tokens[i],
                float(total[i]),
                {name: float(part[i]) for name, part in found.parts.items()},
            )
            for i in order
        )
        hypothesis = hypothesis_of(found.utterance_id, alternatives)
        if self.resources.keep_paths and found.paths:
            path = found.paths[order[0]]
            hypothesis = replace(hypothesis, path=path, is_partial=found.is_partial)
        return hypothesis
