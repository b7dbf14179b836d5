"""Fits a `TimeCorrection` to speech whose word times are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_asr.errors import DataError
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord, late_token
from moe_asr.fsa.word_times import Span

_MOST_LEAD, _MOST_GAP = 15, 25  # frames that are tried


@dataclass(frozen=True)
class TimedTokens:
    """The tokens of an utterance's words, and when these were said in truth.

    Attributes:
        spans: the tokens of each word, none empty.
        token_frames, token_ends: the first and the last frame of each token.
        duration_seconds: of the utterance.
        starts, ends: seconds, of each word.
    """

    spans: Sequence[Span]
    token_frames: Sequence[int]
    token_ends: Sequence[int]
    duration_seconds: float
    starts: Sequence[float]
    ends: Sequence[float]


def fit_correction(utterances: Sequence[TimedTokens], frame_shift_seconds: float) -> TimeCorrection:
    """The correction with the least mean absolute error, of starts first, then of ends.

    Limits are searched on a grid half way between frames, with and without separators; given these, an offset
    is the median of the errors that it is to mend, which is best.

    Raises:
        DataError: if there are no words.
    """
    if not any(len(utterance.spans) for utterance in utterances):
        raise DataError("no words to fit a correction of times to")
    leads = [None, *((count + 0.5) * frame_shift_seconds for count in range(_MOST_LEAD))]
    gaps = [None, *((count + 0.5) * frame_shift_seconds for count in range(_MOST_GAP))]
    found = min(
        (
            _fit_starts(utterances, frame_shift_seconds, counts_separator, lead)
            for counts_separator in (False, True)
            for lead in leads
        ),
        key=lambda correction: _mean_error(utterances, frame_shift_seconds, correction, "starts"),
    )
    return min(
        (_fit_ends(utterances, frame_shift_seconds, found, gap) for gap in gaps),
        key=lambda correction: _mean_error(utterances, frame_shift_seconds, correction, "ends"),
    )


def fitted_figures(
    utterances: Sequence[TimedTokens], frame_shift_seconds: float, correction: TimeCorrection
) -> dict[str, float]:
    """The number of words, and mean absolute errors in milliseconds without and with a correction."""
    figures: dict[str, float] = {"num_words": sum(len(u.spans) for u in utterances)}
    for suffix, rule in (("_before", TimeCorrection()), ("", correction)):
        for side in ("start", "end"):
            error = _mean_error(utterances, frame_shift_seconds, rule, f"{side}s")
            figures[f"{side}_ms{suffix}"] = round(1000.0 * error, 3)
    return figures


def format_fitted(figures: Mapping[str, float]) -> str:
    """`fitted_figures` in words."""
    lines = [f"fitted to {figures['num_words']} words; mean absolute error in ms:"]
    for side in ("start", "end"):
        before, after = figures[f"{side}_ms_before"], figures[f"{side}_ms"]
        lines.append(f"  {side:<6}{before:>7.1f} ->{after:>7.1f}")
    return "\n".join(lines)


def _fit_starts(
    utterances: Sequence[TimedTokens], shift: float, counts_separator: bool, lead: float | None
) -> TimeCorrection:
    usual: list[float] = []
    first_words: list[float] = []
    late_words: list[float] = []
    for utterance in utterances:
        frames = utterance.token_frames
        previous_end = 0
        for number, ((begin, end), start) in enumerate(
            zip(utterance.spans, utterance.starts, strict=True)
        ):
            first = previous_end if counts_separator else begin
            previous_end = end
            errors = usual
            if number == 0 and lead is not None:
                late = late_token(frames[first:end], lead / shift)
                errors = late_words if late else first_words
                first += late
            errors.append(start - frames[first] * shift)
    return TimeCorrection(
        start_offset_seconds=_median(usual),
        first_offset_seconds=_median(first_words),
        late_offset_seconds=_median(late_words),
        counts_separator=counts_separator,
        longest_lead_seconds=lead,
    )


def _fit_ends(
    utterances: Sequence[TimedTokens], shift: float, correction: TimeCorrection, gap: float | None
) -> TimeCorrection:
    errors: list[float] = []
    for utterance, starts in _started(utterances, shift, correction):
        tokens_end = [(utterance.token_ends[end - 1] + 1) * shift for _, end in utterance.spans]
        for number, (end, found) in enumerate(zip(utterance.ends, tokens_end, strict=True)):
            following = starts[number + 1] if number + 1 < len(starts) else np.inf
            if gap is None or following - found > gap:
                errors.append(end - found)
    return replace(correction, end_offset_seconds=_median(errors), longest_gap_seconds=gap)


def _started(
    utterances: Sequence[TimedTokens], shift: float, correction: TimeCorrection
) -> Iterator[tuple[TimedTokens, list[float]]]:
    for utterance in utterances:
        yield utterance, [word.start_seconds for word in _apply(utterance, shift, correction)]


def _apply(
    utterance: TimedTokens, shift: float, correction: TimeCorrection
) -> list[TimedWord[int]]:
    return correction.apply(
        range(len(utterance.spans)), utterance.spans, utterance.token_frames, utterance.token_ends,
        shift, utterance.duration_seconds,
    )  # fmt: skip


def _mean_error(
    utterances: Sequence[TimedTokens], shift: float, correction: TimeCorrection, side: str
) -> float:
    errors = []
    for utterance in utterances:
        for word, expected in zip(
            _apply(utterance, shift, correction), getattr(utterance, side), strict=True
        ):
            found = word.start_seconds if side == "starts" else word.end_seconds
            errors.append(abs(found - expected))
    return float(np.mean(errors))


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 6) if values else 0.0
