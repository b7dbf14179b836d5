"""How sure a lattice is of each word of a hypothesis."""

from collections.abc import Sequence

import numpy as np

from moe_asr.fsa.expected_errors import MAX_COLUMNS, ExpectedErrors
from moe_asr.fsa.label_distribution import label_distribution
from moe_asr.fsa.lattice import Lattice


def word_confidences(
    lattice: Lattice,
    words: Sequence[int],
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    max_columns: int = MAX_COLUMNS,
) -> np.ndarray:
    """The probability of each word of a hypothesis: that a path of the lattice has it in its place.

    Every path is aligned with the words with the fewest errors (`ExpectedErrors.align` says which alignment
    of several), and has a word in its place if it is aligned with the same one. These are the statistics of
    Xu et al. (2011), with the alignments of the paths themselves. So they fit what words are scored by: the
    sum of ``1 - confidence`` is the expected number of substitutions and deletions, when the truth is drawn
    from the lattice. Posteriors of words at times have no such meaning: what counts as the same time is a
    matter of taste.

    Args:
        lattice: without a path, every confidence is 0.
        words: W ids, of any hypothesis: the best path, or another system's. A word that the lattice has not
            has confidence 0.
        unit: ``word``, or ``token`` for CTC tokens.
        acoustic_scale, graph_scale: of the scores in the exponents of the paths' probabilities.
        max_columns: see `ExpectedErrors`.

    Returns:
        (W,) float64 in 0..1.

    Raises:
        ConfigError: on another value of an option.
        GraphError: as `ExpectedErrors.align`.
    """
    scales = acoustic_scale, graph_scale
    return confidences_and_coverage(lattice, words, unit, *scales, max_columns)[0]


def confidences_and_coverage(
    lattice: Lattice,
    words: Sequence[int],
    unit: str = "word",
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    max_columns: int = MAX_COLUMNS,
) -> tuple[np.ndarray, float]:
    """`word_confidences`, and the probability of the paths that they come from.

    It is 1 but for rounding, unless the bound on columns was reached: then confidences are given that the
    path is one of those that were followed. Without a path it is 1.
    """
    distribution = label_distribution(lattice, unit, acoustic_scale, graph_scale)
    if distribution.num_states == 0:
        return np.zeros(len(words)), 1.0
    paths = ExpectedErrors(distribution, max_columns).align(words)
    return paths.confidences, paths.risk.covered
