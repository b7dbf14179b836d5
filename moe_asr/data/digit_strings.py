"""Connected digit strings on disk: WAV files and lhotse manifests made from single digits.

The folder holds ``cuts_{train,dev,test}.jsonl.gz``, ``audio/<key>/*.wav`` and the stamp
``digit_strings.json``. Audio paths in the manifests are relative to the folder, which can
therefore be moved; read them with `moe_asr.data.manifests.read_cuts`.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import soundfile
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from tqdm import tqdm

from moe_asr.config import to_dict
from moe_asr.data.digit_mixing import render_digit_string
from moe_asr.data.digit_plan import DigitString, DigitStringOptions, plan_digit_strings
from moe_asr.data.fsdd import SPLITS, DigitRecording, corpus_fingerprint
from moe_asr.data.manifests import write_cuts
from moe_asr.files import PathLike, read_json, write_json

STAMP_NAME = "digit_strings.json"
_FORMAT_VERSION = 2  # part of the key: raise it when the same options would give other audio
_STRINGS_A_TASK = 100


def manifest_path(folder: PathLike, split: str) -> Path:
    """Where `make_digit_strings` puts the manifest of a split."""
    return Path(folder) / f"cuts_{split}.jsonl.gz"


def make_digit_strings(
    recordings: Sequence[DigitRecording],
    folder: PathLike,
    options: DigitStringOptions,
    num_processes: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Makes the strings and manifests of all splits in ``folder``.

    The same recordings and options are recognised and nothing is done; an interrupted call is
    taken up where it stopped; results of other options or recordings are replaced.

    Returns:
        The stamp: options, fingerprint of the corpus, and for each split the number of strings
        and their duration in seconds.

    Raises:
        DataError: see `plan_digit_strings`; AudioError if a recording cannot be read.
    """
    folder = Path(folder)
    fingerprint = corpus_fingerprint(recordings)
    identity = {
        "version": _FORMAT_VERSION,
        "options": to_dict(options),
        "corpus_fingerprint": fingerprint,
    }
    key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()
    stamp_path, audio_folder = folder / STAMP_NAME, folder / "audio" / key
    plans = plan_digit_strings(recordings, options)
    strings = [string for split in SPLITS for string in plans[split]]
    todo = [string for string in strings if not _is_written(string, audio_folder)]
    if stamp_path.is_file() and not todo:
        stamp = read_json(stamp_path)
        complete = all(manifest_path(folder, split).is_file() for split in SPLITS)
        if complete and isinstance(stamp, dict) and stamp.get("key") == key:
            return stamp
    stamp_path.unlink(missing_ok=True)
    audio_folder.mkdir(parents=True, exist_ok=True)
    _write_all(todo, audio_folder, num_processes, progress)
    for split in SPLITS:
        write_cuts(
            (_cut(string, f"audio/{key}/{string.id}.wav") for string in plans[split]),
            manifest_path(folder, split),
        )
    for stale in (folder / "audio").iterdir():
        if stale.is_dir() and stale.name != key:
            shutil.rmtree(stale)
    stamp = {
        "key": key,
        **identity,
        "splits": {
            split: {
                "num_strings": len(plans[split]),
                "num_words": sum(len(string.recordings) for string in plans[split]),
                "duration_seconds": round(
                    sum(s.num_samples for s in plans[split]) / options.sample_rate, 3
                ),
                "speakers": sorted({string.speaker for string in plans[split]}),
            }
            for split in SPLITS
        },
    }
    write_json(stamp_path, stamp)
    return stamp


def _is_written(string: DigitString, audio_folder: Path) -> bool:
    """Whether the whole file is there; 16-bit WAV has a known size."""
    try:
        return (audio_folder / f"{string.id}.wav").stat().st_size >= 2 * string.num_samples + 44
    except OSError:
        return False


def _write_all(
    strings: Sequence[DigitString], folder: Path, num_processes: int, progress: bool
) -> None:
    tasks = [
        (list(strings[first : first + _STRINGS_A_TASK]), folder)
        for first in range(0, len(strings), _STRINGS_A_TASK)
    ]
    with tqdm(total=len(strings), unit="string", desc="digit strings", disable=not progress) as bar:
        if num_processes <= 1 or len(tasks) <= 1:
            for task in tasks:
                bar.update(_write_strings(*task))
            return
        # forked workers start at once; spawned ones would import torch again first
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else None)
        with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
            futures = [pool.submit(_write_strings, *task) for task in tasks]
            try:
                for future in as_completed(futures):
                    bar.update(future.result())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _write_strings(strings: list[DigitString], folder: Path) -> int:
    for string in strings:
        temporary = folder / f".{string.id}.wav"
        soundfile.write(
            str(temporary),
            render_digit_string(string),
            string.sample_rate,
            format="WAV",
            subtype="PCM_16",
        )
        os.replace(temporary, folder / f"{string.id}.wav")
    return len(strings)


def _cut(string: DigitString, source: str) -> MonoCut:
    """The manifest entry of a string; its supervision carries the place of every word."""
    rate, duration = string.sample_rate, string.num_samples / string.sample_rate
    words = [
        AlignmentItem(symbol=recording.word, start=start / rate, duration=length / rate)
        for recording, start, length in zip(
            string.recordings, string.starts, string.lengths, strict=True
        )
    ]
    recording = Recording(
        id=string.id,
        sources=[AudioSource(type="file", channels=[0], source=source)],
        sampling_rate=rate,
        num_samples=string.num_samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=string.id,
        recording_id=string.id,
        start=0.0,
        duration=duration,
        text=string.text,
        speaker=string.speaker,
        language="English",
        alignment={"word": words},
        custom={"takes": [recording.take for recording in string.recordings]},
    )
    return MonoCut(
        id=string.id,
        start=0.0,
        duration=duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )
