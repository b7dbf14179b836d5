"""From the frames of tokens to the times of words, corrected for how a CTC model spikes.

A CTC token is a spike somewhere in the sound, of a frame or two, and blanks follow: taken as they are, spikes
begin words late or early and end them too soon. `TimeCorrection` is a rule of few numbers for that, which
`moe_asr.evaluate.timing_fit` fits to speech whose word times are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from moe_asr.config import from_dict, to_dict
from moe_asr.errors import ConfigError
from moe_asr.files import PathLike, read_json, write_json
from moe_asr.fsa.word_times import Span

W = TypeVar("W")


@dataclass(frozen=True)
class TimedWord(Generic[W]):
    """A word (its id, or its text) and when it was said, from the utterance's start."""

    word: W
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class TimeCorrection:
    """Where a word starts and ends, given its tokens. Without arguments: where these do, as they are.

    - A word starts ``start_offset_seconds`` after its first token does.
    - The mark of the utterance's first word (``▁`` or ``▁p``) tends to be found at the very beginning, in the
      silence before it. Where a token of this word begins more than ``longest_lead_seconds`` after the token
      before it, the word starts ``late_offset_seconds`` after the first such token; where none does,
      ``first_offset_seconds`` after its first token.
    - A word ends where the next one starts, unless that is more than ``longest_gap_seconds`` after the end of
      the word's last token; then it ends ``end_offset_seconds`` after that.

    Attributes:
        start_offset_seconds, first_offset_seconds, late_offset_seconds, end_offset_seconds: may be negative.
        counts_separator: a separator (``▁`` alone) before the word counts as its first token.
        longest_lead_seconds: None: the first word is like all others.
        longest_gap_seconds: None: the next word is not looked at.
    """

    start_offset_seconds: float = 0.0
    end_offset_seconds: float = 0.0
    first_offset_seconds: float = 0.0
    late_offset_seconds: float = 0.0
    counts_separator: bool = False
    longest_lead_seconds: float | None = None
    longest_gap_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("start", "end", "first", "late"):
            value = getattr(self, f"{name}_offset_seconds")
            if not -10.0 < value < 10.0:
                raise ValueError(f"{name}_offset_seconds must be within 10 s, found {value}")
        for name in ("longest_lead_seconds", "longest_gap_seconds"):
            limit = getattr(self, name)
            if limit is not None and not 0.0 <= limit < float("inf"):
                raise ValueError(f"{name} must be 0 or more, or null, found {limit}")

    def apply(
        self,
        words: Sequence[W],
        spans: Sequence[Span],
        token_frames: Sequence[int],
        token_ends: Sequence[int],
        frame_shift_seconds: float,
        duration_seconds: float = float("inf"),
    ) -> list[TimedWord[W]]:
        """The times of words; those without tokens are left out.

        Words come in order, do not overlap, and lie between 0 and the duration.

        Args:
            words: of the utterance.
            spans: the tokens of each, of a `moe_asr.fsa.word_times.WordCutter` or `AlignedWord.tokens`;
                tokens between two spans are separators of the second.
            token_frames, token_ends: the first and the last frame of each token.
            frame_shift_seconds: from one frame of the log-probabilities to the next.
            duration_seconds: of the utterance.
        """
        if not 0.0 < frame_shift_seconds < float("inf"):
            raise ConfigError(f"frame_shift_seconds must be positive, found {frame_shift_seconds}")
        kept: list[W] = []
        starts: list[float] = []
        token_ends_seconds: list[float] = []
        previous_end = 0
        for word, (begin, end) in zip(words, spans, strict=True):
            if begin == end:
                continue
            first = previous_end if self.counts_separator else begin
            start = token_frames[first] * frame_shift_seconds + self.start_offset_seconds
            if not kept and self.longest_lead_seconds is not None:
                late = late_token(
                    token_frames[first:end], self.longest_lead_seconds / frame_shift_seconds
                )
                start = token_frames[first + late] * frame_shift_seconds
                start += self.late_offset_seconds if late else self.first_offset_seconds
            kept.append(word)
            starts.append(min(max(start, starts[-1] if starts else 0.0), duration_seconds))
            token_ends_seconds.append((token_ends[end - 1] + 1) * frame_shift_seconds)
            previous_end = end
        times = []
        for place, (word, start, end_of_tokens) in enumerate(
            zip(kept, starts, token_ends_seconds, strict=True)
        ):
            following = starts[place + 1] if place + 1 < len(starts) else float("inf")
            if (
                self.longest_gap_seconds is not None
                and following - end_of_tokens <= self.longest_gap_seconds
            ):
                finish = following
            else:
                finish = end_of_tokens + self.end_offset_seconds
            finish = max(min(finish, following, duration_seconds), start)
            times.append(TimedWord(word, start, finish))
        return times

    def save(self, path: PathLike, fitted: dict[str, Any] | None = None) -> None:
        """Writes it as JSON.

        Args:
            fitted: what it was fitted to and how well, for the reader.
        """
        write_json(path, {"correction": to_dict(self), "fitted": fitted or {}})

    @classmethod
    def load(cls, path: PathLike) -> "TimeCorrection":
        """Reads what `save` wrote; `ConfigError` naming the file if it is something else."""
        value = read_json(path)
        if not isinstance(value, dict) or set(value) != {"correction", "fitted"}:
            raise ConfigError(f"{path}: expected a mapping with the keys 'correction' and 'fitted'")
        return from_dict(cls, value["correction"], f"{path}: correction")


def late_token(token_frames: Sequence[int], longest_lead_frames: float) -> int:
    """The first token that begins so much later than the one before it; 0 if there is none."""
    for place in range(1, len(token_frames)):
        if token_frames[place] - token_frames[place - 1] > longest_lead_frames:
            return place
    return 0
