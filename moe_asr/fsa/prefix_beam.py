"""CTC prefix beam search: the best token sequences by the sum of their alignments, without a graph.

Graves (2012, *Supervised Sequence Labelling with Recurrent Neural Networks*, section 7.5) and Hannun, Maas,
Jurafsky and Ng (2014, arXiv 1408.2873). A prefix is kept with two scores: of its alignments that end in a
blank, and of those that end in its last token. A frame makes of each prefix the same one, by a blank or its
last token again, and others of one token more; a token right after itself needs a blank between. All
alignments of a prefix that is in the beam are in its score, whether they come from the prefix itself or from
the one without its last token. After every frame the ``beam_size`` best prefixes stay.

Legend: N utterances, T frames, C tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import ConfigError, DataError
from moe_asr.fsa.log_probs import check_log_probs


@dataclass(frozen=True)
class PrefixHypothesis:
    """One sequence of U tokens.

    Attributes:
        tokens: ids, without blanks.
        score: natural log of the sum of its alignments, those that the beam kept: at most CTC's
            log-probability of the tokens.
        alignment_score: of the best of these alignments.
        token_frames, token_ends: the first and the last frame of each token in that alignment. Of equally
            good ones it is one, always the same.
    """

    tokens: tuple[int, ...]
    score: float
    alignment_score: float
    token_frames: tuple[int, ...]
    token_ends: tuple[int, ...]


def prefix_beam_search(
    log_probs: Tensor | np.ndarray,
    beam_size: int = 10,
    token_beam: float = math.inf,
    n: int | None = None,
) -> list[PrefixHypothesis]:
    """The n best sequences of one utterance, best first; see `prefix_beam_search_batch`.

    Args:
        log_probs: (T, C) natural log, blank 0.
        beam_size, token_beam, n: likewise.
    """
    batch = torch.as_tensor(log_probs)[None]
    if batch.ndim != 3:
        raise DataError(f"expected log_probs (T, C), found {tuple(batch.shape[1:])}")
    lengths = torch.tensor([batch.shape[1]])
    return prefix_beam_search_batch(batch, lengths, beam_size, token_beam, n)[0]


def prefix_beam_search_batch(
    log_probs: Tensor,
    lengths: Tensor,
    beam_size: int = 10,
    token_beam: float = math.inf,
    n: int | None = None,
    utterance_ids: Sequence[str] | None = None,
) -> list[list[PrefixHypothesis]]:
    """The n best sequences of every utterance.

    Ties: of prefixes with the same score the lexicographically first (in ids) is the better one, in the beam
    and in the list. Utterances do not depend on the batch that they are in.

    Args:
        log_probs: (N, T, C) natural log, blank 0; -inf is allowed. Computed in float64 from float32.
        lengths: (N,) frames of each, 0..T; without frames there is the empty sequence, of score 0.
        beam_size: prefixes kept after each frame, at least 1. If none had to be dropped, scores are exact.
        token_beam: a token more than this below the best label of its frame (blank is one) makes no new
            prefix there; infinity takes all. Blanks, further frames of a token, and ways to prefixes that are
            in the beam already are never left out.
        n: how many at most, 1..beam_size; by default all in the beam.
        utterance_ids: for messages.

    Returns:
        [utterance][hypothesis]; none for an utterance that has only labels of -inf in some frame.

    Raises:
        ConfigError: on another value of an option.
        DataError: on other shapes; or naming the utterance, if it has NaN or +inf, or a length out of range.
    """
    from moe_asr.fsa.prefix_beam_kernels import search_prefixes

    n = beam_size if n is None else n
    if not 1 <= beam_size <= 1 << 20:
        raise ConfigError(f"beam_size must be 1 to {1 << 20}, found {beam_size}")
    if not 1 <= n <= beam_size:
        raise ConfigError(f"n must be 1 to beam_size ({beam_size}), found {n}")
    if not token_beam >= 0.0:
        raise ConfigError(f"token_beam must be 0 or more, found {token_beam}")
    if log_probs.ndim == 3 and log_probs.shape[2] == 0:
        raise DataError(f"expected log_probs with a blank, found shape {tuple(log_probs.shape)}")
    lengths_list = check_log_probs(log_probs, lengths, None, utterance_ids)
    rows = log_probs.detach().to("cpu", torch.float32).contiguous().numpy()
    options = int(beam_size), float(token_beam), int(n)
    return [
        _hypotheses(*search_prefixes(row[:length], *options))
        for row, length in zip(rows, lengths_list, strict=True)
    ]


def _hypotheses(
    scores: np.ndarray, splits: np.ndarray, tokens: np.ndarray
) -> list[PrefixHypothesis]:
    ids, begins, ends = (tokens[:, column].tolist() for column in range(3))
    limits = splits.tolist()
    return [
        PrefixHypothesis(
            tuple(ids[begin:end]),
            total,
            best,
            tuple(begins[begin:end]),
            tuple(ends[begin:end]),
        )
        for (total, best), begin, end in zip(scores.tolist(), limits, limits[1:], strict=False)
    ]
