"""Beam search of the attention decoder, against all sequences, and batches against single utterances."""

import copy
import itertools
import tracemalloc

import pytest
import torch

from moe_asr.errors import ConfigError, DataError
from moe_asr.model.attention_beam import AttentionBeamOptions, attention_beam_search
from moe_asr.model.config import preset
from moe_asr.model.u2 import U2MoeModel

VOCAB = 5  # blank, sos/eos, <unk>, and two more
TOKENS = (2, 3, 4)


@pytest.fixture(scope="module")
def model() -> U2MoeModel:
    torch.manual_seed(1)
    model = U2MoeModel(preset("tiny", vocab_size=VOCAB)).eval()
    with torch.no_grad():
        for parameter in model.left_to_right.output.parameters():
            parameter.mul_(4.0)  # clear preferences
        model.left_to_right.output.bias[1] -= 1.0
    return model


@pytest.fixture(scope="module")
def encoded(model: U2MoeModel) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return 2.0 * torch.randn(4, 4, model.config.dim), torch.tensor([4, 2, 1, 3])


@torch.no_grad()
def everything(model, memory, length, bonus) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence of at most ``length`` tokens by the score of the decoder, teacher-forced."""
    scored = []
    for size in range(int(length) + 1):
        for tokens in itertools.product(TOKENS, repeat=size):
            given = torch.tensor([tokens], dtype=torch.int64), torch.tensor([size])
            log_probs = model.decoder_log_probs(memory[None, :length], length[None], *given)
            scored.append((log_probs.double().sum().item() + bonus * size, tokens))
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("bonus", [0.0, 1.5, -1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(model, encoded, bonus) -> None:
    options = AttentionBeamOptions(beam_size=200, length_bonus=bonus)
    found = attention_beam_search(model, *encoded, options)
    for memory, length, hypotheses in zip(*encoded, found, strict=True):
        score, tokens = everything(model, memory, length, bonus)[0]
        best = hypotheses[0]
        assert best.tokens == tokens and best.score == pytest.approx(score, abs=1e-4)
        assert best.log_prob == pytest.approx(score - bonus * len(tokens), abs=1e-4)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    assert bonus < 0 or len({hypotheses[0].tokens for hypotheses in found}) > 1


@pytest.mark.parametrize("beam", [1, 3])
def test_a_batch_is_its_utterances(model, encoded, beam) -> None:
    options = AttentionBeamOptions(beam_size=beam, length_bonus=0.5)
    together = attention_beam_search(model, *encoded, options)
    for n, expected in enumerate(together):
        length = encoded[1][n : n + 1]
        (alone,) = attention_beam_search(model, encoded[0][n : n + 1, :length], length, options)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]
        for one, other in zip(alone, expected, strict=True):
            assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)


@torch.no_grad()
def test_greedy_is_the_best_token_at_each_step(model, encoded) -> None:
    options = AttentionBeamOptions(beam_size=1, length_bonus=100.0)
    ((hypothesis,), *_) = attention_beam_search(model, *encoded, options)
    longest = hypothesis.tokens
    assert len(longest) == 4
    memory, length = encoded[0][:1, :4], encoded[1][:1]
    for position in range(len(longest)):
        best = max(
            TOKENS,
            key=lambda token: float(
                model.decoder_log_probs(
                    memory, length, torch.tensor([[*longest[:position], token]]),
                    torch.tensor([position + 1]),
                )[0, position]
            ),
        )  # fmt: skip
        assert longest[position] == best


def test_length_is_bounded(model, encoded) -> None:
    options = AttentionBeamOptions(length_bonus=100.0, max_tokens_per_frame=0.5)
    found = attention_beam_search(model, *encoded, options)
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [2, 1, 1, 1]


def test_a_search_that_goes_on_keeps_few_hypotheses(model) -> None:
    """Attention that never ends would else hold all its prefixes: a square of the frames."""
    torch.manual_seed(5)
    memory, lengths = torch.randn(1, 300, model.config.dim), torch.tensor([300])
    options = AttentionBeamOptions(beam_size=4, length_bonus=50.0)
    tracemalloc.start()
    (found,) = attention_beam_search(model, memory, lengths, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(hypothesis.tokens) for hypothesis in found] == [300] * 4
    assert len({hypothesis.tokens for hypothesis in found}) == 4
    assert peak < 700_000, peak


def test_no_decoding_in_training_mode(model, encoded) -> None:
    with pytest.raises(ConfigError, match="training mode"):
        attention_beam_search(copy.deepcopy(model).train(), *encoded, AttentionBeamOptions())


def test_nan_is_named_and_options_are_checked(model, encoded) -> None:
    memory = encoded[0].clone()
    memory[2, 0, 0] = float("nan")
    with pytest.raises(DataError, match="utterance c: the decoder's scores are NaN"):
        attention_beam_search(
            model, memory, encoded[1], AttentionBeamOptions(), ["a", "b", "c", "d"]
        )
    for wrong in (
        {"beam_size": 0},
        {"length_bonus": float("inf")},
        {"max_tokens_per_frame": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AttentionBeamOptions(**wrong)
