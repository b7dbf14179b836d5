"""Small corpora and manifests of tones and noise, made once a session."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from moe_asr.data.fsdd import FSDD_SPEAKERS, DigitRecording, scan_recordings
from moe_asr.text.tokenizer import CharTokenizer

TINY_SPEAKERS = ("anna", "bob")
TINY_TAKES = 9  # takes 0-4 test, 5-6 dev, 7-8 train


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 speakers x 10 digits x 9 takes of 8 kHz noise bursts, 0.1 to 0.3 s, all different."""
    folder = tmp_path_factory.mktemp("tiny") / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for speaker in TINY_SPEAKERS:
        for digit in range(10):
            for take in range(TINY_TAKES):
                samples = 0.3 * rng.uniform(-1, 1, rng.integers(800, 2400))
                soundfile.write(str(folder / f"{digit}_{speaker}_{take}.wav"), samples, 8000)
    return folder.parent


@pytest.fixture(scope="session")
def tiny_recordings(tiny_folder: Path) -> list[DigitRecording]:
    return scan_recordings(tiny_folder, TINY_SPEAKERS, TINY_TAKES)


@pytest.fixture(scope="session")
def fsdd_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FSDD's 3000 names and 0.1 s of noise in each."""
    folder = tmp_path_factory.mktemp("fsdd") / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for digit in range(10):
        stream = io.BytesIO()
        soundfile.write(stream, 0.3 * rng.uniform(-1, 1, 800), 8000, format="WAV")
        for speaker in FSDD_SPEAKERS:
            for take in range(50):
                (folder / f"{digit}_{speaker}_{take}.wav").write_bytes(stream.getvalue())
    return folder.parent


@pytest.fixture(scope="session")
def tokenizer() -> CharTokenizer:
    return CharTokenizer.from_texts(["abcdefghijklmnopqrstuvwxyz "])


@pytest.fixture(scope="session")
def make_cut() -> Callable[..., MonoCut]:
    """A cut of a file that need not exist."""

    def make(
        cut_id: str,
        duration: float = 1.0,
        text: str | None = "abc",
        path: Path | str = "/nowhere.wav",
        rate: int = 16000,
    ) -> MonoCut:
        num_samples = round(duration * rate)
        recording = Recording(
            id=cut_id,
            sources=[AudioSource(type="file", channels=[0], source=str(path))],
            sampling_rate=rate,
            num_samples=num_samples,
            duration=num_samples / rate,
        )
        supervision = SupervisionSegment(
            id=cut_id, recording_id=cut_id, start=0, duration=num_samples / rate, text=text
        )
        return MonoCut(
            id=cut_id,
            start=0,
            duration=num_samples / rate,
            channel=0,
            supervisions=[supervision],
            recording=recording,
        )

    return make


@pytest.fixture(scope="session")
def noise_cuts(
    tmp_path_factory: pytest.TempPathFactory, make_cut: Callable[..., MonoCut]
) -> CutSet:
    """36 cuts of noise, 0.4 to 2.5 s at 16 kHz, with files."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(3)
    cuts = []
    for index in range(36):
        num_samples = int(rng.integers(6400, 40000))
        path = folder / f"noise{index:02d}.wav"
        soundfile.write(str(path), 0.2 * rng.uniform(-1, 1, num_samples), 16000)
        text = "ab cd"[: 1 + index % 5].strip()
        cuts.append(make_cut(f"noise{index:02d}", num_samples / 16000, text, path))
    return CutSet.from_cuts(cuts)
