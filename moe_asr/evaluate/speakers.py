"""Who says which utterance: Kaldi's utt2spk files, or what the ids tell; errors by speaker."""

import re
from collections.abc import Iterable, Mapping

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.wer import ErrorCounts, WerReport, read_transcripts, sum_counts
from moe_asr.files import PathLike


def read_utt2spk(path: PathLike, ids: Iterable[str]) -> dict[str, str]:
    """The speaker of each utterance; lines are ``utterance speaker``, others than ``ids`` may be there.

    Raises:
        DataError: with file and line, if a line is not of that form or an utterance comes twice; naming some
            of ``ids`` that have no speaker.
    """
    speakers = read_transcripts(path)
    for number, (name, speaker) in enumerate(speakers.items(), start=1):
        if len(speaker.split()) != 1:
            found = f"{name} {speaker}".rstrip()
            raise DataError(f"{path}:{number}: expected 'utterance speaker', found '{found}'")
    return {name: _found(speakers, name, path) for name in ids}


def speakers_by_pattern(ids: Iterable[str], pattern: str) -> dict[str, str]:
    """The speaker of each utterance as its id tells.

    Args:
        pattern: a regular expression that is found in every id; its first group is the speaker, or all
            that it matches if it has no group.

    Raises:
        ConfigError: if it is no regular expression.
        DataError: naming an id that it is not found in.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"'{pattern}' is not a regular expression: {error}") from error
    speakers = {}
    for name in ids:
        match = compiled.search(name)
        speaker = match and match[min(1, compiled.groups)]
        if not speaker:
            raise DataError(f"'{pattern}' finds no speaker in the utterance id '{name}'")
        speakers[name] = speaker
    return speakers


def errors_by_speaker(
    report: WerReport, speakers: Mapping[str, str]
) -> dict[str, tuple[int, ErrorCounts]]:
    """Utterances and errors of each speaker, in the order of their names."""
    counts: dict[str, list[ErrorCounts]] = {}
    for name, score in report.utterances.items():
        counts.setdefault(speakers[name], []).append(score.counts)
    return {name: (len(counts[name]), sum_counts(counts[name])) for name in sorted(counts)}


def _found(speakers: Mapping[str, str], name: str, path: PathLike) -> str:
    if name not in speakers:
        raise DataError(f"{path}: utterance '{name}' has no speaker")
    return speakers[name]
