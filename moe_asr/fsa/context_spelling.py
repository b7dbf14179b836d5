"""What phrases are made of: the letters of a context graph's automaton, and how units of a graph spell them.

- Words: a letter is a word, and a phrase is one pattern.
- Characters: a unit is a token, which spells characters (``▁``, the mark of a boundary between words, is one
  of them). A phrase is the pattern of its characters with marks around its words, so that it counts however
  it is cut into tokens, and only between boundaries. Text has one at its beginning and end, and on both
  sides of a Chinese or Japanese character, whether or not its writer put a space there; two marks are one.
- Pronunciations: a letter is a token, and a phrase has a pattern for each way to pronounce it.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import TextError
from moe_asr.fsa.context_phrases import Phrase
from moe_asr.text.cjk import WordSplitter, has_cjk, text_words
from moe_asr.text.lexicon import Lexicon, is_reserved
from moe_asr.text.normalize import SPACE
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import SPECIAL_TOKENS

MAX_PRONUNCIATIONS = 10_000  # of a phrase
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # of sentencepiece's byte fallback
MARK = 1  # the letter of the boundary, where letters are characters

Letters = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Spelling:
    """Letters of units and of phrases.

    Attributes:
        units: for each unit's id its letters; those of unit 0 (no word, blank) are none.
        patterns: of each phrase, all different.
        num_letters: 0, which is in no pattern, included.
        has_marks: whether letters are characters, `MARK` the boundary.
    """

    units: list[Letters]
    patterns: list[list[Letters]]
    num_letters: int
    has_marks: bool = False


def spell_by_words(
    phrases: Sequence[Phrase], words: SymbolTable, in_graph: np.ndarray, lexicon: Lexicon | None
) -> Spelling:
    """Letters are words. Text without spaces (Chinese, Japanese) is cut as `WordSplitter` does.

    Args:
        words: the graph's.
        in_graph: (words,) bool: those that it has.
        lexicon: of the graph, if there is one: its words can be recognised.

    Raises:
        TextError: naming the phrase and its word that cannot be recognised.
    """
    split = WordSplitter(words)
    letter_of: dict[int, int] = {}
    patterns = []
    for phrase in phrases:
        pattern = []
        for word in split(phrase.text):
            index = words.get(word)
            if index is None or is_reserved(word):
                raise TextError(f"{phrase.where}: no word '{word}' in {words.source}")
            if lexicon is not None and word not in lexicon:
                raise TextError(f"{phrase.where}: word '{word}' is not in the lexicon")
            if not in_graph[index]:
                raise TextError(f"{phrase.where}: no arc of the graph has the word '{word}'")
            pattern.append(letter_of.setdefault(index, len(letter_of) + 1))
        patterns.append([tuple(pattern)])
    units: list[Letters] = [(0,)] * len(words)
    units[0] = ()
    for index, letter in letter_of.items():
        units[index] = (letter,)
    return Spelling(units, patterns, len(letter_of) + 1)


def spell_by_characters(
    phrases: Sequence[Phrase], tokens: SymbolTable, in_graph: np.ndarray
) -> Spelling:
    """Letters are the characters of tokens; a token within another word's is no boundary.

    Args:
        tokens: pieces of a byte-pair encoding, or characters, after the special ones.
        in_graph: (tokens,) bool: those that it has.

    Raises:
        TextError: naming the phrase that no tokens spell.
    """
    pieces = {
        index: _marked(token)
        for index, token in enumerate(tokens)
        if index >= len(SPECIAL_TOKENS) and not _BYTE.fullmatch(token)
    }
    usable = _Pieces(piece for index, piece in pieces.items() if in_graph[index])
    letter_of = {SPACE: MARK}
    patterns = []
    for phrase in phrases:
        text = _marked(SPACE + SPACE.join(text_words(phrase.text)) + SPACE)
        _check_spelled(phrase, text, usable, tokens)
        patterns.append([tuple(letter_of.setdefault(c, len(letter_of) + 1) for c in text)])
    units: list[Letters] = [(0,)] * len(tokens)
    units[0] = ()
    for index, piece in pieces.items():
        units[index] = tuple(letter_of.get(character, 0) for character in piece)
    return Spelling(units, patterns, len(letter_of) + 1, True)


def spell_by_pronunciations(
    phrases: Sequence[Phrase],
    tokens: SymbolTable,
    spellings: Callable[[str], list[Letters]],
    known_words: Sequence[str] = (),
) -> Spelling:
    """Letters are tokens; no token tells where a word begins or ends.

    Args:
        spellings: the token ids of a word's pronunciations.
        known_words: by which text without spaces is cut.

    Raises:
        TextError: naming the phrase, if a word of it has no pronunciation, or it has too many.
    """
    split = WordSplitter(known_words)
    letter_of: dict[int, int] = {}
    patterns = []
    for phrase in phrases:
        choices, count = [], 1
        for word in split(phrase.text):
            choices.append(spellings(word))
            count *= len(choices[-1])
            if not count:
                raise TextError(f"{phrase.where}: word '{word}' has no pronunciation")
        if count > MAX_PRONUNCIATIONS:
            raise TextError(
                f"{phrase.where}: {count} pronunciations; at most {MAX_PRONUNCIATIONS} are followed"
            )
        ways = {tuple(itertools.chain(*way)): None for way in itertools.product(*choices)}
        patterns.append(
            [tuple(letter_of.setdefault(t, len(letter_of) + 1) for t in way) for way in ways]
        )
    units: list[Letters] = [(0,)] * len(tokens)
    units[0] = ()
    for index, letter in letter_of.items():
        units[index] = (letter,)
    return Spelling(units, patterns, len(letter_of) + 1)


def _marked(text: str) -> str:
    """With marks on both sides of Chinese and Japanese characters, and none beside another."""
    if not text.isascii():
        text = "".join(f"{SPACE}{c}{SPACE}" if has_cjk(c) else c for c in text)
    return re.sub(f"{SPACE}+", SPACE, text)


class _Pieces:
    """What tokens spell: whole, and cut at boundaries within them, where a phrase may begin or end."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.whole = set(pieces)
        self.longest = max(map(len, self.whole), default=0)
        self.heads: set[str] = set()
        self.tails: set[str] = set()
        self.middles: set[str] = set()
        for piece in self.whole:
            cuts = [place for place in range(1, len(piece) - 1) if piece[place] == SPACE]
            self.heads.update(piece[: place + 1] for place in cuts)
            self.tails.update(piece[place:] for place in cuts)
            for first, last in itertools.combinations(cuts, 2):
                self.middles.add(piece[first : last + 1])


def _check_spelled(phrase: Phrase, text: str, pieces: _Pieces, tokens: SymbolTable) -> None:
    """TextError unless tokens can be put together to ``text``, at least where an utterance begins."""
    if text in pieces.middles:
        return
    reached = [text[:end] in pieces.tails for end in range(len(text) + 1)]
    reached[0] = reached[1] = True  # of the mark that it begins with
    for begin in range(len(text)):
        if not reached[begin]:
            continue
        # a mark that has been read may be read again by the piece that follows
        firsts = {begin, begin - 1} if begin and text[begin - 1] == SPACE else {begin}
        for first in firsts:
            for end in range(begin + 1, min(first + pieces.longest, len(text)) + 1):
                reached[end] |= text[first:end] in pieces.whole
            reached[-1] |= text[first:] in pieces.heads
    if reached[-1] or reached[-2]:
        return
    spelled = max(end for end, is_reached in enumerate(reached) if is_reached)
    raise TextError(
        f"{phrase.where}: the tokens of {tokens.source} that the graph has spell "
        f"{text[1:spelled]!r} of it, but not {text[spelled:].strip(SPACE)!r}"
    )
