"""Public corpora: what lies on disk, held against lhotse's preparation and the published counts.

lhotse's recipes leave out, with a warning at most, whatever does not fit: audio without a transcript, a
transcript without audio, a folder that was never unpacked. Here the disk is looked through first; what
lhotse makes of it must be the same utterances.
"""

import importlib
import logging
import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lhotse import MonoCut, RecordingSet, SupervisionSet
from lhotse.cut import Cut

from moe_asr.config import from_dict
from moe_asr.data.manifests import read_cuts, write_cuts
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_json, read_text, write_json, write_text

SAMPLE_RATE = 16000  # of both corpora
MAX_CULPRITS = 10
CORPORA = {
    "librispeech": ("moe_asr.data.librispeech", "LibriSpeech"),
    "aishell": ("moe_asr.data.aishell", "Aishell"),
}


@dataclass(frozen=True)
class Part:
    """A part of a corpus as published: ``train``, ``dev`` or ``test``, and how many utterances it has."""

    role: str
    num_utterances: int


@dataclass(frozen=True)
class DurationLimits:
    """The utterances that training takes, in seconds. Dev and test parts are never filtered."""

    min_seconds: float = 1.0
    max_seconds: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds < math.inf:
            raise ConfigError(
                f"not a range of durations: {self.min_seconds} to {self.max_seconds} s"
            )


@dataclass
class PartListing:
    """What of a part lies on disk.

    Attributes:
        texts: the words of each utterance that has audio and a transcript, separated by spaces.
        without_transcript: number of audio files that have none.
        files: a line for each file, which another one follows if the file is changed.
    """

    texts: dict[str, str]
    without_transcript: int = 0
    files: list[str] = field(default_factory=list)

    def write(self, path: PathLike) -> None:
        """Writes ``files`` to ``path``: the same text for the same files."""
        write_text(path, "".join(f"{line}\n" for line in self.files))


@dataclass(frozen=True)
class PartReport:
    """What became of a part; hours are those of the utterances kept."""

    part: str
    published: int
    found: int
    without_transcript: int
    too_short: int
    too_long: int
    kept: int
    hours: float
    longest_seconds: float


class PublicCorpus(ABC):
    """A corpus that lhotse can download and prepare.

    Attributes:
        name: as on the command line.
        parts: by name, in the order of the corpus's own documents.
        joined: manifests that put several parts together, by name.
    """

    name: ClassVar[str]
    parts: ClassVar[Mapping[str, Part]]
    joined: ClassVar[Mapping[str, Sequence[str]]] = {}

    @abstractmethod
    def locate(self, source: PathLike) -> Path:
        """The corpus's own folder, given it or the folder it lies in; `DataError` if it is neither."""

    @abstractmethod
    def scan(self, root: Path, part: str, progress: bool = True) -> PartListing:
        """What of ``part`` lies on disk.

        Raises:
            DataError: naming up to ten files and lines that do not fit together.
        """

    @abstractmethod
    def manifests(self, root: Path, part: str) -> tuple[RecordingSet, SupervisionSet]:
        """lhotse's own preparation of ``part``."""

    @abstractmethod
    def download(self, target: PathLike, parts: Sequence[str], base_url: str | None = None) -> Path:
        """lhotse's own download, resumed where it was cut; returns the corpus's own folder.

        Raises:
            DataError: if it fails; says how to go on.
        """

    def transcript(self, words: str) -> str:
        """The transcript that is trained on and scored, of the words of a listing."""
        return words

    def check_parts(self, names: Iterable[str]) -> list[str]:
        """The names, each once; `DataError` on an unknown one."""
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in self.parts:
                raise DataError(
                    f"{self.name} has no part '{name}'; expected one of {', '.join(self.parts)}"
                )
        return names

    @abstractmethod
    def missing_folders(self, root: Path, part: str) -> list[str]:
        """Folders that the corpus's own documents tell of and that are not there."""

    def check_complete(self, root: Path, part: str, listing: PartListing) -> None:
        """Raises `DataError` unless the part has as many utterances as were published."""
        found, published = len(listing.texts), self.parts[part].num_utterances
        if found == published:
            return
        missing = self.missing_folders(root, part)
        where = f" {len(missing)} folders are missing, {missing[0]} for one." if missing else ""
        raise DataError(
            f"{root}: part {part} has {found} utterances with audio and transcript; published are "
            f"{published}.{where} Unpack it again, or say --partial if this is what you want"
        )


def make_corpus(name: str) -> PublicCorpus:
    """The corpus of that name, a key of `CORPORA`."""
    module, class_name = CORPORA[name]
    corpus: PublicCorpus = getattr(importlib.import_module(module), class_name)()
    return corpus


