"""Autoregressive beam search of the left-to-right attention decoder, without CTC and without a graph.

Legend: N utterances, S encoder frames, D model dimension, B hypotheses of an utterance, C vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_asr.errors import DataError
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
        [utt][hypothesis], at least one of each.

    Raises:
        ConfigError: if the model has no left-to-right decoder.
        DataError: naming the utterance whose scores are NaN.
    """
    decoder = model.attention_decoder()
    num, device = len(memory), memory.device
    found: list[dict[tuple[int, ...], float]] = [{} for _ in range(num)]
    limits = (lengths.to(torch.float64) * options.max_tokens_per_frame).long().clamp(min=1).tolist()
    rows = list(range(num))  # the utterances that go on
    source, cache = decoder.source(memory, lengths), None
    tokens = torch.full((num, 1), SOS_EOS_ID, device=device)
    prefixes: list[list[tuple[int, ...]]] = [[()] for _ in rows]
    log_probs = torch.zeros(num, 1, dtype=torch.float64, device=device)
    position = 0
    while rows:
        logits, cache = decoder.step(tokens, position, cache, source)
        following = logits.float().log_softmax(2).double()
        following[:, :, BLANK_ID] = -math.inf
        total = log_probs[:, :, None] + following  # (N, B, C)
        if bool(total.isnan().any()):
            bad = rows[int(total.isnan().flatten(1).any(1).nonzero()[0])]
            raise DataError(
                f"utterance {utterance_ids[bad] if utterance_ids else bad}: the decoder's scores are NaN"
            )
        ended = total[:, :, SOS_EOS_ID].tolist()
        for row, name in enumerate(rows):
            for prefix, log_prob in zip(prefixes[row], ended[row], strict=True):
                if log_prob > -math.inf:
                    found[name][prefix] = log_prob
        total[:, :, SOS_EOS_ID] = -math.inf
        num_tokens = total.shape[2]
        size = min(options.beam_size, total.shape[1] * num_tokens)
        log_probs, flat = total.flatten(1).topk(size, dim=1)
        parents, tokens = torch.div(flat, num_tokens, rounding_mode="floor"), flat % num_tokens
        position += 1
        prefixes = [
            [(*prefixes[row][parent], token) for parent, token in zip(*pair, strict=True)]
            for row, pair in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True))
        ]
        going_on = [
            row
            for row, name in enumerate(rows)
            if position < limits[name] + 1 and _may_win(
                float(log_probs[row, 0]), position, limits[name], found[name], options.length_bonus
            )
        ]  # fmt: skip
        cache = cache.select(parents)
        if len(going_on) < len(rows):
            kept = torch.tensor(going_on, dtype=torch.int64, device=device)
            cache, source = cache.keep(kept), source.keep(kept)
            log_probs, tokens = log_probs[kept], tokens[kept]
            prefixes = [prefixes[row] for row in going_on]
            rows = [rows[row] for row in going_on]
    return [_sorted(hypotheses, options.length_bonus) for hypotheses in found]


def _may_win(
    log_prob: float, length: int, limit: int, found: dict[tuple[int, ...], float], bonus: float
) -> bool:
    """Whether a hypothesis of ``length`` tokens, or what comes of it, may beat the best that has ended."""
    best = max(score + bonus * len(prefix) for prefix, score in found.items())
    return log_prob + bonus * (limit if bonus > 0 else length) > best


def _sorted(found: dict[tuple[int, ...], float], bonus: float) -> list[AttentionHypothesis]:
    hypotheses = [
        AttentionHypothesis(tokens, log_prob, log_prob + bonus * len(tokens))
        for tokens, log_prob in found.items()
    ]
    return sorted(hypotheses, key=lambda hypothesis: (-hypothesis.score, hypothesis.tokens))
