"""The plain encoder that speed is compared with computes what `ConformerEncoder` computes."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks.moe_reference import PlainEncoder
from moe_asr.nn.encoder import ConformerEncoder
from tests.nn.references import make_model

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def make_encoders(**overrides) -> tuple[ConformerEncoder, PlainEncoder]:
    encoder = make_model(**overrides).encoder
    return encoder, PlainEncoder(encoder)


@pytest.mark.parametrize("overrides", [{}, {"num_experts": 1, "num_chosen": 1}])
@torch.no_grad()
def test_offline(overrides: dict[str, int]) -> None:
    encoder, plain = make_encoders(**overrides)
    features, lengths = torch.randn(3, 91, 20), torch.tensor([91, 40, 67])
    expected, expected_lengths, _ = encoder(features, lengths)
    found, found_lengths = plain(features, lengths)
    assert expected.abs().max() > 0.1
    assert torch.equal(found_lengths, expected_lengths)
    assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("overrides", [{}, {"num_experts": 1, "num_chosen": 1}])
@torch.no_grad()
def test_chunk_by_chunk(overrides: dict[str, int]) -> None:
    encoder, plain = make_encoders(**overrides)
    chunk, left_chunks, num_chunks = 4, 2, 6
    window, step = 4 * (chunk - 1) + encoder.subsampling.receptive_field, 4 * chunk
    features = torch.randn(2, window + (num_chunks - 1) * step, 20)
    lengths = torch.full((2,), features.shape[1])
    expected, _, _ = encoder(features, lengths, chunk, left_chunks)
    caches, found = None, []
    for begin in range(0, num_chunks * step, step):
        part = features[:, begin : begin + window]
        x, caches = plain.encode_chunk(part, caches, chunk * left_chunks)
        assert caches[0].attention[0].shape[2] == min(len(found) + 1, left_chunks) * chunk
        found.append(x)
    assert_close(torch.cat(found, 1), expected, **TOLERANCE)


@torch.no_grad()
def test_fewer_streams_go_on_alone() -> None:
    _, plain = make_encoders()
    first, second = torch.randn(2, 3, 19, 20)
    _, caches = plain.encode_chunk(first, None, 8)
    expected, _ = plain.encode_chunk(second, caches, 8)
    found, _ = plain.encode_chunk(second[:1], [cache.streams(1) for cache in caches], 8)
    assert_close(found, expected[:1], **TOLERANCE)


@torch.no_grad()
def test_large_weights_are_copies() -> None:
    encoder, plain = make_encoders()
    features, lengths = torch.randn(1, 40, 20), torch.tensor([40])
    before, _ = plain(features, lengths)
    for layer in encoder.layers:
        layer.feed_forward.w1.zero_()
        layer.attention.query_key_value.weight.zero_()
    assert torch.equal(plain(features, lengths)[0], before)
