"""A tiny untrained model, a graph of a few words, noises that it hears words in; the shipped release."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_asr.audio.fbank import FbankOptions, make_fbank
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.model.config import preset
from moe_asr.model.directory import LoadedModel
from moe_asr.model.u2 import U2MoeModel
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.text.lexicon import lexicon_from_tokenizer
from moe_asr.text.tokenizer import CharTokenizer

RATE = 16000
RELEASE = Path(__file__).parents[2] / "egs" / "voice_commands" / "release"
WORDS = ["one", "two", "no", "wet", "tone"]
SEARCH = {"search_beam": 16.0, "output_beam": 10.0, "n": 5}


@lru_cache
def tiny_model() -> LoadedModel:
    """Random weights; the head is moved and sharpened, as an untrained one says the same everywhere."""
    tokenizer = CharTokenizer.from_texts([" ".join(WORDS)])
    torch.manual_seed(3)
    model = U2MoeModel(preset("tiny", vocab_size=tokenizer.vocab_size)).eval()
    features = torch.from_numpy(make_fbank(FbankOptions())(noise(20.0, 0)))
    with torch.no_grad():
        memory, _ = model.encode(features[None], torch.tensor([len(features)]), 4, 2)
        model.ctc.weight *= 30
        model.ctc.bias.copy_(-(model.ctc.weight @ memory[0].mean(0)))
    return LoadedModel(model, tokenizer, FbankOptions())


@lru_cache
def tiny_graph() -> DecodingGraph:
    """Any sequence of the words."""
    loaded = tiny_model()
    lexicon = lexicon_from_tokenizer(WORDS, loaded.tokenizer)
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, loaded.tokenizer.tokens).lg


def tiny_recognizer(**options: object) -> Recognizer:
    """A recogniser of the tiny model; options as of `RecognizerOptions`."""
    given = {
        "chunk_size": 4,
        "left_chunks": 2,
        "max_streams": 8,
        "method_options": SEARCH,
        **options,
    }
    return Recognizer(tiny_model(), tiny_graph(), RecognizerOptions(**given))


def noise(seconds: float, seed: int) -> np.ndarray:
    """(num_samples,) float32: noise and a tone that changes every tenth of a second."""
    rng = np.random.default_rng(seed)
    size = round(seconds * RATE)
    tone = np.repeat(rng.uniform(0.01, 0.9, size // 1600 + 1), 1600)[:size]
    wave = 0.1 * rng.standard_normal(size) + 0.3 * np.sin(np.cumsum(tone))
    return wave.astype(np.float32)


def needs_release() -> None:
    """Skips the test where the release folder is not checked out, or no speech can be made."""
    if not RELEASE.is_dir():
        pytest.skip("the shipped release is not here")
    pytest.importorskip("espeakng_loader")


@lru_cache
def release() -> Recognizer:
    """The shipped release as it is; call `needs_release` first."""
    return Recognizer.from_dir(RELEASE)
