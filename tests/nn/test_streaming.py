"""Streams equal the whole utterance under the same chunk mask, however they are fed and batched."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.nn.streaming import EncoderState
from moe_asr.nn.subsampling import output_length
from tests.nn.references import make_model, padded

TOLERANCE = 1e-5
DIM = 16


class Feeder:
    """Feeds utterances to a model piece by piece and collects what comes out of each."""

    def __init__(self, model, utterances):
        self.model, self.utterances = model, utterances
        self.position = [0] * len(utterances)
        self.ended = [False] * len(utterances)
        self.outputs = [[torch.zeros(0, DIM)] for _ in utterances]
        self.num_calls = 0

    def step(self, state, streams, pieces):
        """One call: ``pieces[row]`` new frames for utterance ``streams[row]``; None ends it."""
        self.num_calls += 1
        assert self.num_calls < 1000, "the streams do not come to an end"
        new, last = [], []
        for n, piece in zip(streams, pieces, strict=True):
            start = self.position[n]
            stop = len(self.utterances[n]) if piece is None else start + piece
            stop = min(stop, len(self.utterances[n]))
            new.append(self.utterances[n][start:stop])
            self.position[n] = stop
            self.ended[n] = self.ended[n] or piece is None
            last.append(self.ended[n])
        features, lengths = padded(new, garbage=30.0)
        out, out_lengths, state = self.model.encode_chunk(
            features, lengths, state, torch.tensor(last)
        )
        assert out.shape[:2] == (len(streams), state.chunk_size)
        for row, n in enumerate(streams):
            length = int(out_lengths[row])
            assert not out[row, length:].any()
            self.outputs[n].append(out[row, :length])
        return state

    def drained(self, state, row, n):
        assert bool(state.input_finished[row]) == self.ended[n]
        return bool(state.finished[row])

    def check(self, streams, chunk_size, left_chunks):
        for n in streams:
            utterance = self.utterances[n]
            expected, _ = self.model.encode(
                utterance[None], torch.tensor([len(utterance)]), chunk_size, left_chunks
            )
            got = torch.cat(self.outputs[n])
            torch.testing.assert_close(got, expected[0], atol=TOLERANCE, rtol=0)


def stream_all(model, utterances, chunk_size, left_chunks, rng, largest_piece):
    """Feeds random pieces, zero frames among them, until every stream has given everything."""
    feeder = Feeder(model, utterances)
    streams = list(range(len(utterances)))
    state = model.init_stream(len(utterances), chunk_size, left_chunks)
    while not all(feeder.drained(state, n, n) for n in streams):
        pieces = []
        for n in streams:
            rest = len(utterances[n]) - feeder.position[n]
            piece = rng.choice([0, rng.randint(0, largest_piece), largest_piece])
            pieces.append(None if piece >= rest and rng.random() < 0.7 else piece)
        state = feeder.step(state, streams, pieces)
    assert state.num_frames.tolist() == [
        output_length(len(u), model.config.subsampling) for u in utterances
    ]
    return feeder


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(7)
    return {factor: make_model(subsampling=factor) for factor in (4, 6, 8)}


@pytest.mark.parametrize("subsampling", [4, 6, 8])
@pytest.mark.parametrize("left_chunks", [-1, 0, 1, 3])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 8, 16])
@torch.no_grad()
def test_streams_equal_the_full_pass(models, chunk_size, left_chunks, subsampling):
    model, rng = models[subsampling], random.Random(chunk_size)
    frames = min(5 * chunk_size, 24)  # several chunks, and a short tail
    lengths = [subsampling * (frames + 1) + 13, subsampling * frames // 2 + 14, 40, 3]
    utterances = [torch.randn(length, 20) for length in lengths]
    largest = max(subsampling * chunk_size * 3 // 2, 8)
    feeder = stream_all(model, utterances, chunk_size, left_chunks, rng, largest)
    feeder.check(range(4), chunk_size, left_chunks)


@settings(max_examples=25)
@given(data=st.data())
@torch.no_grad()
def test_any_feeding_of_any_batch(models, data):
    subsampling = data.draw(st.sampled_from([4, 6, 8]))
    chunk_size = data.draw(st.integers(1, 6))
    left_chunks = data.draw(st.integers(-1, 3))
    lengths = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=4))
    rng = random.Random(data.draw(st.integers(0, 1000)))
    largest = data.draw(st.integers(4, 60))
    utterances = [torch.randn(length, 20) for length in lengths]
    feeder = stream_all(models[subsampling], utterances, chunk_size, left_chunks, rng, largest)
    feeder.check(range(len(lengths)), chunk_size, left_chunks)


@pytest.mark.parametrize("overrides", [
    {"num_experts": 1, "num_chosen": 1}, {"kernel": 1}, {"kernel": 31}, {"encoder_layers": 3},
])  # fmt: skip
@torch.no_grad()
def test_other_architectures(overrides):
    model = make_model(**overrides)
    utterances = [torch.randn(length, 20) for length in (70, 41)]
    feeder = stream_all(model, utterances, 4, 2, random.Random(1), 20)
    feeder.check(range(2), 4, 2)


@pytest.mark.parametrize("left_chunks", [-1, 0, 2])
@torch.no_grad()
def test_streams_join_leave_and_change_places(models, left_chunks):
    model, chunk = models[4], 3
    feeder = Feeder(model, [torch.randn(length, 20) for length in (120, 90, 71, 55)])
    state = model.init_stream(2, chunk, left_chunks)
    for piece in (17, 20, 9):
        state = feeder.step(state, [0, 1], [piece, piece + 3])
    state = EncoderState.merge([state, model.init_stream(1, chunk, left_chunks)])
    assert state.num_streams == 3
    for piece in (11, 0, 30):
        state = feeder.step(state, [0, 1, 2], [piece, 2, piece])
    state = state.select([2, 0])  # stream 1 waits elsewhere, the others swap
    state = feeder.step(state, [2, 0], [5, 25])
    late = feeder.step(model.init_stream(1, chunk, left_chunks), [3], [50])
    state = EncoderState.merge([late, state])
    state = feeder.step(state, [3, 2, 0], [None, None, 13])
    state = feeder.step(state, [3, 2, 0], [0, 0, None])
    while not all(feeder.drained(state, row, n) for row, n in enumerate([3, 2, 0])):
        state = feeder.step(state, [3, 2, 0], [0, 0, 0])
    feeder.check([0, 2, 3], chunk, left_chunks)


@torch.no_grad()
def test_a_stream_that_left_can_come_back(models):
    model = models[4]
    feeder = Feeder(model, [torch.randn(80, 20), torch.randn(100, 20)])
    state = feeder.step(model.init_stream(2, 4, -1), [0, 1], [40, 25])
    alone, waiting = state.select([1]), state.select([0])
    for _ in range(4):
        alone = feeder.step(alone, [1], [15])
    state = EncoderState.merge([waiting, alone])
    state = feeder.step(state, [0, 1], [None, None])
    while not all(feeder.drained(state, n, n) for n in (0, 1)):
        state = feeder.step(state, [0, 1], [0, 0])
    feeder.check([0, 1], 4, -1)


@torch.no_grad()
def test_a_state_is_a_value(models):
    model = models[4]
    state = model.init_stream(2, 2, 1)
    lengths = torch.tensor([30, 12])
    for _ in range(3):
        _, _, state = model.encode_chunk(torch.randn(2, 30, 20), lengths, state)
    before = {k: v.clone() for k, v in vars(state).items() if isinstance(v, torch.Tensor)}
    features = torch.randn(2, 30, 20)
    first, _, after = model.encode_chunk(features, lengths, state)
    _, _, later = model.encode_chunk(torch.randn(2, 30, 20), lengths, after)
    state.select([1, 0]), EncoderState.merge([state, later])
    assert all(torch.equal(getattr(state, name), value) for name, value in before.items())
    second, _, again = model.encode_chunk(features, lengths, state)
    assert torch.equal(first, second)
    assert torch.equal(after.keys, again.keys)


def held_bytes(state: EncoderState) -> int:
    """Memory that the state keeps alive: whole storages, also where a tensor shows a part of one."""
    tensors = [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
    storages = {tensor.storage().data_ptr(): len(tensor.storage()) for tensor in tensors}
    return sum(storages.values())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("left_chunks", [0, 1, 4])
@torch.no_grad()
def test_memory_is_bounded_with_bounded_left_context(models, left_chunks):
    model, chunk = models[4], 4
    state, sizes = model.init_stream(2, chunk, left_chunks), []
    first, later = model.chunk_feature_frames(chunk)
    for call in range(12):
        features = torch.randn(2, first if call == 0 else later, 20)
        lengths = torch.tensor([features.shape[1]] * 2)
        _, out_lengths, state = model.encode_chunk(features, lengths, state)
        assert out_lengths.tolist() == [chunk, chunk]
        sizes.append((state.num_bytes, held_bytes(state)))
        assert state.keys.shape == state.values.shape == (2, 2, 2, left_chunks * chunk, 8)
    assert len(set(sizes)) == 1
    shapes = [value.numel() * value.element_size() for value in vars(state).values()
              if isinstance(value, torch.Tensor)]  # fmt: skip
    assert state.num_bytes == sum(shapes)


@torch.no_grad()
def test_unlimited_left_context_keeps_the_oldest_stream_and_no_more(models):
    model, chunk = models[4], 2
    state = model.init_stream(2, chunk, -1)
    first, later = model.chunk_feature_frames(chunk)
    for call in range(6):  # the streams advance in turn
        features = torch.randn(2, first if call < 2 else later, 20)
        lengths = torch.tensor([features.shape[1], 0] if call % 2 == 0 else [0, features.shape[1]])
        _, _, state = model.encode_chunk(features, lengths, state)
    assert state.num_frames.tolist() == [6, 6]
    assert state.cache_size == 6
    young = model.init_stream(1, chunk, -1)
    assert EncoderState.merge([state, young]).select([2]).cache_size == 0


@torch.no_grad()
def test_the_first_chunk_needs_exactly_its_feature_frames(models):
    for model in models.values():
        for chunk in (1, 3):
            first, later = model.chunk_feature_frames(chunk)
            state = model.init_stream(1, chunk)
            for frames in (first, later):
                new = torch.randn(1, frames - 1, 20)
                _, lengths, state = model.encode_chunk(new, torch.tensor([frames - 1]), state)
                assert lengths.tolist() == [0]
                _, lengths, state = model.encode_chunk(
                    torch.randn(1, 1, 20), torch.tensor([1]), state
                )
                assert lengths.tolist() == [chunk]


@torch.no_grad()
def test_an_utterance_too_short_for_one_frame_gives_none(models):
    model = models[4]
    state = model.init_stream(1, 4)
    last = torch.tensor([True])
    out, lengths, state = model.encode_chunk(torch.randn(1, 6, 20), torch.tensor([6]), state, last)
    assert lengths.tolist() == [0] and not out.any()
    assert state.input_finished.tolist() == [True] and state.feature_lengths.tolist() == [0]


@torch.no_grad()
def test_no_features_after_the_end(models):
    model = models[4]
    last = torch.tensor([False, True])
    lengths = torch.tensor([30, 30])
    _, _, state = model.encode_chunk(torch.randn(2, 30, 20), lengths, model.init_stream(2, 4), last)
    with pytest.raises(ValueError, match="stream 1 of the batch was finished"):
        model.encode_chunk(torch.randn(2, 30, 20), lengths, state)
    model.encode_chunk(torch.randn(2, 30, 20), torch.tensor([30, 0]), state)  # 0 frames are fine


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_wrong_chunk_size(models, chunk_size):
    with pytest.raises(ValueError, match=f"at least 1, found {chunk_size}"):
        models[4].init_stream(1, chunk_size)


def test_streams_of_different_settings_do_not_merge(models):
    states = [models[4].init_stream(1, 4, 2), models[4].init_stream(1, 8, 2)]
    with pytest.raises(ValueError, match="one .chunk, left. setting"):
        EncoderState.merge(states)


@torch.no_grad()
def test_an_empty_batch_of_streams(models):
    state = models[4].init_stream(2, 4, -1).select([])
    out, lengths, state = models[4].encode_chunk(
        torch.zeros(0, 8, 20), torch.zeros(0, dtype=torch.int64), state
    )
    assert out.shape == (0, 4, DIM) and lengths.shape == (0,) and state.num_streams == 0
