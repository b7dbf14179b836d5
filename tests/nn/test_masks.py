"""Chunk masks against their definition, and the distribution of dynamic chunks."""

import pytest
import torch

from moe_asr.nn.masks import DynamicChunk, chunk_mask, valid_mask
from tests.nn.references import may_attend

CPU = torch.device("cpu")


@pytest.mark.parametrize("left_chunks", [-1, 0, 1, 2, 7])
@pytest.mark.parametrize("chunk_size", [-1, 0, 1, 2, 3, 5, 20])
@pytest.mark.parametrize("num_frames", [0, 1, 5, 13])
def test_chunk_mask_equals_its_definition(num_frames, chunk_size, left_chunks):
    mask = chunk_mask(num_frames, chunk_size, left_chunks, CPU)
    expected = [
        [may_attend(i, j, chunk_size, left_chunks) for j in range(num_frames)]
        for i in range(num_frames)
    ]
    assert mask.dtype == torch.bool and mask.shape == (num_frames, num_frames)
    assert mask.tolist() == expected


def test_valid_mask():
    mask = valid_mask(torch.tensor([0, 2, 4]), 4)
    assert mask.tolist() == [[False] * 4, [True, True, False, False], [True] * 4]


def test_draws_stay_in_range_and_reach_their_ends():
    dynamic = DynamicChunk(0.0, max_chunk_size=4, all_left_probability=0.5)
    draws = [dynamic.draw(10) for _ in range(2000)]
    assert {chunk for chunk, _ in draws} == {1, 2, 3, 4}
    for size in (1, 2, 3, 4):
        most = (10 - 1) // size  # chunks before the last one
        assert {left for chunk, left in draws if chunk == size} == set(range(-1, most + 1))


@pytest.mark.parametrize("full,all_left", [(0.5, 0.5), (0.2, 0.9), (0.0, 0.0), (1.0, 0.3)])
def test_shares_of_full_context_and_of_unlimited_left_context(full, all_left):
    dynamic = DynamicChunk(full, 25, all_left)
    draws = [dynamic.draw(200) for _ in range(3000)]
    chunked = [draw for draw in draws if draw[0] > 0]
    assert all(draw == (-1, -1) for draw in draws if draw[0] <= 0)
    assert 1 - len(chunked) / len(draws) == pytest.approx(full, abs=0.06)
    if chunked:
        unlimited = sum(left < 0 for _, left in chunked) / len(chunked)
        assert unlimited == pytest.approx(all_left, abs=0.06)
        assert sum(size for size, _ in chunked) / len(chunked) == pytest.approx(13, abs=1.2)


@pytest.mark.parametrize("num_frames", [0, 1, 3])
def test_short_batches(num_frames):
    dynamic = DynamicChunk(0.0, 25, 0.0)
    for _ in range(200):
        chunk_size, left_chunks = dynamic.draw(num_frames)
        assert 1 <= chunk_size <= 25 and 0 <= left_chunks <= max((num_frames - 1) // chunk_size, 0)


def test_the_seed_of_torch_decides_the_draws():
    torch.manual_seed(5)
    first = [DynamicChunk().draw(50) for _ in range(20)]
    torch.manual_seed(5)
    assert [DynamicChunk().draw(50) for _ in range(20)] == first
    assert len(set(first)) > 5


@pytest.mark.parametrize(
    "kwargs,name",
    [
        ({"full_context_probability": 1.5}, "full_context_probability"),
        ({"all_left_probability": -0.1}, "all_left_probability"),
        ({"all_left_probability": float("nan")}, "all_left_probability"),
        ({"max_chunk_size": 0}, "max_chunk_size"),
    ],
)
def test_wrong_distributions(kwargs, name):
    with pytest.raises(ValueError, match=name):
        DynamicChunk(**kwargs)
