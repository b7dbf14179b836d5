"""Minimum Bayes risk decoding: the words with the fewest expected errors, over all paths of a lattice.

The expected edit distance of every hypothesis is that to all paths (`moe_asr.fsa.expected_errors`), not to an
n-best list, and hypotheses are the n best sequences of the lattice and what an iteration makes of them. The
iteration is that of Xu, Povey, Mangu and Zhu (2011, *Minimum Bayes risk decoding and system combination based
on a recursion for edit distance*): each word, and each gap between words, becomes what most paths have there
when they are aligned with the hypothesis. With exact alignments every step lowers the risk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np

from moe_asr.fsa.expected_errors import MAX_COLUMNS, AlignedPaths, ExpectedErrors, Risk
from moe_asr.fsa.label_distribution import label_distribution
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.nbest import nbest_sequences

_TOLERANCE = 1e-9  # what is better by less is not better
_PROBABLE = (1e-2, 1e-3, 1e-4)  # of paths that are followed where bounds may do


@dataclass(frozen=True, eq=False)
class MbrResult:
    """The hypothesis with the least risk that was found: W words (or tokens, with that unit).

    Attributes:
        words: ids.
        risk: the expected number of errors: the mean edit distance to the paths.
        risk_error: how far the true one may be from it: 0 but for rounding, unless the bound on columns was
            reached (see `ExpectedErrors`).
        posterior: the probability of the paths with exactly these words.
        word_confidences: (W,) float64 in 0..1, see `moe_asr.fsa.confidence`.
        word_frames: (W,) int64, never falling; the mean frame of the labels that paths have in the place of
            each word. Where graphs put words is up to their determinisation: see `moe_asr.fsa.word_times`.
        rank: in the n-best, from 0; None if it is not in it and the iteration found it.
        best_path_risk: that of the first of the n-best.
        num_evaluated: hypotheses whose risk was computed; bounds or the iteration took care of the others.
        is_proven: no sequence of words whatever has a lower risk, as this one has a posterior of 1/2 or more.
    """

    words: tuple[int, ...]
    risk: float
    risk_error: float
    posterior: float
    word_confidences: np.ndarray
    word_frames: np.ndarray
    rank: int | None
    best_path_risk: float
    num_evaluated: int
    is_proven: bool


def minimum_bayes_risk(
    lattice: Lattice,
    n: int = 100,
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    iterate: bool = True,
    max_columns: int = MAX_COLUMNS,
) -> MbrResult | None:
    """The sequence with the fewest expected errors, of the n best and what the iteration finds.

    No sequence of the n best has a lower risk than the result. Of several with the same risk the one that
    comes first in the n-best is taken.

    Args:
        lattice: one without a path gives None.
        n: at least 1; with n as large as the number of sequences all of them are considered.
        unit: ``word``, or ``token`` for CTC tokens.
        acoustic_scale, graph_scale: weights of the scores in the exponents of the paths' probabilities and
            in the n-best. Log-probabilities of CTC models are too sure of themselves: scales below 1 are
            worth tuning.
        iterate: whether sequences that are not in the n-best are tried.
        max_columns: see `ExpectedErrors`.

    Raises:
        ConfigError: on another value of an option.
        GraphError: as `ExpectedErrors` does.
    """
    hypotheses = nbest_sequences(lattice, n, unit, acoustic_scale, graph_scale)
    if not hypotheses:
        return None
    distribution = label_distribution(lattice, unit, acoustic_scale, graph_scale)
    search = _Search(ExpectedErrors(distribution, max_columns), iterate)
    search.take(hypotheses[0])
    first_risk = search.risks[hypotheses[0]].errors
    for words in hypotheses[1:]:
        if search.is_proven:
            break
        search.consider(words)
    best = search.best
    return MbrResult(
        tuple(best.words.tolist()),
        best.risk.errors,
        0.5 * (best.risk.highest - best.risk.lowest),
        search.posterior,
        best.confidences,
        _word_frames(best.frame, int(lattice.frame[0])),
        next((rank for rank, words in enumerate(hypotheses) if words == search.words), None),
        first_risk,
        len(search.risks),
        search.is_proven,
    )


class _Search:
    """The best hypothesis so far, and the risks of all that were looked at."""

    best: AlignedPaths
    words: tuple[int, ...]
    posterior: float

    def __init__(self, errors: ExpectedErrors, iterate: bool) -> None:
        self.errors, self.iterate = errors, iterate
        self.risks: dict[tuple[int, ...], Risk] = {}

    @property
    def is_proven(self) -> bool:
        """The edit distance is a metric: what has half of the probability is its median."""
        return self.posterior >= 0.5

    def take(self, words: tuple[int, ...]) -> None:
        """Makes this the best, and goes on from it by the iteration."""
        found = self.errors.align(words)
        self.risks[words] = found.risk
        while True:
            self.best, self.words = found, words
            self.posterior = self.errors.posterior(words)
            words = improved_words(found) if self.iterate else words
            if self.is_proven or words in self.risks:
                return
            found = self.errors.align(words)
            self.risks[words] = found.risk
            if found.risk.errors >= self.best.risk.errors - _TOLERANCE:
                return

    def consider(self, words: tuple[int, ...]) -> None:
        """Takes it if its risk is lower; computes that only if it may be."""
        if words in self.risks or self._is_worse(words):
            return
        self.risks[words] = self.errors.risk(words)
        if self.risks[words].errors < self.best.risk.errors - _TOLERANCE:
            self.take(words)

    def _is_worse(self, words: tuple[int, ...]) -> bool:
        """Whether bounds tell that the risk is no lower."""
        most = self.best.risk.errors
        for other, risk in self.risks.items():
            # of two hypotheses, risks differ by at most their distance, and add up to no less
            far = _distance(words, other)
            if far - risk.highest >= most or risk.lowest - far >= most:
                return True
        return any(self.errors.risk(words, share).lowest >= most for share in _PROBABLE)


def _distance(one: Sequence[int], other: Sequence[int]) -> int:
    return int(kaldialign.edit_distance(list(one), list(other))["total"])


def improved_words(paths: AlignedPaths) -> tuple[int, ...]:
    """One step of the iteration: each word and gap as most of the paths have it, the same if none is better.

    With the alignments as they are, putting another word in a place, or none, changes the expected errors by
    the difference of the two probabilities, and so does a word that is put into a gap; and the alignments
    of the result with the fewest errors are at least as good.
    """
    words: list[int] = []
    columns = np.searchsorted(paths.labels, paths.words)
    for place in range(len(paths.words) + 1):
        gap = paths.in_gap[place]
        label = int(gap.argmax())
        if label > 0 and gap[label] > gap[0] + _TOLERANCE:
            words.append(int(paths.labels[label]))
        if place == len(paths.words):
            break
        here, word = paths.in_place[place], int(paths.words[place])
        column = int(columns[place])
        known = column < len(paths.labels) and paths.labels[column] == word
        label = int(here.argmax())
        if here[label] > (here[column] if known else 0.0) + _TOLERANCE:
            word = int(paths.labels[label])
        if word != 0:
            words.append(word)
    return tuple(words)


def _word_frames(frame: np.ndarray, first: int) -> np.ndarray:
    """Whole frames, in order; a word in whose place no path has a label is with the one before it."""
    known = np.where(np.isnan(frame), first, np.rint(frame)).astype(np.int64)
    return np.maximum.accumulate(known) if len(known) else known
