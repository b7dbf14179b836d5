"""The expected edit distance of a word sequence to a lattice, over all of its paths, exactly.

For one path it is Levenshtein's recursion: a column of distances, to the beginnings of the hypothesis, is
carried over the path's words. Over a lattice, paths are followed from state to state with their columns, and
paths into a state with columns that differ by a constant are one from there on: their probabilities are
added, and the means of their distances. So time and memory grow with the number of distinct columns, which
are few, as what the columns say about words long past can no longer matter: a row from which every way to the
end is worse than every way from another row is forgotten. Bounds for all ways to the end are found first, by
the recursion from the end in the semirings of least and of greatest distances.

The recursion of Xu, Povey, Mangu and Zhu (2011, *Minimum Bayes risk decoding and system combination based on
a recursion for edit distance*) keeps one column a state, of mean distances, and takes the least of means
where this takes the mean of the least; its result is an upper bound of this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.label_distribution import LabelDistribution

MAX_COLUMNS = 300  # of a state
LEAST_PROBABILITY = 1e-15  # of a column
_MAX_CELLS = 1 << 27


@dataclass(frozen=True)
class Risk:
    """An expected number of errors.

    Attributes:
        errors: the expected edit distance; in the middle of the two bounds.
        lowest, highest: what it is not below, and not above. They are equal but for rounding, unless paths
            were left out.
        covered: the probability of the paths that were followed to their end.
    """

    errors: float
    lowest: float
    highest: float
    covered: float


@dataclass(frozen=True, eq=False)
class AlignedPaths:
    """How W words align with all paths; see `ExpectedErrors.align`.

    Attributes:
        words: (W,) int64 ids.
        labels: (V,) int64, sorted, the ids that the columns of the following stand for; first 0, none.
        in_place: (W, V) float64; for each word the probability of each label in its place, that of none (the
            path lacks the word) first. Each row sums to 1.
        in_gap: (W + 1, V) float64; for each gap between words, and before and after, the probability that
            the path has words there that the hypothesis lacks, by the last of them; that it has none first.
        frame: (W,) float64, the mean frame of the labels in each word's place; NaN where there are none.
        risk: of the words.
    """

    words: np.ndarray
    labels: np.ndarray
    in_place: np.ndarray
    in_gap: np.ndarray
    frame: np.ndarray
    risk: Risk

    @property
    def confidences(self) -> np.ndarray:
        """(W,) float64 in 0..1: the probability that the path has this word in this place."""
        place = np.minimum(np.searchsorted(self.labels, self.words), len(self.labels) - 1)
        found = self.in_place[np.arange(len(self.words)), place]
        return np.where(self.labels[place] == self.words, np.clip(found, 0.0, 1.0), 0.0)


class ExpectedErrors:
    """Expected edit distances to the paths of a distribution.

    Args:
        distribution: with a path.
        max_columns: at most so many distinct columns are followed from a state, the most probable ones, and
            none of a probability below 1e-15. The others are bounded.

    Raises:
        ConfigError: if ``max_columns`` is less than 1.
        GraphError: if there is no path.
    """

    def __init__(self, distribution: LabelDistribution, max_columns: int = MAX_COLUMNS) -> None:
        if not max_columns >= 1:
            raise ConfigError(f"max_columns must be at least 1, found {max_columns}")
        if distribution.num_states == 0:
            raise GraphError("a lattice without a path has no expected errors")
        self._graph = distribution
        self.max_columns = max_columns
        self.labels = np.unique(np.append(distribution.label, 0))
        self._label = np.searchsorted(self.labels, distribution.label)

    def risk(self, words: Sequence[int], least_probability: float = LEAST_PROBABILITY) -> Risk:
        """The expected edit distance of words to the paths.

        Args:
            words: ids; any word of no path is as good as another.
            least_probability: paths are not followed but bounded where those with the same column have less;
                1e-3, say, takes a fraction of the time.

        Raises:
            GraphError: if states times words are more than 2**27.
        """
        return self._spread(words, least_probability)[2]

    def align(self, words: Sequence[int]) -> AlignedPaths:
        """How words align with all paths that are followed, each aligned with the fewest errors.

        Of several such alignments of a path one is taken: from the end to the beginning, equal words before
        different ones, then a word that the path lacks, then one that it has more.

        Raises:
            GraphError: if states, or columns, times words are more than 2**27.
        """
        from moe_asr.fsa.expected_errors_kernels import align_paths

        graph = self._graph
        ids, bounds, risk, columns = self._spread(words, LEAST_PROBABILITY)
        cells = len(columns[0]) * (len(ids) + 1) * 2
        if cells > _MAX_CELLS:
            raise GraphError(
                f"aligning {len(ids)} words needs {cells} cells, more than {_MAX_CELLS}: prune the "
                "lattice, or allow fewer columns"
            )
        in_place, in_gap, frames = align_paths(
            graph.arc_splits, graph.dst, self._label, graph.probability, graph.frame, ids, bounds,
            *columns,
        )  # fmt: skip
        weight = in_place[:, 1:].sum(1)
        frame = np.full(len(ids), np.nan)
        np.divide(frames, weight, out=frame, where=weight > 0.0)
        in_place /= risk.covered
        in_gap /= risk.covered
        in_gap[:, 0] = np.maximum(1.0 - in_gap.sum(1), 0.0)
        return AlignedPaths(_ids(words), self.labels, in_place, in_gap, frame, risk)

    def posterior(self, words: Sequence[int]) -> float:
        """The probability of the paths with exactly these words."""
        from moe_asr.fsa.expected_errors_kernels import sequence_probability

        graph = self._graph
        share = sequence_probability(
            graph.arc_splits, graph.dst, self._label, graph.probability, self._known(words)
        )
        return min(share, 1.0)

    def _known(self, words: Sequence[int]) -> np.ndarray:
        """(W,) int64: positions in ``labels``; -1 for words of no arc."""
        ids = _ids(words)
        cells = self._graph.num_states * (len(ids) + 1) * 2
        if cells > _MAX_CELLS:
            raise GraphError(
                f"{self._graph.num_states} states against {len(ids)} words need {cells} cells, more "
                f"than {_MAX_CELLS}: prune the lattice, or cut the utterance"
            )
        place = np.minimum(np.searchsorted(self.labels, ids), len(self.labels) - 1)
        return np.where((self.labels[place] == ids) & (ids > 0), place, -1)

    def _spread(self, words: Sequence[int], least_probability: float) -> tuple:
        """The words as the kernels take them, bounds, the risk, and the last arguments of `align_paths`."""
        from moe_asr.fsa.expected_errors_kernels import rest_bounds, spread_columns

        graph, ids = self._graph, self._known(words)
        bounds = rest_bounds(graph.arc_splits, graph.dst, self._label, ids)
        followed, covered, lowest, highest, *columns = spread_columns(
            graph.arc_splits, graph.dst, self._label, graph.probability, ids, bounds,
            self.max_columns, least_probability,
        )  # fmt: skip
        columns.append(len(self.labels))
        errors = followed + 0.5 * (lowest + highest)
        risk = Risk(errors, followed + lowest, followed + highest, min(covered, 1.0))
        return ids, bounds, risk, columns


def _ids(words: Sequence[int]) -> np.ndarray:
    return np.array(words, np.int64).reshape(-1)
