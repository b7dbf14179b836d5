"""The words of a path through the graph, in seconds."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moe_asr.evaluate.word_ctm import word_cutter
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord
from moe_asr.fsa.word_times import Span, WordCutter
from moe_asr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from moe_asr.fsa.native.partial import PartialResult

Ids = tuple[int, ...]


@dataclass(frozen=True)
class TokenPath:
    """What word times are made of.

    Attributes:
        words: ids; on a graph of tokens they are not looked at.
        tokens: ids.
        token_frames, token_ends: the first and the last frame of each.
        is_partial: the path may stop within a word.
    """

    words: Ids
    tokens: Ids
    token_frames: Ids
    token_ends: Ids
    is_partial: bool = False

    @classmethod
    def of_status(cls, status: "PartialResult") -> "TokenPath":
        """The best path of a stream that goes on."""
        tokens = status.tokens, status.token_frames, status.token_ends
        return cls(status.words, *tokens, is_partial=True)


class WordTimer:
    """Knows which tokens spell which words, and when these were said.

    On a graph of words those of the path are taken; on one of tokens (T, HT), what these spell.

    Args:
        graph: that was searched.
        tokenizer: the model's.
        frame_shift_seconds: from one frame of the log-probabilities to the next.
        correction: of word times; None: none.
    """

    def __init__(
        self,
        graph: DecodingGraph,
        tokenizer: Tokenizer,
        frame_shift_seconds: float,
        correction: TimeCorrection | None = None,
    ) -> None:
        self.frame_shift_seconds = frame_shift_seconds
        self.has_words = graph.kind in ("LG", "HLG")
        self._first = correction or TimeCorrection()
        self._later = replace(self._first, longest_lead_seconds=None)
        self._tokenizer, self._words = tokenizer, graph.word_table
        self._cutter: WordCutter | None = None
        if self.has_words:
            self._cutter = word_cutter(graph, tokenizer)

    def seconds(self, frames: int) -> float:
        """How long so many frames are."""
        return frames * self.frame_shift_seconds

    def timed(
        self, path: TokenPath, num_frames: int, goes_on: bool = False
    ) -> tuple[list[TimedWord[str]], list[Span]]:
        """All words, in seconds from frame 0, and which of the path's tokens each has.

        A word without tokens takes no time, at the end of the one before.

        Args:
            num_frames: of the segment.
            goes_on: the path is the rest of another, so that its first word is not the first of the segment.

        Raises:
            GraphError: if words and tokens do not fit together.
        """
        texts, spans = self._spelled(path)
        found = (self._later if goes_on else self._first).apply(
            range(len(texts)), spans, path.token_frames, path.token_ends,
            self.frame_shift_seconds, self.seconds(num_frames),
        )  # fmt: skip
        times = {timed.word: (timed.start_seconds, timed.end_seconds) for timed in found}
        words: list[TimedWord[str]] = []
        end = 0.0
        for place, text in enumerate(texts):
            start, end = times.get(place, (end, end))
            words.append(TimedWord(text, start, end))
        return words, spans

    def word_frames(self, path: TokenPath, num_frames: int) -> tuple[list[int], list[int]]:
        """The first and the last frame of the tokens of each word: where a segment must not be cut.

        Words without tokens are left out. Tokens that are left over are the beginning of a word, which goes
        on to the last frame. Separators are part of no word.

        Args:
            num_frames: of the segment.

        Raises:
            GraphError: if words and tokens do not fit together.
        """
        spans = [(begin, end) for begin, end in self._spelled(path)[1] if begin < end]
        starts = [path.token_frames[begin] for begin, _ in spans]
        ends = [path.token_ends[end - 1] for _, end in spans]
        first = spans[-1][1] if spans else 0
        rest = [token for token in path.tokens[first:] if self._tokenizer.decode([token])]
        if rest:
            starts.append(path.token_frames[len(path.tokens) - len(rest)])
            ends.append(num_frames - 1)
        return starts, ends

    def _spelled(self, path: TokenPath) -> tuple[list[str], list[Span]]:
        """The text of each word, and its tokens."""
        if self._cutter is not None:
            spans = self._cutter.cut(path.words, path.tokens, path.is_partial)
            return [self._words.symbol(word) for word in path.words], spans
        tokens, decode = path.tokens, self._tokenizer.decode
        texts: list[str] = []
        spans = []
        for place, token in enumerate(tokens):
            alone = decode([token])
            if not alone:  # a separator
                continue
            joined = decode(tokens[spans[-1][0] : place + 1]) if spans else " "
            if " " in joined:
                texts.append(alone)
                spans.append((place, place + 1))
            else:
                texts[-1], spans[-1] = joined, (spans[-1][0], place + 1)
        return texts, spans
