"""Autoregressive decoding by the left-to-right attention decoder; no graph, no CTC."""

from dataclasses import dataclass

from moe_asr.decode.one_best import hypothesis_of
from moe_asr.decode.registry import (
    Alternative,
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    register,
)
from moe_asr.model.attention_beam import AttentionBeamOptions, attention_beam_search

LENGTH_BONUSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # what tuning tries; with more it does not end


@dataclass(frozen=True)
class AttentionOptions(AttentionBeamOptions):
    """`AttentionBeamOptions`, and nothing else."""


@register("attention")
class AttentionBeam(DecodingMethod):
    """Beam search of the left-to-right decoder.

    Raises:
        ConfigError: if there is no model, or it has no such decoder.
    """

    options_type = AttentionOptions
    options: AttentionOptions
    needs_memory = True
    scales = {"length_bonus": LENGTH_BONUSES}

    def __init__(self, resources: DecodingResources, options: AttentionOptions) -> None:
        super().__init__(resources, options)
        self._model().attention_decoder()

    @property
    def unit(self) -> str:
        """Words, if the tokens spell them."""
        return self.token_unit

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; `Hypothesis.score` includes the bonus of the length."""
        found = attention_beam_search(
            self._model(), self._memory(batch), batch.lengths, self.options, batch.utterance_ids
        )
        hypotheses = []
        for name, finished in zip(batch.utterance_ids, found, strict=True):
            alternatives = tuple(
                Alternative(
                    tuple(self.resources.tokenizer.decode(hypothesis.tokens).split()),
                    hypothesis.tokens,
                    hypothesis.score,
                    {"left_to_right": hypothesis.log_prob},
                )
                for hypothesis in finished[: self.options.beam_size]
            )
            hypotheses.append(hypothesis_of(name, alternatives))
        return hypotheses
