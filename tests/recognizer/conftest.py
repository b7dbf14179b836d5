"""A tiny untrained model that says now this and now nothing, and a graph over its tokens."""

import numpy as np
import pytest
import torch

from moe_asr.audio.fbank import FbankOptions
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.model.config import preset
from moe_asr.model.directory import LoadedModel
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.lexicon import lexicon_from_tokenizer
from moe_asr.text.tokenizer import CharTokenizer

WORDS = ["a", "b", "ba"]


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    """Ten seconds of `babble` hold some fifty words and a few pauses."""
    tokenizer = CharTokenizer.from_texts(WORDS)
    torch.manual_seed(7)
    model = U2MoeModel(preset("tiny", vocab_size=tokenizer.vocab_size)).eval()
    with torch.no_grad():
        model.ctc.weight *= 20  # an untrained head says the same everywhere
        for decoder in (model.left_to_right, model.right_to_left):
            torch.nn.init.normal_(decoder.output.weight, std=0.8)
    return LoadedModel(model, tokenizer, FbankOptions())


@pytest.fixture(scope="session")
def graph(loaded: LoadedModel) -> DecodingGraph:
    lexicon = lexicon_from_tokenizer(WORDS, loaded.tokenizer)
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, loaded.tokenizer.tokens).lg


def babble(seconds: float, seed: int = 0, sample_rate: int = 16000) -> np.ndarray:
    """(num_samples,) float32: noise and a tone that changes every tenth of a second."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * sample_rate)
    step = sample_rate // 10
    tone = np.repeat(rng.uniform(0.01, 0.9, num_samples // step + 1), step)[:num_samples]
    level = np.repeat(rng.uniform(0.0, 1.0, num_samples // step + 1) ** 3, step)[:num_samples]
    wave = 0.02 * rng.standard_normal(num_samples) + 0.4 * level * np.sin(np.cumsum(tone))
    return wave.astype(np.float32)
