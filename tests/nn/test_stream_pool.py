"""Streams in preallocated slots equal whole utterances under the same chunk mask, whatever the others do."""

import random

import numpy as np
import pytest
import torch

from moe_asr.nn.stream_pool import StreamPool
from tests.nn.references import make_model

TOLERANCE = 1e-5


class Waiting:
    """One utterance on its way through a slot."""

    def __init__(self, pool, utterance):
        self.pool, self.features = pool, utterance
        self.slot = pool.open()
        self.outputs = []
        self.ended = False

    def next_window(self):
        frames, used = self.pool.chunk_frames(len(self.features), finished=True)
        window = self.features[: self.pool.window]
        self.features = self.features[used:]
        self.ended = len(self.features) == 0
        return frames, window


@pytest.mark.parametrize(("chunk_size", "left_chunks"), [(1, 3), (3, 0), (4, 1), (5, 4), (64, 2)])
def test_streams_that_join_and_leave_equal_whole_utterances(chunk_size, left_chunks):
    model = make_model()
    chooser = random.Random(chunk_size)
    pool = StreamPool(model.encoder, 3, chunk_size, left_chunks)
    pool._values.fill_(1e4)  # what other streams left behind must not be seen
    utterances = [
        torch.randn(n, model.config.num_features) for n in (7, 8, 60, 61, 133, 97, 200, 11)
    ]
    waiting, active, done = list(enumerate(utterances)), {}, {}
    while waiting or active:
        while waiting and pool.num_free and chooser.random() < 0.7:
            name, utterance = waiting.pop(0)
            active[name] = Waiting(pool, model.cmvn(utterance))
        batch = [name for name in active if chooser.random() < 0.6]
        chooser.shuffle(batch)
        windows = [active[name].next_window() for name in batch]
        if not batch:
            continue
        outputs = pool.encode([active[name].slot for name in batch], [one for _, one in windows])
        for name, output, (frames, _) in zip(batch, outputs, windows, strict=True):
            assert len(output) == frames
            active[name].outputs.append(output.clone())
            if active[name].ended:
                pool.close(active[name].slot)
                done[name] = torch.cat(active.pop(name).outputs)
    assert pool.num_free == 3
    for name, utterance in enumerate(utterances):
        lengths = torch.tensor([len(utterance)])
        expected, frames = model.encode(utterance[None], lengths, chunk_size, left_chunks)
        assert len(done[name]) == int(frames)
        torch.testing.assert_close(done[name], expected[0], atol=TOLERANCE, rtol=TOLERANCE)


def test_a_reset_slot_begins_anew():
    model = make_model()
    pool = StreamPool(model.encoder, 2, 4, 2)
    slot = pool.open()
    window = torch.randn(pool.window, model.config.num_features)
    (first,) = pool.encode([slot], [window])
    (second,) = pool.encode([slot], [window])
    assert not torch.allclose(first, second, atol=1e-3)
    pool.reset(slot)
    (again,) = pool.encode([slot], [window])
    torch.testing.assert_close(again, first)


@pytest.mark.parametrize("finished", [False, True])
def test_chunks_are_those_of_encode_chunk(finished):
    model = make_model()
    pool = StreamPool(model.encoder, 1, 4, 1)
    for num_features in range(0, 60):
        state = model.init_stream(1, 4, 1)
        features = torch.zeros(1, num_features, model.config.num_features)
        _, lengths, state = model.encode_chunk(
            features, torch.tensor([num_features]), state, torch.tensor([finished])
        )
        used = num_features - int(state.feature_lengths[0])
        assert pool.chunk_frames(num_features, finished) == (int(lengths[0]), used)


def test_slots_run_out_and_memory_is_stated():
    model = make_model()
    config = model.config
    pool = StreamPool(model.encoder, 2, 4, 3)
    assert None not in (pool.open(), pool.open())
    assert pool.open() is None and pool.num_free == 0
    caches = 2 * 16 * config.dim + (config.kernel - 1) * config.dim
    assert pool.bytes_per_slot == 4 * config.encoder_layers * caches
    assert pool.num_bytes == 2 * pool.bytes_per_slot
    for wrong in ((0, 4, 3), (2, 0, 3), (2, 4, -1)):
        with pytest.raises(ValueError, match="num_slots >= 1"):
            StreamPool(model.encoder, *wrong)
    assert np.all(pool._num_frames == 0)
