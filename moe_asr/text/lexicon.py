"""Pronunciation lexicons: words, and the token sequences that spell them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from moe_asr.errors import TextError
from moe_asr.files import PathLike, write_text
from moe_asr.text.lines import read_lines
from moe_asr.text.normalize import normalize_text
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import BLANK, SOS_EOS, Tokenizer

EPSILON = "<eps>"
BACKOFF = "#0"  # the backoff symbol of a grammar; disambiguation symbols proper start at #1
_DISAMBIGUATION = re.compile(r"#\d+")
_RESERVED = {EPSILON, BLANK, SOS_EOS, "<s>", "</s>"}
_DECIMAL = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WHITESPACE = re.compile(r"[\s\ufeff]")


def is_reserved(symbol: str) -> bool:
    """Whether a symbol has a meaning of its own in graphs: ``<eps>``, ``<s>``, ``#1``, ``<blk>``, ..."""
    return symbol in _RESERVED or _DISAMBIGUATION.fullmatch(symbol) is not None


def check_word(word: str) -> None:
    """Raises `TextError` unless texts, once normalised, can have this word and graphs its symbol."""
    _check_symbol(word, "word")
    normal = word if word.isascii() else normalize_text(word)
    if normal != word:
        raise TextError(
            f"word {word!r} is not as texts are once normalised (NFC, without '\u2581'): "
            f"expected {normal!r}"
        )


@dataclass(frozen=True)
class Pronunciation:
    """One way to say a word.

    Attributes:
        word: normalised, without whitespace.
        tokens: at least one.
        log_prob: natural log of its probability given the word, at most 0.
    """

    word: str
    tokens: tuple[str, ...]
    log_prob: float = 0.0

    def __post_init__(self) -> None:
        check_word(self.word)
        if not all(map(_is_symbol, self.tokens)):
            for token in self.tokens:
                _check_symbol(token, "token")
        if not self.tokens:
            raise TextError(f"word '{self.word}' has an empty pronunciation")
        if not (math.isfinite(self.log_prob) and self.log_prob <= 0.0):
            raise TextError(
                f"word '{self.word}': log_prob must be in (-inf, 0], found {self.log_prob}"
            )


