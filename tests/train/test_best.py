"""The best step: its file, and that a resumed run names one that is there."""

import json

import pytest
import torch
from torch import nn

from moe_asr.errors import CheckpointError, TrainingError
from moe_asr.train.best import keep_best, list_best, read_best, save_best
from moe_asr.train.checkpoint import restore
from tests.train.toy import ToyModel, make_epoch, toy_config, toy_trainer


def test_holds_the_parameters_and_says_the_step(tmp_path):
    model = ToyModel()
    save_best(tmp_path, model, 3, 1.5)
    with torch.no_grad():
        model.output.bias += 1.0
    path = save_best(tmp_path, model, 12, 1.25)
    assert list(list_best(tmp_path)) == [3, 12]
    found, tensors = read_best(tmp_path)
    assert found == path and tensors.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(tensors[name], value)
    values = json.loads(path.with_suffix(".json").read_text())
    assert (values["step"], values["valid_loss"]) == (12, 1.25)
    (tmp_path / ".best-00000013.safetensors.x1.safetensors").write_bytes(b"half")
    keep_best(tmp_path, {12, None})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-00000012.json", "best-00000012.safetensors"]


def test_damaged_absent_or_not_finite(tmp_path):
    with pytest.raises(CheckpointError, match="no best model"):
        read_best(tmp_path)
    layer = nn.Linear(2, 2)
    path = save_best(tmp_path, layer, 3, 1.5)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="best-00000003.safetensors: damaged"):
        read_best(tmp_path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError, match="best-00000003.json: damaged"):
        read_best(tmp_path)
    with torch.no_grad():
        layer.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="step 4: bias is no longer finite"):
        save_best(tmp_path, layer, 4, 1.0)
    assert list(list_best(tmp_path)) == [3]


class Killed(Exception):
    pass


def killed_run(directory, config, at_step):
    """A run that is killed in step ``at_step``."""
    trainer = toy_trainer(directory, config)

    def make(epoch, skip):
        for batch in make_epoch(epoch, skip):
            if trainer.state.step == at_step - 1:
                raise Killed
            yield batch

    trainer.make_epoch = make
    with pytest.raises(Killed):
        trainer.train()
    return trainer


def killed_at_once(epoch, skip):
    raise Killed


# every validation is the best yet: the model learns its validation set
CONFIG = toy_config(
    max_steps=12,
    valid_interval=2,
    checkpoint_interval=5,
    keep_last=2,
    average_last=1,
    learning_rate=1e-3,
)


def test_best_of_a_killed_timeline_is_dropped(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    killed = killed_run(tmp_path, CONFIG, at_step=9)
    assert killed.state.best_step == 8
    assert list(list_best(checkpoints)) == [4, 8]  # the checkpoint of step 5 names that of step 4
    rest = toy_trainer(tmp_path, CONFIG, seed=9)
    rest.resume()
    assert (rest.state.step, rest.state.best_step) == (5, 4)
    rest.make_epoch = killed_at_once
    with pytest.raises(Killed):
        rest.train()
    assert list(list_best(checkpoints)) == [4]

    again = toy_trainer(tmp_path, CONFIG, seed=9)
    again.resume()
    again.train()
    (best,) = list_best(checkpoints)
    assert best == again.state.best_step == 12
    straight = toy_trainer(tmp_path / "straight", CONFIG)
    straight.train()
    assert straight.state.best_valid_loss == again.state.best_valid_loss
    _, tensors = read_best(checkpoints)
    for name, value in again.model.state_dict().items():
        assert torch.equal(tensors[name], value)


def test_a_best_step_that_is_gone_is_looked_for_afresh(tmp_path):
    killed_run(tmp_path, CONFIG, at_step=7)
    for path in (tmp_path / "checkpoints").glob("best-*"):
        path.unlink()
    rest = toy_trainer(tmp_path, CONFIG, seed=9)
    path = rest.resume()
    assert restore(path, rest.model)[0].best_step == 4
    assert rest.state.best_step is None and rest.state.best_valid_loss is None
    rest.train()
    assert list(list_best(tmp_path / "checkpoints")) == [rest.state.best_step] == [12]
