"""Partial results of a segment while it goes on."""

from moe_asr.fsa.native.partial import PartialResult
from moe_asr.fsa.word_times import Span
from moe_asr.recognizer.results import Result, Word
from moe_asr.recognizer.word_timer import TokenPath, WordTimer

_STEP = 4  # words given up at a time where the best path has changed


class SegmentPartials:
    """Makes the partial results of one segment; only words that may have changed are timed again.

    Args:
        timer: of the graph.
        stream_id, segment: as in the results.
        first_frame: of the segment in its stream.
    """

    def __init__(
        self, timer: WordTimer, stream_id: str, segment: int, first_frame: int = 0
    ) -> None:
        self._timer = timer
        self._stream_id, self._segment = stream_id, segment
        self._start = timer.seconds(first_frame)
        # of the last result, words that the graph foresees included
        self._path = TokenPath((), (), (), (), True)
        self._spans: list[Span] = []
        self._words: list[Word] = []
        self._end = self._start

    def result(self, status: PartialResult) -> Result:
        """What has been recognised so far, by the first pass.

        Words at the end that the graph foresees, and of which no token has been heard, are left out.

        Raises:
            GraphError: if the graph's words are not spelled by its tokens.
        """
        self._update(status)
        words, spans = self._words, self._spans
        heard = len(words)
        while heard and spans[heard - 1][0] == spans[heard - 1][1]:
            heard -= 1
        return Result(
            stream_id=self._stream_id,
            segment=self._segment,
            is_final=False,
            text=" ".join(word.text for word in words[:heard]),
            words=tuple(words[:heard]),
            num_stable=min(self._num_stable(status), heard),
            start_seconds=self._start,
            end_seconds=self._end,
        )

    def _update(self, status: PartialResult) -> None:
        path = TokenPath.of_status(status)
        kept = self._num_kept(path)
        before = max(kept - 1, 0)  # is timed with what follows, for the sake of that
        token = self._spans[before - 1][1] if before else 0
        rest = TokenPath(
            path.words[before:], path.tokens[token:], path.token_frames[token:],
            path.token_ends[token:], is_partial=True,
        )  # fmt: skip
        timed, spans = self._timer.timed(rest, status.num_frames, goes_on=before > 0)
        earliest = self._words[before].start_seconds if kept else self._start
        new = [
            Word(
                word.word,
                max(self._start + word.start_seconds, earliest),
                max(self._start + word.end_seconds, earliest),
            )
            for word in timed[kept - before :]
        ]
        self._words[kept:] = new
        self._spans[kept:] = [(a + token, b + token) for a, b in spans[kept - before :]]
        self._path = path
        self._end = self._start + self._timer.seconds(status.num_frames)

    def _num_kept(self, path: TokenPath) -> int:
        """How many words are the same, with the same times: the token after each has not changed."""
        old, spans = self._path, self._spans
        for kept in range(len(spans) - 1, 0, -_STEP):
            token, end = spans[kept]
            if (
                token < end
                and path.words[: kept + 1] == old.words[: kept + 1]
                and path.tokens[: token + 1] == old.tokens[: token + 1]
                and path.token_frames[: token + 1] == old.token_frames[: token + 1]
                and path.token_ends[:token] == old.token_ends[:token]
                # the end of what had been read may have cut them short
                and self._words[kept - 1].end_seconds < self._end
            ):
                return kept
        return 0

    def _num_stable(self, status: PartialResult) -> int:
        """On a graph of tokens those are stable after which another word has begun, in a stable token."""
        if self._timer.has_words:
            return status.num_stable
        begun = sum(begin < status.num_stable for begin, _ in self._spans)
        return max(begun - 1, 0)
