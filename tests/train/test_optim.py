import re

import pytest
import torch
from torch import nn

from moe_asr.errors import ConfigError
from moe_asr.model.config import preset
from moe_asr.model.u2 import U2MoeModel
from moe_asr.train.config import TrainConfig
from moe_asr.train.optim import autocast, global_norm, make_optimizer, parameter_groups, scale_

TORCH_2 = int(torch.__version__.split(".")[0]) >= 2


def test_what_decays_in_the_real_model():
    model = U2MoeModel(preset("tiny"))
    decayed, free = parameter_groups(model, 0.3)
    assert decayed["weight_decay"] == 0.3 and free["weight_decay"] == 0.0
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed_names = {names[p] for p in decayed["params"]}
    free_names = {names[p] for p in free["params"]}
    assert decayed_names | free_names == set(names.values())
    assert not decayed_names & free_names
    last = {name.rsplit(".", 1)[-1] for name in decayed_names}
    assert {"w1", "w2", "router", "weight"} <= last
    assert not {name for name in last if re.search(r"bias$|^b\d", name)}
    wide = {names[p].rsplit(".", 1)[-1] for p in free["params"] if p.ndim > 1}
    assert wide == {"b1", "b2", "content_bias", "position_bias"}


def test_decay_is_decoupled_and_spares_biases():
    layer = nn.Linear(3, 2)
    config = TrainConfig(max_steps=1, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(layer, config)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), weight * (1 - 0.1 * 0.5))
    torch.testing.assert_close(layer.bias.detach(), bias)


def test_norm_and_scale_match_torch():
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2, 2, 2))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 7
    grads = [parameter.grad.clone() for parameter in parameters]
    norm = torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    torch.testing.assert_close(global_norm(grads), norm)
    scale_(grads, 2.0 / float(norm))
    for grad, parameter in zip(grads, parameters, strict=True):
        torch.testing.assert_close(grad, parameter.grad)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        autocast("fp16", torch.device("cpu"))


@pytest.mark.skipif(TORCH_2, reason="torch 2 has it")
def test_bf16_on_a_cpu_is_refused_by_torch_1():
    with pytest.raises(ConfigError, match="bf16 on a CPU needs torch 2.0"):
        autocast("bf16", torch.device("cpu"))


@pytest.mark.skipif(not TORCH_2, reason="torch 1 refuses it")
def test_bf16_on_a_cpu_computes_in_bf16():
    layer = nn.Linear(3, 2)
    with autocast("bf16", torch.device("cpu")):
        assert layer(torch.zeros(1, 3)).dtype == torch.bfloat16
    with autocast("fp32", torch.device("cpu")):
        assert layer(torch.zeros(1, 3)).dtype == torch.float32
