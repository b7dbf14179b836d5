"""The tables of the recipes, asked for before there is anything to put into them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.egs.recipe_runs import ROOT

SCRIPTS = {
    "egs/summarize.py": (
        ("--systems", "moe", "--test-sets", "test"),
        "1 checkpoints wanted, 0 found",
    ),
    "egs/spoken_digits/local/summarize.py": (
        ("--systems", "moe", "--corpus", "nowhere.json"),
        "nowhere.json: cannot be read",
    ),
    "egs/voice_commands/local/summarize.py": (
        ("--units", "bpe", "--grammars", "3gram", "--manifest", "nowhere.jsonl.gz"),
        "nowhere.jsonl.gz: cannot be read",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_missing_is_named(script: str, tmp_path: Path) -> None:
    options, message = SCRIPTS[script]
    results = tmp_path / "moe" / "decode" / "test" / "results.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"full": {"ctc_greedy": {"wer": 1.0, "rtf": 0.1}}}))
    output = tmp_path / "summary.json"
    command = [sys.executable, str(ROOT / script), "--runs", str(tmp_path), *options]
    result = subprocess.run(
        [*command, "--output", str(output)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 2, result.stderr
    assert "summarize.py: error: " in result.stderr and message in result.stderr
    assert not output.exists()
