"""The LibriSpeech recipe, every stage of it, on a mock of the corpus."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_asr.data.manifests import read_cuts
from moe_asr.files import read_json
from tests.egs import mock_corpora
from tests.egs.recipe_runs import ROOT, check_table, contents, run_recipe, serving, steps_made

OPTIONS = ("--systems", "moe_1b")


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mock_corpora.make("librispeech", tmp_path_factory.mktemp("librispeech"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mock: Path) -> tuple[Path, str]:
    """The recipe from the download on: its folder, and what it printed."""
    exp = tmp_path_factory.mktemp("exp")
    text = mock / "lm" / "librispeech-lm-norm.txt.gz"
    with serving(mock_corpora.pack("librispeech", mock, exp / "server")) as url:
        output = run_recipe("librispeech", exp, *OPTIONS, "--mirror", url, "--train-lm", str(text))
    return exp / "tiny", output


def test_the_table_is_that_of_the_files(run: tuple[Path, str]) -> None:
    check_table(*run, ["test-clean", "test-other"], str.split)


def test_no_test_utterance_is_trained_on(run: tuple[Path, str]) -> None:
    speakers = {
        name: {
            cut.supervisions[0].speaker for cut in read_cuts(run[0] / f"data/cuts_{name}.jsonl.gz")
        }
        for name in ("train", "dev", "test-clean", "test-other")
    }
    assert speakers["train"] == {"103", "1034", "14", "20"}
    assert speakers["dev"] == {"84", "116"}
    assert (speakers["test-clean"], speakers["test-other"]) == ({"61"}, {"367"})


def test_a_second_run_needs_no_server_and_makes_nothing_again(
    run: tuple[Path, str], mock: Path
) -> None:
    exp, output = run
    assert {"data/joined_train"} <= set(steps_made(output))
    before = contents(exp)
    text = mock / "lm" / "librispeech-lm-norm.txt.gz"
    nowhere = ("--mirror", "http://127.0.0.1:9", "--train-lm", str(text))
    assert (
        steps_made(run_recipe("librispeech", exp.parent, *OPTIONS, *nowhere, "--stop-stage", "6"))
        == []
    )
    assert contents(exp) == before


def test_the_published_trigram_is_taken_unless_a_text_is_given(
    run: tuple[Path, str], mock: Path, tmp_path: Path
) -> None:
    lm, published = mock / "lm", tmp_path / "lm" / "3-gram.pruned.1e-7.arpa.gz"
    shutil.copytree(run[0], tmp_path / "exp" / "tiny")
    shutil.copytree(lm, published.parent)
    train = [sys.executable, str(ROOT / "lang" / "train_ngram.py"), "--order", "3"]
    train += ["--text", str(lm / "librispeech-lm-norm.txt.gz"), "--output", str(published)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*train, "--vocab", str(lm / "librispeech-vocab.txt")], env=environment, check=True
    )
    options = ("--lm-dir", str(published.parent), "--stage", "4", "--stop-stage", "4")
    output = run_recipe("librispeech", tmp_path / "exp", *options)
    assert steps_made(output) == ["graph_3gram/G", "graph_3gram/graph"]
    inputs = read_json(tmp_path / "exp/tiny/graph_3gram/provenance.json")["steps"]["G"]["inputs"]
    assert str(published) in {source["path"] for source in inputs.values()}