class Lexicon:
    """Words with their pronunciations, in order; a word may have several. It is not to be changed.

    Raises:
        TextError: if there are none, or one is given twice.
    """

    def __init__(self, pronunciations: Iterable[Pronunciation]) -> None:
        self.pronunciations: list[Pronunciation] = list(pronunciations)
        if not self.pronunciations:
            raise TextError("a lexicon needs at least one word")
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for entry in self.pronunciations:
            if (entry.word, entry.tokens) in seen:
                raise TextError(f"'{entry.word} {' '.join(entry.tokens)}' is in the lexicon twice")
            seen.add((entry.word, entry.tokens))

    def __len__(self) -> int:
        """The number of pronunciations."""
        return len(self.pronunciations)

    @cached_property
    def _by_word(self) -> dict[str, list[Pronunciation]]:
        by_word: dict[str, list[Pronunciation]] = {}
        for entry in self.pronunciations:
            by_word.setdefault(entry.word, []).append(entry)
        return by_word

    @property
    def words(self) -> list[str]:
        """Every word once, in the order of its first pronunciation."""
        return list(self._by_word)

    @property
    def has_probabilities(self) -> bool:
        """Whether a pronunciation has another probability than 1."""
        return any(entry.log_prob != 0.0 for entry in self.pronunciations)

    def __contains__(self, word: object) -> bool:
        return word in self._by_word

    def __getitem__(self, word: str) -> list[Pronunciation]:
        """The pronunciations of ``word``; `KeyError` if it has none."""
        return list(self._by_word[word])

    @cached_property
    def _disambiguated(self) -> tuple[list[tuple[str, ...]], int]:
        count = Counter(entry.tokens for entry in self.pronunciations)
        beginnings = {
            entry.tokens[:length]
            for entry in self.pronunciations
            for length in range(1, len(entry.tokens))
        }
        last_used: dict[tuple[str, ...], int] = defaultdict(int)
        disambiguated: list[tuple[str, ...]] = []
        for entry in self.pronunciations:
            tokens = entry.tokens
            if count[tokens] > 1 or tokens in beginnings:
                last_used[tokens] += 1
                disambiguated.append((*tokens, f"#{last_used[tokens]}"))
            else:
                disambiguated.append(tokens)
        return disambiguated, max(last_used.values(), default=0)

    def word_table(self) -> SymbolTable:
        """``<eps>`` as 0, the words from 1, and ``#0`` last."""
        return SymbolTable([EPSILON, *self.words, BACKOFF])

    def check_tokens(self, tokens: SymbolTable) -> None:
        """Raises `TextError` naming the first word that has a token not in ``tokens``."""
        known = set(tokens)
        for entry in self.pronunciations:
            _check_tokens(entry, known, tokens.source)

    def lines(
        self, probabilities: bool = False, tokens: Sequence[tuple[str, ...]] | None = None
    ) -> list[str]:
        """The lines of a lexicon file, without their ends.

        Args:
            probabilities: ``word probability token ...`` instead of ``word token ...``.
            tokens: of each pronunciation, instead of its own (`add_disambig_symbols`).
        """
        lines = []
        for index, entry in enumerate(self.pronunciations):
            weight = [_probability(entry)] if probabilities else []
            spelling = entry.tokens if tokens is None else tokens[index]
            lines.append(" ".join([entry.word, *weight, *spelling]))
        return lines

    def write(self, path: PathLike, probabilities: bool = False) -> None:
        """Writes ``word token ...`` lines; ``word probability token ...`` if asked (lexiconp)."""
        if not probabilities and self.has_probabilities:
            raise TextError(f"{path}: the plain format would lose this lexicon's probabilities")
        write_text(path, "\n".join(self.lines(probabilities)) + "\n")

    @classmethod
    def read(
        cls, path: PathLike, probabilities: bool = False, tokens: SymbolTable | None = None
    ) -> "Lexicon":
        """Reads what `write` wrote; blank lines are skipped.

        Args:
            path: of the file.
            probabilities: whether its lines have them.
            tokens: what pronunciations may be made of; None: anything.

        Raises:
            TextError: with file and line: a word without tokens, a reserved symbol, a second entry
                of the same pronunciation, a probability not in (0, 1], a token not in ``tokens``, a
                word that is not normalised, or text that is not UTF-8.
        """
        known = None if tokens is None else set(tokens)
        entries: list[Pronunciation] = []
        line_of: dict[tuple[str, tuple[str, ...]], int] = {}
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            if "\r" in line:  # else a file with such ends of lines would be one word
                raise TextError(f"{path}:{number}: a carriage return within the line: {line!r}")
            try:
                entry = parse_lexicon_line(line.split(), probabilities)
                if known is not None and tokens is not None:
                    _check_tokens(entry, known, tokens.source)
            except TextError as error:
                raise TextError(f"{path}:{number}: {error}") from error
            first = line_of.setdefault((entry.word, entry.tokens), number)
            if first != number:
                raise TextError(
                    f"{path}:{number}: the same entry as in line {first}: '{line.strip()}'"
                )
            entries.append(entry)
        if not entries:
            raise TextError(f"{path}: a lexicon needs at least one word, found none")
        return cls(entries)


def spell_words(
    words: Iterable[str], tokenizer: Tokenizer
) -> tuple[list[Pronunciation], list[str]]:
    """The pronunciations that a tokenizer gives to words, and the words that it cannot spell.

    Raises:
        TextError: if a word cannot be one (whitespace inside, a reserved symbol, not normalised).
    """
    entries: dict[tuple[str, tuple[str, ...]], Pronunciation] = {}
    unspellable = []
    symbols = list(tokenizer.tokens)
    for word in words:
        check_word(word)
        spellings = tokenizer.spellings(word)
        if not spellings:
            unspellable.append(word)
        for ids, log_prob in spellings:
            tokens = tuple(symbols[index] for index in ids)
            entries[word, tokens] = Pronunciation(word, tokens, log_prob)
    return list(entries.values()), unspellable


