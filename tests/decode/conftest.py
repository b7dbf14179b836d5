"""A tiny untrained model and a few short recordings of noise, as a user would have them on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from moe_asr.audio.fbank import FbankOptions
from moe_asr.data.manifests import write_cuts
from moe_asr.model.config import preset
from moe_asr.model.directory import LoadedModel, save_model_dir
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.tokenizer import CharTokenizer

TEXTS = ["one two", "two", "one", "two two one", "one one"]
SECONDS = [0.9, 0.31, 1.4, 0.62, 1.1]


@dataclass
class Workplace:
    """A model directory, the model in it, and a manifest."""

    model_dir: Path
    loaded: LoadedModel
    cuts: list[MonoCut]
    manifest: Path


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("decode")
    tokenizer = CharTokenizer.from_texts(TEXTS)
    torch.manual_seed(3)
    model = U2MoeModel(preset("tiny", vocab_size=tokenizer.vocab_size)).eval()
    with torch.no_grad():
        model.ctc.weight *= 20  # an untrained head says the same everywhere
    options = FbankOptions()
    save_model_dir(folder / "model", model, tokenizer, options)
    cuts = [make_cut(folder, f"utt-{i}", SECONDS[i], text) for i, text in enumerate(TEXTS)]
    write_cuts(CutSet.from_cuts(cuts), folder / "cuts.jsonl.gz")
    loaded = LoadedModel(model, tokenizer, options)
    return Workplace(folder / "model", loaded, cuts, folder / "cuts.jsonl.gz")


def make_cut(folder: Path, name: str, seconds: float, text: str) -> MonoCut:
    """A cut of noise that changes every tenth of a second."""
    rng = np.random.default_rng(sum(map(ord, name)))
    num_samples = round(seconds * 16000)
    noise = 0.1 * rng.standard_normal(num_samples)
    tone = np.repeat(rng.uniform(0.01, 0.9, num_samples // 1600 + 1), 1600)[:num_samples]
    wave = noise + 0.3 * np.sin(np.cumsum(tone))
    soundfile.write(folder / f"{name}.wav", wave, 16000, subtype="PCM_16")
    recording = Recording.from_file(folder / f"{name}.wav", recording_id=name)
    duration = recording.duration
    supervision = SupervisionSegment(name, name, 0.0, duration, text=text)
    return MonoCut(name, 0.0, duration, 0, recording=recording, supervisions=[supervision])
