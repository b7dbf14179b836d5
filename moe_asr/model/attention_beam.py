"""Autoregressive beam search of the left-to-right attention decoder, without CTC and without a graph.

Legend: N utterances, S encoder frames, D model dimension, B hypotheses of an utterance, C vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_asr.errors import ConfigError, DataError
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.tokenizer import BLANK_ID, SOS_EOS_ID


@dataclass(frozen=True)
class AttentionBeamOptions:
    """How far the search goes.

    Attributes:
        beam_size: hypotheses of an utterance that are followed.
        length_bonus: nats for each token, against the preference for short hypotheses.
        max_tokens_per_frame: of encoder frames; no hypothesis has more tokens than this times the frames
            (and at least one is allowed). Attention may repeat itself without end: this ends it.
    """

    beam_size: int = 10
    length_bonus: float = 0.0
    max_tokens_per_frame: float = 1.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise ValueError(f"beam_size must be at least 1, found {self.beam_size}")
        if not math.isfinite(self.length_bonus):
            raise ValueError(f"length_bonus must be finite, found {self.length_bonus}")
        if not 0.0 < self.max_tokens_per_frame < math.inf:
            raise ValueError(
                f"max_tokens_per_frame must be positive, found {self.max_tokens_per_frame}"
            )


@dataclass(frozen=True)
class AttentionHypothesis:
    """A finished hypothesis.

    Attributes:
        tokens: ids.
        log_prob: natural log of the probability of all tokens and of the end.
        score: ``log_prob`` and the bonus of its length, by which hypotheses are sorted.
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float


@torch.no_grad()
def attention_beam_search(
    model: U2MoeModel,
    memory: Tensor,
    lengths: Tensor,
    options: AttentionBeamOptions,
    utterance_ids: Sequence[str] | None = None,
) -> list[list[AttentionHypothesis]]:
    """The hypotheses that the left-to-right decoder finds, the best first.

    Of every utterance the ``beam_size`` best continuations of its hypotheses go on; those that end compete
    by score. An utterance is done when nothing that goes on can come above the best that has ended, or at
    the limit of its length, where what goes on is made to end.

    Args:
        model: in eval mode.
        memory, lengths: (N, S, D) and (N,) of `U2MoeModel.encode`.
        utterance_ids: N names, for messages.

    Returns:
        [utt][hypothesis], at least one of each, and no more than ``beam_size``.

    Raises:
        ConfigError: if the model has no left-to-right decoder, or is in training mode.
        DataError: naming the utterance whose scores are NaN.
    """
    if model.training:
        raise ConfigError("the model is in training mode: call model.eval() before decoding")
    decoder = model.attention_decoder()
    num, device = len(memory), memory.device
    ended = [_Ended(options) for _ in range(num)]
    limits = (lengths.to(torch.float64) * options.max_tokens_per_frame).long().clamp(min=1).tolist()
    rows = list(range(num))  # the utterances that go on
    source, cache = decoder.source(memory, lengths), None
    tokens = torch.full((num, 1), SOS_EOS_ID, device=device)
    prefixes: list[list[_Prefix]] = [[()] for _ in rows]
    log_probs = torch.zeros(num, 1, dtype=torch.float64, device=device)
    position = 0
    while rows:
        logits, cache = decoder.step(tokens, position, cache, source)
        following = logits.float().log_softmax(2).double()
        following[:, :, BLANK_ID] = -math.inf
        total = log_probs[:, :, None] + following  # (N, B, C)
        ends = total[:, :, SOS_EOS_ID].tolist()
        for row, name in enumerate(rows):
            # where one score is NaN, the sum of the probabilities is, and so are all
            if any(map(math.isnan, ends[row])):
                spoken = utterance_ids[name] if utterance_ids else name
                raise DataError(f"utterance {spoken}: the decoder's scores are NaN")
            ended[name].add(prefixes[row], ends[row], position)
        total[:, :, SOS_EOS_ID] = -math.inf
        num_tokens = total.shape[2]
        size = min(options.beam_size, total.shape[1] * num_tokens)
        log_probs, flat = total.flatten(1).topk(size, dim=1)
        parents, tokens = torch.div(flat, num_tokens, rounding_mode="floor"), flat % num_tokens
        position += 1
        prefixes = [
            [(prefixes[row][parent], token) for parent, token in zip(*pair, strict=True)]
            for row, pair in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True))
        ]
        best = log_probs[:, 0].tolist()
        going_on = [
            row
            for row, name in enumerate(rows)
            if position <= limits[name]
            and ended[name].may_be_beaten(best[row], position, limits[name])
        ]
        cache = cache.select(parents)
        if len(going_on) < len(rows):
            kept = torch.tensor(going_on, dtype=torch.int64, device=device)
            cache, source = cache.keep(kept), source.keep(kept)
            log_probs, tokens = log_probs[kept], tokens[kept]
            prefixes = [prefixes[row] for row in going_on]
            rows = [rows[row] for row in going_on]
    return [found.sorted() for found in ended]


_Prefix = tuple  # () or (the prefix before, token): what hypotheses share is there once


def _tokens(prefix: _Prefix) -> tuple[int, ...]:
    tokens = []
    while prefix:
        prefix, token = prefix
        tokens.append(token)
    return tuple(reversed(tokens))


class _Ended:
    """The ``beam_size`` best hypotheses of an utterance that have ended."""

    def __init__(self, options: AttentionBeamOptions) -> None:
        self._bonus, self._size = options.length_bonus, options.beam_size
        self._found: list[tuple[float, float, int, _Prefix]] = []  # score, log_prob, length, prefix

    def add(self, prefixes: Sequence[_Prefix], log_probs: Sequence[float], length: int) -> None:
        """Prefixes of ``length`` tokens, with the end."""
        self._found += [
            (log_prob + self._bonus * length, log_prob, length, prefix)
            for prefix, log_prob in zip(prefixes, log_probs, strict=True)
            if log_prob > -math.inf
        ]
        self._found.sort(key=lambda one: -one[0])
        del self._found[self._size :]

    def may_be_beaten(self, log_prob: float, length: int, limit: int) -> bool:
        """Whether a hypothesis of ``length`` tokens, or what comes of it, may beat the best."""
        return log_prob + self._bonus * (limit if self._bonus > 0 else length) > self._found[0][0]

    def sorted(self) -> list[AttentionHypothesis]:
        """The best first."""
        found = [
            AttentionHypothesis(_tokens(prefix), log_prob, score)
            for score, log_prob, _, prefix in self._found
        ]
        return sorted(found, key=lambda hypothesis: (-hypothesis.score, hypothesis.tokens))
