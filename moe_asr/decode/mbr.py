"""Minimum Bayes risk decoding: the words with the fewest expected errors over all paths of the lattice."""

from dataclasses import dataclass

from moe_asr.decode.first_pass import LatticeMethod, smallest_lattice
from moe_asr.decode.one_best import NBestOptions
from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, register


@dataclass(frozen=True)
class MbrOptions(NBestOptions):
    """The first pass, the number of hypotheses, and the weights of scores in the paths' probabilities.

    Attributes:
        acoustic_scale: of the acoustic score; ``lm_scale`` is that of the graph's. Both together below 1
            make the distribution flatter: log-probabilities of CTC models are too sure of themselves. It is
            the weight of phrases' boosts too, so that they mean the same however flat it is.
    """

    n: int = 50
    acoustic_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.acoustic_scale < float("inf"):
            raise ValueError(
                f"acoustic_scale must be finite, 0 or more, found {self.acoustic_scale}"
            )

    @property
    def _boost_scale(self) -> float:
        return self.acoustic_scale


@register("mbr")
class Mbr(LatticeMethod):
    """The words with the least Bayes risk, see `moe_asr.fsa.mbr`; ``score`` is minus the expected errors.

    Words come with confidences.
    """

    options_type = MbrOptions
    options: MbrOptions
    scales = {
        "acoustic_scale": (0.2, 0.4, 0.7, 1.0),
        "lm_scale": (0.2, 0.4, 0.7, 1.0),
        "length_bonus": (0.0, 0.3, 0.7, 1.5),
    }

    def __init__(self, resources: DecodingResources, options: MbrOptions) -> None:
        super().__init__(resources, options)
        from moe_asr.fsa.mbr import minimum_bayes_risk  # its kernels import numba

        minimum_bayes_risk(smallest_lattice())
        self._search = minimum_bayes_risk

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; on a graph of tokens, errors are expected in tokens."""
        options = self.options
        hypotheses = []
        for name, lattice, context in self._lattices(batch):
            weighted = options.weighted(lattice, context)
            found = self._search(weighted, options.n, acoustic_scale=options.acoustic_scale)
            if found is None:
                hypotheses.append(Hypothesis(name, "", (), None, ()))
                continue
            words = self._words(found.words)
            confidences = tuple(found.word_confidences.tolist()) if self._has_words else None
            hypotheses.append(
                Hypothesis(name, " ".join(words), words, -found.risk, (), confidences=confidences)
            )
        return hypotheses
