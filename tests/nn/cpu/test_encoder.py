"""The packed encoder against the torch encoder: whole utterances, chunk masks, streams; float32 and int8."""

import copy
import os
import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_asr.nn.attention import relative_positions
from moe_asr.nn.cpu.distances import Distances
from moe_asr.nn.cpu.encoder import EncoderShape, PackedEncoder
from moe_asr.nn.cpu.mixture import BLOCK
from moe_asr.nn.encoder import ConformerEncoder, MixtureOptions
from moe_asr.nn.stream_pool import StreamPool
from moe_asr.nn.subsampling import output_length

FEATURES = 20


def _encoder(
    num_experts: int = 4, num_chosen: int = 2, dim: int = 24, hidden_dim: int = 22, seed: int = 0
) -> ConformerEncoder:
    """Random where training starts with zeros or ones; dimensions that are no multiples of vectors."""
    torch.manual_seed(seed)
    mixture = MixtureOptions(hidden_dim, num_experts, num_chosen)
    encoder = ConformerEncoder(
        FEATURES, dim, 2, 2, mixture, kernel=5, subsampling_channels=6
    ).eval()
    for name, parameter in encoder.named_parameters():
        if "norm" in name or name.endswith("_bias"):
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            torch.nn.init.normal_(parameter, mean, 0.3)
    return encoder


@pytest.fixture(scope="module")
def encoder() -> ConformerEncoder:
    return _encoder()


@pytest.fixture(scope="module")
def packed(encoder: ConformerEncoder) -> PackedEncoder:
    return PackedEncoder.from_encoder(encoder)


def _batch(*lengths: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    features = torch.randn(len(lengths), max(lengths), FEATURES, generator=generator)
    return features, torch.tensor(lengths)


@pytest.mark.parametrize(("chunk", "left"), [(-1, -1), (4, -1), (3, 2), (1, 0)])
def test_whole_utterances(
    encoder: ConformerEncoder, packed: PackedEncoder, chunk: int, left: int
) -> None:
    """Of different lengths, one too short for a frame; padding may hold anything."""
    features, lengths = _batch(83, 41, 5, 60)
    with torch.no_grad():
        expected, expected_lengths, _ = encoder(features, lengths, chunk, left)
    for row, length in enumerate(lengths):
        features[row, int(length) :] = float("nan")
    out, out_lengths, packing = packed(features, lengths, chunk, left)
    assert out_lengths.tolist() == expected_lengths.tolist()
    assert packing.valid is None and not packing.auxiliary_losses
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_experts", "num_chosen"), [(1, 1), (3, 3), (5, 1)])
def test_numbers_of_experts(num_experts: int, num_chosen: int) -> None:
    encoder = _encoder(num_experts, num_chosen)
    features, lengths = _batch(70)
    with torch.no_grad():
        expected, _, _ = encoder(features, lengths)
    torch.testing.assert_close(
        PackedEncoder.from_encoder(encoder)(features, lengths)[0], expected, rtol=1e-4, atol=1e-5
    )


def test_more_frames_than_a_block(encoder: ConformerEncoder, packed: PackedEncoder) -> None:
    """Several blocks of an expert, and a table of distances that has to grow."""
    encoder = copy.deepcopy(encoder)
    with torch.no_grad():
        for layer in encoder.layers:
            layer.feed_forward.router[0] *= 100.0  # the first or the last choice
    features, lengths = _batch(4 * 3 * BLOCK + 30)
    assert output_length(int(lengths[0]), 4) > 2 * BLOCK
    with torch.no_grad():
        expected, _, _ = encoder(features, lengths)
    out = PackedEncoder.from_encoder(encoder)(features, lengths)[0]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=2e-5)


def test_distances_of_a_chunk_are_enough_for_a_long_utterance(encoder: ConformerEncoder) -> None:
    """The table for all frames of an hour would be gigabytes."""
    features, lengths = _batch(4 * 400)
    packed = PackedEncoder.from_encoder(encoder)
    with torch.no_grad():
        expected, _, _ = encoder(features, lengths, 5, 2)
    before = packed.num_bytes
    torch.testing.assert_close(packed(features, lengths, 5, 2)[0], expected, rtol=1e-4, atol=1e-5)
    assert packed.num_bytes - before < 2 * 24 * 4 * 300  # layers, dim, float32, distances
    packed(features, lengths)
    assert packed.num_bytes - before > 2 * 24 * 4 * 2 * 400


def test_result_does_not_depend_on_threads_or_company(packed: PackedEncoder) -> None:
    """To the bit: one or three threads, alone or in a batch."""
    features, lengths = _batch(90, 47)
    for int8_or_not in (packed, PackedEncoder.from_encoder(_encoder(), "int8")):
        together, _, _ = int8_or_not(features, lengths)
        int8_or_not.num_threads = 3
        int8_or_not._choose_threads = lambda num_frames: 3  # type: ignore[method-assign]
        again, _, _ = int8_or_not(features, lengths)
        assert torch.equal(together, again)
        alone, _, _ = int8_or_not(features[1:, :47], lengths[1:])
        assert torch.equal(alone[0], together[1, : alone.shape[1]])
        del int8_or_not._choose_threads
        int8_or_not.num_threads = None


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_streams(precision: str) -> None:
    """Streams that join, leave and end with part of a chunk give what a chunk mask gives whole utterances."""
    encoder = _encoder()
    packed = PackedEncoder.from_encoder(encoder, precision)
    chunk, left = 3, 2
    pool = packed.new_pool(2, chunk, left)
    texts = {name: _batch(length)[0][0] for name, length in (("a", 131), ("b", 61), ("c", 97))}
    waiting, slots, given = list(texts), {}, {name: [] for name in texts}
    left_over = dict(texts)
    while waiting or slots:
        while waiting and pool.num_free:
            slot = pool.open()
            assert slot is not None
            slots[waiting.pop(0)] = slot
        fed, names = [], []
        for name in slots:
            frames, used = pool.chunk_frames(len(left_over[name]), finished=True)
            if frames:
                names.append(name)
                fed.append(
                    left_over[name][
                        : max(pool.window, used) if used == len(left_over[name]) else pool.window
                    ]
                )
            left_over[name] = left_over[name][used:]
        for name, out in zip(names, pool.encode([slots[name] for name in names], fed), strict=True):
            given[name].append(out)
        for name in [name for name in slots if len(left_over[name]) == 0]:
            pool.close(slots.pop(name))
    for name, features in texts.items():
        streamed = torch.cat(given[name])
        whole, _, _ = packed(features[None], torch.tensor([len(features)]), chunk, left)
        # int8 quantises row by row: a stream's rows are those of the utterance
        torch.testing.assert_close(streamed, whole[0], rtol=1e-4, atol=1e-5)
        if precision == "float32":
            with torch.no_grad():
                expected, _, _ = encoder(features[None], torch.tensor([len(features)]), chunk, left)
            torch.testing.assert_close(streamed, expected[0], rtol=1e-4, atol=1e-5)


def test_chunk_by_chunk_as_the_torch_pool(encoder: ConformerEncoder, packed: PackedEncoder) -> None:
    """Round the rings several times, slots in another order at each call."""
    ours, theirs = packed.new_pool(3, 4, 2), StreamPool(encoder, 3, 4, 2)
    slots = [(ours.open(), theirs.open()) for _ in range(3)]
    generator = torch.Generator().manual_seed(5)
    for step in range(12):
        order = torch.randperm(3, generator=generator).tolist()[: 1 + step % 3]
        features = [torch.randn(ours.window, FEATURES, generator=generator) for _ in order]
        outs = ours.encode([slots[i][0] for i in order], features)
        expected = theirs.encode([slots[i][1] for i in order], features)
        for out, wanted in zip(outs, expected, strict=True):
            torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)
    assert ours.bytes_per_slot * 3 <= ours.num_bytes < theirs.num_bytes * 8


def test_a_stream_that_is_not_finite_spoils_no_other(packed: PackedEncoder) -> None:
    """Nor the next one that gets its slot."""
    pool = packed.new_pool(2, 4, 1)
    first, second = pool.open(), pool.open()
    assert first is not None and second is not None
    good = torch.randn(pool.window, FEATURES)
    bad = torch.full_like(good, float("nan"))
    alone = packed.new_pool(1, 4, 1)
    slot = alone.open()
    assert slot is not None
    for _ in range(3):
        spoilt, out = pool.encode([first, second], [bad, good])
        assert torch.isnan(spoilt).all()
        assert torch.equal(out, alone.encode([slot], [good])[0])
    pool.close(first)
    again = pool.open()
    assert again == first
    alone.reset(slot)
    assert torch.equal(pool.encode([first], [good])[0], alone.encode([slot], [good])[0])


def test_int8_is_near_float32() -> None:
    """The error of 8 bits, relative to the output, in a model of random weights."""
    encoder = _encoder(dim=64, hidden_dim=96)
    features, lengths = _batch(200)
    with torch.no_grad():
        expected, _, _ = encoder(features, lengths)
    packed = PackedEncoder.from_encoder(encoder, "int8")
    out, _, _ = packed(features, lengths)
    error = (out - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-5 < float(error) < 0.05
    assert packed.num_bytes < 0.5 * PackedEncoder.from_encoder(encoder).num_bytes


def test_calls_of_several_threads(packed: PackedEncoder) -> None:
    """One encoder for several threads: each call has its own memory."""
    batches = [_batch(60 + 10 * index) for index in range(4)]
    expected = [packed(*batch)[0] for batch in batches]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(10):
            if not torch.equal(packed(*batches[index])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_phases_are_counted(packed: PackedEncoder) -> None:
    from moe_asr.nn.cpu.layers import NUM_PHASES, PHASES

    assert len(PHASES) == NUM_PHASES
    packed.phases = np.zeros(NUM_PHASES, np.int64)
    packed(*_batch(100))
    assert (packed.phases > 0).all()
    packed.phases = None


@pytest.mark.parametrize("dim", [6, 96, 330])
def test_a_distance_is_the_same_in_tables_of_all_sizes(dim: int) -> None:
    """To the bit, or results would depend on what was encoded before."""
    tables = Distances([(torch.randn(dim, dim), None)], 2)
    small, large = tables.of(3, 4), tables.of(300, 200)
    same = large.arrays[0][:, :, large.zero_index - 3 : large.zero_index + 3]
    assert np.array_equal(same, small.arrays[0][:, :, :6])
    positions = relative_positions(1, 1, dim, torch.device("cpu"))  # distance 0
    expected = (positions @ tables._weights[0][0].t()).view(2, dim // 2).numpy()
    np.testing.assert_allclose(
        small.arrays[0][:, :, small.zero_index], expected, rtol=1e-5, atol=1e-5
    )


def test_its_weights_are_its_own() -> None:
    """What becomes of the encoder that it was made from is nothing to it."""
    encoder = _encoder(num_experts=3)
    packed = PackedEncoder.from_encoder(encoder)
    features, lengths = _batch(50)
    before, _, _ = packed(features, lengths)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(float("nan"))
    assert torch.equal(packed(features, lengths)[0], before)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.double(),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: torch.stack([x, x], 2)[:, :, 1],
    ],
)
def test_features_of_any_layout(packed: PackedEncoder, change: Callable[[Tensor], Tensor]) -> None:
    features, lengths = _batch(60, 33)
    out, _, _ = packed(change(features), lengths)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert torch.equal(out, packed(features, lengths)[0])


def test_nothing_to_encode(packed: PackedEncoder) -> None:
    features, lengths = _batch(60, 33)
    assert packed(features[:0], lengths[:0])[0].shape == (0, output_length(60, 4), packed.dim)
    assert packed(features[:, :0], 0 * lengths)[0].shape == (2, 0, packed.dim)


def test_features_that_it_cannot_read(packed: PackedEncoder) -> None:
    """Kernels would read beyond them."""
    features, lengths = _batch(60, 33)
    with pytest.raises(ValueError, match="on the CPU, found them on meta"):
        packed(features.to("meta"), lengths)
    with pytest.raises(ValueError, match="at least 59 frames of 20 features, found \\(60, 21\\)"):
        packed(torch.randn(2, 60, 21), lengths)
    with pytest.raises(ValueError, match="at least 79 frames of 20 features, found \\(60, 20\\)"):
        packed(features, lengths + 20)
    with pytest.raises(ValueError, match="2 features and 1 lengths"):
        packed(features, lengths[:1])
    pool = packed.new_pool(2, 3, 1)
    with pytest.raises(ValueError, match="features"):
        pool.encode([0], [torch.randn(pool.window, 19)])
    for slot in (-1, 2):
        with pytest.raises(ValueError, match=r"slots of 0\.\.1"):
            pool.encode([slot], [torch.randn(pool.window, 20)])


def test_threads_are_as_many_as_cores_at_most(packed: PackedEncoder) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1000
    packed.num_threads = 1000
    assert packed._choose_threads(10**9) == min(cores, 1000)
    packed.num_threads = None


def test_what_it_refuses(encoder: ConformerEncoder, packed: PackedEncoder) -> None:
    with pytest.raises(ValueError, match="int4"):
        PackedEncoder.from_encoder(encoder, "int4")
    with pytest.raises(RuntimeError, match="cannot be trained"):
        packed.train()
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.deepcopy(packed)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(packed)
    with pytest.raises(ValueError, match="chunk_size"):
        packed.new_pool(1, 0, 2)
    assert list(packed.parameters()) == []
    assert EncoderShape.of(encoder).num_layers == 2
