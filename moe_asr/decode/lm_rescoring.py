"""A larger n-gram model in the place of the graph's: over n-best lists, or over the whole lattice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.decode.candidates import Candidates, Parts, RescoringMethod, lattice_candidates
from moe_asr.decode.first_pass import (
    LENGTH_BONUSES,
    LM_SCALES,
    LatticeMethod,
    LmScaleOptions,
    smallest_lattice,
    with_bonus,
)
from moe_asr.decode.one_best import NBestOptions
from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, register
from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.nbest import NBestPath
from moe_asr.lm.score import NgramScorer


class _LmRescoring(LatticeMethod):
    """What both methods share: the models.

    Raises:
        ConfigError: if there is no model to rescore with, or the graph has no words.
    """

    def __init__(self, resources: DecodingResources, options: LmScaleOptions) -> None:
        super().__init__(resources, options)
        if resources.lm is None:
            raise ConfigError(f"{self.name} rescores with a language model: none was given")
        if not self._has_words:
            raise ConfigError(f"{self.name} rescores words: the graph is of kind {self.graph.kind}")
        self._new = NgramScorer(resources.lm, self.graph.word_table)
        self._old: NgramScorer | None = None
        if resources.graph_lm is not None:
            self._old = NgramScorer(resources.graph_lm, self.graph.word_table)
        for scorer in (self._old, self._new):
            if scorer is not None:
                scorer.word_scores([()])  # compiles


@dataclass(frozen=True)
class NBestLmOptions(NBestOptions):
    """The first pass, and the size of the n-best list.

    ``lm_scale`` is that of the new model; the list is that of the first pass.
    """

    n: int = 100


@register("nbest_lm_rescoring")
class NBestLmRescoring(_LmRescoring, RescoringMethod):
    """The n best word sequences of the first pass, with the graph's n-gram model replaced by another.

    Their score is acoustic + (graph - graph's model) + lm_scale * new model. Without a model of the graph's
    (it was made of a grammar, say) the new one comes on top of its score.
    """

    options_type = NBestLmOptions
    options: NBestLmOptions
    scales = {"lm_scale": LM_SCALES, "length_bonus": LENGTH_BONUSES}

    def __init__(self, resources: DecodingResources, options: NBestLmOptions) -> None:
        super().__init__(resources, options)
        from moe_asr.fsa.nbest import nbest  # its kernels import numba

        self._nbest = nbest
        nbest(smallest_lattice(), 1)

    def candidates(self, batch: EncodedBatch) -> list[Candidates]:
        """See `RescoringMethod.candidates`.

        Raises:
            TextError: naming a word that a model cannot score.
        """
        lattices = self.first_pass.lattices(batch)
        lists = [self._nbest(lattice, self.options.n) for lattice in lattices]
        parts = self._parts(lists, [lattice.is_partial for lattice in lattices])
        boosts = self.first_pass.boosts(batch.utterance_ids, lists)
        return [
            lattice_candidates(
                name, lattice, paths, [self._words(path.words) for path in paths], boost,
                {"graph": np.array([path.graph for path in paths]) - old - boost, "lm": new},
            )
            for name, lattice, paths, boost, (old, new) in zip(
                batch.utterance_ids, lattices, lists, boosts, parts, strict=True
            )
        ]  # fmt: skip

    def _parts(
        self, lists: Sequence[Sequence[NBestPath]], is_partial: Sequence[bool]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """[utt] the scores (n,) of the graph's model, as the search scaled them, and of the new one."""
        sizes = np.cumsum([0, *(len(paths) for paths in lists)])
        sequences = [path.words for paths in lists for path in paths]
        ended = np.array(
            [not partial for paths, partial in zip(lists, is_partial, strict=True) for _ in paths],
            bool,
        )
        scores = []
        for model, scale in ((self._old, self.options.graph_scale), (self._new, 1.0)):
            if model is None or not sequences:
                scores.append(np.zeros(len(sequences)))
                continue
            splits, of_words = model.word_scores(sequences)
            of_words[splits[1:] - 1] *= ended  # no </s> where the sentence goes on
            scores.append(scale * np.add.reduceat(of_words, splits[:-1]))
        return [
            (scores[0][begin:end], scores[1][begin:end])
            for begin, end in zip(sizes, sizes[1:], strict=False)
        ]

    @staticmethod
    def total(parts: Parts, options: NBestLmOptions) -> np.ndarray:
        """See `RescoringMethod.total`."""
        kept = parts["acoustic"] + parts["graph"] + parts["boost"]
        return kept + options.lm_scale * parts["lm"] + options.length_bonus * parts["length"]


@dataclass(frozen=True)
class LatticeLmOptions(LmScaleOptions):
    """The first pass, the new model's ``lm_scale``, and this.

    Attributes:
        lattice_beam: of the rescored lattice, arcs are made only where a path may come this close (nats) to
            the best, as far as it is known then; infinity makes them all, and wide lattices far larger.
    """

    lattice_beam: float = 12.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lattice_beam > 0:
            raise ValueError(f"lattice_beam must be positive, found {self.lattice_beam}")


@register("lattice_lm_rescoring")
class LatticeLmRescoring(_LmRescoring):
    """The best path of the whole lattice, with the graph's n-gram model replaced by another.

    Scores are those of `NBestLmRescoring`; every path of the lattice is considered that the beam leaves.
    """

    options_type = LatticeLmOptions
    options: LatticeLmOptions
    scales = {"lm_scale": LM_SCALES, "length_bonus": LENGTH_BONUSES}

    def __init__(self, resources: DecodingResources, options: LatticeLmOptions) -> None:
        super().__init__(resources, options)
        from moe_asr.fsa.lattice_scores import best_path
        from moe_asr.fsa.lm_rescore import rescore_lattice
        from moe_asr.fsa.nbest import nbest

        self._best_path, self._rescore, self._nbest = best_path, rescore_lattice, nbest
        best_path(rescore_lattice(smallest_lattice(()), self._new, self._old))

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`.

        Raises:
            TextError: naming a word that a model cannot score.
            GraphError: naming the utterance whose rescored lattice has too many arcs.
        """
        hypotheses = []
        for name, lattice in zip(batch.utterance_ids, self.first_pass.lattices(batch), strict=True):
            rescored = self._rescored(name, lattice)
            if self.resources.keep_paths:
                paths = self._nbest(rescored, 1)
                hypotheses.append(self._of_path(name, paths[0] if paths else None, lattice))
            else:
                hypotheses.append(self._of_path(name, self._best_path(rescored), lattice))
        return hypotheses

    def _rescored(self, name: str, lattice: Lattice) -> Lattice:
        options = self.options
        try:
            return self._rescore(
                with_bonus(lattice, options.length_bonus),
                self._new,
                self._old,
                options.lm_scale,
                options.graph_scale,
                search_beam=options.lattice_beam,
            )
        except GraphError as error:
            raise GraphError(f"utterance {name}: {error}") from error
