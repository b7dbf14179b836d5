"""The benchmark of loading: what it writes can be loaded, and what it measures is there."""

import json
from pathlib import Path

import pytest

from benchmarks.model_loading import loading_costs, main, write_model
from moe_asr.model.config import preset
from moe_asr.model.directory import load_model_dir


def test_the_model_is_the_preset_in_int8(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    loaded = load_model_dir(tmp_path)
    assert loaded.storage == "int8" and loaded.model.config == preset("tiny")
    assert 0.5 < loaded.model.ctc.weight.std() * loaded.model.config.dim**0.5 < 2.0


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--preset", "tiny", "--work", str(tmp_path), "--rounds", "1"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["file_bytes"] == (tmp_path / "tiny" / "model.safetensors").stat().st_size
    (row,) = result["results"].values()
    assert 100 < row["peak_megabytes"] < 1000 and row["load_seconds"] > 0
    costs = loading_costs(tmp_path, "tiny")  # of the same directory
    assert 0.1 < costs["peak_gb"] < 1.0 and costs["load_seconds"] > 0
