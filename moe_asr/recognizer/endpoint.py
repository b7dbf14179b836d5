"""When a segment of a stream ends: Kaldi's five rules, on trailing blanks and the state of the search."""

from collections.abc import Sequence
from dataclasses import dataclass

RULES = ("rule1", "rule2", "rule3", "rule4", "rule5")


@dataclass(frozen=True)
class EndpointRule:
    """One rule, as in Kaldi's online2/online-endpoint.h; it fires when all of its conditions hold.

    Attributes:
        must_contain_speech: the best path has a token.
        min_trailing_silence_seconds: blanks at the end of the best path.
        max_relative_cost: nats that the best path that may end here is worse than the best path.
        min_length_seconds: of the segment.
    """

    must_contain_speech: bool
    min_trailing_silence_seconds: float
    max_relative_cost: float = float("inf")
    min_length_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_trailing_silence_seconds", "max_relative_cost", "min_length_seconds"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be 0 or more, found {getattr(self, name)}")


@dataclass(frozen=True)
class EndpointOptions:
    """The rules; a segment ends when any of them fires. The values are Kaldi's.

    Attributes:
        rule1: nothing but silence for long.
        rule2: a short pause where a sentence may well end.
        rule3: a longer pause where it may end.
        rule4: a long pause, wherever.
        rule5: the segment is long: it ends in the longest pause of its second half, though there is none now.
        enabled: False: segments end with the input only.
    """

    rule1: EndpointRule = EndpointRule(False, 5.0)
    rule2: EndpointRule = EndpointRule(True, 0.5, 2.0)
    rule3: EndpointRule = EndpointRule(True, 1.0, 8.0)
    rule4: EndpointRule = EndpointRule(True, 2.0)
    rule5: EndpointRule = EndpointRule(False, 0.0, min_length_seconds=20.0)
    enabled: bool = True

    @property
    def rules(self) -> tuple[EndpointRule, ...]:
        """In the order of `RULES`."""
        return tuple(getattr(self, name) for name in RULES)


_ROUNDING = 1e-9  # seconds; 3 * 0.1 is not 0.3


def detect_endpoint(
    trailing_blank_frames: int,
    relative_cost: float,
    segment_frames: int,
    frame_shift_seconds: float,
    options: EndpointOptions,
) -> str:
    """The rule by which a segment ends now, the first in the order of `RULES`; '' if none fires.

    As in Kaldi a segment contains speech if it is longer than the blanks at its end. A segment without frames
    never ends: whatever the rules say, one that ends has frames, so that a stream gets on.

    Where the search is dead (`PartialResult.is_dead`) its best path says nothing about the present. Give
    infinity for the cost then, so that rules which ask whether the sentence may end here stay silent, and for
    the blanks those that the model itself sees: the frames at the end whose best token is blank.

    Args:
        trailing_blank_frames: `PartialResult.num_trailing_blanks`, of a path without tokens all frames.
        relative_cost: `PartialResult.final_relative_cost`, 0 or more.
        segment_frames: of the segment, so far.
        frame_shift_seconds: from one frame to the next.
        options: the rules.

    Raises:
        ValueError: if there are more blanks than frames, or a number is out of its range.
    """
    if not 0 <= trailing_blank_frames <= segment_frames:
        raise ValueError(f"{trailing_blank_frames} blank frames of {segment_frames} frames")
    if not relative_cost >= 0.0:
        raise ValueError(f"relative_cost must be 0 or more, found {relative_cost}")
    if not 0.0 < frame_shift_seconds < float("inf"):
        raise ValueError(f"frame_shift_seconds must be positive, found {frame_shift_seconds}")
    if not options.enabled or segment_frames == 0:
        return ""
    silence = trailing_blank_frames * frame_shift_seconds + _ROUNDING
    length = segment_frames * frame_shift_seconds + _ROUNDING
    for name, rule in zip(RULES, options.rules, strict=True):
        if (
            (segment_frames > trailing_blank_frames or not rule.must_contain_speech)
            and silence >= rule.min_trailing_silence_seconds
            and relative_cost <= rule.max_relative_cost
            and length >= rule.min_length_seconds
        ):
            return name
    return ""


def cut_frame(token_frames: Sequence[int], token_ends: Sequence[int], num_frames: int) -> int:
    """Where to cut a segment that ends though nobody pauses: frames from here on are the next segment's.

    It is the middle of the longest gap in the second half; of equally long ones, of the last. Gaps lie
    between tokens, or between a token and either end of the segment, and count as far as they are in the
    second half. No token is cut. One that reaches the last frame may go on after it, and is left to the next
    segment, unless it fills the second half; then there is nowhere to cut but the end.

    Args:
        token_frames, token_ends: the first and the last frame of each token, in order. Those of words may be
            given instead: then no word is cut.
        num_frames: of the segment, at least 1.

    Returns:
        A frame in 1..num_frames, not in the first half: the segment keeps the frames before it.

    Raises:
        ValueError: if tokens overlap or are not within the segment.
    """
    if num_frames < 1:
        raise ValueError(f"a segment of {num_frames} frames cannot be cut")
    # each gap as the frames before which a cut may be: from the one after a token to the next one's first
    begins = [0, *(end + 1 for end in token_ends)]
    ends = [*token_frames, num_frames]
    if any(begin > end for begin, end in zip(begins, ends, strict=True)) or any(
        first >= begin for first, begin in zip(token_frames, begins[1:], strict=True)
    ):
        raise ValueError(
            f"tokens {list(token_frames)} to {list(token_ends)} are not in order within {num_frames} frames"
        )
    half = (num_frames + 1) // 2
    if token_ends and begins[-1] == num_frames:
        begins, ends = begins[:-1], ends[:-1]
    best, longest = num_frames, 0
    for begin, end in zip(begins, ends, strict=True):
        begin = max(begin, half)
        if end - begin >= longest:
            best, longest = (begin + end) // 2, end - begin
    return best
