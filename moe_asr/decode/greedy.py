"""CTC greedy search: the best token of every frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from moe_asr.decode.registry import DecodingMethod, EncodedBatch, Hypothesis, register
from moe_asr.errors import DataError
from moe_asr.text.tokenizer import BLANK_ID


@dataclass(frozen=True)
class GreedyOptions:
    """Greedy search has nothing to choose."""


@register("ctc_greedy")
class CtcGreedy(DecodingMethod):
    """The best token of each frame, repetitions merged, blanks removed; needs no graph."""

    options_type = GreedyOptions

    @property
    def unit(self) -> str:
        """Words, if the tokens spell them."""
        return self.token_unit

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; an utterance without frames is an empty text.

        Raises:
            DataError: naming the utterance whose log-probabilities hold NaN or +inf, or if they are
                not of as many tokens as the tokenizer has.
        """
        vocab_size = self.resources.tokenizer.vocab_size
        log_probs, utterance_ids = batch.log_probs, batch.utterance_ids
        if log_probs.shape[2] != vocab_size:
            raise DataError(
                f"expected log_probs (N, T, {vocab_size}) for this tokenizer, "
                f"found {tuple(log_probs.shape)}"
            )
        scores, labels = log_probs.max(dim=2)
        hypotheses = []
        for name, length, row, values in zip(
            utterance_ids, batch.lengths.tolist(), labels, scores, strict=True
        ):
            best = values[:length]
            if not bool((best < float("inf")).all()):  # NaN compares false too
                frame = int((~(best < float("inf"))).nonzero()[0])
                raise DataError(
                    f"utterance {name}: log_probs of frame {frame} hold {float(best[frame])}"
                )
            tokens = collapse(row[:length].tolist())
            text = self.resources.tokenizer.decode(list(tokens))
            score = float(best.to(torch.float64).sum())
            hypotheses.append(Hypothesis(name, text, tuple(text.split()), score, tokens))
        return hypotheses


def collapse(labels: Sequence[int]) -> tuple[int, ...]:
    """Frame labels to tokens: merges repetitions, then removes blanks."""
    return tuple(label for label, _ in groupby(labels) if label != BLANK_ID)
