"""The whole way with the real model and data: YAML, manifests, training, resuming, export."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from moe_asr.audio.cmvn import CmvnStats
from moe_asr.cli.main import main
from moe_asr.data.manifests import read_cuts
from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.model.directory import load_model_dir
from moe_asr.text.tokenizer import CharTokenizer, load_tokenizer
from moe_asr.train.best import read_best
from moe_asr.train.checkpoint import list_checkpoints, read_model_state
from moe_asr.train.history import read_history
from moe_asr.train.setup import read_run_config

REPOSITORY = Path(__file__).parents[2]
TEXTS = ["one two", "two", "no one", "too won", "two two", "one"]
CONFIG = {
    "model": {"preset": "tiny", "num_experts": 3, "dynamic_chunk": {}},
    "data": {"max_duration_seconds": 3.0, "num_buckets": 1, "num_workers": 0},
    "train": {
        "max_steps": 8,
        "warmup_steps": 2,
        "learning_rate": 2e-3,
        "valid_interval": 4,
        "checkpoint_interval": 2,
        "log_interval": 1,
        "num_threads": 1,
        "device": "cpu",
    },
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with noise for speech: train.jsonl, dev.jsonl, tokenizer/, cmvn.json, train.yaml."""
    logging.getLogger().setLevel(logging.WARNING)
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("dev", 4)):
        cuts = []
        for i in range(count):
            name, seconds = f"{split}-{i}", float(rng.uniform(0.7, 1.1))
            path = folder / f"{name}.wav"
            soundfile.write(path, rng.standard_normal(int(16000 * seconds)) * 0.1, 16000)
            recording = Recording.from_file(path, recording_id=name)
            supervision = SupervisionSegment(
                name, name, 0.0, recording.duration, text=TEXTS[i % len(TEXTS)]
            )
            cuts.append(
                MonoCut(name, 0.0, recording.duration, 0, [supervision], recording=recording)
            )
        CutSet(cuts).to_file(folder / f"{split}.jsonl")
    CharTokenizer.from_texts(TEXTS).save(folder / "tokenizer")
    CmvnStats(np.full(80, -3.0), np.full(80, 0.5), 100).save(folder / "cmvn.json")
    (folder / "train.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return folder


def arguments(inputs, output, *options) -> list[str]:
    return [
        *("train", "--config", str(inputs / "train.yaml")),
        *("--manifest-train", str(inputs / "train.jsonl")),
        *("--manifest-dev", str(inputs / "dev.jsonl")),
        *("--tokenizer", str(inputs / "tokenizer"), "--cmvn", str(inputs / "cmvn.json")),
        *("--output", str(output), *options),
    ]


def train(inputs, output, *options) -> int:
    return main(arguments(inputs, output, *options))


KILLED_IN_STEP_6 = """
import os, signal, sys
from moe_asr.cli.main import main
from moe_asr.model.u2 import U2MoeModel

forward, calls = U2MoeModel.forward, []

def killed_in_step_6(self, *batch):
    calls.append(self.training)
    if sum(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, *batch)

U2MoeModel.forward = killed_in_step_6
main(sys.argv[1:])
"""


def losses(output):
    rows = read_history(output / "history.jsonl")
    return [(row["kind"], row["step"], row["loss"]) for row in rows]


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("exp") / "moe"
    assert train(inputs, output) == 0
    return output


def test_trains_and_logs_the_routing(trained):
    assert [row[1] for row in losses(trained) if row[0] == "train"] == list(range(1, 9))
    valid = [row for row in read_history(trained / "history.jsonl") if row["kind"] == "valid"]
    assert [row["step"] for row in valid] == [4, 8]
    layers = {name.split("/")[1] for name in valid[0] if name.startswith("routing/")}
    assert len(layers) >= 6  # two encoder layers of two mixtures, two decoder layers of one
    for layer in layers:
        shares = [valid[0][f"routing/{layer}/share/{expert}"] for expert in range(3)]
        assert sum(shares) == pytest.approx(1.0) and min(shares) >= 0.0
        assert 0.0 < valid[0][f"routing/{layer}/router_entropy"] <= np.log(3) + 1e-6
    assert (trained / "routing.png").exists() and (trained / "loss.png").exists()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resumes_exactly_by_itself(inputs, trained, tmp_path, capsys, monkeypatch, num_workers):
    """A hard error in step 6, in mid-epoch; random chunks, dropout, masks go on as before."""
    from moe_asr.model.u2 import U2MoeModel

    forward, calls = U2MoeModel.forward, []

    def fails_in_step_6(self, *batch):
        calls.append(self.training)
        if sum(calls) == 6:
            raise MemoryError
        return forward(self, *batch)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(U2MoeModel, "forward", fails_in_step_6)
        train(inputs, tmp_path, "--set", f"data.num_workers={num_workers}")
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")][-1] == "step-00000004"
    capsys.readouterr()
    assert train(inputs, tmp_path, "--set", f"data.num_workers={num_workers}") == 0
    assert "resuming from" in capsys.readouterr().out
    assert losses(tmp_path) == losses(trained)


def test_resumes_exactly_after_sigkill(inputs, trained, tmp_path):
    options = ["--set", "data.num_workers=1"]
    command = [sys.executable, "-c", KILLED_IN_STEP_6, *arguments(inputs, tmp_path, *options)]
    killed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [step for kind, step, _ in losses(tmp_path) if kind == "train"] == [1, 2, 3, 4, 5]
    assert train(inputs, tmp_path, *options) == 0
    assert losses(tmp_path) == losses(trained)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves(inputs, tmp_path, number):
    """As Ctrl-C and ``timeout`` send it: to the group of the trainer."""
    settings = ["data.num_workers=1", "data.max_duration_seconds=1.5", "data.prefetch_batches=1"]
    settings += ["train.max_steps=100000", "train.valid_interval=100000"]  # 10 batches an epoch
    options = [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "moe_asr.cli", *arguments(inputs, tmp_path, *options)],
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "history.jsonl").exists() or len(losses(tmp_path)) < 3:
            assert process.poll() is None and time.monotonic() < deadline, process.poll()
            time.sleep(0.02)
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 130, said
    assert f"stopped by {signal.Signals(number).name}" in said
    last = [step for kind, step, _ in losses(tmp_path) if kind == "train"][-1]
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{last:08d}"


