"""Pronunciation lexicons: words, and the token sequences that spell them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moe_asr.errors import ConfigError, TextError
from moe_asr.files import PathLike, read_text, write_text
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer

EPSILON = "<eps>"
BACKOFF = "#0"  # the backoff symbol of a grammar; disambiguation symbols proper start at #1
_DISAMBIGUATION = re.compile(r"#\d+")
_RESERVED = {EPSILON, "<blk>", "<sos/eos>", "<s>", "</s>"}


@dataclass(frozen=True)
class Pronunciation:
    """One way to say a word.

    Attributes:
        word: without whitespace.
        tokens: at least one.
        log_prob: natural log of its probability given the word, at most 0.
    """

    word: str
    tokens: tuple[str, ...]
    log_prob: float = 0.0

    def __post_init__(self) -> None:
        for kind, symbols in (("word", (self.word,)), ("token", self.tokens)):
            for symbol in symbols:
                if not symbol or any(char.isspace() or char == "\ufeff" for char in symbol):
                    raise TextError(f"a {kind} cannot have whitespace (or BOM), found {symbol!r}")
                if symbol in _RESERVED or _DISAMBIGUATION.fullmatch(symbol):
                    raise TextError(f"'{symbol}' is reserved and cannot be a {kind} of a lexicon")
        if not self.tokens:
            raise TextError(f"word '{self.word}' has an empty pronunciation")
        if not (math.isfinite(self.log_prob) and self.log_prob <= 0.0):
            raise TextError(
                f"word '{self.word}': log_prob must be in (-inf, 0], found {self.log_prob}"
            )


class Lexicon:
    """Words with their pronunciations, in order; a word may have several.

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

    @property
    def words(self) -> list[str]:
        """Every word once, in the order of its first pronunciation."""
        return list(dict.fromkeys(entry.word for entry in self.pronunciations))

    def __getitem__(self, word: str) -> list[Pronunciation]:
        """The pronunciations of ``word``; `KeyError` if it has none."""
        found = [entry for entry in self.pronunciations if entry.word == word]
        if not found:
            raise KeyError(word)
        return found

    def word_table(self) -> SymbolTable:
        """``<eps>`` as 0, the words from 1, and ``#0`` last."""
        return SymbolTable([EPSILON, *self.words, BACKOFF])

    def check_tokens(self, tokens: SymbolTable) -> None:
        """Raises `TextError` naming the first word that has a token not in ``tokens``."""
        for entry in self.pronunciations:
            for token in entry.tokens:
                if token not in tokens:
                    raise TextError(
                        f"word '{entry.word}': token '{token}' is not in the token table"
                    )

    def write(self, path: PathLike, probabilities: bool = False) -> None:
        """Writes ``word token ...`` lines; ``word probability token ...`` if asked (lexiconp)."""
        if not probabilities and any(entry.log_prob != 0.0 for entry in self.pronunciations):
            raise TextError(f"{path}: the plain format would lose this lexicon's probabilities")
        lines = []
        for entry in self.pronunciations:
            weight = [repr(math.exp(entry.log_prob))] if probabilities else []
            lines.append(" ".join([entry.word, *weight, *entry.tokens]) + "\n")
        write_text(path, "".join(lines))

    @classmethod
    def read(cls, path: PathLike, probabilities: bool = False) -> "Lexicon":
        """Reads what `write` wrote; blank lines are skipped.

        Raises:
            TextError: with file and line: a word without tokens, a reserved symbol, a second entry
                of the same pronunciation, a probability not in (0, 1]; or text that is not UTF-8.
        """
        try:
            text = read_text(path)
        except ConfigError as error:
            raise TextError(str(error)) from error
        entries: list[Pronunciation] = []
        line_of: dict[tuple[str, tuple[str, ...]], int] = {}
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                entry = _parse_line(line.split(), probabilities)
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


def _parse_line(fields: list[str], probabilities: bool) -> Pronunciation:
    word, rest, log_prob = fields[0], fields[1:], 0.0
    if probabilities:
        try:
            probability = float(rest[0]) if rest else math.nan
        except ValueError:
            probability = math.nan
        if not 0.0 < probability <= 1.0:
            found = rest[0] if rest else "nothing"
            raise TextError(f"word '{word}': expected a probability in (0, 1], found {found}")
        log_prob, rest = math.log(probability), rest[1:]
    return Pronunciation(word, tuple(rest), log_prob)


def lexicon_from_tokenizer(words: Sequence[str], tokenizer: Tokenizer) -> Lexicon:
    """Spells every word by the tokenizer, one pronunciation a word.

    A tokenizer that spells a word differently after another word (characters with a separator
    between words) gives it both spellings.

    Raises:
        TextError: naming a word that has no tokens, or a character that is none of the tokenizer's.
    """
    entries: dict[tuple[str, tuple[str, ...]], Pronunciation] = {}
    for word in words:
        first = tokenizer.encode(word)
        repeated = tokenizer.encode(f"{word} {word}")
        spellings = [first]
        if repeated[: len(first)] == first and repeated[len(first) :] != first:
            spellings.append(repeated[len(first) :])
        for ids in spellings:
            tokens = tuple(tokenizer.tokens.symbol(token) for token in ids)
            if "<unk>" in tokens:
                raise TextError(f"word '{word}' cannot be spelled by the tokenizer: found {tokens}")
            entries[word, tokens] = Pronunciation(word, tokens)
    return Lexicon(entries.values())


def add_disambig_symbols(lexicon: Lexicon) -> tuple[list[tuple[str, ...]], int]:
    """Makes pronunciations distinguishable, so that L composed with G can be determinised.

    Kaldi's ``add_lex_disambig.pl``: a pronunciation that several entries share, or that is the
    beginning of another, gets ``#1``, ``#2``, ... at its end; ``#0`` is the grammar's backoff.

    Returns:
        The tokens of every entry, in the lexicon's order, with their symbol if they got one; and
        the highest number used (0 if none).
    """
    count = Counter(entry.tokens for entry in lexicon.pronunciations)
    beginnings = {
        entry.tokens[:length]
        for entry in lexicon.pronunciations
        for length in range(1, len(entry.tokens))
    }
    last_used: dict[tuple[str, ...], int] = defaultdict(int)
    disambiguated: list[tuple[str, ...]] = []
    for entry in lexicon.pronunciations:
        tokens = entry.tokens
        if count[tokens] > 1 or tokens in beginnings:
            last_used[tokens] += 1
            disambiguated.append((*tokens, f"#{last_used[tokens]}"))
        else:
            disambiguated.append(tokens)
    return disambiguated, max(last_used.values(), default=0)
