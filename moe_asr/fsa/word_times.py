"""When words were said: the tokens of a path are cut into words, whose frames are those of their tokens.

The arc that has a word's label does not tell: labels stand where the determinisation of the graph left them,
often on the first arc by which a word differs from all others. A token's first frame is where its label first
won a frame, which is late by as much as the model's CTC spikes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moe_asr.errors import ConfigError, GraphError
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.normalize import SPACE
from moe_asr.text.symbol_table import SymbolTable

Span = tuple[int, int]  # of tokens: the first, and the one after the last


@dataclass(frozen=True)
class WordTime:
    """A word and the frames it was said in, both included."""

    word: int
    first_frame: int
    last_frame: int

    def seconds(self, frame_shift_seconds: float) -> tuple[float, float]:
        """Start and end, from the utterance's start.

        Args:
            frame_shift_seconds: from one frame of the log-probabilities to the next (subsampling included).
        """
        if not 0.0 < frame_shift_seconds < float("inf"):
            raise ConfigError(f"frame_shift_seconds must be positive, found {frame_shift_seconds}")
        return self.first_frame * frame_shift_seconds, (self.last_frame + 1) * frame_shift_seconds


class WordCutter(Protocol):
    """Knows which tokens spell which words."""

    def cut(
        self, words: Sequence[int], tokens: Sequence[int], is_partial: bool = False
    ) -> list[Span]:
        """The tokens of each word.

        Args:
            words, tokens: ids, all those of a path.
            is_partial: the path may stop within a word: the last tokens may be the beginning of a word, and
                a word may have none yet (an empty span), or the tokens be there and the word not.

        Raises:
            GraphError: if words and tokens do not fit together.
        """


class LexiconCutter:
    """Cuts by pronunciations; of several ways to cut, that of the most probable ones.

    Of equally probable ways, the one with the fewest tokens in the last word, then in the one before. A
    separator that begins a pronunciation (``▁`` alone, a character tokenizer's) is left out of the span.

    Args:
        lexicon: that of the graph.
        tokens, words: the graph's tables.
    """

    def __init__(self, lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable) -> None:
        self._lexicon, self._tokens, self._words = lexicon, tokens, words
        self._separator = tokens.get(SPACE, -1)
        self._known: dict[int, list[tuple[tuple[int, ...], float]]] = {}

    def _spellings(self, word: int) -> list[tuple[tuple[int, ...], float]]:
        if word not in self._known:
            symbol = self._words.symbol(word)
            if symbol not in self._lexicon:
                raise GraphError(f"word '{symbol}' is not in the lexicon")
            self._known[word] = [
                (tuple(self._tokens[token] for token in entry.tokens), entry.log_prob)
                for entry in self._lexicon[symbol]
            ]
        return self._known[word]

    def cut(
        self, words: Sequence[int], tokens: Sequence[int], is_partial: bool = False
    ) -> list[Span]:
        """See `WordCutter`; of a partial path, the fewest words are unfinished."""
        tokens = tuple(tokens)
        # by dynamic programming; layers[w]: where word w may begin -> how well, and where the one before does
        layers: list[dict[int, _Way]] = [{0: (0, 0.0, -1)}]
        for word in words:
            ends: dict[int, _Way] = {}
            for begin, (unfinished, log_prob, _) in layers[-1].items():
                for spelling, gain in self._spellings(word):
                    end, whole = begin + len(spelling), True
                    if is_partial and end > len(tokens):
                        end, whole = len(tokens), False
                    way = unfinished - (not whole), log_prob + gain, begin
                    if tokens[begin:end] == spelling[: end - begin] and way > ends.get(end, _NEVER):
                        ends[end] = way
            if not ends:
                raise GraphError(self._no_fit(words, tokens, len(layers) - 1, max(layers[-1])))
            layers.append(ends)
        last = layers[-1]
        end = len(tokens)
        if is_partial:  # tokens left over are a word unfinished as well
            end = max(last, key=lambda end: (last[end][0] - (end < len(tokens)), end))
        elif end not in last:
            raise GraphError(self._no_fit(words, tokens, len(words), max(last)))
        spans: list[Span] = []
        for layer in reversed(layers[1:]):
            begin = layer[end][2]
            separated = end - begin > 1 and tokens[begin] == self._separator
            spans.append((begin + separated, end))
            end = begin
        return spans[::-1]

    def _no_fit(self, words: Sequence[int], tokens: Sequence[int], number: int, begin: int) -> str:
        return _no_fit(self._words, self._tokens, words, tokens, number, begin) + (
            "; is it the lexicon that the graph was built with?"
        )


class SpellingCutter:
    """Cuts by what the tokens spell, where there is no lexicon: byte-pair encodings and characters.

    A word's tokens, without the mark of a boundary (``▁``), are its symbol; the mark stands at the beginning
    of a token that begins a word, or is a token before it, which is left out of the span.

    Args:
        tokens, words: the graph's tables.
    """

    def __init__(self, tokens: SymbolTable, words: SymbolTable) -> None:
        self._tokens, self._words = tokens, words

    def cut(
        self, words: Sequence[int], tokens: Sequence[int], is_partial: bool = False
    ) -> list[Span]:
        """See `WordCutter`."""
        pieces = [self._tokens.symbol(token) for token in tokens]
        spans: list[Span] = []
        end = 0
        for number, word in enumerate(words):
            symbol = self._words.symbol(word)
            begin = end = _after_separators(pieces, end)
            spelled = ""
            while end < len(pieces) and len(spelled) < len(symbol):
                if end > begin and pieces[end].startswith(SPACE):
                    break
                spelled += pieces[end].replace(SPACE, "")
                end += 1
            unfinished = is_partial and end == len(pieces) and symbol.startswith(spelled)
            if spelled != symbol and not unfinished:
                raise GraphError(_no_fit(self._words, self._tokens, words, tokens, number, begin))
            spans.append((begin, end))
        rest = _after_separators(pieces, end)
        if rest < len(pieces) and not is_partial:
            raise GraphError(_no_fit(self._words, self._tokens, words, tokens, len(words), rest))
        return spans


class TokenCutter:
    """Cuts for graphs whose words are the tokens themselves (kinds T and HT)."""

    def cut(
        self, words: Sequence[int], tokens: Sequence[int], is_partial: bool = False
    ) -> list[Span]:
        """See `WordCutter`."""
        if tuple(words) != tuple(tokens):
            raise GraphError(
                f"{len(words)} words and {len(tokens)} tokens are not the same: "
                "the graph is no token graph"
            )
        return [(place, place + 1) for place in range(len(tokens))]


def word_times(
    words: Sequence[int],
    spans: Sequence[Span],
    token_frames: Sequence[int],
    token_ends: Sequence[int],
) -> tuple[WordTime, ...]:
    """The times of words whose tokens are known; those without tokens are left out.

    Args:
        words: ids.
        spans: of a `WordCutter`.
        token_frames, token_ends: the first and the last frame of each token.
    """
    return tuple(
        WordTime(word, token_frames[begin], token_ends[end - 1])
        for word, (begin, end) in zip(words, spans, strict=True)
        if end > begin
    )


def times_of_labels(words: Sequence[int], word_frames: Sequence[int]) -> tuple[WordTime, ...]:
    """One frame for each word, that of its label: a rough guess, where nothing is known about the tokens."""
    return tuple(
        WordTime(word, frame, frame) for word, frame in zip(words, word_frames, strict=True)
    )


_Way = tuple[
    int, float, int
]  # minus the unfinished words, the log-probability, the begin of the last word
_NEVER: _Way = (-(1 << 60), 0.0, 0)


def _after_separators(pieces: Sequence[str], place: int) -> int:
    while place < len(pieces) and pieces[place] == SPACE:
        place += 1
    return place


def _no_fit(
    word_table: SymbolTable,
    token_table: SymbolTable,
    words: Sequence[int],
    tokens: Sequence[int],
    number: int,
    begin: int,
) -> str:
    left = " ".join(token_table.symbol(token) for token in tokens[begin : begin + 8])
    left += " ..." if len(tokens) > begin + 8 else ""
    if number == len(words):
        return f"tokens '{left}' are left over after {len(words)} words"
    symbol = word_table.symbol(words[number])
    return f"word {number + 1} of {len(words)}, '{symbol}', is not spelled by '{left}'"
