"""Checks of a text against a language directory: coverage, unknown words, spelling."""

import gzip
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from moe_asr.errors import TextError
from moe_asr.fsa.accept import Spelling
from moe_asr.lang.validate_files import is_spelled_by_tokenizer
from moe_asr.lang.validate_report import Findings, Skipped
from moe_asr.text.cjk import WordSplitter, space_cjk
from moe_asr.text.lexicon import Lexicon, is_reserved
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer

_SHOWN = 10  # most frequent unknown words


@dataclass(frozen=True)
class TextSentence:
    """A sentence of known words: where it stands, its word ids and what it says."""

    place: str
    words: tuple[int, ...]
    text: str


@dataclass
class TextStatistics:
    """A text in the words of a language directory.

    Attributes:
        num_sentences: lines with words; ``num_unknown_sentences`` of them have words that are not known.
        known, unknown: how often each word occurs.
        sample: of the sentences without unknown words, drawn evenly.
    """

    num_sentences: int = 0
    num_unknown_sentences: int = 0
    known: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    sample: list[TextSentence] = field(default_factory=list)

    @property
    def num_words(self) -> int:
        """Of all sentences."""
        return sum(self.known.values()) + sum(self.unknown.values())


def skip_text(found: Findings) -> None:
    """In the place of all checks of a text."""
    raise Skipped("no text was given: OOV rate and its sentences are not checked")


def read_text(
    found: Findings,
    path: Path,
    lexicon: Lexicon,
    words: SymbolTable,
    num_sample: int,
    rng: random.Random,
) -> TextStatistics | None:
    """Every line is UTF-8 and has no reserved symbol; `TextStatistics` of it."""
    from tqdm import tqdm

    split = WordSplitter(lexicon.words)
    statistics = TextStatistics()
    num_known = 0
    for number, line in tqdm(_lines(found, path), desc="text", unit=" lines", disable=None):
        symbols = split(line)
        if not symbols:
            continue
        statistics.num_sentences += 1
        unknown = [word for word in symbols if word not in lexicon]
        for word in unknown:
            if is_reserved(word):
                found.error(f"{path}:{number}: '{word}' is reserved and cannot be a word of a text")
        statistics.known.update(word for word in symbols if word in lexicon)
        statistics.unknown.update(unknown)
        if unknown:
            statistics.num_unknown_sentences += 1
            continue
        num_known += 1
        ids = tuple(words[word] for word in symbols)
        sentence = TextSentence(f"{path}:{number}", ids, line.strip())
        if len(statistics.sample) < num_sample:
            statistics.sample.append(sentence)
        else:  # reservoir sampling: every sentence has the same chance to be in it at the end
            place = rng.randrange(num_known)
            if place < num_sample:
                statistics.sample[place] = sentence
    if not statistics.num_sentences and not found.num_errors:
        found.error(f"{path}: no words in it")
    found.note(f"{statistics.num_sentences:,} sentences, {statistics.num_words:,} words")
    return None if found.num_errors else statistics


def check_oov(
    found: Findings, path: Path, statistics: TextStatistics, lexicon: Lexicon, max_rate: float
) -> bool:
    """Few enough of the text's words are not in the lexicon."""
    num_unknown = sum(statistics.unknown.values())
    rate = num_unknown / statistics.num_words
    said = f"OOV rate {100 * rate:.2f} % ({num_unknown:,} of {statistics.num_words:,} words)"
    common = statistics.unknown.most_common(_SHOWN)
    shown = ", ".join(f"{word} ({count})" for word, count in common)
    if rate > max_rate:
        found.error(
            f"{path}: {said}, expected at most {100 * max_rate:g} %; most frequent: {shown}"
        )
    covered = f"{len(statistics.known):,} of the lexicon's {len(lexicon.words):,} words occur"
    found.note(f"{said}{': ' + shown if shown else ''}; {covered}")
    return True


def check_spelling(
    found: Findings,
    lang: Path,
    statistics: TextStatistics,
    tokenizer: Tokenizer,
    spellings: dict[int, list[Spelling]],
) -> list[tuple[TextSentence, tuple[int, ...]]]:
    """The tokens that training gives a sentence are a way in which the lexicon spells its words.

    A lexicon that was not made by the tokenizer may spell otherwise: that is a warning then.

    Returns:
        Sentences with their tokens, those that the lexicon does not spell so left out.
    """
    from_tokenizer = is_spelled_by_tokenizer(lang)
    spelled = []
    for sentence in statistics.sample:
        # a text for language models may have spaces between words that transcripts have not
        texts = dict.fromkeys((sentence.text, space_cjk(sentence.text)))
        ways = [tuple(tokenizer.encode(written)) for written in texts]
        good = [tokens for tokens in ways if is_spelled(spellings, sentence.words, tokens)]
        if good:
            spelled.append((sentence, good[0]))
            continue
        shown = " ".join(tokenizer.tokens.symbol(token) for token in ways[-1])
        said = f"the tokenizer spells '{sentence.text}' as {shown}, the lexicon does not"
        if from_tokenizer:
            found.error(f"{sentence.place}: {said}")
        else:
            found.warn(f"{sentence.place}: {said}")
    found.note(f"{len(spelled):,} of {len(statistics.sample):,} sentences")
    return spelled


def is_spelled(
    spellings: dict[int, list[Spelling]], words: tuple[int, ...], tokens: tuple[int, ...]
) -> bool:
    """Whether pronunciations of the words, one after another, make up the tokens."""
    ends = {0}
    for word in words:
        ends = {
            end + len(spelling)
            for end in ends
            for spelling, _ in spellings[word]
            if tokens[end : end + len(spelling)] == spelling
        }
    return len(tokens) in ends


def _lines(found: Findings, path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text, gzipped or not; those that are not UTF-8 are errors and left out."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=file) if packed else file
            for number, line in enumerate(stream, start=1):
                try:
                    yield number, line.decode("utf-8")
                except UnicodeDecodeError as error:
                    found.error(f"{path}:{number}: not UTF-8 text: {error}")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: cannot be read: {reason}") from error
