"""Phrases to listen for, and the file they are read from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.text.lines import read_lines
from moe_asr.text.normalize import normalize_text

DEFAULT_BOOST = 3.0
MAX_BOOST = 10_000.0  # beyond it float32 loses the scores that boosts are added to


@dataclass(frozen=True)
class Phrase:
    """One or more words in a row.

    Attributes:
        text: as transcripts have it.
        boost: what one occurrence adds to a path's score, in nats; below 0 makes the phrase less likely.
        source: where it comes from (``file:line``), for messages.

    Raises:
        TextError: if there is no word in it, or the boost is not within -10000 to 10000.
    """

    text: str
    boost: float = DEFAULT_BOOST
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not normalize_text(self.text):
            raise TextError(f"{self.where}: a phrase without a word")
        if not abs(self.boost) <= MAX_BOOST:
            raise TextError(
                f"{self.where}: the boost is {self.boost}; expected -{MAX_BOOST:g} to {MAX_BOOST:g}"
            )

    @property
    def where(self) -> str:
        """What a message calls it."""
        return f"{self.source}: phrase {self.text!r}" if self.source else f"phrase {self.text!r}"


def read_phrases(path: PathLike, default_boost: float = DEFAULT_BOOST) -> list[Phrase]:
    """Reads one phrase a line, ``phrase`` or ``phrase<TAB>boost``; empty lines are skipped.

    Raises:
        TextError: with file and line: a line of another form, no words, a boost that is no number in range, a
            phrase again with another boost, or text that is not UTF-8; naming the file if it is unreadable.
    """
    phrases = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        fields = line.split("\t")
        if len(fields) > 2:
            raise TextError(f"{where}: expected 'phrase' or 'phrase<TAB>boost', found {line!r}")
        phrases.append(phrase_of_fields(fields, where, default_boost))
    return distinct_phrases(phrases)


def phrase_of_fields(
    fields: Sequence[str], source: str, default_boost: float = DEFAULT_BOOST
) -> Phrase:
    """A phrase and, perhaps, its boost, as a line of ``source`` has them; `TextError` as `read_phrases`."""
    boost = default_boost
    if len(fields) > 1:
        try:
            boost = float(fields[1])
        except ValueError:
            raise TextError(f"{source}: expected a number as boost, found {fields[1]!r}") from None
    return Phrase(fields[0], boost, source)


def distinct_phrases(phrases: Iterable[Phrase]) -> list[Phrase]:
    """Every phrase once, in order; phrases are the same if their normalised texts are.

    Raises:
        TextError: if a phrase is there twice with different boosts.
    """
    known: dict[str, Phrase] = {}
    for phrase in phrases:
        first = known.setdefault(normalize_text(phrase.text), phrase)
        if first.boost != phrase.boost:
            other = f" ({first.source})" if first.source else ""
            raise TextError(
                f"{phrase.where}: boost {phrase.boost:g}, but it was there with {first.boost:g}{other}"
            )
    return list(known.values())
