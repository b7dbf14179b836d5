"""Transcripts in any of the formats that are scored: ``id text`` lines, sclite's trn and ctm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.ctm import CtmWord, ctm_texts, files_of_several_channels, read_ctm
from moe_asr.evaluate.trn import read_trn, write_trn
from moe_asr.evaluate.wer import WerReport, read_transcripts, write_transcripts
from moe_asr.files import PathLike

FORMATS = ("text", "trn", "ctm")


def format_of(path: PathLike) -> str:
    """The format that a file's name tells: ``.trn``, ``.ctm`` (or these with ``.gz``), else text."""
    suffix = Path(str(path).removesuffix(".gz")).suffix.lower()
    return suffix[1:] if suffix in (".trn", ".ctm") else "text"


def read_transcript_sets(
    paths: Sequence[PathLike], formats: Sequence[str | None] | None = None
) -> list[dict[str, str]]:
    """Reads transcripts that belong together: references, and hypotheses of one or more systems.

    A ctm file has no utterances but files with channels. The words of a file are one text, its id the file's;
    where any of the sets has words in several channels of a file, or texts of its channels, each channel is
    a text, with the id ``file-channel``.

    Args:
        paths: a set each.
        formats: of each set, one of `FORMATS`, or None for what its name tells.

    Returns:
        The texts by id of each set.

    Raises:
        DataError: with file and line, if a line is not of the format or an id comes twice; if a file has no
            utterances.
        ConfigError: if there is no such format.
    """
    chosen = [
        given or format_of(path)
        for path, given in zip(paths, formats or [None] * len(paths), strict=True)
    ]
    texts: list[dict[str, str] | None] = []
    ctms: list[dict[str, list[CtmWord]]] = []
    for path, name in zip(paths, chosen, strict=True):
        if name not in FORMATS:
            raise ConfigError(f"format must be one of {', '.join(FORMATS)}, found '{name}'")
        if name == "ctm":
            ctms.append(read_ctm(path))
            texts.append(None)
        else:
            texts.append(read_trn(path) if name == "trn" else read_transcripts(path))
        if not (texts[-1] or (name == "ctm" and ctms[-1])):
            raise DataError(f"{path}: there are no utterances in it")
    ids = {name for one in texts if one is not None for name in one}
    several: set[str] = set()
    for words in ctms:
        several |= files_of_several_channels(words)
        several |= {
            name
            for name, found in words.items()
            if name not in ids and any(f"{name}-{word.channel}" in ids for word in found)
        }
    remaining = iter(ctms)
    return [ctm_texts(next(remaining), several) if one is None else one for one in texts]


def write_texts(path: PathLike, texts: Mapping[str, str]) -> None:
    """Writes texts as trn or as ``id text`` lines, as the name tells.

    Raises:
        DataError: if an id or a text cannot be written.
        ConfigError: if the name is that of a ctm file: texts have no times.
    """
    name = format_of(path)
    if name == "ctm":
        raise ConfigError(f"{path}: texts have no times and cannot be written as ctm")
    (write_trn if name == "trn" else write_transcripts)(path, texts)


def scored_paths(directory: PathLike, suffix: str = "") -> list[Path]:
    """What `write_scored` writes."""
    return [Path(directory) / f"{side}{suffix}.trn" for side in ("ref", "hyp")]


def write_scored(directory: PathLike, report: WerReport, suffix: str = "") -> list[Path]:
    """Writes what was aligned, normalised and with the alternatives chosen, as ``ref.trn`` and ``hyp.trn``.

    Args:
        directory: where to.
        report: of `score`.
        suffix: goes to the names: ``ref1.trn``.

    Returns:
        The paths of both.
    """
    paths = scored_paths(directory, suffix)
    for side, path in enumerate(paths):
        texts = {
            name: " ".join(pair[side] or "" for pair in score.alignment if pair[side] is not None)
            for name, score in report.utterances.items()
        }
        write_trn(path, texts)
    return paths
