"""Transcripts as text: plain, JSON, ctm, and subtitles."""

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_asr.errors import ConfigError
from moe_asr.evaluate.ctm import CtmWord, ctm_lines
from moe_asr.recognizer.results import Transcript
from moe_asr.recognizer.subtitles import subtitle_cues


@dataclass(frozen=True)
class TranscriptFormat:
    """How a transcript is written.

    Attributes:
        name: as it is chosen.
        extension: of documents, without a point.
        write: the whole document of one transcript.
        write_one_of_many: what stands for one of several transcripts in one document (on standard output);
            None if documents of several are not possible.
    """

    name: str
    extension: str
    write: Callable[[Transcript], str]
    write_one_of_many: Callable[[Transcript], str] | None


def get_format(name: str) -> TranscriptFormat:
    """The format called ``name``; `ConfigError` with the nearest name if there is none."""
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"unknown format '{name}'{hint} (available: {', '.join(FORMATS)})")
    return FORMATS[name]


def to_text(transcript: Transcript) -> str:
    """A line for each segment that has words."""
    return "".join(f"{segment.text}\n" for segment in transcript.segments if segment.text)


def to_named_text(transcript: Transcript) -> str:
    """The same, each line with the file's name and a colon before it."""
    name = " ".join(printable(transcript.name).splitlines())
    return "".join(f"{name}: {line}\n" for line in to_text(transcript).split("\n")[:-1])


def to_record(transcript: Transcript) -> dict[str, Any]:
    """Everything that is known of a file, as plain values; what is not finite is None."""
    record = {
        "name": transcript.name,
        "duration_seconds": transcript.duration_seconds,
        "text": transcript.text,
        "segments": [dataclasses.asdict(segment) for segment in transcript.segments],
    }
    return _finite(record)


def to_json(transcript: Transcript) -> str:
    """`to_record` as an indented JSON document."""
    return json.dumps(to_record(transcript), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_json_line(transcript: Transcript) -> str:
    """`to_record` in one line."""
    return json.dumps(to_record(transcript), ensure_ascii=False, allow_nan=False) + "\n"


def to_ctm(transcript: Transcript) -> str:
    """NIST's ctm (`moe_asr.evaluate.ctm`); the first column is `file_id`."""
    name = file_id(transcript.name)
    words = [
        CtmWord(
            name,
            "1",
            word.start_seconds,
            word.end_seconds - word.start_seconds,
            word.text,
            word.confidence,
        )
        for word in sorted(transcript.words, key=lambda word: word.start_seconds)
    ]
    return "".join(f"{line}\n" for line in ctm_lines(words, transcript.name))


def to_srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_clock(cue.start_milliseconds, ',')} --> {_clock(cue.end_milliseconds, ',')}\n"
        f"{_joined(cue.lines)}\n"
        for number, cue in enumerate(subtitle_cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT subtitles (w3.org/TR/webvtt1): the characters that it gives a meaning are escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{_clock(cue.start_milliseconds, '.')} --> {_clock(cue.end_milliseconds, '.')}\n"
        f"{_joined([_escaped(line) for line in cue.lines])}\n"
        for cue in subtitle_cues(transcript)
    )


def file_id(name: str) -> str:
    """What a file is called where folders and spaces do not belong: its name without folder and extension."""
    return "_".join(printable(Path(name).stem).split()) or "_"


def printable(name: str) -> str:
    """A file's name as Unicode: of one that is not in UTF-8, the bytes that are wrong become ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


FORMATS: Mapping[str, TranscriptFormat] = {
    one.name: one
    for one in (
        TranscriptFormat("text", "txt", to_text, to_named_text),
        TranscriptFormat("json", "json", to_json, to_json_line),
        TranscriptFormat("ctm", "ctm", to_ctm, to_ctm),
        TranscriptFormat("srt", "srt", to_srt, None),
        TranscriptFormat("vtt", "vtt", to_vtt, None),
    )
}


def _finite(value: Any) -> Any:
    """A plain value that JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
