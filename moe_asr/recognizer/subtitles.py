"""Words with times, to the cues of subtitles: short lines, shown while they are said."""

from collections.abc import Sequence
from dataclasses import dataclass

from moe_asr.recognizer.results import Transcript, Word

MAX_LINES, MAX_CHARACTERS = 2, 42
MAX_SECONDS = 7.0
_PAUSE_SECONDS = 0.8  # a pause as long as this ends a cue
_BREATH_SECONDS = 0.15  # one as long as this is a better end than the last word that fits
_SHOWN_SECONDS = 1.0  # at least, where nothing follows so soon


@dataclass(frozen=True)
class Cue:
    """What is shown at a time.

    Attributes:
        start_milliseconds, end_milliseconds: the end is behind the start.
        lines: one or two.
    """

    start_milliseconds: int
    end_milliseconds: int
    lines: tuple[str, ...]


def subtitle_cues(transcript: Transcript) -> list[Cue]:
    """The cues of a transcript, in order; they do not overlap, and have all its words.

    A cue has up to two lines of 42 characters (a longer word has a line of its own) and is shown for 7
    seconds at most. It ends with its segment, at a pause, or where it is full: then at the longest of its
    later pauses, if there is one. A short cue stays for a second, if the next one lets it.
    """
    groups = [group for segment in transcript.segments for group in _groups(segment.words)]
    cues: list[Cue] = []
    for number, words in enumerate(groups):
        start = max(_milliseconds(words[0].start_seconds), cues[-1].end_milliseconds if cues else 0)
        end = max(_milliseconds(words[-1].end_seconds), start + _milliseconds(_SHOWN_SECONDS))
        if number + 1 < len(groups):
            end = min(end, _milliseconds(groups[number + 1][0].start_seconds))
        end = max(min(end, start + _milliseconds(MAX_SECONDS)), start + 1)
        cues.append(Cue(start, end, _lines([word.text for word in words])))
    return cues


def _milliseconds(seconds: float) -> int:
    return round(1000.0 * seconds)


def _groups(words: Sequence[Word]) -> list[list[Word]]:
    """The words of each cue of a segment."""
    groups: list[list[Word]] = []
    current: list[Word] = []
    for word in words:
        if current and word.start_seconds - current[-1].end_seconds >= _PAUSE_SECONDS:
            groups.append(current)
            current = []
        while current and not _fits([*current, word]):
            count = _best_break([*current, word])
            groups.append(current[:count])
            current = current[count:]
        current.append(word)
    return [*groups, current] if current else groups


def _fits(words: Sequence[Word]) -> bool:
    seconds = words[-1].end_seconds - words[0].start_seconds
    return seconds <= MAX_SECONDS and len(_filled([word.text for word in words])) <= MAX_LINES


def _best_break(words: Sequence[Word]) -> int:
    """How many of the words, the last of which does not fit, are shown together."""
    last = len(words) - 1
    gaps = [
        (words[count].start_seconds - words[count - 1].end_seconds, count)
        for count in range(max(1, last // 2), last + 1)
    ]
    gap, count = max(gaps)
    return count if gap >= _BREATH_SECONDS else last


def _filled(texts: Sequence[str], width: int = MAX_CHARACTERS) -> list[str]:
    """Lines that are as full as they can be, the first ones first."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines


def _lines(texts: Sequence[str]) -> tuple[str, ...]:
    """As few lines as there can be, of lengths as equal as they can be."""
    number = len(_filled(texts))
    width = next(
        width for width in range(MAX_CHARACTERS + 1) if len(_filled(texts, width)) <= number
    )
    return tuple(_filled(texts, width))
