"""Models with packed weights against torch's: encoder, decoders, and what must not be done with them."""

import numpy as np
import pytest
import torch

from moe_asr.decode.streaming import encode_in_chunks
from moe_asr.errors import ConfigError, DataError
from moe_asr.model import second_pass
from moe_asr.model.attention_beam import AttentionBeamOptions, attention_beam_search
from moe_asr.model.directory import load_model_dir, save_model_dir
from moe_asr.model.second_pass import second_pass_scores
from moe_asr.nn.cpu import workspace
from moe_asr.nn.cpu.modules import PackedLinear, PackedModule
from moe_asr.nn.masks import valid_mask
from moe_asr.nn.moe.statistics import collect_routing
from tests.model.test_model_directory import OPTIONS, save

PRECISIONS = ["float32", "int8"]
HYPOTHESES = [
    [(3, 4, 5), (3, 4), (3, 4, 6, 7), (8,), ()],
    [(2, 2, 2, 2, 5), (2, 2, 2, 5)],
    [],
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("packed")
    save(path, left_to_right_layers=2, right_to_left_layers=1, hidden_dim=40)
    return path


@pytest.fixture(scope="module")
def torchs(directory):
    return load_model_dir(directory).model


@pytest.fixture(scope="module")
def packed(directory):
    return {one: load_model_dir(directory, precision=one).model for one in PRECISIONS}


@pytest.fixture
def features():
    lengths = torch.tensor([90, 31, 64])
    return torch.randn(3, 90, 20).masked_fill(~valid_mask(lengths, 90)[:, :, None], 1e3), lengths


@pytest.fixture
def encoded(torchs, features):
    with torch.no_grad():
        return torchs.encode(*features)


def close(found, expected, precision: str, float32: float = 1e-4, int8: float = 0.15) -> None:
    """Equal but for the rounding of sums, or near, of values of the size of 1."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape
    if precision == "float32":
        assert (found - expected).abs().max() <= float32
    else:
        assert 1e-6 < (found - expected).double().pow(2).mean().sqrt() < int8


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("mode", [(-1, -1), (4, -1), (3, 1)])
@torch.no_grad()
def test_the_encoder_is_torchs(torchs, packed, features, precision, mode) -> None:
    expected, lengths = torchs.encode(*features, *mode)
    found, again = packed[precision].encode(*features, *mode)
    assert torch.equal(again, lengths)
    close(found, expected, precision)
    close(packed[precision].ctc_log_probs(expected), torchs.ctc_log_probs(expected), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("left_chunks", [-1, 0, 2])
@torch.no_grad()
def test_chunks_are_what_the_mask_says(packed, features, precision, left_chunks) -> None:
    expected, lengths = packed[precision].encode(*features, 4, left_chunks)
    found, again = encode_in_chunks(packed[precision], *features, 4, left_chunks)
    assert torch.equal(again, lengths) and found.shape == expected.shape
    # in int8 a difference of rounding may move a value by a step
    assert (found - expected).abs().max() < (1e-4 if precision == "float32" else 0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_what_is_not_a_number_stays_so(packed, features, precision) -> None:
    """In its own utterance: nothing takes it for speech."""
    expected, _ = packed[precision].encode(*features)
    features[0][2, 30, 5] = float("nan")
    memory, lengths = packed[precision].encode(*features)
    log_probs = packed[precision].ctc_log_probs(memory)
    assert torch.isnan(log_probs[2, : lengths[2]]).all()
    assert torch.equal(memory[:2], expected[:2])
    with pytest.raises(DataError, match="utterance 2: the decoder's scores are NaN"):
        second_pass_scores(packed[precision], memory, lengths, [[], [], [(3, 4)]])
    with pytest.raises(DataError, match="utterance 2: the decoder's scores are NaN"):
        attention_beam_search(
            packed[precision], memory, lengths, AttentionBeamOptions(), ["0", "1", "2"]
        )


@pytest.mark.parametrize("max_megabytes", [256.0, 0.01], ids=["whole", "split"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_second_pass_scores(torchs, packed, encoded, precision, max_megabytes) -> None:
    expected = second_pass_scores(torchs, *encoded, HYPOTHESES)
    found = second_pass_scores(packed[precision], *encoded, HYPOTHESES, max_megabytes=max_megabytes)
    for name in ("left_to_right", "right_to_left"):
        rows = [np.concatenate([getattr(one, name) for one in each]) for each in (found, expected)]
        close(*rows, precision)
        assert np.ptp(rows[1]) > 1.0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("block_size", [1, 3, 100])
@torch.no_grad()
def test_probabilities_of_what_may_follow_sum_to_one(precision, block_size) -> None:
    """All tokens as children of the root, and the end: the logits are those whose sum is taken."""
    output = PackedLinear.from_linear(torch.nn.Linear(16, 9), precision)
    tokens = torch.tensor([[1, 0, *range(2, 9)]])  # the root, and all tokens but the end
    states = torch.randn(1, 9, 16)
    parents = torch.zeros(1, 9, dtype=torch.int64)
    at_node, end = second_pass._log_probs(output, states, tokens, parents, block_size)
    assert at_node[0, 1:].exp().sum() + end[0, 0].exp() == pytest.approx(1.0, abs=1e-5)
    chain = torch.arange(9)[None] - 1
    at_node, _ = second_pass._log_probs(output, states, tokens, chain.clamp(min=0), block_size)
    expected = output(states).log_softmax(2)[0, torch.arange(8), tokens[0, 1:]]
    torch.testing.assert_close(at_node[0, 1:], expected)


@torch.no_grad()
def test_attention_beam_search(torchs, packed, encoded) -> None:
    options = AttentionBeamOptions(beam_size=3, max_tokens_per_frame=0.3)
    expected = attention_beam_search(torchs, *encoded, options)
    found = attention_beam_search(packed["float32"], *encoded, options)
    assert [[one.tokens for one in row] for row in found] == [
        [one.tokens for one in row] for row in expected
    ]
    for one, other in zip(found, expected, strict=True):
        scores = [[each.score for each in row] for row in (one, other)]
        np.testing.assert_allclose(*scores, atol=1e-4)
    rounded = attention_beam_search(packed["int8"], *encoded, options)
    for one, other in zip(rounded, expected, strict=True):
        assert abs(one[0].score - other[0].score) < 0.5


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_steps_are_what_the_whole_is(packed, encoded, precision) -> None:
    decoder = packed[precision].attention_decoder()
    tokens = torch.tensor([[1, 4, 5, 2], [1, 3, 3, 8], [1, 7, 2, 2]])
    expected = decoder(tokens, torch.full((3,), 4), *encoded)
    source, cache = decoder.source(*encoded), None
    for position in range(4):
        logits, cache = decoder.step(tokens[:, position : position + 1], position, cache, source)
        error = (logits[:, 0] - expected[:, position]).abs().max()
        assert error < (1e-4 if precision == "float32" else 0.1)


def test_what_is_known_of_it(torchs, packed) -> None:
    for model in packed.values():
        assert model.is_packed and not torchs.is_packed
        assert model.device == torch.device("cpu") and not model.training
        assert model.num_parameters() == torchs.num_parameters()
        assert model.num_active_parameters() == torchs.num_active_parameters()
        assert model.parameter_summary() == torchs.parameter_summary()
        assert not any(value.is_meta or value.requires_grad for value in model.parameters())
        kept = {name: value for name, value in torchs.named_parameters() if "embedding" in name}
        for name, value in kept.items():
            assert torch.equal(model.get_parameter(name), value)
        assert torch.equal(model.cmvn.mean, torchs.cmvn.mean)


@pytest.mark.parametrize("storage", ["float16", "int8"])
@torch.no_grad()
def test_whatever_is_stored(directory, tmp_path, features, storage) -> None:
    """Matrices in int8 are packed as they are stored, to the bit."""
    loaded = load_model_dir(directory)
    save_model_dir(tmp_path, loaded.model, loaded.tokenizer, OPTIONS, storage)
    expected = load_model_dir(tmp_path).model.encode(*features)[0]
    for precision in PRECISIONS:
        found = load_model_dir(tmp_path, precision=precision)
        assert (found.storage, found.precision) == (storage, precision)
        close(found.model.encode(*features)[0], expected, precision)
    if storage == "int8":
        same = load_model_dir(directory, precision="int8").model
        assert torch.equal(found.model.ctc(expected), same.ctc(expected))


@torch.no_grad()
def test_routing_of_the_decoders_is_collected(torchs, packed, encoded) -> None:
    found = []
    for model in (torchs, packed["float32"]):
        with collect_routing(model.left_to_right) as statistics:
            second_pass_scores(model, *encoded, HYPOTHESES, right_to_left=False)
        found.append(statistics)
    assert set(found[0]) == set(found[1]) == {f"layers.{n}.feed_forward" for n in (0, 1)}
    for name, one in found[0].items():
        assert torch.equal(one.assignments, found[1][name].assignments)
        assert one.num_frames == found[1][name].num_frames > 5


def test_it_is_neither_trained_nor_saved(directory, tmp_path) -> None:
    loaded = load_model_dir(directory, precision="int8")
    model = loaded.model
    for attempt, message in (
        (lambda: model.train(), "cannot be trained"),
        (lambda: save_model_dir(tmp_path / "a", model, loaded.tokenizer, OPTIONS), "be saved"),
        (lambda: model.half(), "cannot be moved to cpu as torch.float16"),
        (lambda: model.init_stream(1, 4), "its streams are those of a new_pool"),
        (lambda: collect_all(model), "packed encoder does not tell its routing"),
    ):
        with pytest.raises(ConfigError, match=message):
            attempt()
    assert not (tmp_path / "a").exists()


def collect_all(model) -> None:
    with collect_routing(model):
        pass


def test_layers_share_blocks_of_memory(directory, monkeypatch) -> None:
    """Each block is a huge page at least, which would be most of a small model's memory."""
    sizes = []
    block = workspace._block
    monkeypatch.setattr(workspace, "_block", lambda size: sizes.append(size) or block(size))
    monkeypatch.setattr(workspace, "_LARGE_BYTES", 0)
    model = load_model_dir(directory, precision="int8").model
    assert len([one for one in model.modules() if isinstance(one, PackedModule)]) > 10
    assert 1 <= len(sizes) <= 3  # the encoder's, the other layers'
