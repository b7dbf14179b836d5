"""What a G says about its language: how many sentences, how long, how predictable."""

import math
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst


@dataclass(frozen=True)
class LanguageStatistics:
    """Figures of a deterministic G whose states are normalised.

    Attributes:
        num_words: different ones on the arcs.
        num_sentences: exact; infinite if there is a loop.
        shortest, longest: words in a sentence; the longest is infinite if there is a loop.
        mean_length: words in a sentence drawn at random.
        entropy: of a sentence, in bits.
        perplexity: 2 to the power of the entropy over words and ends of sentences (as for n-gram models).
        total_probability: of all sentences, 1 up to rounding.
    """

    num_words: int
    num_sentences: int | float
    shortest: int
    longest: int | float
    mean_length: float
    entropy: float
    perplexity: float
    total_probability: float

    def __str__(self) -> str:
        longest = "any number of" if isinstance(self.longest, float) else self.longest
        return (
            f"{self.num_words} words, {_shown(self.num_sentences)} sentences of "
            f"{self.shortest} to {longest} words (mean {self.mean_length:.2f}), "
            f"{self.entropy:.1f} bits a sentence, perplexity {self.perplexity:.1f}"
        )


def _shown(count: int | float) -> str:
    if isinstance(count, float):
        return "infinitely many"
    return f"{count:,}" if count < 10**9 else f"about 10^{math.log10(count):.4g}"


def language_statistics(fst: Fst) -> LanguageStatistics:
    """The figures of a G that `compile_grammar` made.

    Raises:
        GraphError: if it is no deterministic acceptor without epsilons, or a state's probabilities do
            not sum to one.
    """
    _check(fst)
    visits = _expected_visits(fst)
    probability, final = (np.exp(x.astype(np.float64)) for x in (fst.score, fst.final_score))
    taken = visits[fst.src] * probability
    ended = visits * final
    bits = (
        0.0 - (taken * fst.score).sum() - (ended * np.where(final > 0, fst.final_score, 0.0)).sum()
    )
    mean, entropy = float(taken.sum()), float(bits / math.log(2.0))
    sentences, longest = _count(fst)
    return LanguageStatistics(
        num_words=len(np.unique(fst.ilabel)),
        num_sentences=sentences,
        shortest=_shortest(fst),
        longest=longest,
        mean_length=mean,
        entropy=entropy,
        perplexity=2.0 ** (entropy / (mean + 1.0)),
        total_probability=float(ended.sum()),
    )


def _check(fst: Fst) -> None:
    if (fst.ilabel != fst.olabel).any() or (fst.ilabel == 0).any():
        raise GraphError("expected an acceptor without epsilons")
    ordered = fst.arc_sort()
    same = (np.diff(ordered.src) == 0) & (np.diff(ordered.ilabel) == 0)
    if same.any():
        state = int(ordered.src[np.flatnonzero(same)[0]])
        raise GraphError(f"state {state}: two arcs with the same word; expected a deterministic G")
    sums = np.exp(fst.final_score.astype(np.float64))
    np.add.at(sums, fst.src, np.exp(fst.score.astype(np.float64)))
    wrong = np.flatnonzero(np.abs(sums - 1.0) > 1e-4)
    if len(wrong):
        raise GraphError(
            f"state {wrong[0]}: the probabilities sum to {sums[wrong[0]]:.6g}, not to 1"
        )


def _expected_visits(fst: Fst) -> np.ndarray:
    """(S,) float64: how often a random sentence passes each state; solves v = start + P' v."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import spsolve

    size = fst.num_states
    values = np.exp(fst.score.astype(np.float64))
    transposed = csc_matrix((values, (fst.dst, fst.src)), shape=(size, size))
    start = np.zeros(size)
    start[0] = 1.0
    return np.atleast_1d(spsolve((identity(size, format="csc") - transposed).tocsc(), start))


def _count(fst: Fst) -> tuple[int | float, int | float]:
    """The number of sentences and the longest one's words; infinite if there is a cycle."""
    splits, dst = fst.arc_splits.tolist(), fst.dst.tolist()
    waiting = np.bincount(fst.dst, minlength=fst.num_states).tolist()
    is_final = np.isfinite(fst.final_score).tolist()
    paths, length = [0] * fst.num_states, [0] * fst.num_states
    paths[0], sentences, longest = 1, 0, 0
    order = [state for state, count in enumerate(waiting) if count == 0]
    for state in order:  # it grows; topological
        if is_final[state]:
            sentences, longest = sentences + paths[state], max(longest, length[state])
        for successor in dst[splits[state] : splits[state + 1]]:
            paths[successor] += paths[state]
            length[successor] = max(length[successor], length[state] + 1)
            waiting[successor] -= 1
            if waiting[successor] == 0:
                order.append(successor)
        paths[state] = 0  # these numbers may have as many digits as there are states
    if len(order) < fst.num_states:
        return math.inf, math.inf
    return sentences, longest


def _shortest(fst: Fst) -> int:
    """Words of the shortest sentence, by breadth-first search."""
    splits, dst = fst.arc_splits.tolist(), fst.dst.tolist()
    seen, level, depth = {0}, [0], 0
    while not np.isfinite(fst.final_score[level]).any():
        following = {s for state in level for s in dst[splits[state] : splits[state + 1]]} - seen
        if not following:
            raise GraphError("no sentence: no final state can be reached")
        seen |= following
        level, depth = sorted(following), depth + 1
    return depth
