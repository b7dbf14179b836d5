"""The model's configuration: round trip through plain values, and every way to get it wrong."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.config import from_dict, to_dict
from moe_asr.errors import ConfigError
from moe_asr.files import read_yaml, write_yaml
from moe_asr.model.config import ModelConfig
from moe_asr.nn.masks import DynamicChunk

unit = st.floats(0.0, 1.0)
below_one = st.floats(0.0, 0.99)
weight = st.floats(0.0, 1e6)


@st.composite
def configs(draw) -> ModelConfig:
    heads = draw(st.integers(1, 8))
    experts = draw(st.integers(1, 16))
    return ModelConfig(
        vocab_size=draw(st.integers(3, 10_000)),
        num_features=draw(st.integers(20, 128)),
        dim=heads * 2 * draw(st.integers(1, 32)),
        num_heads=heads,
        hidden_dim=draw(st.integers(1, 4096)),
        num_experts=experts,
        num_chosen=draw(st.integers(1, experts)),
        encoder_layers=draw(st.integers(1, 30)),
        left_to_right_layers=draw(st.integers(1, 6)),
        right_to_left_layers=draw(st.integers(1, 6)),
        kernel=draw(st.integers(1, 31)),
        subsampling=draw(st.sampled_from([4, 6, 8])),
        dropout=draw(below_one),
        attention_dropout=draw(below_one),
        ctc_weight=draw(unit),
        reverse_weight=draw(unit),
        label_smoothing=draw(below_one),
        load_balance_weight=draw(weight),
        z_loss_weight=draw(weight),
        dynamic_chunk=DynamicChunk(draw(unit), draw(st.integers(1, 50)), draw(unit)),
    )


@given(configs())
def test_round_trip_through_yaml(config):
    values = to_dict(config)
    assert from_dict(ModelConfig, values) == config
    assert from_dict(ModelConfig, yaml.safe_load(yaml.safe_dump(values))) == config


def test_a_file_says_where_its_mistake_is(tmp_path):
    path = tmp_path / "config.yaml"
    write_yaml(path, {**to_dict(ModelConfig(10)), "num_layer": 3})
    with pytest.raises(ConfigError, match=rf"{path}: unknown key 'num_layer'"):
        from_dict(ModelConfig, read_yaml(path), str(path))


@pytest.mark.parametrize(
    "key,nearest",
    [
        ("encoder_layer", "encoder_layers"),
        ("num_expert", "num_experts"),
        ("ctc_weigth", "ctc_weight"),
    ],
)
def test_unknown_keys_name_the_nearest(key, nearest):
    with pytest.raises(ConfigError, match=f"unknown key '{key}'.*did you mean '{nearest}'"):
        from_dict(ModelConfig, {"vocab_size": 10, key: 1})


def test_unknown_key_of_the_nested_section():
    values = {"vocab_size": 10, "dynamic_chunk": {"max_chunk": 3}}
    with pytest.raises(ConfigError, match="dynamic_chunk.*'max_chunk'.*'max_chunk_size'"):
        from_dict(ModelConfig, values)


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match="missing key.*vocab_size"):
        from_dict(ModelConfig, {})


@pytest.mark.parametrize(
    "key,value",
    [
        ("vocab_size", "ten"), ("vocab_size", 10.5), ("vocab_size", None), ("vocab_size", True),
        ("dim", [128]), ("dropout", "a lot"), ("dynamic_chunk", 16), ("dynamic_chunk", None),
    ],
)  # fmt: skip
def test_wrong_types_name_the_key(key, value):
    with pytest.raises(ConfigError, match=key):
        from_dict(ModelConfig, {"vocab_size": 10, key: value})


WRONG = {
    "num_features": [0, -1], "dim": [0, 6, 127], "num_heads": [0, 3], "hidden_dim": [0],
    "num_experts": [0], "num_chosen": [0, 9], "encoder_layers": [0, -2], "kernel": [0],
    "subsampling_channels": [0], "subsampling": [0, 2, 5, 16], "vocab_size": [2, -5],
    "ctc_weight": [-0.1, 1.1, float("nan")], "reverse_weight": [-0.1, 1.5],
    "dropout": [-0.1, 1.0], "attention_dropout": [1.0], "label_smoothing": [1.0, -1.0],
    "load_balance_weight": [-1.0], "z_loss_weight": [-0.001], "left_to_right_layers": [-1],
    "right_to_left_layers": [-1],
}  # fmt: skip


@pytest.mark.parametrize("key,value", [(k, v) for k, values in WRONG.items() for v in values])
def test_values_out_of_range_name_the_key(key, value):
    named = "decoder layers" if key.endswith(("left_layers", "right_layers")) else key
    with pytest.raises(ConfigError, match=named):
        from_dict(ModelConfig, {"vocab_size": 10, key: value})


@pytest.mark.parametrize(
    "values,text",
    [
        ({"left_to_right_layers": 0}, "ctc_weight < 1 needs a left-to-right decoder"),
        ({"right_to_left_layers": 0}, "reverse_weight > 0 needs a right-to-left decoder"),
    ],
)
def test_losses_need_their_decoders(values, text):
    with pytest.raises(ConfigError, match=text):
        from_dict(ModelConfig, {"vocab_size": 10, **values})
    only_ctc = {"ctc_weight": 1.0, "left_to_right_layers": 0, "right_to_left_layers": 0}
    from_dict(ModelConfig, {"vocab_size": 10, **only_ctc})
    one_way = {"reverse_weight": 0.0, "right_to_left_layers": 0}
    from_dict(ModelConfig, {"vocab_size": 10, **one_way})