def prepare_part(
    corpus: PublicCorpus, root: Path, part: str, listing: PartListing, limits: DurationLimits
) -> tuple[list[MonoCut], PartReport]:
    """The cuts of a part, one for each supervision, and what was left out.

    Training parts are filtered by duration and come in a fixed random order, others complete, by id.

    Raises:
        DataError: lhotse fails, or its utterances, transcripts or audio are not those of ``listing``.
    """
    with captured_warnings() as warnings:
        try:
            recordings, supervisions = corpus.manifests(root, part)
        except DataError:
            raise
        except Exception as error:  # lhotse raises whatever its readers do
            raise DataError(f"{root}: lhotse cannot prepare {part}: {error!r}") from error
    found = {supervision.id: supervision for supervision in supervisions}
    _check_same(f"{root}: part {part}", listing, found, warnings)
    culprits, cuts = [], []
    for name in sorted(found):
        supervision, recording = found[name], recordings[found[name].recording_id]
        transcript = corpus.transcript(listing.texts[name])
        if supervision.text != transcript:
            culprits.append(f"{name}: transcript {transcript!r}, of lhotse {supervision.text!r}")
        elif recording.sampling_rate != SAMPLE_RATE or recording.num_channels != 1:
            culprits.append(
                f"{name}: {recording.num_channels} channel(s) at {recording.sampling_rate} Hz; "
                f"expected 1 at {SAMPLE_RATE}"
            )
        cuts.append(
            MonoCut(
                id=name,
                start=supervision.start,
                duration=supervision.duration,
                channel=0,
                supervisions=[supervision.with_offset(-supervision.start)],
                recording=recording,
            )
        )
    raise_for(f"{root}: part {part}", culprits)
    training = corpus.parts[part].role == "train"
    short = [cut for cut in cuts if training and cut.duration < limits.min_seconds]
    long = [cut for cut in cuts if training and cut.duration > limits.max_seconds]
    left_out = {cut.id for cut in (*short, *long)}
    kept = [cut for cut in cuts if cut.id not in left_out]
    if not kept:
        raise DataError(
            f"{root}: part {part} has no utterance of {limits.min_seconds} to {limits.max_seconds} s"
        )
    if training:
        random.Random(part).shuffle(kept)
    report = PartReport(
        part=part,
        published=corpus.parts[part].num_utterances,
        found=len(listing.texts),
        without_transcript=listing.without_transcript,
        too_short=len(short),
        too_long=len(long),
        kept=len(kept),
        hours=round(sum(cut.duration for cut in kept) / 3600, 3),
        longest_seconds=round(max(cut.duration for cut in kept), 3),
    )
    return kept, report


def part_files(part: str) -> list[str]:
    """What `write_part` writes: the manifest, the words for language models, the report."""
    return [f"cuts_{part}.jsonl.gz", f"text_{part}.txt", f"report_{part}.json"]


def joined_files(name: str) -> list[str]:
    """What `write_joined` writes."""
    return part_files(name)[:2]


def write_part(
    corpus: PublicCorpus,
    root: Path,
    part: str,
    listing: PartListing,
    limits: DurationLimits,
    folder: Path,
) -> None:
    """Prepares a part (`prepare_part`) and writes `part_files` to ``folder``."""
    cuts, report = prepare_part(corpus, root, part, listing, limits)
    manifest, text, summary = (folder / name for name in part_files(part))
    write_cuts(cuts, manifest)
    write_text(text, "".join(f"{listing.texts[cut.id]}\n" for cut in cuts))
    write_json(summary, asdict(report))


def write_joined(name: str, parts: Sequence[str], source: Path, folder: Path) -> None:
    """Joins parts that lie in ``source``: cuts in a fixed random order, so that neighbours are of all."""
    cuts: list[Cut] = []
    texts: list[str] = []
    for part in parts:
        cuts.extend(read_cuts(source / part_files(part)[0]))
        texts.append(read_text(source / part_files(part)[1]))
    random.Random(name).shuffle(cuts)
    write_cuts(cuts, folder / joined_files(name)[0])
    write_text(folder / joined_files(name)[1], "".join(texts))


def read_report(folder: Path, part: str) -> PartReport:
    """The report that `write_part` wrote."""
    path = folder / part_files(part)[2]
    return from_dict(PartReport, read_json(path), str(path))


def format_reports(reports: Sequence[PartReport]) -> str:
    """A table with a line for each part."""
    lines = [
        f"{'part':<17}{'published':>10}{'on disk':>9}{'no text':>9}{'too short':>11}{'too long':>10}"
        f"{'kept':>8}{'hours':>9}{'longest s':>11}"
    ]
    for row in reports:
        lines.append(
            f"{row.part:<17}{row.published:>10}{row.found:>9}{row.without_transcript:>9}"
            f"{row.too_short:>11}{row.too_long:>10}{row.kept:>8}{row.hours:>9.2f}"
            f"{row.longest_seconds:>11.2f}"
        )
    return "\n".join(lines)


def file_line(path: Path, root: Path, status: os.stat_result) -> str:
    """A line of `PartListing.files` for a file too large to be read for this: size and time of change."""
    return f"{path.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}"


def raise_for(where: str, culprits: Sequence[str]) -> None:
    """Raises a `DataError` that names the first ten culprits, if there are any."""
    if not culprits:
        return
    shown = list(culprits[:MAX_CULPRITS])
    if len(culprits) > MAX_CULPRITS:
        shown.append(f"... and {len(culprits) - MAX_CULPRITS} more")
    raise DataError(f"{where}: {len(culprits)} problem(s):\n  " + "\n  ".join(shown))


def with_advice(function: Callable[[], Path], advice: str) -> Path:
    """Calls a download of lhotse's; what it raises becomes a `DataError` that ends in ``advice``."""
    try:
        return function()
    except Exception as error:  # networks, archives: lhotse raises whatever they do
        reason = str(error) or repr(error)
        raise DataError(f"download failed: {type(error).__name__}: {reason}; {advice}") from error


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """Collects what is logged as a warning instead of printing it."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    collector, logger = Collector(logging.WARNING), logging.getLogger()
    before, logger.handlers = logger.handlers, [collector]
    try:
        yield messages
    finally:
        logger.handlers = before


def _check_same(
    where: str, listing: PartListing, found: Mapping[str, Any], warnings: Sequence[str]
) -> None:
    culprits = [
        f"{name}: on disk, left out by lhotse" for name in listing.texts if name not in found
    ]
    culprits += [f"{name}: from lhotse, not on disk" for name in found if name not in listing.texts]
    if culprits and warnings:
        culprits.insert(0, f"lhotse warns: {warnings[0]}")
    raise_for(where, culprits)