def lexicon_from_tokenizer(words: Iterable[str], tokenizer: Tokenizer) -> Lexicon:
    """Spells every word by the tokenizer (`Tokenizer.spellings`).

    Raises:
        TextError: if there are no words, one cannot be a word, or the tokenizer cannot spell some: the
            message has how many, and the first ten.
    """
    entries, unspellable = spell_words(words, tokenizer)
    if unspellable:
        raise TextError(describe_unspellable(unspellable))
    return Lexicon(entries)


def describe_unspellable(words: Sequence[str]) -> str:
    """Says that words cannot be spelled: how many, and the first ten."""
    if len(words) == 1:
        return f"word '{words[0]}' cannot be spelled by the tokenizer"
    first = ", ".join(f"'{word}'" for word in words[:10])
    more = ", ..." if len(words) > 10 else ""
    return f"{len(words)} words cannot be spelled by the tokenizer: {first}{more}"


def add_disambig_symbols(lexicon: Lexicon) -> tuple[list[tuple[str, ...]], int]:
    """Makes pronunciations distinguishable, so that L composed with G can be determinised.

    Kaldi's ``add_lex_disambig.pl``: a pronunciation that several entries share, or that is the
    beginning of another, gets ``#1``, ``#2``, ... at its end; ``#0`` is the grammar's backoff.

    Returns:
        The tokens of every entry, in the lexicon's order, with their symbol if they got one; and
        the highest number used (0 if none).
    """
    return lexicon._disambiguated


@lru_cache(maxsize=1 << 16)  # tokens are few and come again and again
def _is_symbol(symbol: str) -> bool:
    return bool(symbol) and not _WHITESPACE.search(symbol) and not is_reserved(symbol)


def _check_symbol(symbol: str, kind: str) -> None:
    if not symbol or _WHITESPACE.search(symbol):
        raise TextError(f"a {kind} cannot have whitespace (or BOM), found {symbol!r}")
    if is_reserved(symbol):
        raise TextError(f"'{symbol}' is reserved and cannot be a {kind} of a lexicon")


def _check_tokens(entry: Pronunciation, known: set[str], source: str) -> None:
    if not known.issuperset(entry.tokens):
        token = next(token for token in entry.tokens if token not in known)
        raise TextError(
            f"word '{entry.word}': token '{token}' is not in the token table ({source})"
        )


def _probability(entry: Pronunciation) -> str:
    """The shortest decimal with this logarithm: what was read is written as it was, if it was short."""
    probability = math.exp(entry.log_prob)
    if probability == 0.0:
        raise TextError(
            f"word '{entry.word}': the probability exp({entry.log_prob}) is too small to be written"
        )
    log_prob = math.log(probability)
    for digits in range(1, 17):
        text = f"{probability:.{digits}g}"
        if math.log(float(text)) == log_prob:
            return text
    return repr(probability)


def parse_lexicon_line(fields: list[str], probabilities: bool) -> Pronunciation:
    """The entry of a line of a lexicon file, split at whitespace; TextError if it is none."""
    word, rest, log_prob = fields[0], fields[1:], 0.0
    if probabilities:
        decimal = rest and _DECIMAL.fullmatch(rest[0])
        probability = float(rest[0]) if decimal else math.nan
        if not 0.0 < probability <= 1.0:
            found = rest[0] if rest else "nothing"
            raise TextError(f"word '{word}': expected a probability in (0, 1], found {found}")
        log_prob, rest = math.log(probability), rest[1:]
    return Pronunciation(word, tuple(rest), log_prob)
