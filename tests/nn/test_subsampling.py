"""Lengths, receptive fields and causality of the convolutional subsampling."""

import pytest
import torch

from moe_asr.nn.subsampling import (
    ConvSubsampling,
    chunk_feature_frames,
    output_length,
    output_lengths,
    receptive_field,
)

FACTORS = [4, 6, 8]
BINS, DIM = 20, 6


@pytest.mark.parametrize("factor", FACTORS)
def test_lengths_agree_with_the_convolution(factor):
    layer = ConvSubsampling(BINS, 3, DIM, factor)
    found = []
    for frames in range(61):
        x = torch.randn(1, frames, BINS)
        out = layer(x)
        found.append(out.shape[1])
        assert out.shape[2] == DIM
        if frames >= layer.receptive_field:
            assert layer.convolutions(x[:, None]).shape[2] == out.shape[1]
    assert [output_length(frames, factor) for frames in range(61)] == found
    assert output_lengths(torch.arange(61), factor).tolist() == found
    assert found[receptive_field(factor) - 1] == 0 and found[receptive_field(factor)] == 1


def test_factor_four_is_the_usual_formula():
    assert all(output_length(t, 4) == ((t - 1) // 2 - 1) // 2 for t in range(7, 200))


@pytest.mark.parametrize("factor", FACTORS)
def test_output_j_sees_exactly_its_receptive_field(factor):
    layer = ConvSubsampling(BINS, 3, DIM, factor).double()
    layer.convolutions = torch.nn.Sequential(  # ReLU would hide a dependence where it is zero
        *[module for module in layer.convolutions if not isinstance(module, torch.nn.ReLU)]
    )
    x = torch.randn(1, 60, BINS, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    for j in range(out.shape[1]):
        (gradient,) = torch.autograd.grad(out[0, j].sum(), x, retain_graph=True)
        seen = (gradient[0].abs().sum(1) > 0).nonzero().flatten().tolist()
        assert seen == list(range(j * factor, j * factor + receptive_field(factor)))


@pytest.mark.parametrize("factor", FACTORS)
def test_padding_does_not_reach_the_valid_outputs(factor):
    layer = ConvSubsampling(BINS, 3, DIM, factor)
    x = torch.randn(1, 60, BINS)
    for frames in (15, 22, 37, 59):
        alone = layer(x[:, :frames])
        dirty = x.clone()
        dirty[:, frames:] = float("nan")
        torch.testing.assert_close(layer(dirty)[:, : alone.shape[1]], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_chunk_feature_frames_are_the_fewest_that_complete_a_chunk(factor, chunk_size):
    first, later = chunk_feature_frames(chunk_size, factor)
    for count in range(1, 4):
        frames = first + (count - 1) * later
        assert output_length(frames, factor) == count * chunk_size
        assert output_length(frames - 1, factor) == count * chunk_size - 1


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"one of \[4, 6, 8\], found 5"):
        ConvSubsampling(BINS, 3, DIM, 5)
    with pytest.raises(ValueError, match="by 8 needs more than 14 feature bins"):
        ConvSubsampling(14, 3, DIM, 8)
