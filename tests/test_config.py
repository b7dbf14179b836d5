"""Plain values in and out of dataclasses: mappings, infinities, and where a mistake is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from moe_asr.config import from_dict, to_dict
from moe_asr.errors import ConfigError
from moe_asr.files import read_yaml, write_yaml
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions


@dataclass(frozen=True)
class Maps:
    """Mappings of several kinds."""

    anything: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    rules: dict[str, EndpointRule] = field(default_factory=dict)


def test_mappings() -> None:
    values = {
        "anything": {"a": 1, "b": [1, "x"], "c": {"d": None}},
        "counts": {"one": 1},
        "rules": {"mine": {"must_contain_speech": True, "min_trailing_silence_seconds": 1}},
    }
    found = from_dict(Maps, values)
    assert found == Maps(values["anything"], {"one": 1}, {"mine": EndpointRule(True, 1.0)})
    assert from_dict(Maps, to_dict(found)) == found


@pytest.mark.parametrize(
    "values,message",
    [
        ({"anything": [1]}, r"here: anything: expected a mapping, found \[1\]"),
        ({"anything": {1: 2}}, "here: anything: key: expected str, found 1"),
        ({"counts": {"one": "two"}}, "here: counts.one: expected int, found 'two'"),
        ({"rules": {"mine": {"speech": 1}}}, "here: rules.mine: unknown key 'speech'"),
        (
            {"rules": {"mine": {"must_contain_speech": True, "min_length_seconds": 10**400}}},
            "here: rules.mine: min_length_seconds: found an integer that is beyond float",
        ),
    ],
)
def test_mistakes_in_mappings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Maps, values, "here")


def test_the_options_of_a_recognizer(tmp_path) -> None:
    """All of them, infinities included, through a YAML file."""
    options = RecognizerOptions(
        chunk_size=8,
        method="one_best",
        method_options={"search_beam": 15.0, "token_beam": float("inf"), "partial": True},
        endpoint=EndpointOptions(rule2=EndpointRule(True, 0.7, 3.0), enabled=False),
        correction=TimeCorrection(start_offset_seconds=-0.1, longest_gap_seconds=None),
    )
    path = tmp_path / "recognizer.yaml"
    write_yaml(path, to_dict(options))
    assert from_dict(RecognizerOptions, read_yaml(path), str(path)) == options
    assert "max_relative_cost: .inf" in path.read_text()


@pytest.mark.parametrize(
    "text,message",
    [
        ("chunksize: 8", "r.yaml: unknown key 'chunksize' for RecognizerOptions; did you mean 'chunk_size'"),
        ("chunk_size: 0", "r.yaml: chunk_size must be at least 1, found 0"),
        ("endpoint: {rule3: {min_length: 1.0}}",
         "r.yaml: endpoint: rule3: unknown key 'min_length' .*did you mean 'min_length_seconds'"),
        ("endpoint: {rule6: {}}", "r.yaml: endpoint: unknown key 'rule6' .*did you mean 'rule5'"),
        ("endpoint: {rule1: {must_contain_speech: true, min_trailing_silence_seconds: -1}}",
         "rule1: min_trailing_silence_seconds must be 0 or more, found -1"),
        ("method_options: 3", "r.yaml: method_options: expected a mapping, found 3"),
        ("correction: {start: 1}", "r.yaml: correction: unknown key 'start'"),
    ],
)  # fmt: skip
def test_mistakes_in_the_options_of_a_recognizer(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(RecognizerOptions, yaml.safe_load(text), "r.yaml")
