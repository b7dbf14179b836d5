"""CTC prefix beam search, and the attention decoders on its n-best: decoding without a graph."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from moe_asr.decode.candidates import Candidates, Parts, RescoringMethod
from moe_asr.decode.lattice_rescoring import (
    ATTENTION_SCALES,
    LENGTH_BONUSES,
    REVERSE_WEIGHTS,
    SecondPassOptions,
    check_decoders,
    has_decoders,
    wanted_decoders,
)
from moe_asr.decode.one_best import hypothesis_of
from moe_asr.decode.registry import (
    Alternative,
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    register,
)
from moe_asr.errors import DataError
from moe_asr.fsa.prefix_beam import PrefixHypothesis, prefix_beam_search_batch
from moe_asr.model.second_pass import second_pass_scores

CTC_SCALES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class PrefixBeamOptions:
    """How far the search goes.

    Attributes:
        beam_size: prefixes that are kept after each frame.
        token_beam: tokens more than this (nats) below the best of their frame begin nothing; infinity
            leaves none out.
    """

    beam_size: int = 10
    token_beam: float = 12.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise ValueError(f"beam_size must be at least 1, found {self.beam_size}")
        if not self.token_beam > 0:
            raise ValueError(f"token_beam must be positive, found {self.token_beam}")


class _PrefixBeam(DecodingMethod):
    """What both methods share: the prefixes."""

    options: PrefixBeamOptions

    def __init__(self, resources: DecodingResources, options: PrefixBeamOptions) -> None:
        super().__init__(resources, options)
        size = resources.tokenizer.vocab_size
        frame = torch.zeros(1, 1, size)  # the kernels are compiled while no time is taken
        prefix_beam_search_batch(frame, torch.tensor([1]), options.beam_size, options.token_beam)

    @property
    def unit(self) -> str:
        """Words, if the tokens spell them."""
        return self.token_unit

    def _prefixes(self, batch: EncodedBatch) -> list[list[PrefixHypothesis]]:
        size = self.resources.tokenizer.vocab_size
        if batch.log_probs.shape[2] != size:
            raise DataError(
                f"expected log_probs (N, T, {size}) for this tokenizer, "
                f"found {tuple(batch.log_probs.shape)}"
            )
        return prefix_beam_search_batch(
            batch.log_probs,
            batch.lengths,
            self.options.beam_size,
            self.options.token_beam,
            utterance_ids=batch.utterance_ids,
        )

    def _words_of(self, tokens: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self.resources.tokenizer.decode(tokens).split())


@register("ctc_prefix_beam")
class CtcPrefixBeam(_PrefixBeam):
    """The token sequence of the largest probability, summed over its alignments."""

    options_type = PrefixBeamOptions

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; the beam's prefixes are the ``alternatives``.

        Raises:
            DataError: naming the utterance that has NaN or +inf in its frames.
        """
        return [
            hypothesis_of(
                name,
                tuple(
                    Alternative(
                        self._words_of(prefix.tokens), prefix.tokens, prefix.score,
                        {"ctc": prefix.score},
                    )
                    for prefix in prefixes
                ),
            )
            for name, prefixes in zip(batch.utterance_ids, self._prefixes(batch), strict=True)
        ]  # fmt: skip


@dataclass(frozen=True)
class AttentionRescoringOptions(SecondPassOptions, PrefixBeamOptions):
    """The prefix beam, the second pass, and this.

    Attributes:
        ctc_scale: weight of CTC's score against ``attention_scale``.
    """

    attention_scale: float = 1.0
    ctc_scale: float = 0.5

    def __post_init__(self) -> None:
        PrefixBeamOptions.__post_init__(self)
        SecondPassOptions.__post_init__(self)
        if not 0.0 <= self.ctc_scale < math.inf:
            raise ValueError(f"ctc_scale must be finite, 0 or more, found {self.ctc_scale}")


@register("attention_rescoring")
class AttentionRescoring(_PrefixBeam, RescoringMethod):
    """The n-best of the prefix beam, scored by both attention decoders: U2++ without a graph.

    The score is ctc_scale * CTC + attention_scale * ((1 - reverse_weight) * left-to-right + reverse_weight *
    right-to-left) + length_bonus * tokens (arXiv 2106.05642, section 2.4; the bonus is ours).

    Raises:
        ConfigError: if there is no model, or it has not the decoders that are asked.
    """

    options_type = AttentionRescoringOptions
    options: AttentionRescoringOptions
    needs_memory = True
    scales = {
        "ctc_scale": CTC_SCALES,
        "attention_scale": ATTENTION_SCALES,
        "reverse_weight": REVERSE_WEIGHTS,
        "length_bonus": LENGTH_BONUSES,
    }

    def __init__(self, resources: DecodingResources, options: AttentionRescoringOptions) -> None:
        super().__init__(resources, options)
        check_decoders(self, options)

    def is_possible(self, name: str, value: float) -> bool:
        """See `RescoringMethod.is_possible`."""
        return has_decoders(self, name, value)

    def candidates(self, batch: EncodedBatch) -> list[Candidates]:
        """See `RescoringMethod.candidates`."""
        lists = self._prefixes(batch)
        scores = second_pass_scores(
            self._model(),
            self._memory(batch),
            batch.lengths,
            [[prefix.tokens for prefix in prefixes] for prefixes in lists],
            max_megabytes=self.options.max_megabytes,
            utterance_ids=batch.utterance_ids,
            **wanted_decoders(self),
        )
        return [
            Candidates(
                name,
                tuple(self._words_of(prefix.tokens) for prefix in prefixes),
                tuple(prefix.tokens for prefix in prefixes),
                {
                    "ctc": np.array([prefix.score for prefix in prefixes]),
                    "length": np.array([len(prefix.tokens) for prefix in prefixes], np.float64),
                    "left_to_right": found.left_to_right,
                    "right_to_left": found.right_to_left,
                },
            )
            for name, prefixes, found in zip(batch.utterance_ids, lists, scores, strict=True)
        ]

    @staticmethod
    def total(parts: Parts, options: AttentionRescoringOptions) -> np.ndarray:
        """See `RescoringMethod.total`."""
        return options.ctc_scale * parts["ctc"] + options.second_pass(parts)