def test_another_config_is_refused_or_allowed(inputs, trained, tmp_path, capsys):
    before = losses(trained)
    assert train(inputs, trained, "--set", "train.max_steps=9") == 2
    message = capsys.readouterr().err
    assert "train.max_steps is 8 there and 9 now" in message and "--resume" in message
    for option in ([], ["--resume"]):
        assert train(inputs, trained, "--set", "model.hidden_dim=56", *option) == 2
        message = capsys.readouterr().err
        assert "another architecture: model.hidden_dim is 48 there and 56 now" in message
    assert train(inputs, trained, "--set", "model.dropout=0.2") == 2
    message = capsys.readouterr().err
    assert "other model settings: model.dropout is 0.1 there and 0.2 now" in message
    assert "--resume" in message
    assert losses(trained) == before
    assert train(inputs, tmp_path / "none", "--resume") == 2
    assert "no checkpoint to resume from" in capsys.readouterr().err
    short = ["--set", "train.max_steps=2", "--set", "train.valid_interval=100"]
    assert train(inputs, tmp_path / "short", *short) == 0
    changed = [
        "train.max_steps=3",
        "model.ctc_weight=0.5",
        "model.dynamic_chunk={max_chunk_size: 5}",
    ]
    changes = [word for change in changed for word in ("--set", change)]
    assert train(inputs, tmp_path / "short", *short[2:], *changes, "--resume") == 0
    assert [step for kind, step, _ in losses(tmp_path / "short") if kind == "train"] == [1, 2, 3]


def test_export_averages_the_last(trained, tmp_path, capsys):
    args = ["export", "--checkpoints", str(trained), "--output", str(tmp_path / "model")]
    assert main([*args, "--last", "2"]) == 0
    assert "step-00000006, step-00000008" in capsys.readouterr().out
    loaded = load_model_dir(tmp_path / "model")
    states = [read_model_state(path) for path in list_checkpoints(trained / "checkpoints")[-2:]]
    for name, value in loaded.model.state_dict().items():
        expected = (states[0][name].double() + states[1][name].double()) / 2
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-8)
    assert loaded.model.config.num_experts == 3 and not loaded.model.training
    torch.testing.assert_close(loaded.model.cmvn.mean, torch.full((80,), -3.0))
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("two won")) == "two won"
    assert main([*args, "--last", "9"]) == 2
    assert "9 checkpoints wanted, 4 found" in capsys.readouterr().err
    assert main(args) == 0  # fewer than average_last are there
    assert "average of 4 checkpoint(s)" in capsys.readouterr().out


def test_export_of_the_best(trained, tmp_path, capsys):
    args = ["export", "--checkpoints", str(trained), "--output", str(tmp_path / "model"), "--best"]
    assert main(args) == 0
    valid = {step: loss for kind, step, loss in losses(trained) if kind == "valid"}
    best = min(valid, key=valid.get)
    assert f"the best step: best-{best:08d}.safetensors" in capsys.readouterr().out
    expected = read_model_state(trained / "checkpoints" / f"step-{best:08d}")
    model = load_model_dir(tmp_path / "model").model
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert read_best(trained / "checkpoints")[1].keys() == expected.keys()
    with pytest.raises(SystemExit):
        main([*args, "--last", "2"])


