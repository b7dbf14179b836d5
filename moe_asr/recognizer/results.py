"""What a recogniser gives: words with times, partial results while audio arrives, and final ones."""

from dataclasses import dataclass

from moe_asr.decode.registry import Alternative


@dataclass(frozen=True)
class Word:
    """A word and when it was said, from the start of the audio.

    Attributes:
        text: as the graph has it.
        start_seconds, end_seconds: 0 or more, in order.
        confidence: the probability that it was said, 0..1; None where it was not computed (partial results).
    """

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float | None = None


@dataclass(frozen=True)
class Result:
    """What has been recognised of one segment of a stream, so far or finally.

    Attributes:
        stream_id: the stream's name.
        segment: number of the segment in its stream, from 0; the next begins where this one ends.
        is_final: no other result of this segment follows.
        text: the words, with spaces between them; '' if there are none.
        words: of the text.
        num_stable: the words at the beginning that the first pass can no longer change (all of a final
            result). The second pass may still put others in their place when the segment ends.
        start_seconds, end_seconds: of the segment, from the start of the audio; what has been decoded of it.
        endpoint: why a final result is final: ``rule1`` to ``rule5`` (see `EndpointOptions`), ``memory`` (the
            segment needed more than it may have) or ``input_finished``; '' of partial results, and of files
            that are decoded whole.
        score: natural log score of the method that made the final result; None where nothing was found,
            and of partial results.
        alternatives: the n-best list of a final result, if the method has one.
    """

    stream_id: str
    segment: int
    is_final: bool
    text: str
    words: tuple[Word, ...]
    num_stable: int
    start_seconds: float
    end_seconds: float
    endpoint: str = ""
    score: float | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def stable_text(self) -> str:
        """The stable words."""
        return " ".join(word.text for word in self.words[: self.num_stable])


@dataclass(frozen=True)
class Transcript:
    """All final results of one file, in order.

    Attributes:
        name: what the file was called.
        duration_seconds: of its audio.
        segments: final results, also those without words.
    """

    name: str
    duration_seconds: float
    segments: tuple[Result, ...]

    @property
    def text(self) -> str:
        """The texts of the segments that have one, with spaces between them."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)
