"""The U2++ second pass on lattices: the exact n-best, scored by the attention decoders."""

from dataclasses import dataclass

import numpy as np

from moe_asr.decode.candidates import Candidates, Parts, RescoringMethod, lattice_candidates
from moe_asr.decode.first_pass import LENGTH_BONUSES, LM_SCALES, LatticeMethod, smallest_lattice
from moe_asr.decode.one_best import NBestOptions
from moe_asr.decode.registry import DecodingResources, EncodedBatch, register
from moe_asr.errors import ConfigError
from moe_asr.model.second_pass import MAX_MEGABYTES, second_pass_scores

ATTENTION_SCALES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
REVERSE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class SecondPassOptions:
    """Weights of the attention decoders, and what a call of them may take.

    Attributes:
        attention_scale: weight of the decoders' scores together, 0 or more.
        reverse_weight: share of the right-to-left decoder in them, 0..1.
        length_bonus: nats for each token of a hypothesis: attention decoders prefer short ones.
        max_megabytes: see `second_pass_scores`.
    """

    attention_scale: float = 0.5
    reverse_weight: float = 0.3
    length_bonus: float = 0.0
    max_megabytes: float = MAX_MEGABYTES

    def __post_init__(self) -> None:
        if not 0.0 <= self.attention_scale < float("inf"):
            raise ValueError(
                f"attention_scale must be finite, 0 or more, found {self.attention_scale}"
            )
        if not 0.0 <= self.reverse_weight <= 1.0:
            raise ValueError(f"reverse_weight must be between 0 and 1, found {self.reverse_weight}")
        if not abs(self.length_bonus) < float("inf"):
            raise ValueError(f"length_bonus must be finite, found {self.length_bonus}")
        if not self.max_megabytes > 0.0:
            raise ValueError(f"max_megabytes must be positive, found {self.max_megabytes}")

    def second_pass(self, parts: Parts) -> np.ndarray:
        """(n,) float64: the decoders' share of the score, and the bonus."""
        both = (1.0 - self.reverse_weight) * parts["left_to_right"]
        both = both + self.reverse_weight * parts["right_to_left"]
        return self.attention_scale * both + self.length_bonus * parts["length"]


@dataclass(frozen=True)
class LatticeAttentionOptions(SecondPassOptions, NBestOptions):
    """The first pass, the size of the n-best list, and the second pass.

    The n-best is that of ``lm_scale`` 1, whatever the scale is: tuning then needs it once.
    """

    n: int = 50

    def __post_init__(self) -> None:
        NBestOptions.__post_init__(self)
        SecondPassOptions.__post_init__(self)


@register("lattice_attention_rescoring")
class LatticeAttentionRescoring(LatticeMethod, RescoringMethod):
    """The second pass of U2++ (arXiv 2106.05642, section 2.4) on the n best word sequences of the lattice.

    Their score is acoustic + lm_scale * graph + attention_scale * ((1 - reverse_weight) * left-to-right +
    reverse_weight * right-to-left) + length_bonus * tokens (the bonus is ours, and 0 by default), where each
    decoder's score is of all tokens and the end of the sequence.
    A word sequence is spelled as on its best path. A decoder whose weight is 0 is not asked, if the options
    do not leave that to tuning; boosts of phrases are not scaled.

    Raises:
        ConfigError: if there is no model, or it has not the decoders that are asked.
    """

    options_type = LatticeAttentionOptions
    options: LatticeAttentionOptions
    needs_memory = True
    scales = {
        "attention_scale": ATTENTION_SCALES,
        "reverse_weight": REVERSE_WEIGHTS,
        "lm_scale": LM_SCALES,
        "length_bonus": LENGTH_BONUSES,
    }

    def __init__(self, resources: DecodingResources, options: LatticeAttentionOptions) -> None:
        super().__init__(resources, options)
        check_decoders(self, options)
        from moe_asr.fsa.nbest import nbest  # its kernels import numba

        nbest(smallest_lattice(), 1)
        self._nbest = nbest

    def is_possible(self, name: str, value: float) -> bool:
        """See `RescoringMethod.is_possible`."""
        return has_decoders(self, name, value)

    def candidates(self, batch: EncodedBatch) -> list[Candidates]:
        """See `RescoringMethod.candidates`."""
        lattices = self.first_pass.lattices(batch)
        lists = [self._nbest(lattice, self.options.n) for lattice in lattices]
        scores = second_pass_scores(
            self._model(),
            self._memory(batch),
            batch.lengths,
            [[path.tokens for path in paths] for paths in lists],
            max_megabytes=self.options.max_megabytes,
            utterance_ids=batch.utterance_ids,
            **wanted_decoders(self),
        )
        boosts = self.first_pass.boosts(batch.utterance_ids, lists)
        return [
            lattice_candidates(
                name, lattice, paths, [self._words(path.words) for path in paths], boost,
                {"left_to_right": found.left_to_right, "right_to_left": found.right_to_left},
            )
            for name, lattice, paths, boost, found in zip(
                batch.utterance_ids, lattices, lists, boosts, scores, strict=True
            )
        ]  # fmt: skip

    @staticmethod
    def total(parts: Parts, options: LatticeAttentionOptions) -> np.ndarray:
        """See `RescoringMethod.total`."""
        first = parts["acoustic"] + options.lm_scale * parts["graph"] + parts["boost"]
        return first + options.second_pass(parts)


def wanted_decoders(method: RescoringMethod) -> dict[str, bool]:
    """Which decoders the options of a method ask; of one that is being tuned, those that there are."""
    model, options = method._model(), method.options
    if method.is_tuned:
        return {
            "left_to_right": model.left_to_right is not None,
            "right_to_left": model.right_to_left is not None,
        }
    used = options.attention_scale > 0
    return {
        "left_to_right": used and options.reverse_weight < 1,
        "right_to_left": used and options.reverse_weight > 0,
    }


def has_decoders(method: RescoringMethod, name: str, value: float) -> bool:
    """Whether the model has the decoders that a weight asks."""
    left, right = method._model().left_to_right, method._model().right_to_left
    if name == "reverse_weight":
        return (left is not None or value >= 1) and (right is not None or value <= 0)
    return name != "attention_scale" or value <= 0 or left is not None or right is not None


def check_decoders(method: RescoringMethod, options: SecondPassOptions) -> None:
    """`ConfigError` if the model has not the decoders that the options ask."""
    wanted = wanted_decoders(method)
    for reverse, name in ((False, "left_to_right"), (True, "right_to_left")):
        if wanted[name]:
            try:
                method._model().attention_decoder(reverse)
            except ConfigError as error:
                raise ConfigError(f"{method.name}: {error} (reverse_weight)") from error
