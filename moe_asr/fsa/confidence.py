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
    """The probability of each word: that a path of the lattice has it in its place.

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
    distribution = label_distribution(lattice, unit, acoustic_scale, graph_scale)
    if distribution.num_states == 0:
        return np.zeros(len(words))
    return ExpectedErrors(distribution, max_columns).align(words).confidences
