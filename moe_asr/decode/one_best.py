"""The first pass alone: the best path of the lattice, and the n best word sequences."""

from dataclasses import dataclass, replace

import numpy as np

from moe_asr.decode.first_pass import (
    LENGTH_BONUSES,
    LM_SCALES,
    LatticeMethod,
    LmScaleOptions,
    smallest_lattice,
)
from moe_asr.decode.registry import (
    Alternative,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    register,
)
from moe_asr.fsa.context_lattice import remove_context


@dataclass(frozen=True)
class OneBestOptions(LmScaleOptions):
    """`LmScaleOptions`, and nothing else."""


@register("one_best")
class OneBest(LatticeMethod):
    """The words of the best path through the lattice; on a graph of tokens, the words that they spell."""

    options_type = OneBestOptions
    options: OneBestOptions
    scales = {"lm_scale": LM_SCALES, "length_bonus": LENGTH_BONUSES}

    def __init__(self, resources: DecodingResources, options: OneBestOptions) -> None:
        super().__init__(resources, options)
        from moe_asr.fsa.lattice_scores import best_path  # these import numba
        from moe_asr.fsa.nbest import nbest

        best_path(smallest_lattice())
        self._best_path = best_path
        if resources.keep_paths:
            nbest(smallest_lattice(), 1)
        self._nbest = nbest

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; an utterance without a path has no words and no score."""
        hypotheses = []
        for name, lattice, context in self._lattices(batch):
            weighted = self.options.weighted(lattice, context)
            if self.resources.keep_paths:
                paths = self._nbest(weighted, 1)
                hypotheses.append(self._of_path(name, paths[0] if paths else None, lattice))
            else:
                hypotheses.append(self._of_path(name, self._best_path(weighted), lattice))
        return hypotheses


@dataclass(frozen=True)
class NBestOptions(LmScaleOptions):
    """`LmScaleOptions`, and how many.

    Attributes:
        n: word sequences, of the paths that the lattice has.
    """

    n: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"n must be at least 1, found {self.n}")


@register("nbest")
class NBest(LatticeMethod):
    """The n best distinct word sequences of the lattice, exactly; the best of them is the result."""

    options_type = NBestOptions
    options: NBestOptions
    scales = {"lm_scale": LM_SCALES, "length_bonus": LENGTH_BONUSES}

    def __init__(self, resources: DecodingResources, options: NBestOptions) -> None:
        super().__init__(resources, options)
        from moe_asr.fsa.nbest import nbest  # its kernels import numba

        nbest(smallest_lattice(), 1)
        self._nbest = nbest

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; the lists are the hypotheses' ``alternatives``."""
        hypotheses = []
        for name, lattice, context in self._lattices(batch):
            paths = self._nbest(self.options.weighted(lattice, context), self.options.n)
            (boosts,) = self.first_pass.boosts([name], [paths])
            plain = lattice if context is None else remove_context(lattice, context)
            found = tuple(
                Alternative(
                    self._words(path.words),
                    path.tokens,
                    path.score,
                    {
                        "acoustic": path.acoustic,
                        "graph": float(plain.graph[path.arcs].sum(dtype=np.float64)),
                        "boost": float(boost),
                        "length": float(len(path.tokens)),
                    },
                )
                for path, boost in zip(paths, boosts, strict=True)
            )
            first = paths[0] if paths and self.resources.keep_paths else None
            hypotheses.append(
                replace(hypothesis_of(name, found), path=first, is_partial=lattice.is_partial)
            )
        return hypotheses


def hypothesis_of(name: str, alternatives: tuple[Alternative, ...]) -> Hypothesis:
    """The first of an n-best list as the result; nothing found if the list is empty."""
    if not alternatives:
        return Hypothesis(name, "", (), None, ())
    best = alternatives[0]
    return Hypothesis(name, " ".join(best.words), best.words, best.score, best.tokens, alternatives)
