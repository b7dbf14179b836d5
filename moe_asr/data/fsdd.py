"""The Free Spoken Digit Dataset: scanning, the official split, lhotse manifests.

The corpus is a folder of ``{digit}_{speaker}_{take}.wav`` files (8 kHz, mono, 16 bit). Takes 0-4
are the official test set. See https://github.com/Jakobovski/free-spoken-digit-dataset.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from moe_asr.errors import DataError
from moe_asr.files import PathLike

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FSDD_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
NUM_TAKES = 50
TEST_TAKES = range(0, 5)  # the official split
DEV_TAKES = range(5, 7)  # taken from the training part, so that nothing is ever chosen on test
SPLITS = ("train", "dev", "test")

_FILE_NAME = re.compile(r"([0-9])_([A-Za-z][A-Za-z0-9-]*)_(0|[1-9][0-9]*)\.wav")
_MAX_SHOWN = 5


@dataclass(frozen=True)
class DigitRecording:
    """One spoken digit.

    Attributes:
        speaker, digit, take: what the file name says.
        path: the WAV file.
        sample_rate: in Hz.
        num_samples: length of the file.
    """

    speaker: str
    digit: int
    take: int
    path: Path
    sample_rate: int
    num_samples: int

    @property
    def id(self) -> str:
        return f"{self.digit}_{self.speaker}_{self.take}"

    @property
    def word(self) -> str:
        return DIGIT_WORDS[self.digit]

    @property
    def split(self) -> str:
        """``train``, ``dev`` or ``test``."""
        return split_of_take(self.take)


def split_of_take(take: int) -> str:
    """The part a take belongs to: 0-4 test (official), 5-6 dev, the others train."""
    if take in TEST_TAKES:
        return "test"
    return "dev" if take in DEV_TAKES else "train"


def recordings_folder(folder: PathLike) -> Path:
    """The folder that holds the WAV files, given the corpus folder or that folder itself.

    Raises:
        DataError: if neither holds any WAV file.
    """
    folder = Path(folder)
    for candidate in (folder / "recordings", folder):
        if candidate.is_dir() and any(candidate.glob("*.wav")):
            return candidate
    found = "no WAV file in it" if folder.is_dir() else "no such folder"
    raise DataError(
        f"{folder}: {found}; expected a folder 'recordings' with {{digit}}_{{speaker}}_{{take}}.wav"
    )


def scan_recordings(
    folder: PathLike,
    speakers: Sequence[str] | None = FSDD_SPEAKERS,
    num_takes: int = NUM_TAKES,
) -> list[DigitRecording]:
    """Lists and checks the corpus.

    Args:
        folder: the corpus folder (with ``recordings/`` in it) or the recordings folder itself.
        speakers: the speakers that must be there, and no others; None accepts any speakers.
        num_takes: takes 0..num_takes-1 of each digit must be there for each speaker.

    Returns:
        The recordings, sorted by speaker, digit and take.

    Raises:
        DataError: on a file with an unknown name or speaker, two files of one recording, a missing
            take, or a file that is not readable mono audio.
    """
    folder = recordings_folder(folder)
    paths: dict[tuple[str, int, int], Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".wav":
            continue
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            duplicate = _same_recording(path, folder)
            if duplicate is not None:
                raise DataError(f"{path}: the same recording as {duplicate.name}")
            raise DataError(f"{path}: unknown name; expected {{digit}}_{{speaker}}_{{take}}.wav")
        digit, speaker, take = int(match[1]), match[2], int(match[3])
        if speakers is not None and speaker not in speakers:
            raise DataError(f"{path}: unknown speaker; expected one of {', '.join(speakers)}")
        if take >= num_takes:
            raise DataError(f"{path}: unknown take; expected 0 to {num_takes - 1}")
        paths[speaker, digit, take] = path
    names = sorted({key[0] for key in paths}) if speakers is None else sorted(speakers)
    wanted = [(n, d, t) for n in names for d in range(10) for t in range(num_takes)]
    missing = [f"{d}_{n}_{t}.wav" for n, d, t in wanted if (n, d, t) not in paths]
    if missing:
        shown = ", ".join(missing[:_MAX_SHOWN]) + (", ..." if len(missing) > _MAX_SHOWN else "")
        raise DataError(f"{folder}: {len(missing)} of {len(wanted)} recordings missing: {shown}")
    return [_read_header(paths[key], *key) for key in wanted]


def corpus_fingerprint(recordings: Sequence[DigitRecording]) -> str:
    """A hex digest of the names and contents of all recordings, whatever folder they lie in."""
    digest = hashlib.blake2b(digest_size=16)
    for recording in recordings:
        content = hashlib.blake2b(recording.path.read_bytes(), digest_size=16).digest()
        digest.update(recording.id.encode() + b"\0" + content)
    return digest.hexdigest()


def lhotse_recording(recording: DigitRecording) -> Recording:
    """The lhotse manifest of one file."""
    return Recording(
        id=recording.id,
        sources=[AudioSource(type="file", channels=[0], source=str(recording.path))],
        sampling_rate=recording.sample_rate,
        num_samples=recording.num_samples,
        duration=recording.num_samples / recording.sample_rate,
    )


def fsdd_manifests(
    recordings: Sequence[DigitRecording],
) -> dict[str, tuple[RecordingSet, SupervisionSet]]:
    """lhotse manifests of the single digits: {split: (recordings, supervisions)}."""
    parts: dict[str, list[DigitRecording]] = defaultdict(list)
    for recording in recordings:
        parts[recording.split].append(recording)
    return {
        split: (
            RecordingSet.from_recordings(lhotse_recording(r) for r in parts[split]),
            SupervisionSet.from_segments(
                SupervisionSegment(
                    id=r.id,
                    recording_id=r.id,
                    start=0.0,
                    duration=r.num_samples / r.sample_rate,
                    text=r.word,
                    speaker=r.speaker,
                    language="English",
                )
                for r in parts[split]
            ),
        )
        for split in SPLITS
    }


def _same_recording(path: Path, folder: Path) -> Path | None:
    """The well-named file of the recording that ``path`` (``07_theo_03.wav``) names, if any."""
    match = re.fullmatch(r"0*([0-9])_([A-Za-z][A-Za-z0-9-]*)_0*([0-9]+)\.wav", path.name.lower())
    if match is None:
        return None
    twin = folder / f"{match[1]}_{match[2]}_{match[3]}.wav"
    return twin if twin != path and twin.exists() else None


def _read_header(path: Path, speaker: str, digit: int, take: int) -> DigitRecording:
    try:
        info = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:  # soundfile.LibsndfileError is a RuntimeError
        raise DataError(f"{path}: not readable audio: {error}") from error
    if info.channels != 1 or info.frames == 0:
        raise DataError(
            f"{path}: found {info.channels} channels of {info.frames} samples; expected mono speech"
        )
    return DigitRecording(speaker, digit, take, path, info.samplerate, info.frames)
