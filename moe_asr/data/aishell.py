"""AISHELL-1 (openslr.org/33): one file of transcripts, and a folder of WAV for each speaker.

Bu et al., "AISHELL-1: an open-source Mandarin speech corpus and a speech recognition baseline",
O-COCOSDA 2017. On disk: ``data_aishell/transcript/aishell_transcript_v0.8.txt`` with lines
``BAC009S0002W0122 <word> <word> ...``, ``data_aishell/wav/{train,dev,test}/<speaker>/<utterance>.wav``,
and ``resource_aishell/lexicon.txt``. The transcripts are divided into words: language models take the
words, training and scoring the characters without spaces. As published, 325 of the 141,925 recordings
have no transcript.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhotse import RecordingSet, SupervisionSet
from tqdm import tqdm

from moe_asr.data.corpus import Part, PartListing, PublicCorpus, file_line, raise_for, with_advice
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_text

TRANSCRIPTS = "data_aishell/transcript/aishell_transcript_v0.8.txt"
WAVES = "data_aishell/wav"
LEXICON = "resource_aishell/lexicon.txt"
_NO_WORDS = ("SIL", "<SPOKEN_NOISE>")
_UTTERANCE = re.compile(r"[A-Z0-9]+?(S\d{4})W\d{4}")


class Aishell(PublicCorpus):
    """See the module. One instance reads the transcripts, and runs lhotse, only once."""

    name = "aishell"
    parts = {"train": Part("train", 120098), "dev": Part("dev", 14326), "test": Part("test", 7176)}

    def __init__(self) -> None:
        self._transcripts: dict[Path, tuple[dict[str, str], str]] = {}
        self._prepared: dict[Path, dict[str, dict[str, Any]]] = {}

    def locate(self, source: PathLike) -> Path:
        source = Path(source)
        folders = [source, source / "aishell"]
        if source.name == "data_aishell":
            folders.append(source.parent)
        for folder in folders:
            if (folder / TRANSCRIPTS).is_file():
                return folder.resolve()
        what = "it is not there" if source.is_dir() else "there is no such folder"
        if (source / "data_aishell.tgz").exists():
            what += " (data_aishell.tgz is there, but not unpacked)"
        raise DataError(f"{source}: expected {TRANSCRIPTS} in it; {what}")

    def transcript(self, words: str) -> str:
        return words.replace(" ", "")

    def scan(self, root: Path, part: str, progress: bool = True) -> PartListing:
        folder = root / WAVES / part
        packed = _packed_speakers(root / WAVES)
        if packed:
            raise DataError(
                f"{root / WAVES}: {len(packed)} archives are not unpacked, {packed[0]} for one; "
                "expected folders train/, dev/ and test/ with a folder for each speaker"
            )
        for name in self.parts:  # lhotse prepares all of them together
            if not (root / WAVES / name).is_dir():
                raise DataError(f"{root / WAVES / name}: no such folder; the corpus has it")
        texts, digest = self._read_transcripts(root)
        listing = PartListing({}, files=[f"{TRANSCRIPTS} {digest}"])
        culprits = []
        speakers = sorted(path for path in folder.iterdir() if path.is_dir())
        by_speaker: dict[str, set[str]] = {path.name: set() for path in speakers}
        for name in texts:
            match = _UTTERANCE.fullmatch(name)
            if match is not None and match[1] in by_speaker:
                by_speaker[match[1]].add(name)
        for speaker in tqdm(
            speakers, desc=part, unit="speaker", disable=None if progress else True
        ):
            audio = _wave_files(speaker)
            for other in self.parts:
                if other != part and (root / WAVES / other / speaker.name).is_dir():
                    culprits.append(f"{speaker}: {other}/ has the same speaker")
            for name, status in audio.items():
                listing.files.append(file_line(speaker / f"{name}.wav", root, status))
                match = _UTTERANCE.fullmatch(name)
                if match is not None and match[1] != speaker.name:
                    culprits.append(f"{speaker / name}.wav: expected it in a folder {match[1]}")
                elif status.st_size == 0:
                    culprits.append(f"{speaker / name}.wav: empty file")
                elif name not in texts:
                    listing.without_transcript += 1
                else:
                    listing.texts[name] = texts[name]
            missing = sorted(by_speaker[speaker.name] - set(audio))
            culprits += [f"{speaker / name}.wav: missing; it has a transcript" for name in missing]
        raise_for(str(folder), culprits)
        if not listing.texts:
            raise DataError(
                f"{folder}: no audio with a transcript; expected {part}/<speaker>/*.wav"
            )
        return listing

    def missing_folders(self, root: Path, part: str) -> list[str]:
        """Speakers of the transcripts that have no folder in any part."""
        names = {_UTTERANCE.sub(r"\1", name) for name in self._read_transcripts(root)[0]}
        return sorted(
            f"*/{name}"
            for name in names
            if not any((root / WAVES / each / name).is_dir() for each in self.parts)
        )

    def manifests(self, root: Path, part: str) -> tuple[RecordingSet, SupervisionSet]:
        from lhotse.recipes import prepare_aishell

        if root not in self._prepared:
            self._prepared[root] = prepare_aishell(root)
        prepared = self._prepared[root][part]
        return prepared["recordings"], prepared["supervisions"]

    def download(self, target: PathLike, parts: Sequence[str], base_url: str | None = None) -> Path:
        from lhotse.recipes import download_aishell

        where = {} if base_url is None else {"base_url": base_url}
        return with_advice(
            lambda: download_aishell(target, **where),
            f"the same command goes on from there; if it fails again, delete the .tgz in {target}",
        )

    def _read_transcripts(self, root: Path) -> tuple[dict[str, str], str]:
        """The words of every utterance, normalised as lhotse does, and the digest of their file."""
        from lhotse.recipes.aishell import text_normalize

        if root not in self._transcripts:
            path = root / TRANSCRIPTS
            lines = _lines(path)
            texts: dict[str, str] = {}
            culprits = []
            for number, line in enumerate(lines, start=1):
                name, *words = line.split() or [""]
                if _UTTERANCE.fullmatch(name) is None or not words:
                    culprits.append(
                        f"{path}:{number}: expected 'BAC009S0002W0122 words', found {line!r}"
                    )
                elif name in texts:
                    culprits.append(f"{path}:{number}: a second line for {name}")
                texts[name] = text_normalize(" ".join(words))
            raise_for(str(path), culprits)
            self._transcripts[root] = texts, hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return self._transcripts[root]


def read_lexicon_words(path: PathLike) -> list[str]:
    """The words of ``resource_aishell/lexicon.txt``, each once, normalised as transcripts are.

    Its lines are ``word phone phone ...``; the entries for silence and noise are passed over.

    Raises:
        DataError: with file and line, on a line without phones; naming the file if it cannot be read.
    """
    from lhotse.recipes.aishell import text_normalize

    words: dict[str, None] = {}
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split()
        if len(fields) < 2:
            raise DataError(f"{path}:{number}: expected 'word phone phone ...', found {line!r}")
        if fields[0] not in _NO_WORDS:
            words[text_normalize(fields[0])] = None
    return list(words)


def _lines(path: PathLike) -> list[str]:
    """The lines of a text file, as lhotse divides it; `DataError` if it cannot be read."""
    try:
        lines = read_text(path).split("\n")
    except ConfigError as error:
        raise DataError(str(error)) from error
    return lines[:-1] if lines[-1] == "" else lines


def _packed_speakers(waves: Path) -> list[str]:
    """Archives of speakers that have no folder in any part."""
    if not waves.is_dir():
        raise DataError(f"{waves}: no such folder")
    return sorted(
        path.name
        for path in waves.glob("S*.tar.gz")
        if not any((waves / part / path.name.split(".")[0]).is_dir() for part in Aishell.parts)
    )


def _wave_files(folder: Path) -> dict[str, os.stat_result]:
    with os.scandir(folder) as entries:
        found = sorted(
            (entry for entry in entries if entry.name.endswith(".wav")),
            key=lambda entry: entry.name,
        )
        return {entry.name.removesuffix(".wav"): entry.stat() for entry in found}
