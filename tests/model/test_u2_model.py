"""The whole model: log-probabilities, streaming through its normalisation, counts, learning."""

import pytest
import torch

from moe_asr.model.config import preset
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.masks import DynamicChunk
from tests.nn.references import VOCAB, make_model, padded


def test_ctc_log_probs_are_normalised_float32():
    model = make_model()
    memory, _ = model.encode(torch.randn(2, 60, 20), torch.tensor([60, 44]))
    log_probs = model.ctc_log_probs(memory)
    assert log_probs.shape == (2, 14, VOCAB) and log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 14))


def test_output_length_is_that_of_encode():
    for subsampling in (4, 6, 8):
        model = make_model(subsampling=subsampling)
        for frames in (0, 5, 15, 16, 50):
            memory, lengths = model.encode(torch.randn(1, frames, 20), torch.tensor([frames]))
            assert model.output_length(frames) == memory.shape[1] == int(lengths[0])


def test_cmvn_is_applied_in_both_modes():
    model = make_model()
    mean, inv_std = model.cmvn.mean.clone(), model.cmvn.inv_std.clone()
    features, lengths = torch.randn(1, 60, 20), torch.tensor([60])
    last = torch.tensor([True])
    offline, _ = model.encode(features, lengths)
    stream, _, _ = model.encode_chunk(features, lengths, model.init_stream(1, 20), last)
    model.cmvn.set(torch.zeros(20), torch.ones(20))
    normalised = (features - mean) * inv_std
    plain, _ = model.encode(normalised, lengths)
    torch.testing.assert_close(plain, offline, atol=1e-5, rtol=0)
    torch.testing.assert_close(stream[:, : plain.shape[1]], offline, atol=1e-5, rtol=0)
    assert (model.encode(features, lengths)[0] - offline).abs().max() > 0.01


def test_encoding_needs_no_padding_convention():
    model = make_model()
    sequences = [torch.randn(50, 20), torch.randn(31, 20)]
    zeros = model.encode(*padded(sequences))[0]
    for garbage in (1.0, 1e4):
        other = model.encode(*padded(sequences, garbage))[0]
        torch.testing.assert_close(other, zeros, atol=1e-5, rtol=0)


@pytest.mark.parametrize("experts,chosen", [(1, 1), (4, 2), (4, 4)])
def test_active_parameters_are_those_with_a_gradient_from_one_frame(experts, chosen):
    model = make_model(num_experts=experts, num_chosen=chosen)
    hidden, dim = 24, 16
    one_expert = 2 * dim * hidden + hidden + dim
    layers = 2 * 2 + 1 + 1
    idle = layers * (experts - chosen) * one_expert
    assert model.num_active_parameters() == model.num_parameters() - idle
    # A frame, counted by gradients: expert rows that it does not take have none.
    model.encode(torch.randn(1, 7, 20), torch.tensor([7]))[0].square().sum().backward()
    layer = model.encoder.layers[0].feed_forward
    used = sum(bool(rows.any()) for rows in layer.w1.grad)
    assert used == chosen


def test_parameter_summary_adds_up():
    model = make_model()
    summary = model.parameter_summary()
    assert sum(summary.values()) == model.num_parameters()
    assert set(summary) == {"cmvn", "encoder", "ctc", "left_to_right", "right_to_left"}


@pytest.mark.parametrize("experts,chosen", [(1, 1), (4, 2)], ids=["dense", "moe"])
def test_a_tiny_model_learns_two_utterances(experts, chosen):
    chunks = DynamicChunk(full_context_probability=0.5, max_chunk_size=4)
    config = preset("tiny", vocab_size=VOCAB, num_features=20, num_experts=experts,
                    num_chosen=chosen, dropout=0.0, label_smoothing=0.0,
                    dynamic_chunk=chunks)  # fmt: skip
    model = U2MoeModel(config)
    features, lengths = padded([torch.randn(80, 20), torch.randn(60, 20)])
    targets = torch.tensor([[2, 3, 3, 4, 5], [6, 7, 8, -1, -1]])
    target_lengths = torch.tensor([5, 3])
    data = features, lengths, targets, target_lengths
    with torch.no_grad():
        before = model.eval()(*data).total
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        model(*data).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
    with torch.no_grad():
        after = model.eval()(*data).total
        assert after < before / 10
        for chunk_size in (-1, 2):  # both modes spell the targets
            memory, out_lengths = model.encode(features, lengths, chunk_size)
            best = model.ctc_log_probs(memory).argmax(-1)
            for n, length in enumerate(out_lengths.tolist()):
                path = torch.unique_consecutive(best[n, :length])
                assert path[path != 0].tolist() == targets[n, : target_lengths[n]].tolist()
