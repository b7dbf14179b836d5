"""A spoken corpus on disk: FLAC files and lhotse manifests made from sentences.

The folder holds ``cuts_{train,dev,test}.jsonl.gz``, ``audio/<split>-<key>/*.flac`` and the stamp
``spoken_corpus.json``. The key of a split is a hash of everything that decides its audio. Audio paths in
the manifests are relative to the folder, which can therefore be moved; read them with
`moe_asr.data.manifests.read_cuts`.
"""

import hashlib
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from tqdm import tqdm

from moe_asr.config import to_dict
from moe_asr.data.manifests import write_cuts
from moe_asr.data.spoken_files import OrderedPool, Record, valid_records, write_utterances
from moe_asr.data.spoken_plan import SPLITS, SpokenCorpusOptions, SpokenPlan
from moe_asr.data.voices import UNSEEN_ACCENTS, voices_of
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_json, write_json

STAMP_NAME = "spoken_corpus.json"
_STAMP_VERSION = 2  # of its layout
_FORMAT_VERSION = 1  # part of the key: raise it when the same options would give other audio


def manifest_path(folder: PathLike, split: str) -> Path:
    """Where `make_spoken_corpus` puts the manifest of a split."""
    return Path(folder) / f"cuts_{split}.jsonl.gz"


