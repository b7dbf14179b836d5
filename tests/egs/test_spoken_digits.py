"""The digits recipe, every stage of it, at a tiny size."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "egs" / "spoken_digits" / "run.sh"


def run_recipe(exp: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    corpus = [] if os.environ.get("FSDD_DIR") else ["--synthetic"]
    result = subprocess.run(
        ["bash", str(RECIPE), "--tiny", "--exp", str(exp), *corpus, *options],
        env=environment,
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken_digits")
    run_recipe(folder)
    return folder


def test_summary(exp: Path) -> None:
    summary = json.loads((exp / "summary.json").read_text())
    assert summary["corpus"] == ("fsdd" if os.environ.get("FSDD_DIR") else "synthetic")
    assert summary["train_minutes"] > 0
    assert set(summary["systems"]) == {"moe"}
    for mode in ("full", "chunk16"):
        row = summary["systems"]["moe"][mode]
        assert 0 <= row["greedy_wer"] and row["rtf"] > 0
        assert 0 <= row["hlg_wer"]


def test_wer_is_that_of_the_written_hypotheses(exp: Path) -> None:
    """The table's WER is recomputed here by plain dynamic programming from the files beside it."""
    results = json.loads((exp / "tiny" / "moe" / "decode" / "results.json").read_text())
    references = read_texts(next((exp / "tiny" / "moe" / "decode").rglob("ref*")))
    row = results["full"]["ctc_greedy"]
    hypotheses = [
        p for p in (exp / "tiny" / "moe" / "decode").rglob("*hyp*") if "ctc_greedy" in str(p)
    ]
    hypotheses = [p for p in hypotheses if "full" in str(p)]
    assert len(hypotheses) == 1
    found = read_texts(hypotheses[0])
    assert set(found) == set(references)
    errors = sum(distance(references[key], found[key]) for key in references)
    words = sum(len(words) for words in references.values())
    assert row["wer"] == pytest.approx(100.0 * errors / words)


def test_test_takes_never_occur_in_training(exp: Path) -> None:
    takes = {}
    for split in ("train", "dev", "test"):
        with gzip.open(exp / "tiny" / "data" / f"cuts_{split}.jsonl.gz", "rt") as file:
            cuts = [json.loads(line) for line in file]
        takes[split] = {take for cut in cuts for take in cut["supervisions"][0]["custom"]["takes"]}
    assert takes["test"] and takes["test"] <= set(range(5))
    assert takes["dev"] and takes["dev"] <= {5, 6}
    assert takes["train"] and takes["train"] <= set(range(7, 50))


def test_a_second_run_trains_nothing_again(exp: Path) -> None:
    history = exp / "tiny" / "moe" / "history.jsonl"
    weights = exp / "tiny" / "moe" / "model" / "model.safetensors"
    before = history.read_text(), weights.read_bytes()
    run_recipe(exp, "--stop-stage", "4")
    assert (history.read_text(), weights.read_bytes()) == before


def read_texts(path: Path) -> "dict[str, list[str]]":
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: row[1:] for row in rows}


def distance(a: "list[str]", b: "list[str]") -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
