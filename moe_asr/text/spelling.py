"""Every way in which tokens spell the words of a text: byte-pair encodings, characters, a lexicon.

A recognizer's tokenizer spells a word in one way, yet other pieces of its inventory may spell it as well, and
a lexicon may have several pronunciations. An aligner (`moe_asr.fsa.align`) lets the audio decide.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from moe_asr.errors import TextError
from moe_asr.text.cjk import WordSplitter, has_cjk, text_words
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.mixed import MixedTokenizer
from moe_asr.text.normalize import SPACE, normalize_text
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import (
    SPECIAL_TOKENS,
    UNK_ID,
    BpeTokenizer,
    CharTokenizer,
    Tokenizer,
)

SpellingArc = tuple[int, int, int, float]  # from node, to node, token, natural log probability


@dataclass(frozen=True)
class Spelling:
    """A word and the acyclic graph of its spellings.

    Attributes:
        word: as the text has it.
        num_nodes: the first node is 0, the last ``num_nodes - 1``; every node is on a way between them.
        arcs: each leads to a higher node; their sums along a way are the log probabilities of spellings.
    """

    word: str
    num_nodes: int
    arcs: tuple[SpellingArc, ...]


class Speller(ABC):
    """Splits texts into words, and spells these.

    Attributes:
        tokens: the table of the token ids.
    """

    tokens: SymbolTable

    @abstractmethod
    def spell(self, text: str) -> list[Spelling]:
        """The words of a text, normalised as tokenizers do; none for an empty text.

        Raises:
            TextError: naming a word that has no spelling.
        """


class PieceSpeller(Speller):
    """All segmentations of a word into the pieces of a byte-pair encoding, all equally probable.

    Words are what spaces separate, and with a mixed tokenizer single CJK characters. Pieces never span words:
    the mark of a boundary (``▁``) stands where the tokenizer puts it.

    Args:
        tokenizer: `BpeTokenizer` or `MixedTokenizer`.
    """

    def __init__(self, tokenizer: BpeTokenizer | MixedTokenizer) -> None:
        self.tokens = tokenizer.tokens
        self._encode = tokenizer.encode
        self._is_mixed = isinstance(tokenizer, MixedTokenizer)
        self._pieces = {
            symbol: index
            for index, symbol in enumerate(self.tokens)
            if symbol not in SPECIAL_TOKENS
        }
        self._longest = max(map(len, self._pieces), default=0)
        self._known: dict[tuple[str, bool], Spelling] = {}

    def spell(self, text: str) -> list[Spelling]:
        """See `Speller.spell`."""
        words = text_words(text) if self._is_mixed else normalize_text(text).split()
        spellings = []
        is_marked = (
            False  # whether the word stands after another one that sentencepiece sees with it
        )
        for word in words:
            is_character = self._is_mixed and has_cjk(word)
            key = word, is_marked and not is_character
            if key not in self._known:
                self._known[key] = self._segmentations(*key)
            spellings.append(self._known[key])
            is_marked = not is_character
        return spellings

    def _segmentations(self, word: str, is_marked: bool) -> Spelling:
        ids = self._encode(word)
        if not ids or UNK_ID in ids:
            raise _unspelled(word, f"by {self.tokens.source}")
        # as sentencepiece has normalised it
        letters = "".join(self.tokens.symbol(index) for index in ids)
        if is_marked and not letters.startswith(SPACE):
            letters = SPACE + letters
        arcs = []
        reached = {0}
        for begin in range(len(letters)):
            if begin not in reached:
                continue
            for end in range(begin + 1, min(begin + self._longest, len(letters)) + 1):
                piece = self._pieces.get(letters[begin:end])
                if piece is not None:
                    arcs.append((begin, end, piece, 0.0))
                    reached.add(end)
        spelling = _connected(word, arcs, len(letters))
        if spelling is None:
            raise _unspelled(word, f"by {self.tokens.source}")
        return spelling


class CharSpeller(Speller):
    """One token a character; ``▁`` before every word but the first, where the tokenizer has it.

    Words are what spaces separate, and single CJK characters.
    """

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self.tokens = tokenizer.tokens
        self._separator = tokenizer.tokens.get(SPACE)

    def spell(self, text: str) -> list[Spelling]:
        """See `Speller.spell`."""
        spellings: list[Spelling] = []
        for number, chunk in enumerate(normalize_text(text).split()):
            for place, word in enumerate(text_words(chunk)):
                ids = [self.tokens.get(character) for character in word]
                if number > 0 and place == 0 and self._separator is not None:
                    ids.insert(0, self._separator)
                arcs = []
                for node, index in enumerate(ids):
                    if index is None:
                        raise _unspelled(word, f"by {self.tokens.source}")
                    arcs.append((node, node + 1, index, 0.0))
                spellings.append(Spelling(word, len(ids) + 1, tuple(arcs)))
        return spellings


class LexiconSpeller(Speller):
    """The pronunciations of a lexicon, with their probabilities.

    Words are what spaces separate, and of text without spaces the longest words of the lexicon
    (`WordSplitter`).

    Raises:
        TextError: naming the first word of the lexicon that has a token not in ``tokens``.
    """

    def __init__(self, lexicon: Lexicon, tokens: SymbolTable) -> None:
        lexicon.check_tokens(tokens)
        self.tokens = tokens
        self._lexicon = lexicon
        self._splitter = WordSplitter(lexicon.words)
        self._known: dict[str, Spelling] = {}

    def spell(self, text: str) -> list[Spelling]:
        """See `Speller.spell`."""
        return [self._spelling(word) for word in self._splitter(text)]

    def _spelling(self, word: str) -> Spelling:
        if word not in self._known:
            if word not in self._lexicon:
                raise _unspelled(word, "in the lexicon")
            entries = self._lexicon[word]
            last = 1 + sum(len(entry.tokens) - 1 for entry in entries)
            arcs: list[SpellingArc] = []
            free = 1
            for entry in entries:
                ids = [self.tokens[token] for token in entry.tokens]
                nodes = [0, *range(free, free + len(ids) - 1), last]
                free += len(ids) - 1
                scores = [entry.log_prob] + [0.0] * (len(ids) - 1)
                arcs += zip(nodes, nodes[1:], ids, scores, strict=False)
            self._known[word] = Spelling(word, last + 1, tuple(arcs))
        return self._known[word]


def make_speller(tokenizer: Tokenizer, lexicon: Lexicon | None = None) -> Speller:
    """The speller of a model's tokenizer, or of a lexicon over its tokens."""
    if lexicon is not None:
        return LexiconSpeller(lexicon, tokenizer.tokens)
    if isinstance(tokenizer, PhoneTokenizer):
        return LexiconSpeller(tokenizer.lexicon, tokenizer.tokens)
    if isinstance(tokenizer, CharTokenizer):
        return CharSpeller(tokenizer)
    if isinstance(tokenizer, (BpeTokenizer, MixedTokenizer)):
        return PieceSpeller(tokenizer)
    raise TextError(
        f"a tokenizer of kind '{tokenizer.kind}' needs a lexicon to spell words for alignment"
    )


def _connected(word: str, arcs: list[SpellingArc], last: int) -> Spelling | None:
    """The nodes and arcs that lead to the last node, renumbered; None if the first does not."""
    useful = {last}
    kept = []
    for arc in reversed(arcs):  # sorted by the node that they leave
        if arc[1] in useful:
            useful.add(arc[0])
            kept.append(arc)
    if 0 not in useful:
        return None
    number = {node: index for index, node in enumerate(sorted(useful))}
    renumbered = [
        (number[src], number[dst], token, score) for src, dst, token, score in reversed(kept)
    ]
    return Spelling(word, len(number), tuple(renumbered))


def _unspelled(word: str, by_what: str) -> TextError:
    return TextError(f"word '{word}' has no spelling {by_what}")