@pytest.mark.parametrize(
    "overrides, culprit",
    [
        (["train.learning_rat=1"], "train: unknown key 'learning_rat'.*'learning_rate'"),
        (["model.num_expert=4"], "unknown key 'num_expert'.*'num_experts'"),
        (["model.preset=tinny"], "unknown preset 'tinny'.*'tiny'"),
        (["trains.max_steps=4"], "unknown key 'trains'.*'train'"),
        (["features.num_bins=40"], "80 features, features.num_bins is 40"),
        (["model.vocab_size=77"], "vocab_size is 77, the tokenizer has 12"),
        (["train.max_steps=many"], "max_steps: expected int, found 'many'"),
        (["max_steps=4"], "--set max_steps=4: expected section.key=value"),
    ],
)
def test_config_errors_name_the_key(inputs, overrides, culprit):
    with pytest.raises(ConfigError, match=culprit) as caught:
        read_run_config(inputs / "train.yaml", overrides, 12)
    assert "train.yaml" in str(caught.value) or "--set" in str(caught.value)


def test_overrides_win(inputs):
    config = read_run_config(
        inputs / "train.yaml", ["train.betas=[0.8, 0.9]", "data.speed_factors=[1.0]"], 12
    )
    assert config.train.betas == (0.8, 0.9) and config.data.speed_factors == (1.0,)
    assert config.model.vocab_size == 12 and config.model.num_experts == 3
    assert config.model.dim == 32 and config.train.max_steps == 8


def test_another_manifest_is_another_run(inputs, trained, tmp_path, capsys):
    cuts = list(read_cuts(inputs / "train.jsonl"))
    CutSet(cuts[:-1]).to_file(tmp_path / "fewer.jsonl")
    options = ["--manifest-train", str(tmp_path / "fewer.jsonl")]
    assert train(inputs, trained, *options, "--resume") == 2
    assert "of another run: inputs.train" in capsys.readouterr().err


def test_another_tokenizer_of_the_same_size(inputs, trained, tmp_path, capsys):
    swapped = [text.translate(str.maketrans("w", "v")) for text in TEXTS]
    CharTokenizer.from_texts([*swapped, *TEXTS]).save(tmp_path / "larger")
    CharTokenizer.from_texts([text.replace("w", "z") for text in TEXTS]).save(tmp_path / "same")
    assert train(inputs, trained, "--tokenizer", str(tmp_path / "same")) == 2
    message = capsys.readouterr().err
    assert "of another run: inputs.tokens" in message and "'z'" not in message
    assert train(inputs, trained, "--tokenizer", str(tmp_path / "larger")) == 2
    assert "another architecture: model.vocab_size" in capsys.readouterr().err


def test_a_run_of_format_1_is_resumed(inputs, trained, tmp_path, capsys):
    """Without a checksum of the state, with the symbols themselves, and a whole best checkpoint."""
    shutil.copytree(trained, tmp_path / "run")
    tokenizer = load_tokenizer(inputs / "tokenizer")
    symbols = [tokenizer.tokens.symbol(i) for i in range(tokenizer.vocab_size)]
    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        values = json.loads((path / "state.json").read_text())
        del values["crc32"], values["extra"]["config"]["train"]["valid_chunk_size"]
        values["format"] = 1
        values["extra"]["config"]["inputs"]["tokens"] = symbols
        (path / "state.json").write_text(json.dumps(values))
    checkpoints = tmp_path / "run" / "checkpoints"
    for best in checkpoints.glob("best-*"):
        best.unlink()
    shutil.copytree(checkpoints / "step-00000008", checkpoints / "best-00000008")
    args = ["export", "--checkpoints", str(tmp_path / "run"), "--output", str(tmp_path / "model")]
    assert main(args) == 0
    assert train(inputs, tmp_path / "run") == 0
    assert "step 8" in capsys.readouterr().out
    assert train(inputs, tmp_path / "run", "--set", "train.max_steps=9", "--resume") == 0
    capsys.readouterr()
    assert main([*args, "--best"]) == 0
    assert "the best step: best-00000009" in capsys.readouterr().out


def test_unreadable_manifest(inputs, tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text("{nonsense\n", encoding="utf-8")
    for name in ("bad.jsonl", "absent.jsonl"):
        assert train(inputs, tmp_path / "exp", "--manifest-dev", str(tmp_path / name)) == 2
        assert name in capsys.readouterr().err


def test_checkpoint_put_into_another_model_is_refused(inputs, trained, tmp_path):
    """Even past the comparison of configs: the tensors themselves are compared."""
    from moe_asr.model.u2 import U2MoeModel
    from moe_asr.train.checkpoint import restore

    config = read_run_config(inputs / "train.yaml", ["model.hidden_dim=56"], 12)
    model = U2MoeModel(config.model)
    with pytest.raises(CheckpointError, match=r"w1: \(3, 32, 48\) instead of \(3, 32, 56\)"):
        restore(list_checkpoints(trained / "checkpoints")[-1], model)
