"""The audio files of a spoken corpus: written once, checked, and found again after an interruption.

Among the files of a split lie journals, ``<first id>.jsonl``: one line for each file that is whole, added
after it, with its size and checksum.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import soundfile

from moe_asr.data.spoken_plan import SpokenUtterance
from moe_asr.errors import ConfigError

Result = TypeVar("Result")


class Record(NamedTuple):
    """What is known of a file that has been written.

    Attributes:
        id: of the utterance; the file is ``<id>.flac``.
        num_samples: length of the audio.
        num_bytes, checksum: size and CRC-32 of the file.
        gain_db: see `RenderedUtterance`.
        words: for each word the first sample, the one after the last, and its phonemes.
    """

    id: str
    num_samples: int
    num_bytes: int
    checksum: int
    gain_db: float
    words: list[tuple[int, int, str]]


def valid_records(folder: Path) -> dict[str, Record]:
    """What the journals say of files that are there, with the size and checksum they had: {id: record}."""
    records: dict[str, Record] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            record = _parse(line)
            if record is not None:
                records[record.id] = record
    return {record.id: record for record in records.values() if _is_whole(record, folder)}


def write_utterances(
    utterances: Sequence[SpokenUtterance],
    kept: Mapping[str, Record],
    folder: Path,
    sample_rate: int,
) -> list[Record]:
    """Makes the files that are not among ``kept``; returns the records of all, in order."""
    from moe_asr.data.spoken_audio import render_utterance

    folder.mkdir(parents=True, exist_ok=True)
    records = []
    with open(folder / f"{utterances[0].id}.jsonl", "a", encoding="utf-8") as journal:
        journal.write("\n")  # the last line may have been cut short
        for utterance in utterances:
            record = kept.get(utterance.id)
            if record is None:
                rendered = render_utterance(utterance, sample_rate)
                num_bytes, checksum = _write_flac(
                    folder / f"{utterance.id}.flac", rendered.samples, sample_rate
                )
                record = Record(
                    id=utterance.id,
                    num_samples=len(rendered.samples),
                    num_bytes=num_bytes,
                    checksum=checksum,
                    gain_db=round(rendered.gain_db, 2),
                    words=[(w.start, w.end, " ".join(w.phonemes)) for w in rendered.words],
                )
                journal.write(json.dumps(record._asdict()) + "\n")
                journal.flush()
            records.append(record)
    return records


class OrderedPool:
    """Processes that work a little ahead of what is asked for; a context manager.

    Args:
        num_processes: at least 1.
    """

    def __init__(self, num_processes: int) -> None:
        if num_processes < 1:
            raise ConfigError(f"num_processes: expected at least 1, found {num_processes}")
        # forked workers start at once; spawned ones would import torch again first
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else None)
        self.num_ahead = 2 * num_processes
        self._pool = ProcessPoolExecutor(
            num_processes, mp_context=context, initializer=_begin_worker, initargs=(os.getpid(),)
        )

    def map(
        self, function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]
    ) -> Generator[Result, None, None]:
        """``function(*task)`` for each task, in order; there may be no end of tasks.

        Close the generator to stop: what has begun is finished, and its results thrown away.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(function, *task))
                if len(waiting) == self.num_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def __enter__(self) -> "OrderedPool":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(parent: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and ends the pool
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)


def _end_with(parent: int) -> None:
    """Ends this process when the parent has been killed: nothing else would tell a waiting worker."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _write_flac(path: Path, samples: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """Writes 16-bit FLAC under a temporary name, then renames; returns size and checksum."""
    temporary = path.with_name(f".{path.name}")
    soundfile.write(str(temporary), samples, sample_rate, format="FLAC", subtype="PCM_16")
    content = temporary.read_bytes()
    os.replace(temporary, path)
    return len(content), zlib.crc32(content)


def _is_whole(record: Record, folder: Path) -> bool:
    try:
        content = (folder / f"{record.id}.flac").read_bytes()
    except OSError:
        return False
    return len(content) == record.num_bytes and zlib.crc32(content) == record.checksum


def _parse(line: str) -> Record | None:
    """A line of a journal; None for one that was cut short."""
    try:
        record = Record(**json.loads(line))
        return record._replace(words=[(int(a), int(b), str(c)) for a, b, c in record.words])
    except (ValueError, TypeError):
        return None
