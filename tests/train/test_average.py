import numpy as np
import pytest
import torch
from torch import nn

from moe_asr.errors import CheckpointError
from moe_asr.train.average import average_checkpoints, last_checkpoints
from moe_asr.train.checkpoint import TrainState, save_checkpoint


def saved(directory, step, model):
    optimizer = torch.optim.AdamW(model.parameters())
    return save_checkpoint(directory, model, optimizer, TrainState(step=step), {})


def test_mean_of_floats_last_of_integers(tmp_path):
    torch.manual_seed(0)
    paths, arrays = [], []
    for step in range(1, 4):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        model[1].num_batches_tracked += step * 10
        with torch.no_grad():
            model[0].weight.mul_(10.0**step)
        paths.append(saved(tmp_path, step, model))
        arrays.append({name: value.numpy().copy() for name, value in model.state_dict().items()})
    assert last_checkpoints(tmp_path, 3) == paths
    average = average_checkpoints(paths)
    assert set(average) == set(arrays[0])
    assert int(average["1.num_batches_tracked"]) == 30
    for name in ("0.weight", "0.bias", "1.weight", "1.running_var"):
        mean = np.mean([values[name].astype(np.float64) for values in arrays], axis=0)
        assert average[name].dtype == torch.float32
        np.testing.assert_array_equal(average[name].numpy(), mean.astype(np.float32))
    for name, value in average_checkpoints(paths[:1]).items():
        np.testing.assert_array_equal(value.numpy(), arrays[0][name])


def test_only_the_parameters_are_read(tmp_path):
    path = saved(tmp_path, 1, nn.Linear(3, 2))
    (path / "optimizer.safetensors").unlink()
    assert set(average_checkpoints([path])) == {"weight", "bias"}
    weights = path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="model.safetensors: crc32 is"):
        average_checkpoints([path])


def test_too_few_or_different_checkpoints(tmp_path):
    first = saved(tmp_path, 1, nn.Linear(3, 2))
    second = saved(tmp_path, 2, nn.Linear(3, 4))
    with pytest.raises(CheckpointError, match=r"step-00000002 and .*: 'bias' is \(4,\) and \(2,\)"):
        average_checkpoints([first, second])
    with pytest.raises(CheckpointError, match="3 checkpoints wanted, 2 found"):
        last_checkpoints(tmp_path, 3)
