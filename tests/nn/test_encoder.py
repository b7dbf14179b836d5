"""The encoder over whole utterances: masks, what each frame can see, padding, batch composition."""

import pytest
import torch

from moe_asr.nn.subsampling import output_length, receptive_field
from tests.nn.references import make_model, padded

SETTINGS = [(-1, -1), (1, -1), (2, 0), (3, 1), (4, -1), (16, 2)]


def utterances(*lengths: int) -> list[torch.Tensor]:
    return [torch.randn(length, 20) for length in lengths]


@pytest.mark.parametrize("left_chunks", [-1, 0, 3])
def test_one_chunk_as_long_as_the_utterance_is_full_context(left_chunks):
    model = make_model()
    features, lengths = padded(utterances(90, 41))
    full, _ = model.encode(features, lengths)
    chunked, _ = model.encode(features, lengths, full.shape[1], left_chunks)
    torch.testing.assert_close(chunked, full, atol=1e-5, rtol=0)
    smaller, _ = model.encode(features, lengths, full.shape[1] // 2, left_chunks)
    assert (smaller - full).abs().max() > 1e-2


@pytest.mark.parametrize("subsampling", [4, 6, 8])
@pytest.mark.parametrize("chunk_size,left_chunks", SETTINGS)
def test_padding_and_batch_composition_change_nothing(subsampling, chunk_size, left_chunks):
    model = make_model(subsampling=subsampling)
    sequences = utterances(97, 30, 64, 5)
    alone = [
        model.encode(s[None], torch.tensor([len(s)]), chunk_size, left_chunks) for s in sequences
    ]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [1, 2]):
        features, lengths = padded([sequences[i] for i in order], garbage=100.0)
        out, out_lengths = model.encode(features, lengths, chunk_size, left_chunks)
        for row, i in enumerate(order):
            length = output_length(len(sequences[i]), subsampling)
            assert int(out_lengths[row]) == length == int(alone[i][1])
            torch.testing.assert_close(out[row, :length], alone[i][0][0], atol=1e-5, rtol=0)
            assert not out[row, length:].any()


@pytest.mark.parametrize("subsampling", [4, 6, 8])
@pytest.mark.parametrize("chunk_size", [1, 3, 4])
def test_no_feature_beyond_the_chunk_has_a_gradient(chunk_size, subsampling):
    model = make_model(subsampling=subsampling, subsampling_channels=16)  # few dead ReLUs
    features = torch.randn(1, 90, 20, requires_grad=True)
    out, _ = model.encode(features, torch.tensor([90]), chunk_size)
    num_frames = out.shape[1]
    for j in range(num_frames):
        weight = torch.randn(out.shape[2])
        (gradient,) = torch.autograd.grad((out[0, j] * weight).sum(), features, retain_graph=True)
        seen = gradient[0].abs().sum(1) > 0
        last = min((j // chunk_size + 1) * chunk_size, num_frames) - 1
        end = last * subsampling + receptive_field(subsampling)
        assert not seen[end:].any(), f"frame {j} sees beyond its chunk"
        if j == last:
            assert seen[end - 3 : end].any(), f"frame {j} does not see the end of its chunk"
        assert seen[: receptive_field(subsampling)].any(), "all of the past is seen"


def test_left_context_limits_the_past():
    model = make_model(encoder_layers=1, kernel=1)
    features = torch.randn(1, 120, 20, requires_grad=True)
    for chunk_size, left_chunks in ((2, 0), (3, 1), (2, 3)):
        out, _ = model.encode(features, torch.tensor([120]), chunk_size, left_chunks)
        for j in range(out.shape[1]):
            weight = torch.randn(out.shape[2])
            (gradient,) = torch.autograd.grad(
                (out[0, j] * weight).sum(), features, retain_graph=True
            )
            seen = (gradient[0].abs().sum(1) > 0).nonzero().flatten()
            first = max(j // chunk_size - left_chunks, 0) * chunk_size * 4
            assert first <= int(seen.min()) < first + 7


def test_gradients_do_not_depend_on_padding():
    model = make_model()
    sequences = utterances(60, 33)
    weights = torch.randn(16)

    def gradients(features, lengths):
        model.zero_grad()
        (model.encode(features, lengths, 3, 1)[0] * weights).sum().backward()
        return {n: p.grad.clone() for n, p in model.encoder.named_parameters()}

    batch = gradients(*padded(sequences, garbage=10.0))
    alone = [gradients(s[None], torch.tensor([len(s)])) for s in sequences]
    for name, gradient in batch.items():
        expected = alone[0][name] + alone[1][name]
        scale = float(expected.abs().max()) + 1e-3
        torch.testing.assert_close(gradient, expected, atol=2e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_an_utterance_too_short_for_one_frame(length):
    model = make_model()
    out, lengths = model.encode(torch.randn(1, length, 20), torch.tensor([length]))
    assert out.shape == (1, 0, 16) and lengths.tolist() == [0]


def test_the_same_weights_in_both_modes_are_trained_by_dynamic_chunks():
    """Training mode draws masks: two passes differ by their masks only, as there is no dropout."""
    model = make_model().train()
    features, lengths = padded(utterances(90))
    targets, target_lengths = torch.tensor([[3, 4]]), torch.tensor([2])
    totals = [model(features, lengths, targets, target_lengths).total.item() for _ in range(20)]
    losses = {round(total, 4) for total in totals}
    assert len(losses) > 3
    model.eval()
    losses = {model(features, lengths, targets, target_lengths).total.item() for _ in range(5)}
    assert len(losses) == 1
