"""Every preset builds and has the parameters it claims."""

import re

import pytest
import torch

from moe_asr.config import to_dict
from moe_asr.errors import ConfigError
from moe_asr.model.config import PRESETS, ModelConfig, preset
from moe_asr.model.meta import build_on_meta
from moe_asr.model.u2 import U2MoeModel


@pytest.fixture(scope="module")
def built():
    return {name: build_on_meta(preset(name)) for name in PRESETS}


def expected_parameters(c: ModelConfig) -> int:
    """The model's size by hand."""
    norm, linear = 2 * c.dim, c.dim * c.dim + c.dim
    router = c.num_experts * c.dim if c.num_experts > 1 else 0
    mixture = c.num_experts * (2 * c.dim * c.hidden_dim + c.hidden_dim + c.dim) + router
    relative = 4 * linear + c.dim * c.dim + 2 * c.dim
    convolution = 3 * linear + c.dim * (c.kernel + 1) + norm
    layer = 2 * mixture + relative + convolution + 5 * norm
    assert c.subsampling == 4
    channels, bins = c.subsampling_channels, ((c.num_features - 1) // 2 - 1) // 2
    subsampling = 10 * channels + (9 * channels + 1) * channels + (channels * bins + 1) * c.dim
    encoder = c.encoder_layers * layer + subsampling + norm
    output = c.dim * c.vocab_size + c.vocab_size
    decoder_layer = 2 * 4 * linear + mixture + 3 * norm
    decoders = 0
    for layers in (c.left_to_right_layers, c.right_to_left_layers):
        decoders += layers * decoder_layer + c.vocab_size * c.dim + norm + output
    return encoder + output + decoders


def test_the_names():
    assert list(PRESETS) == ["tiny", "small", "dense_225m", "moe_1b", "dense_1b"]


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_equal_the_count_by_hand(built, name):
    assert built[name].num_parameters() == expected_parameters(preset(name))


def test_building_on_meta_counts_what_a_real_model_has():
    config = preset("tiny")
    model, shadow = U2MoeModel(config), build_on_meta(config)
    assert {p.device.type for p in shadow.parameters()} == {"meta"}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in shadow.state_dict().items()} == shapes
    assert shadow.parameter_summary() == model.parameter_summary()
    assert torch.empty(1).device.type == "cpu"  # nothing stays behind


def test_sizes_of_the_paper(built):
    sizes = {name: model.num_parameters() for name, model in built.items()}
    assert abs(sizes["dense_225m"] / 225e6 - 1) < 0.03
    assert 4.5 < sizes["moe_1b"] / sizes["dense_225m"] < 4.9
    assert abs(sizes["dense_1b"] / sizes["moe_1b"] - 1) < 0.05
    assert built["dense_225m"].num_active_parameters() == sizes["dense_225m"]


def test_moe_1b_is_dense_225m_but_for_its_experts():
    dense, moe = to_dict(preset("dense_225m")), to_dict(preset("moe_1b"))
    assert {key for key in dense if dense[key] != moe[key]} == {"num_experts", "num_chosen"}
    assert (moe["num_experts"], moe["num_chosen"]) == (8, 2)


def test_docstring_of_small(built):
    text = PRESETS["small"].__doc__
    total, active = (float(number) for number in re.findall(r"(\d+(?:\.\d+)?) million", text))
    assert built["small"].num_parameters() / 1e6 == pytest.approx(total, rel=0.06)
    assert built["small"].num_active_parameters() / 1e6 == pytest.approx(active, rel=0.06)


def test_docstring_of_tiny():
    config = preset("tiny")
    assert "two encoder layers, four experts" in PRESETS["tiny"].__doc__
    assert (config.encoder_layers, config.num_experts) == (2, 4)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_small_presets_run(name):
    model = U2MoeModel(preset(name, vocab_size=20)).eval()
    losses = model(
        torch.randn(1, 50, 80), torch.tensor([50]), torch.tensor([[3, 4]]), torch.tensor([2])
    )
    assert torch.isfinite(losses.total)


def test_overrides():
    config = preset("tiny", vocab_size=99, dropout=0.3)
    assert (config.vocab_size, config.dropout, config.dim) == (99, 0.3, preset("tiny").dim)


@pytest.mark.parametrize(
    "name,overrides,text",
    [
        ("smal", {}, "unknown preset 'smal'; did you mean 'small'"),
        ("dense_1m", {}, "did you mean 'dense_1b'"),
        ("zzz", {}, "unknown preset 'zzz' .known: tiny, small, dense_225m, moe_1b, dense_1b"),
        ("tiny", {"num_expert": 4}, "unknown key 'num_expert'.*did you mean 'num_experts'"),
        ("tiny", {"dim": "large"}, "preset tiny: dim: expected int, found 'large'"),
        ("tiny", {"num_chosen": 9}, r"num_chosen must be in 1..num_experts \(4\), found 9"),
    ],
)
def test_errors_name_the_nearest(name, overrides, text):
    with pytest.raises(ConfigError, match=text):
        preset(name, **overrides)
