"""The benchmark's graph at a tenth of its size: made-up words, a Kneser-Ney bigram, both builders."""

import random

import numpy as np
import pytest

from benchmarks.big_graph import BigInputs, make_inputs, make_text, make_words
from moe_asr.fsa.accept import best_score_of_words, score_lg, score_sentence, spellings_of
from moe_asr.fsa.build import build_hlg, build_lg
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from tests.fsa.references import BUILDERS


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> BigInputs:
    return make_inputs(tmp_path_factory.mktemp("big") / "graph", 1500, 3000, 200)


def test_text_is_the_same_at_every_call(inputs: BigInputs) -> None:
    again = make_text(1500, 3000)
    assert again.words == inputs.text.words == make_words(1500)
    np.testing.assert_array_equal(again.ids, inputs.text.ids)
    assert len(set(again.words)) == 1500 and again.splits[-1] == len(again.ids)
    lines = (inputs.directory / "text.txt").read_text().splitlines()
    assert lines[7].split() == again.sentence(7) and len(lines) == 3000
    assert inputs.num_bigrams > 15_000


@pytest.fixture(scope="module", params=BUILDERS)
def graphs(request: pytest.FixtureRequest, inputs: BigInputs) -> tuple[DecodingGraph, ...]:
    l_disambig, _ = Fst.load(inputs.directory / "L_disambig.safetensors")
    tokens = inputs.tokenizer.tokens
    lg = build_lg(l_disambig, inputs.g, tokens, inputs.words, request.param)
    return lg, *(build_hlg(lg, name, request.param) for name in ("standard", "modified"))


def test_sentences_have_the_scores_of_l_and_g(
    inputs: BigInputs, graphs: tuple[DecodingGraph, ...]
) -> None:
    rng = random.Random(0)
    spellings = spellings_of(inputs.lexicon, inputs.tokenizer.tokens, inputs.words)
    for number in range(100):
        if number % 2:
            sentence = inputs.text.sentence(number)
        else:
            sentence = rng.choices(inputs.text.words, k=rng.randint(1, 8))
        ids = [inputs.words[word] for word in sentence]
        tokens = [token for word in ids for token in spellings[word][0][0]]
        expected = score_lg(spellings, inputs.g, ids)
        assert expected is not None and expected < -1
        for graph in graphs:
            assert best_score_of_words(graph, spellings, ids) == pytest.approx(expected, abs=1e-4)
            assert score_sentence(graph, tokens, ids) == pytest.approx(expected, abs=1e-4)
            assert score_sentence(graph, tokens[:-1], ids) is None
            assert best_score_of_words(graph, spellings, ids[:-1]) != pytest.approx(
                expected, abs=1e-4
            )
