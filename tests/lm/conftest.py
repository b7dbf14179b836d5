"""Models as dictionaries, for comparison with the references."""

import numpy as np

from moe_asr.lm.model import NgramModel
from tests.lm.references import Backoff, Ngram


def ngrams_of(model: NgramModel) -> list[Ngram]:
    """The words of every node."""
    words, found = list(model.words), [()]
    for node in range(1, model.num_nodes):
        found.append((*found[model.parent[node]], words[model.word[node]]))
    return found


def as_dictionaries(model: NgramModel) -> Backoff:
    ngrams = ngrams_of(model)
    return Backoff(
        {ngram: float(np.exp(p)) for ngram, p in zip(ngrams, model.log_prob, strict=True) if ngram},
        {ngram: float(np.exp(p)) for ngram, p in zip(ngrams, model.backoff, strict=True) if ngram},
    )
