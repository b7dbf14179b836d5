"""Synthetic spoken digits: the layout of FSDD, spoken by espeak-ng.

They stand in where no recording can be had, so that everything downstream runs; an error rate on
them says nothing about real speech.
"""

import multiprocessing
import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from moe_asr.audio.io import resample, write_audio
from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.fsdd import DIGIT_WORDS, NUM_TAKES, scan_recordings
from moe_asr.errors import DataError
from moe_asr.files import PathLike

SAMPLE_RATE = 8000  # that of FSDD


@dataclass(frozen=True)
class SyntheticSpeaker:
    """An espeak-ng voice with the middle of its rate (words per minute) and pitch (0-100)."""

    name: str
    voice: str
    rate: int
    pitch: int


# no variant with "breath" (f2, f3, f5): espeak-ng makes it of memory it never set, and the audio
# differs from call to call
SPEAKERS: tuple[SyntheticSpeaker, ...] = (
    SyntheticSpeaker("ada", "en-us+f1", 165, 60),
    SyntheticSpeaker("brian", "en-us+m3", 150, 35),
    SyntheticSpeaker("clara", "en-029+f4", 180, 55),
    SyntheticSpeaker("duncan", "en-gb-scotland+m7", 160, 45),
    SyntheticSpeaker("edith", "en-gb-x-rp+linda", 145, 70),
    SyntheticSpeaker("frank", "en-us+m1", 190, 25),
)


def synthesize_digits(
    folder: PathLike, num_takes: int = NUM_TAKES, num_processes: int = 2, progress: bool = True
) -> Path:
    """Makes ``folder/recordings/{digit}_{speaker}_{take}.wav``: 6 speakers x 10 digits x takes.

    Rate, pitch, intonation and volume vary from take to take, the same way in every call. The
    folder appears only once it is complete; a complete one is kept.

    Returns:
        ``folder``.

    Raises:
        MissingDependencyError: if ``espeakng-loader`` is not installed.
    """
    folder = Path(folder)
    names = [speaker.name for speaker in SPEAKERS]
    if (folder / "recordings").is_dir():
        scan_recordings(folder, names, num_takes)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".synthesis.", dir=folder))
    try:
        (temporary / "recordings").mkdir()
        tasks = [(speaker, temporary / "recordings", num_takes) for speaker in SPEAKERS]
        # a fresh process for each speaker: espeak-ng has one global state, which must neither
        # reach the caller nor let one speaker's audio depend on another's
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else None)
        with context.Pool(num_processes, maxtasksperchild=1) as pool:
            done = pool.imap_unordered(_synthesize_speaker, tasks, chunksize=1)
            for _ in tqdm(done, total=len(tasks), desc="synthetic speakers", disable=not progress):
                pass
        os.replace(temporary / "recordings", folder / "recordings")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _synthesize_speaker(task: tuple[SyntheticSpeaker, Path, int]) -> None:
    speaker, folder, num_takes = task
    synthesizer = EspeakSynthesizer()
    for digit, word in enumerate(DIGIT_WORDS):
        for take in range(num_takes):
            rng = random.Random(f"{speaker.name}/{digit}/{take}")
            samples = synthesizer.synthesize(
                word,
                voice=speaker.voice,
                rate=round(speaker.rate * rng.uniform(0.75, 1.35)),
                pitch=min(99, max(0, speaker.pitch + rng.randint(-15, 15))),
                pitch_range=rng.randint(20, 80),
                volume=rng.randint(50, 110),
            )
            samples = trim_silence(resample(samples, synthesizer.sample_rate, SAMPLE_RATE))
            if len(samples) < 0.05 * SAMPLE_RATE:
                raise DataError(f"espeak-ng said nothing for '{word}' with voice '{speaker.voice}'")
            path = folder / f"{digit}_{speaker.name}_{take}.wav"
            write_audio(path, np.clip(samples, -1.0, 1.0), SAMPLE_RATE)


def trim_silence(samples: np.ndarray, threshold_db: float = -40.0) -> np.ndarray:
    """Cuts what lies before and after the samples within ``threshold_db`` of the peak."""
    magnitude = np.abs(samples)
    loud = np.flatnonzero(magnitude > magnitude.max(initial=0.0) * 10 ** (threshold_db / 20))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]
