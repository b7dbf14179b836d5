"""The whole way with the real model and data: YAML, manifests, training, resuming, export."""

import logging

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
from moe_asr.text.tokenizer import CharTokenizer
from moe_asr.train.checkpoint import list_checkpoints, read_model_state
from moe_asr.train.history import read_history
from moe_asr.train.setup import read_run_config

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


def train(inputs, output, *options) -> int:
    return main(
        [
            *("train", "--config", str(inputs / "train.yaml")),
            *("--manifest-train", str(inputs / "train.jsonl")),
            *("--manifest-dev", str(inputs / "dev.jsonl")),
            *("--tokenizer", str(inputs / "tokenizer"), "--cmvn", str(inputs / "cmvn.json")),
            *("--output", str(output), *options),
        ]
    )


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


def test_resumes_exactly_by_itself(inputs, trained, tmp_path, capsys, monkeypatch):
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
        train(inputs, tmp_path)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")][-1] == "step-00000004"
    capsys.readouterr()
    assert train(inputs, tmp_path) == 0
    assert "resuming from" in capsys.readouterr().out
    assert losses(tmp_path) == losses(trained)


def test_another_config_is_refused_or_allowed(inputs, trained, tmp_path, capsys):
    before = losses(trained)
    assert train(inputs, trained, "--set", "train.max_steps=9") == 2
    message = capsys.readouterr().err
    assert "train.max_steps is 8 there and 9 now" in message and "--resume" in message
    for option in ([], ["--resume"]):
        assert train(inputs, trained, "--set", "model.hidden_dim=56", *option) == 2
        message = capsys.readouterr().err
        assert "another architecture: model.hidden_dim is 48 there and 56 now" in message
    assert losses(trained) == before
    assert train(inputs, tmp_path / "none", "--resume") == 2
    assert "no checkpoint to resume from" in capsys.readouterr().err
    short = ["--set", "train.max_steps=2", "--set", "train.valid_interval=100"]
    assert train(inputs, tmp_path / "short", *short) == 0
    assert (
        train(inputs, tmp_path / "short", *short[2:], "--set", "train.max_steps=3", "--resume") == 0
    )
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
