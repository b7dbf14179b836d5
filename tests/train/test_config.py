import math

import pytest

from moe_asr.config import from_dict, to_dict
from moe_asr.errors import ConfigError
from moe_asr.train.config import TrainConfig


def test_round_trip_and_unknown_key():
    config = TrainConfig(max_steps=10, betas=(0.8, 0.9), schedule="linear")
    assert from_dict(TrainConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="conf.yaml.*'warmup_step'.*'warmup_steps'"):
        from_dict(TrainConfig, {"max_steps": 5, "warmup_step": 3}, "conf.yaml")


@pytest.mark.parametrize(
    "values, culprit",
    [
        ({}, "max_steps or max_minutes"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_minutes": -1.0}, "max_minutes"),
        ({"max_steps": 1, "learning_rate": float("nan")}, "learning_rate"),
        ({"max_steps": 1, "precision": "fp8"}, "precision.*fp8"),
        ({"max_steps": 1, "schedule": "noam"}, "schedule.*cosine.*noam"),
        ({"max_steps": 1, "keep_last": 2, "average_last": 3}, "average_last"),
        ({"max_steps": 1, "betas": [0.9, 1.0]}, "betas"),
        ({"max_steps": 1, "accumulation_steps": 0}, "accumulation_steps"),
        ({"max_steps": 1, "valid_chunk_size": 0}, "valid_chunk_size"),
    ],
)
def test_bad_values_are_named(values, culprit):
    with pytest.raises(ConfigError, match=culprit):
        from_dict(TrainConfig, values, "conf.yaml")


def test_inverse_sqrt():
    config = TrainConfig(
        max_steps=10**6, learning_rate=2e-3, warmup_steps=100, final_lr_factor=0.0,
        schedule="inverse_sqrt",
    )  # fmt: skip
    assert config.learning_rate_at(1, 0.0) == pytest.approx(2e-5)
    assert config.learning_rate_at(50, 0.0) == pytest.approx(1e-3)
    assert config.learning_rate_at(100, 0.0) == pytest.approx(2e-3)
    assert config.learning_rate_at(400, 0.0) == pytest.approx(1e-3)


def test_cosine_and_linear_end_at_the_floor():
    for schedule, half in (("cosine", 0.55), ("linear", 0.55)):
        config = TrainConfig(
            max_steps=200, learning_rate=1.0, warmup_steps=0, schedule=schedule, final_lr_factor=0.1
        )
        assert config.learning_rate_at(1, 0.0) == 1.0
        assert config.learning_rate_at(101, 0.0) == pytest.approx(half)
        assert config.learning_rate_at(201, 0.0) == pytest.approx(0.1)
    quarter = TrainConfig(
        max_steps=200, learning_rate=1.0, warmup_steps=0, schedule="cosine", final_lr_factor=0.0
    )
    assert quarter.learning_rate_at(51, 0.0) == pytest.approx(0.5 + math.sqrt(0.125))


def test_by_default_a_run_ends_at_its_lowest_rate():
    for budget, end in (({"max_steps": 900}, (901, 0.0)), ({"max_minutes": 3.0}, (700, 3.0))):
        config = TrainConfig(**budget, learning_rate=1.0, final_lr_factor=0.1)
        assert config.learning_rate_at(*end) == pytest.approx(0.1)


def test_the_nearer_budget_drives_progress():
    config = TrainConfig(max_steps=100, max_minutes=10.0, schedule="linear", warmup_steps=0)
    assert config.progress(50, 1.0) == 0.5
    assert config.progress(10, 8.0) == 0.8
    assert config.progress(10, 12.0) == 1.0
    rate = config.learning_rate_at(11, 8.0)
    assert rate == pytest.approx(config.learning_rate * (1 - 0.99 * 0.8))
