"""Word and character error rates by edit distance, with the alignment of every utterance."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign

from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_text, write_text
from moe_asr.text.cjk import text_words

Words = Sequence[str]
AlignedPair = tuple[str | None, str | None]  # reference and hypothesis; None is a gap
# What errors are counted in, and how the rate is called. Mixed are Chinese characters and other words.
UNITS = {"word": "WER", "char": "CER", "mixed": "MER", "phone": "PER"}
PLURALS = {"word": "words", "char": "chars", "mixed": "units", "phone": "phones"}
_CHARACTER = re.compile(r"<unk>|\S")  # what the tokens cannot spell is one character, not five


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

    def write(self, path: PathLike) -> None:
        """Writes totals, then the alignment of each utterance, as text."""
        total = self.total
        wrong = sum(score.counts.errors > 0 for score in self.utterances.values())
        lines = [
            f"{UNITS[self.unit]} {total.wer:.2f} %: {total.errors} errors in "
            f"{total.reference_length} {PLURALS[self.unit]} "
            f"({total.substitutions} substitutions, {total.deletions} deletions, "
            f"{total.insertions} insertions); {wrong} of {len(self.utterances)} utterances "
            "have errors"
        ]
        for name, score in self.utterances.items():
            lines += ["", *format_alignment(name, score, self.unit)]
        write_text(path, "\n".join(lines) + "\n")


def align(reference: Words, hypothesis: Words) -> tuple[AlignedPair, ...]:
    """Aligns words with the fewest substitutions, deletions and insertions (all of cost 1)."""
    ids: dict[str, int] = {}
    for word in (*reference, *hypothesis):
        ids.setdefault(word, len(ids))
    symbols: list[str | None] = [*ids, None]  # gaps are -1: no word can be mistaken for one
    pairs = kaldialign.align(
        [ids[word] for word in reference], [ids[word] for word in hypothesis], -1
    )
    return tuple((symbols[left], symbols[right]) for left, right in pairs)


def count_errors(alignment: Iterable[AlignedPair]) -> ErrorCounts:
    """The errors of an alignment."""
    substitutions = deletions = insertions = reference_length = 0
    for reference, hypothesis in alignment:
        reference_length += reference is not None
        insertions += reference is None
        deletions += hypothesis is None
        substitutions += None not in (reference, hypothesis) and reference != hypothesis
    return ErrorCounts(substitutions, deletions, insertions, reference_length)


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
    total = ErrorCounts()
    utterances: dict[str, UtteranceScore] = {}
    for name, reference in references.items():
        alignment = align(split_text(reference, unit), split_text(hypotheses[name], unit))
        utterances[name] = UtteranceScore(count_errors(alignment), alignment)
        total = total + utterances[name].counts
    return WerReport(total, utterances, unit)


def split_text(text: str | Words, unit: str = "word") -> Words:
    """A text as its units.

    They are separated by spaces (word, phone); or single characters, where spaces do not count and
    ``<unk>`` is one (char); or what `text_words` makes of it (mixed). What is split already stays as it is.
    """
    assert unit in UNITS, unit
    if not isinstance(text, str):
        return text
    if unit == "mixed":
        return text_words(text)
    return _CHARACTER.findall(text) if unit == "char" else text.split()


def format_alignment(name: str, score: UtteranceScore, unit: str = "word") -> list[str]:
    """Lines of a readable alignment: reference, hypothesis, and S, D or I under an error."""
    columns: list[tuple[str, str, str]] = []
    for reference, hypothesis in score.alignment:
        mark = ""
        if reference != hypothesis:
            mark = "I" if reference is None else "D" if hypothesis is None else "S"
        columns.append((reference or "***", hypothesis or "***", mark))
    counts = score.counts
    lines = [
        f"{name}: {counts.substitutions} sub, {counts.deletions} del, {counts.insertions} ins, "
        f"{counts.reference_length} {PLURALS[unit]}"
    ]
    for title, row in (("ref", 0), ("hyp", 1), ("err", 2)):
        cells = [
            column[row] + " " * (max(map(_columns, column)) - _columns(column[row]))
            for column in columns
        ]
        lines.append(f"  {title} {' '.join(cells)}".rstrip())
    return lines


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
        DataError: with file and line on an empty line or a second line of an id; naming the file if
            it cannot be read or is not UTF-8.
    """
    try:
        lines = read_text(path).split("\n")
    except ConfigError as error:
        raise DataError(str(error)) from error
    if lines[-1] == "":
        lines.pop()
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split(maxsplit=1)
        if not fields:
            raise DataError(f"{path}:{number}: expected 'id text', found an empty line")
        if fields[0] in texts:
            raise DataError(f"{path}:{number}: utterance '{fields[0]}' comes twice")
        texts[fields[0]] = " ".join(fields[1].split()) if len(fields) > 1 else ""
    return texts


def write_transcripts(path: PathLike, texts: Mapping[str, str]) -> None:
    """Writes ``id text`` lines, atomically; `DataError` on an id with whitespace or none."""
    lines = []
    for name, text in texts.items():
        if len(name.split()) != 1 or name != name.strip():
            raise DataError(f"{path}: utterance id {name!r} cannot be written: it has whitespace")
        lines.append(f"{name} {' '.join(text.split())}".rstrip() + "\n")
    write_text(path, "".join(lines))


def _columns(text: str) -> int:
    """How wide a terminal shows ``text``: Chinese characters take two columns."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)
