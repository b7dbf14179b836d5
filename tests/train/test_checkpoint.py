import json
import os
import pickle

import pytest
import torch
from torch import nn

from moe_asr.errors import CheckpointError, TrainingError
from moe_asr.train.checkpoint import (
    TrainState,
    list_checkpoints,
    read_extra,
    remove_unfinished,
    restore,
    save_checkpoint,
)
from moe_asr.train.config import TrainConfig
from moe_asr.train.optim import make_optimizer

CONFIG = TrainConfig(max_steps=1)


class Tied(nn.Module):
    """A tied weight, an integer buffer and a frozen parameter."""

    def __init__(self, hidden: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, hidden)
        self.output = nn.Linear(hidden, 5)
        self.output.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.ones(hidden), requires_grad=False)
        self.register_buffer("count", torch.tensor(3))


def trained(seed: int, steps: int = 3):
    torch.manual_seed(seed)
    model = Tied()
    optimizer = make_optimizer(model, CONFIG)
    for _ in range(steps):
        optimizer.zero_grad()
        model.output(model.embedding(torch.tensor([1, 2]))).square().sum().backward()
        optimizer.step()
    return model, optimizer


def test_restores_everything_without_pickle(tmp_path, monkeypatch):
    model, optimizer = trained(0)
    state = TrainState(step=7, epoch=2, batch_in_epoch=3, minutes=1.25, best_valid_loss=0.5)
    path = save_checkpoint(tmp_path, model, optimizer, state, {"sums": {"a": 0.1}})
    drawn = torch.rand(4)

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    other, other_optimizer = trained(1, steps=1)
    restored, extra = restore(path, other, other_optimizer)
    assert restored == state and extra == {"sums": {"a": 0.1}}
    torch.testing.assert_close(torch.rand(4), drawn, rtol=0, atol=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)
    assert other.output.weight is other.embedding.weight
    expected, found = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert expected.keys() == found.keys() and len(expected) == 2
    for index, entries in expected.items():
        assert {"exp_avg", "exp_avg_sq", "step"} <= entries.keys() == found[index].keys()
        for entry, value in entries.items():
            torch.testing.assert_close(found[index][entry], value, rtol=0, atol=0)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def delete(path):
    path.unlink()


def flip_a_digit(path):
    """Of the random state: still JSON of the right form."""
    values = json.loads(path.read_text())
    values["random"]["numpy"][1][7] ^= 1
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "name, damage",
    [
        ("model.safetensors", truncate),
        ("model.safetensors", flip_a_bit),
        ("model.safetensors", delete),
        ("optimizer.safetensors", flip_a_bit),
        ("state.json", truncate),
        ("state.json", flip_a_digit),
    ],
)
def test_damage_is_named_with_the_older_checkpoint(tmp_path, name, damage):
    model, optimizer = trained(0)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, model, optimizer, TrainState(step=step), {})
    truncate(tmp_path / "step-00000002" / "random.safetensors")
    damage(tmp_path / "step-00000003" / name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"step-00000003/{name}.*from .*/step-00000001"):
        restore(list_checkpoints(tmp_path)[-1], model, optimizer)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_unfinished_ones_are_ignored(tmp_path, monkeypatch):
    model, optimizer = trained(0)
    first = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {})
    second = save_checkpoint(tmp_path, model, optimizer, TrainState(step=2), {})
    (second / "state.json").unlink()

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, model, optimizer, TrainState(step=3), {})
    assert list_checkpoints(tmp_path) == [first]
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_state_has_a_checksum_but_in_format_1(tmp_path):
    model, optimizer = trained(0)
    extra = {"sums": {"a": 0.1 + 0.2, "b": (1, 2)}, "name": "\u00e9"}
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1, minutes=1 / 3), extra)
    assert read_extra(path) == {**extra, "sums": {"a": 0.1 + 0.2, "b": [1, 2]}}
    values = json.loads((path / "state.json").read_text())

    def write(**changes):
        changed = {key: value for key, value in {**values, **changes}.items() if value is not None}
        (path / "state.json").write_text(json.dumps(changed))

    write(extra={**values["extra"], "name": "e"})
    for read in (read_extra, lambda path: restore(path, model, optimizer)):
        with pytest.raises(CheckpointError, match="state.json: crc32 is"):
            read(path)
    write(crc32=None)
    with pytest.raises(CheckpointError, match="state.json: not the state.*crc32"):
        restore(path, model, optimizer)
    write(format=1, crc32=None)
    state, _ = restore(path, model, optimizer)
    assert state == TrainState(step=1, minutes=1 / 3)
    write(format=3)
    with pytest.raises(CheckpointError, match="format 3, expected 2"):
        restore(path, model, optimizer)


@pytest.mark.parametrize("killed_at", [1, 2])  # of the two renames
def test_replacing_never_leaves_less_than_the_old_one(tmp_path, monkeypatch, killed_at):
    model, optimizer = trained(0)
    save_checkpoint(tmp_path, model, optimizer, TrainState(step=5), {"is": "old"})
    rename, renamed = os.replace, []

    def killed(source, target):
        if os.path.isdir(source):
            renamed.append(target)
            if len(renamed) == killed_at:
                raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, model, optimizer, TrainState(step=5), {"is": "new"})
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert restore(tmp_path / "step-00000005", model, optimizer)[1] == {"is": "old"}
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=5), {"is": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert restore(path, model, optimizer)[1] == {"is": "new"}


def test_what_was_set_aside_goes_when_the_new_one_is_there(tmp_path):
    model, optimizer = trained(0)
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=5), {"is": "old"})
    path.rename(tmp_path / ".step-00000005.old.tmp")
    save_checkpoint(tmp_path / "other", model, optimizer, TrainState(step=5), {"is": "new"})
    (tmp_path / "other" / path.name).rename(path)
    (tmp_path / "other").rmdir()
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [path] and read_extra(path) == {"is": "new"}


def test_another_architecture_names_tensor_and_shapes(tmp_path):
    model, optimizer = trained(0)
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {})
    with pytest.raises(CheckpointError, match=r"embedding.weight: \(5, 4\) instead of \(5, 6\)"):
        restore(path, Tied(hidden=6))
    wider = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"missing 0.weight"):
        restore(path, wider)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    model, optimizer = trained(0)
    with torch.no_grad():
        model.output.bias[2] = float("inf")
    with pytest.raises(TrainingError, match="step 4: output.bias"):
        save_checkpoint(tmp_path, model, optimizer, TrainState(step=4), {})
    assert list_checkpoints(tmp_path) == []
