"""What lattices are worth: what could be chosen from them, how large they are, how sure of their words."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import kaldialign
import numpy as np

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.calibration import Calibration, calibrate
from moe_asr.fsa.confidence import confidences_and_coverage
from moe_asr.fsa.label_arcs import UNITS
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_info import lattice_info
from moe_asr.fsa.nbest import nbest_sequences
from moe_asr.fsa.oracle import lattice_oracle, nbest_oracle
from moe_asr.text.symbol_table import SymbolTable


def counts_to(most: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50 and so on, below ``most``, and this."""
    if most < 1:
        raise ConfigError(f"n must be at least 1, found {most}")
    steps = (digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5))
    return (*(n for n in steps if n < most), most)


@dataclass(frozen=True)
class QualityOptions:
    """How lattices are measured.

    Attributes:
        unit: ``word``, or ``token`` for CTC tokens.
        counts: the n of the n-best oracles, rising from 1.
        acoustic_scale, graph_scale: of the scores that sequences are ranked by.
        confidence_scale: of these scores, in the exponents of the paths' probabilities.
    """

    unit: str = "word"
    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    acoustic_scale: float = 1.0
    graph_scale: float = 1.0
    confidence_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"unit must be one of {', '.join(UNITS)}, found {self.unit!r}")
        rising = all(a < b for a, b in zip(self.counts[:-1], self.counts[1:], strict=True))
        if not self.counts or self.counts[0] != 1 or not rising:
            raise ConfigError(f"counts must rise from 1, found {self.counts}")
        for name in ("acoustic_scale", "graph_scale", "confidence_scale"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite, 0 or more, found {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class LatticeQuality:
    """What one lattice is worth, for one utterance.

    Attributes:
        reference: its ids.
        words: W ids, of the hypothesis whose words have confidences.
        correct, confidences: (W,) bool, by alignment with the reference, and float64.
        covered: the probability of the paths that the confidences come from: 1, if not too many differ.
        best: substitutions, deletions and insertions of the best sequence.
        oracle: those of the path with the fewest errors.
        nbest_errors: the fewest errors of the n best sequences, for each of the counts.
        sequences: how many distinct ones were found, at most the largest count.
        rank: of the reference among them, from 1; None if it is not one of them.
        is_in_lattice: whether some path is the reference.
        info: figures of the lattice, of `lattice_info`.
    """

    reference: tuple[int, ...]
    words: tuple[int, ...]
    correct: np.ndarray
    confidences: np.ndarray
    covered: float
    best: tuple[int, int, int]
    oracle: tuple[int, int, int]
    nbest_errors: tuple[int, ...]
    sequences: int
    rank: int | None
    is_in_lattice: bool
    info: Mapping[str, Any]


def measure_lattice(
    lattice: Lattice,
    reference: Sequence[int],
    options: QualityOptions | None = None,
    hypothesis: Sequence[int] | None = None,
) -> LatticeQuality:
    """Measures one lattice.

    Args:
        lattice: one without a path stands for the empty sequence.
        reference: ids of words (tokens with that unit), see `WordIds`.
        hypothesis: ids likewise, above 0, that confidences are of; default: the best sequence.

    Raises:
        AssertionError: if an oracle is worse than what it chose from: an error of this code.
        GraphError: as `lattice_oracle` and `confidences_and_coverage` do.
    """
    options = options or QualityOptions()
    unit, scales = options.unit, (options.acoustic_scale, options.graph_scale)
    reference = tuple(reference)
    sequences = nbest_sequences(lattice, options.counts[-1], unit, *scales)
    distances = [_distance(reference, words) for words in sequences] or [len(reference)]
    fewest = np.minimum.accumulate(distances)
    counted = tuple(int(fewest[min(n, len(fewest)) - 1]) for n in options.counts)
    oracle = lattice_oracle(lattice, reference, unit)
    best = sequences[0] if sequences else ()
    of_best = nbest_oracle([best], reference)[1]
    assert oracle.errors <= counted[-1] <= counted[0] == of_best.errors, (oracle, counted, of_best)
    words = best if hypothesis is None else tuple(hypothesis)
    pairs = nbest_oracle([words], reference)[1].alignment
    correct = np.array([left == right for left, right in pairs if right is not None], np.bool_)
    assert len(correct) == len(words), (pairs, words)
    confidences, covered = confidences_of(lattice, words, options)
    return LatticeQuality(
        reference,
        words,
        correct,
        confidences,
        covered,
        (of_best.substitutions, of_best.deletions, of_best.insertions),
        (oracle.substitutions, oracle.deletions, oracle.insertions),
        counted,
        len(sequences),
        sequences.index(reference) + 1 if reference in sequences else None,
        bool(oracle.errors == 0 and not lattice.is_empty),
        lattice_info(lattice, *scales),
    )


def confidences_of(
    lattice: Lattice, words: Sequence[int], options: QualityOptions
) -> tuple[np.ndarray, float]:
    """`confidences_and_coverage` of words with the scales of ``options``."""
    scale = options.confidence_scale
    scales = scale * options.acoustic_scale, scale * options.graph_scale
    return confidences_and_coverage(lattice, words, options.unit, *scales)


def _distance(reference: Sequence[int], words: Sequence[int]) -> int:
    return int(kaldialign.edit_distance(list(reference), list(words))["total"])


class WordIds:
    """The ids of words, those that a table lacks included: these get ids above its own.

    A word is looked for as it is, then in Unicode's normal form C, as `moe_asr.evaluate.normalize` has it.

    ``<eps>``, whose id is 0, is no word of a table.
    """

    def __init__(self, table: SymbolTable) -> None:
        self._table = table
        self._others: dict[str, int] = {}
        self._names: list[str] = []

    def __call__(self, text: str) -> tuple[int, ...]:
        """The ids of the words of a text."""
        return tuple(self._id(word) for word in text.split())

    def _id(self, word: str) -> int:
        known = self._table.get(word)
        if known is None and not word.isascii():
            word = unicodedata.normalize("NFC", word)
            known = self._table.get(word)
        if known is not None and known > 0:
            return known
        if word not in self._others:
            self._others[word] = len(self._table) + len(self._names)
            self._names.append(word)
        return self._others[word]

    def is_known(self, word: int) -> bool:
        """Whether an id is one of the table's."""
        return 0 < word < len(self._table)

    def symbol(self, word: int) -> str:
        """The word of an id."""
        if self.is_known(word):
            return self._table.symbol(word)
        return self._names[word - len(self._table)]


def check_same_utterances(names: Iterable[str], texts: Mapping[str, str], source: str) -> None:
    """`DataError` naming some utterances, if lattices and texts are not of the same ones, or of none."""
    lattices = dict.fromkeys(names)
    if not lattices and not texts:
        raise DataError(f"{source}: no utterances to score")
    for what, there, other in (("text", lattices, texts), ("lattice", texts, lattices)):
        missing = [name for name in there if name not in other]
        if missing:
            more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
            raise DataError(
                f"{source}: {len(missing)} utterance(s) have no {what}: {', '.join(missing[:3])}{more}"
            )


@dataclass
class QualitySummary:
    """The figures of many lattices, added up.

    Attributes:
        ids: the words that the ids stand for.
        utterances: by id.
    """

    options: QualityOptions
    ids: WordIds
    utterances: dict[str, LatticeQuality] = field(default_factory=dict)

    def calibration(
        self, confidences: Sequence[np.ndarray] | None = None, num_bins: int = 10
    ) -> Calibration:
        """Of all words; with other ``confidences``, an array for each utterance in their order."""
        found = list(self.utterances.values())
        rows = [u.confidences for u in found] if confidences is None else list(confidences)
        correct = [u.correct for u in found]
        return calibrate(
            np.concatenate([np.zeros(0), *rows]),
            np.concatenate([np.zeros(0, np.bool_), *correct]),
            num_bins,
        )

    def figures(self) -> dict[str, Any]:
        """Totals, as plain JSON values; rates are percent of the reference's words.

        Raises:
            AssertionError: if oracles are not in order: an error of this code.
        """
        found = list(self.utterances.values())
        length = sum(len(u.reference) for u in found)

        def counted(rows: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
            substitutions, deletions, insertions = (
                sum(column) for column in zip(*rows, strict=True)
            )
            errors = substitutions + deletions + insertions
            return {
                "wer": _rate(errors, length),
                "errors": errors,
                "substitutions": substitutions,
                "deletions": deletions,
                "insertions": insertions,
            }

        best, oracle = counted([u.best for u in found]), counted([u.oracle for u in found])
        errors = [sum(u.nbest_errors[i] for u in found) for i in range(len(self.options.counts))]
        in_order = [best["errors"], *errors, oracle["errors"]]
        assert in_order == sorted(in_order, reverse=True) and errors[0] == best["errors"], in_order
        infos = [u.info for u in found]
        frames = sum(info["frames"] for info in infos)
        ranks = sorted(u.rank for u in found if u.rank is not None)
        most = self.options.counts[-1]
        return {
            "utterances": len(found),
            "reference_length": length,
            "empty_references": sum(not u.reference for u in found),
            "unknown_words": sum(
                not self.ids.is_known(word) for u in found for word in u.reference
            ),
            "one_best": best,
            "nbest_oracle": {
                str(n): {"wer": _rate(e, length), "errors": e}
                for n, e in zip(self.options.counts, errors, strict=True)
            },
            "lattice_oracle": oracle,
            "reference": {
                "in_lattice": sum(u.is_in_lattice for u in found),
                f"in_{most}_best": len(ranks),
                "first": sum(rank == 1 for rank in ranks),
                "median_rank": ranks[(len(ranks) - 1) // 2] if ranks else None,
                "ranks": ranks,
            },
            "least_covered": min((u.covered for u in found), default=1.0),
            "size": {
                "frames": frames,
                "empty": sum(info["best"] is None for info in infos),
                "partial": sum(info["is_partial"] for info in infos),
                "states": sum(info["states"] for info in infos),
                "arcs": sum(info["arcs"] for info in infos),
                "word_arcs": sum(info["word_arcs"] for info in infos),
                "arcs_per_frame": _share(sum(info["arcs"] for info in infos), frames),
                "word_arcs_per_frame": _share(sum(info["word_arcs"] for info in infos), frames),
                "mean_depth": _weighted_mean(infos, "depth"),
                "max_depth": max((i["max_depth"] for i in infos if i["max_depth"]), default=None),
                "mean_log10_paths": _mean(
                    [i["log10_paths"] for i in infos if i["log10_paths"] is not None]
                ),
            },
        }


def _rate(errors: int, length: int) -> float | None:
    return 100.0 * errors / length if length else None


def _share(count: int, frames: int) -> float | None:
    return count / frames if frames else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _weighted_mean(infos: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """By the frames of each lattice."""
    rows = [(info[key], info["frames"]) for info in infos if info[key] is not None]
    frames = sum(count for _, count in rows)
    return sum(value * count for value, count in rows) / frames if frames else None