def make_spoken_corpus(
    sentences: Mapping[str, Sequence[str]],
    folder: PathLike,
    options: SpokenCorpusOptions,
    num_processes: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Makes audio and manifests of all splits in ``folder``.

    A split is the shortest beginning of the plan (`SpokenPlan`) that lasts the hours asked for. The same
    sentences and options are recognised: files that are there and whole (by their checksums) are kept,
    so that an interrupted call is taken up where it stopped, a complete one does nothing, and other hours
    add or remove files. A split of other sentences or options is replaced. Manifests and stamp appear once
    all audio is there.

    Args:
        sentences: of ``train``, ``dev`` and ``test``; see `SpokenPlan`.

    Returns:
        The stamp: options, and for each split its key, the hours asked for, and the numbers of
        utterances, words and seconds.

    Raises:
        ConfigError: if ``num_processes`` is less than 1.
        DataError: see `SpokenPlan`; if espeak-ng cannot say a sentence.
        MissingDependencyError: if ``espeakng-loader`` is not installed.
    """
    folder = Path(folder)
    plan = SpokenPlan(sentences, options)
    folders = {split: folder / "audio" / f"{split}-{_key(plan, split)}" for split in SPLITS}
    kept = {split: valid_records(folders[split]) for split in SPLITS}
    stamp_path = folder / STAMP_NAME
    stamp = _read_stamp(stamp_path)
    if stamp and stamp["options"] == to_dict(options):
        if all(_is_complete(stamp["splits"][s], folders[s], kept[s], folder, s) for s in SPLITS):
            return stamp
    with OrderedPool(num_processes) as pool:  # first: it refuses what it cannot do
        stamp_path.unlink(missing_ok=True)
        for split in SPLITS:
            manifest_path(folder, split).unlink(missing_ok=True)
        made = {
            split: _make_split(plan, split, folders[split], kept[split], pool, progress)
            for split in SPLITS
        }
    for split in SPLITS:
        audio = folders[split].relative_to(folder).as_posix()
        cuts = (_cut(plan, split, i, record, audio) for i, record in enumerate(made[split]))
        write_cuts(cuts, manifest_path(folder, split))
        _remove_others(folders[split], made[split])
    for other in (folder / "audio").iterdir():
        if other.is_dir() and other not in folders.values():
            shutil.rmtree(other)
    counts = {split: _counts(plan, split, made[split], folders[split]) for split in SPLITS}
    for split in SPLITS:
        content = manifest_path(folder, split).read_bytes()
        counts[split]["manifest_checksum"] = zlib.crc32(content)
    stamp = {"version": _STAMP_VERSION, "options": to_dict(options), "splits": counts}
    write_json(stamp_path, stamp)
    return stamp


def _read_stamp(path: Path) -> dict[str, Any] | None:
    """The stamp; None if there is none, or it is damaged or of another version."""
    try:
        stamp = read_json(path)
    except ConfigError:
        return None
    if not isinstance(stamp, dict) or stamp.get("version") != _STAMP_VERSION:
        return None
    splits = stamp.get("splits")
    whole = "options" in stamp and isinstance(splits, dict) and set(splits) == set(SPLITS)
    return stamp if whole else None


def _key(plan: SpokenPlan, split: str) -> str:
    """Of everything that decides the audio of a split; not of how much of it there is."""
    from moe_asr.data.espeak import espeak_version

    options = to_dict(plan.options)
    identity = {
        "version": _FORMAT_VERSION,
        "espeak_ng": espeak_version(),
        "options": {name: options[name] for name in options if not name.endswith("_hours")},
        "voices": [voice.name for unseen in (False, True) for voice in voices_of(split, unseen)],
        "sentences": plan.sentences[split],
    }
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()


def _make_split(
    plan: SpokenPlan,
    split: str,
    audio_folder: Path,
    kept: Mapping[str, Record],
    pool: OrderedPool,
    progress: bool,
) -> list[Record]:
    """Records of the split's utterances, in order, until the hours are full."""
    rate, seconds = plan.options.sample_rate, plan.options.hours(split) * 3600
    task_size = int(min(20, max(1, seconds / (10 * pool.num_ahead))))  # short of a tenth each
    results = pool.map(write_utterances, _tasks(plan, split, audio_folder, kept, task_size))
    records: list[Record] = []
    total = 0.0
    with tqdm(
        total=round(seconds), unit="s", desc=f"speech for {split}", disable=not progress
    ) as bar:
        for record in itertools.chain.from_iterable(results):
            records.append(record)
            total += record.num_samples / rate
            bar.update(min(round(total), round(seconds)) - bar.n)
            if total >= seconds:
                break
    results.close()
    return records


def _tasks(
    plan: SpokenPlan, split: str, audio_folder: Path, kept: Mapping[str, Record], size: int
) -> Iterator[tuple[Any, ...]]:
    """Arguments of `write_utterances`, without end."""
    for first in itertools.count(0, size):
        utterances = [plan.utterance(split, index) for index in range(first, first + size)]
        own = {u.id: kept[u.id] for u in utterances if u.id in kept}
        yield utterances, own, audio_folder, plan.options.sample_rate


def _is_complete(
    counts: Mapping[str, Any],
    audio_folder: Path,
    kept: Mapping[str, Record],
    folder: Path,
    split: str,
) -> bool:
    """Whether audio and manifest of a split are what the stamp says of them."""
    manifest = manifest_path(folder, split)
    return (
        counts["audio"] == audio_folder.name
        and manifest.is_file()
        and zlib.crc32(manifest.read_bytes()) == counts["manifest_checksum"]
        and all(f"{split}-{index:06d}" in kept for index in range(counts["num_utterances"]))
    )


def _remove_others(audio_folder: Path, records: Sequence[Record]) -> None:
    """Removes files beyond the hours asked for, and what is left of interrupted calls."""
    names = {f"{record.id}.flac" for record in records}
    for entry in os.scandir(audio_folder):
        if entry.name.endswith(".flac") and entry.name not in names:
            os.unlink(entry.path)


def _counts(
    plan: SpokenPlan, split: str, records: Sequence[Record], audio_folder: Path
) -> dict[str, Any]:
    utterances = [plan.utterance(split, index) for index in range(len(records))]
    return {
        "audio": audio_folder.name,
        "num_utterances": len(records),
        "num_words": sum(len(record.words) for record in records),
        "num_distinct_words": len({word for u in utterances for word in u.speech.text.split()}),
        "num_distinct_sentences": len({u.speech.text for u in utterances}),
        "num_voices": len({u.speech.voice for u in utterances}),
        "duration_seconds": round(
            sum(record.num_samples for record in records) / plan.options.sample_rate, 3
        ),
        "num_bytes": sum(record.num_bytes for record in records),
    }


def _cut(plan: SpokenPlan, split: str, index: int, record: Record, audio: str) -> MonoCut:
    """The manifest entry of an utterance; its supervision carries the place of every word."""
    utterance = plan.utterance(split, index)
    assert record.id == utterance.id, (record, utterance)
    rate = plan.options.sample_rate
    duration = record.num_samples / rate
    words = utterance.speech.text.split()
    if len(words) != len(record.words):
        raise DataError(f"{utterance.id}: {len(record.words)} word times for {len(words)} words")
    alignment = [
        AlignmentItem(symbol=word, start=start / rate, duration=(end - start) / rate)
        for word, (start, end, _) in zip(words, record.words, strict=True)
    ]
    voice, room = utterance.speech.voice, utterance.room
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=f"{audio}/{utterance.id}.flac")],
        sampling_rate=rate,
        num_samples=record.num_samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=duration,
        text=utterance.speech.text,
        speaker=voice.name,
        language="English",
        alignment={"word": alignment},
        custom={"phonemes": [phonemes for _, _, phonemes in record.words]},
    )
    return MonoCut(
        id=utterance.id,
        start=0.0,
        duration=duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
        custom={
            "accent": voice.accent,
            "variant": voice.variant,
            "unseen_accent": voice.accent in UNSEEN_ACCENTS,
            "rate": utterance.speech.rate,
            "pitch": utterance.speech.pitch,
            "pitch_range": utterance.speech.pitch_range,
            "noise": utterance.noise,
            "num_talkers": len(utterance.talkers),
            "snr_db": utterance.snr_db,
            "rt60_seconds": room.rt60_seconds if room else 0.0,
            "direct_to_reverberant_db": room.direct_to_reverberant_db if room else None,
            "gain_db": record.gain_db,
        },
    )
