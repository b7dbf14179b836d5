"""Which words are taken for which, left out, or made up, and how often."""

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from moe_asr.evaluate.wer import WerReport

Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class Confusions:
    """Errors by what they are of, the most frequent first, equally frequent ones in the order of the words.

    ``substitutions`` are by (reference, hypothesis).
    """

    substitutions: dict[tuple[str, str], int]
    deletions: dict[str, int]
    insertions: dict[str, int]


def count_confusions(report: WerReport) -> Confusions:
    """The confusions of all alignments."""
    substitutions: Counter[tuple[str, str]] = Counter()
    deletions: Counter[str] = Counter()
    insertions: Counter[str] = Counter()
    for score in report.utterances.values():
        if score.counts.errors == 0:
            continue
        for reference, hypothesis in score.alignment:
            if reference == hypothesis:
                continue
            if reference is None:
                assert hypothesis is not None
                insertions[hypothesis] += 1
            elif hypothesis is None:
                deletions[reference] += 1
            else:
                substitutions[reference, hypothesis] += 1
    return Confusions(_sorted(substitutions), _sorted(deletions), _sorted(insertions))


def _sorted(counter: "Counter[Key]") -> dict[Key, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
