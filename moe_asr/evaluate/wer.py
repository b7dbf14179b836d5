"""Word and character error rates by edit distance, with the alignment of every utterance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import kaldialign
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from moe_asr.errors import DataError, TextError
from moe_asr.evaluate.units import PLURALS as PLURALS  # for those who score
from moe_asr.evaluate.units import UNITS as UNITS
from moe_asr.evaluate.units import Words, split_text
from moe_asr.files import PathLike, write_text
from moe_asr.text.lines import read_lines

AlignedPair = tuple[str | None, str | None]  # reference and hypothesis; None is a gap


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of a hypothesis (or of many) against the reference."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors in percent of the reference words (or characters, where those were counted).

        Without reference words it is 0 if nothing was inserted, else infinite; in a total, such
        utterances count with their insertions.
        """
        if self.reference_length == 0:
            return 0.0 if self.errors == 0 else float("inf")
        return 100.0 * self.errors / self.reference_length

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )


@dataclass(frozen=True)
class UtteranceScore:
    """The errors of one utterance and the alignment they come from."""

    counts: ErrorCounts
    alignment: tuple[AlignedPair, ...]


@dataclass(frozen=True)
class WerReport:
    """The scores of a test set: total, and by utterance id in the order of the references."""

    total: ErrorCounts
    utterances: dict[str, UtteranceScore]
    unit: str = "word"

    def errors_and_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Two (U,) arrays, in the order of `utterances`: errors, reference units. For `wer_interval`."""
        counts = [score.counts for score in self.utterances.values()]
        return (
            np.array([one.errors for one in counts], np.int64),
            np.array([one.reference_length for one in counts], np.int64),
        )

    def write(self, path: PathLike) -> None:
        """Writes totals, then the alignment of each utterance, as text."""
        from moe_asr.evaluate.alignment_text import format_report

        write_text(path, format_report(self))


def align(reference: Words, hypothesis: Words) -> tuple[AlignedPair, ...]:
    """Aligns words with the fewest substitutions, deletions and insertions (all of cost 1)."""
    if reference == hypothesis:
        return tuple(zip(reference, hypothesis, strict=True))
    gap = "\0"  # kaldialign wants a symbol for gaps that is no word
    while gap in reference or gap in hypothesis:
        gap += "\0"
    return tuple(
        [
            (None if left == gap else left, None if right == gap else right)
            for left, right in kaldialign.align(reference, hypothesis, gap)
        ]
    )


def matched_places(reference: Words, hypothesis: Words) -> list[tuple[int, int]]:
    """The words that `align` finds right, as their places in both, in order."""
    places = []
    left = right = 0
    for one, other in align(reference, hypothesis):
        if one is not None and one == other:
            places.append((left, right))
        left += one is not None
        right += other is not None
    return places


def count_errors(alignment: Iterable[AlignedPair]) -> ErrorCounts:
    """The errors of an alignment."""
    length = substitutions = deletions = insertions = 0
    for reference, hypothesis in alignment:
        length += 1
        if reference == hypothesis:
            continue
        if reference is None:
            insertions += 1
        elif hypothesis is None:
            deletions += 1
        else:
            substitutions += 1
    return ErrorCounts(substitutions, deletions, insertions, length - insertions)


def score(
    references: Mapping[str, str | Words],
    hypotheses: Mapping[str, str | Words],
    unit: str = "word",
) -> WerReport:
    """Scores hypotheses against references of the same utterances.

    Args:
        references, hypotheses: by utterance id, a text or its words (or characters).
        unit: what errors are counted in, a key of `UNITS`; texts are split by `split_text`.

    Raises:
        DataError: if there are no utterances, or the two sets of ids differ (naming some).
    """
    if not references and not hypotheses:
        raise DataError("no utterances to score")
    for side, there, other in (
        ("hypothesis", references, hypotheses),
        ("reference", hypotheses, references),
    ):
        missing = [name for name in there if name not in other]
        if missing:
            more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
            raise DataError(
                f"{len(missing)} utterance(s) have no {side}: {', '.join(missing[:3])}{more}"
            )
    utterances: dict[str, UtteranceScore] = {}
    items = tqdm(references.items(), "scoring", unit="utt", disable=None, leave=False, delay=2)
    for name, reference in items:
        alignment = align(split_text(reference, unit), split_text(hypotheses[name], unit))
        utterances[name] = UtteranceScore(count_errors(alignment), alignment)
    return WerReport(sum_counts(score.counts for score in utterances.values()), utterances, unit)


def sum_counts(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The errors of many utterances together."""
    substitutions = deletions = insertions = length = 0
    for one in counts:
        substitutions += one.substitutions
        deletions += one.deletions
        insertions += one.insertions
        length += one.reference_length
    return ErrorCounts(substitutions, deletions, insertions, length)


def collect(pairs: Iterable[tuple[str, str]], source: str = "transcripts") -> dict[str, str]:
    """Transcripts by utterance id; `DataError` naming an id that comes twice."""
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name in texts:
            raise DataError(f"{source}: utterance '{name}' comes twice")
        texts[name] = text
    return texts


def read_transcripts(path: PathLike) -> dict[str, str]:
    """Reads ``id text`` lines; the text may be empty.

    Raises:
        DataError: with file and line on an empty line, a second line of an id, or what is not UTF-8; naming
            the file if it cannot be read.
    """
    texts: dict[str, str] = {}
    try:
        for number, line in enumerate(read_lines(path), start=1):
            fields = line.removeprefix("\ufeff").split(maxsplit=1)
            if not fields:
                raise DataError(f"{path}:{number}: expected 'id text', found an empty line")
            if fields[0] in texts:
                raise DataError(f"{path}:{number}: utterance '{fields[0]}' comes twice")
            texts[fields[0]] = " ".join(fields[1].split()) if len(fields) > 1 else ""
    except TextError as error:
        raise DataError(str(error)) from error
    return texts


def write_transcripts(path: PathLike, texts: Mapping[str, str]) -> None:
    """Writes ``id text`` lines, atomically; `DataError` on an id with whitespace or none."""
    lines = []
    for name, text in texts.items():
        if len(name.split()) != 1 or name != name.strip():
            raise DataError(f"{path}: utterance id {name!r} cannot be written: it has whitespace")
        lines.append(f"{name} {' '.join(text.split())}".rstrip() + "\n")
    write_text(path, "".join(lines))
