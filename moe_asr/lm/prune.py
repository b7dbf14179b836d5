"""Entropy pruning (Stolcke 1998, arXiv cs/0006025) and backoff weights that make a model sum to 1."""

from dataclasses import replace

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.lm.model import BOS, EOS, LOG_ZERO, NgramModel, model_of_levels

_NO_MASS = 1e-9  # probability that is left over by rounding only


def prune(
    model: NgramModel, threshold: float, history_log_prob: np.ndarray | None = None
) -> NgramModel:
    """Removes n-grams, from the highest order to the bigrams, that the model is hardly worse without.

    An n-gram (h, w) goes if without it the perplexity of the model, over texts that the model itself makes,
    would grow by less than the factor 1 + ``threshold``:

        D = -p(h) (p(w|h) (log p(w|h') + log a' - log p(w|h)) + (1 - sum_v p(v|h)) (log a' - log a))
        exp(D) - 1 < threshold

    with h' = h without its first word, a the backoff weight of h and a' what it would become, v the words
    that have an n-gram after h. Every D is that of one removal from the whole model. What is the history of
    an n-gram that stays, stays; so do the n-grams after a history that leaves nothing to back off to.
    Backoff weights are computed anew in the end.

    Args:
        model: any.
        threshold: above 0; 1e-9 to 1e-6, say.
        history_log_prob: (G,) natural log of p(h) of every node; None: as the model gives it, word by word,
            p(``</s>``) standing for that of ``<s>``. The lower orders of a Kneser-Ney model are not made to
            give it (Chelba, Brants, Neveitt and Xu, Interspeech 2010): where there are counts, p(h) from them
            (`TrainedModel.history_log_prob`) gives better models of the same size.

    Raises:
        ConfigError: if the threshold is not positive.
    """
    if not threshold > 0.0:
        raise ConfigError(f"the pruning threshold is {threshold}; expected more than 0")
    if history_log_prob is None:
        history_log_prob = model_history_log_prob(model)
    explicit, lower = model.explicit_mass()
    history = np.maximum(model.parent, 0)
    mass, mass_below = (1.0 - explicit)[history], (1.0 - lower)[history]
    log_prob, below = model.log_prob, model.lower_log_prob
    with np.errstate(divide="ignore", invalid="ignore"):
        new_backoff = np.log(mass + np.exp(log_prob)) - np.log(mass_below + np.exp(below))
        change = np.exp(log_prob) * (below + new_backoff - log_prob)
        change += mass * (new_backoff - model.backoff[history])
    growth = np.expm1(-np.exp(history_log_prob[history]) * change)
    kept = (mass < _NO_MASS) | (mass_below < _NO_MASS) | ~(growth < threshold)
    kept[: model.splits[2]] = True
    for order in range(model.order, 2, -1):
        nodes = model.order_nodes(order)
        kept[model.parent[nodes][kept[nodes]]] = True
    return recompute_backoffs(_subset(model, kept))


def model_history_log_prob(model: NgramModel) -> np.ndarray:
    """(G,) natural log of p(h) as the model itself has it; </s> stands for <s>, which nothing predicts."""
    result = model.log_prob.copy()
    bos, eos = model.words.get(BOS), model.words.get(EOS)
    if bos is not None and eos is not None:
        result[bos + 1] = result[eos + 1]
    for order in range(2, model.order + 1):
        nodes = model.order_nodes(order)
        result[nodes] += result[model.parent[nodes]]
    return result


def recompute_backoffs(model: NgramModel) -> NgramModel:
    """The model with the backoff weights that make the probabilities after every history sum to 1.

    A history whose n-grams leave no probability over, but words to back off to, gets `LOG_ZERO`.
    """
    explicit = np.bincount(model.parent[1:], np.exp(model.log_prob[1:]), model.num_nodes)
    backoff = np.zeros(model.num_nodes)
    result = replace(model, backoff=backoff)  # filled in order by order, which `conditional` sees
    for order in range(1, model.order):
        children = np.arange(*_bounds(model, order + 1))
        history = model.parent[children]
        below = np.exp(result.conditional(model.suffix[history], model.word[children]))
        nodes = np.arange(*_bounds(model, order))
        left = 1.0 - explicit[nodes]
        left_below = 1.0 - np.bincount(history - nodes[0], below, minlength=len(nodes))
        to_back_off = model.has_children[nodes] & (left_below > _NO_MASS)
        weight = np.divide(left, left_below, out=np.ones(len(nodes)), where=to_back_off)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(left > _NO_MASS, np.log(weight), LOG_ZERO)
        backoff[nodes] = np.where(to_back_off, np.maximum(values, LOG_ZERO), 0.0)
    return result


def _bounds(model: NgramModel, order: int) -> tuple[int, int]:
    nodes = model.order_nodes(order)
    return nodes.start, nodes.stop


def _subset(model: NgramModel, kept: np.ndarray) -> NgramModel:
    """The model of the nodes that are kept; with an n-gram its history is."""
    levels = [model.order_nodes(order) for order in range(1, model.order + 1)]
    number = np.cumsum(kept) - 1
    parents, words, log_probs, backoffs = [], [], [], []
    first = 0  # of the order below, among the nodes that are kept
    for nodes in levels:
        mask = kept[nodes]
        parents.append(number[model.parent[nodes][mask]] - first)
        words.append(model.word[nodes][mask])
        log_probs.append(model.log_prob[nodes][mask])
        backoffs.append(model.backoff[nodes][mask])
        first = int(number[nodes.start - 1]) + 1
    return model_of_levels(model.words, parents, words, log_probs, backoffs)
