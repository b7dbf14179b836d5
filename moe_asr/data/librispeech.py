"""LibriSpeech (openslr.org/12): folders of chapters, FLAC, and a file of transcripts in each.

Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015. On disk:
``LibriSpeech/<part>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac`` beside
``<speaker>-<chapter>.trans.txt`` with lines ``<speaker>-<chapter>-<nnnn> WORDS IN UPPER CASE``. Case stays
as it is: the published lexicon, vocabulary and language models are in upper case too.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from lhotse import RecordingSet, SupervisionSet
from tqdm import tqdm

from moe_asr.data.corpus import Part, PartListing, PublicCorpus, file_line, raise_for, with_advice
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_text

FOLDER, CHAPTERS = "LibriSpeech", "CHAPTERS.TXT"
LM_FILES = (  # openslr.org/11
    "librispeech-lexicon.txt",
    "librispeech-vocab.txt",
    "librispeech-lm-norm.txt.gz",
    "3-gram.pruned.1e-7.arpa.gz",
    "3-gram.pruned.3e-7.arpa.gz",
)


class LibriSpeech(PublicCorpus):
    """See the module."""

    name = "librispeech"
    parts = {
        "train-clean-100": Part("train", 28539),
        "train-clean-360": Part("train", 104014),
        "train-other-500": Part("train", 148688),
        "dev-clean": Part("dev", 2703),
        "dev-other": Part("dev", 2864),
        "test-clean": Part("test", 2620),
        "test-other": Part("test", 2939),
    }
    joined = {
        "train": ("train-clean-100", "train-clean-360", "train-other-500"),
        "dev": ("dev-clean", "dev-other"),
    }

    def __init__(self, num_jobs: int = 4) -> None:
        self.num_jobs = num_jobs

    def locate(self, source: PathLike) -> Path:
        source = Path(source)
        for folder in (source, source / FOLDER):
            if any((folder / part).is_dir() for part in self.parts):
                return folder.resolve()
        what = "none of them is there" if source.is_dir() else "there is no such folder"
        raise DataError(
            f"{source}: expected folders {', '.join(self.parts)}, in it or in {FOLDER}/ in it; {what}"
        )

    def scan(self, root: Path, part: str, progress: bool = True) -> PartListing:
        if not (root / part).is_dir():
            there = ", ".join(name for name in self.parts if (root / name).is_dir())
            raise DataError(
                f"{root / part}: no such folder; {part}.tar.gz unpacks to it. There are: {there}"
            )
        listing, culprits = PartListing({}), []
        chapters = sorted(
            chapter for speaker in _folders(root / part) for chapter in _folders(speaker)
        )
        for chapter in tqdm(
            chapters, desc=part, unit="chapter", disable=None if progress else True
        ):
            culprits += _scan_chapter(chapter, root, listing)
            for other in self.parts:
                if other != part and (root / other / chapter.relative_to(root / part)).is_dir():
                    culprits.append(f"{chapter}: {other}/ has the same chapter")
        raise_for(str(root / part), culprits)
        if not listing.texts:
            raise DataError(
                f"{root / part}: no utterances; expected {part}/<speaker>/<chapter>/*.flac"
            )
        return listing

    def missing_folders(self, root: Path, part: str) -> list[str]:
        """Chapters of ``part`` in CHAPTERS.TXT."""
        path = root / CHAPTERS
        if not path.is_file():
            return []
        content = path.read_text(encoding="utf-8", errors="replace")  # titles are of no interest
        rows = [line.split("|") for line in content.splitlines() if line[:1] != ";"]
        names = [
            f"{part}/{row[1].strip()}/{row[0].strip()}"
            for row in rows
            if len(row) >= 4 and row[3].strip() == part
        ]
        return [name for name in names if not (root / name).is_dir()]

    def manifests(self, root: Path, part: str) -> tuple[RecordingSet, SupervisionSet]:
        from lhotse.recipes import prepare_librispeech

        prepared = prepare_librispeech(root, dataset_parts=part, num_jobs=self.num_jobs)[part]
        return prepared["recordings"], prepared["supervisions"]

    def download(self, target: PathLike, parts: Sequence[str], base_url: str | None = None) -> Path:
        from lhotse.recipes import download_librispeech

        where = {} if base_url is None else {"base_url": base_url}
        return with_advice(
            lambda: download_librispeech(target, dataset_parts=self.check_parts(parts), **where),
            f"the same command goes on from there; if it fails again on the same archive, delete "
            f"that <part>.tar.gz in {target}",
        )


def _folders(folder: Path) -> list[Path]:
    """The folders in ``folder`` with a number for a name: speakers and chapters."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.name.isdigit() and entry.is_dir()]


def _scan_chapter(chapter: Path, root: Path, listing: PartListing) -> list[str]:
    """Adds a chapter to ``listing``; returns what is wrong with it."""
    prefix = f"{chapter.parent.name}-{chapter.name}"
    path = chapter / f"{prefix}.trans.txt"
    audio: dict[str, os.stat_result] = {}
    with os.scandir(chapter) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".flac"):
                audio[entry.name.removesuffix(".flac")] = entry.stat()
    if not path.is_file():
        return [f"{path}: missing, beside {len(audio)} FLAC files"]
    try:
        content = read_text(path)
    except ConfigError as error:
        return [str(error)]
    culprits, texts = [], {}
    for number, line in enumerate(content.splitlines(), start=1):
        name, _, text = line.strip().partition(" ")
        if not name.startswith(f"{prefix}-") or not text.strip():
            culprits.append(f"{path}:{number}: expected '{prefix}-<nnnn> WORDS', found {line!r}")
        elif name in texts:
            culprits.append(f"{path}:{number}: a second line for {name}")
        elif name not in audio:
            culprits.append(f"{path}:{number}: there is no {name}.flac")
        elif audio[name].st_size == 0:
            culprits.append(f"{chapter / name}.flac: empty file")
        texts[name] = text.strip()
    culprits += [
        f"{chapter / name}.flac: no line in {path.name}" for name in audio if name not in texts
    ]
    if not culprits:
        listing.texts.update(texts)
    digest = hashlib.sha256(content.encode()).hexdigest()
    listing.files.append(f"{path.relative_to(root).as_posix()} {digest}")
    listing.files.extend(
        file_line(chapter / f"{name}.flac", root, status) for name, status in audio.items()
    )
    return culprits
