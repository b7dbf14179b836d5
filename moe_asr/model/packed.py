"""A model for inference on CPUs, packed straight from a mapped file: it is never there in float32."""

from typing import Any, cast

from torch import nn

from moe_asr.model.config import ModelConfig
from moe_asr.model.mapped import MappedWeights
from moe_asr.model.meta import build_on_meta
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.cpu.encoder import EncoderShape, PackedEncoder
from moe_asr.nn.cpu.matrices import WeightSource
from moe_asr.nn.cpu.modules import PackedLinear, PackedMixture
from moe_asr.nn.cpu.workspace import Slabs
from moe_asr.nn.encoder import ConformerEncoder
from moe_asr.nn.moe.layer import MixtureFeedForward


def packed_model(config: ModelConfig, weights: MappedWeights, precision: str) -> U2MoeModel:
    """The model in eval mode, its encoder, linear layers and experts on the kernels of `moe_asr.nn.cpu`.

    Embeddings, norms, routers and CMVN are float32.

    Args:
        weights: all of this configuration's.
        precision: of the packed weights, "float32" or "int8".

    Raises:
        CheckpointError: naming file and tensor, if a weight is not finite or wrong in another way.
    """
    model = build_on_meta(config)
    shape = EncoderShape.of(cast(ConformerEncoder, model.encoder))
    model.encoder = PackedEncoder(shape, weights.part("encoder."), precision)
    pack_layers(model, weights, precision)
    weights.check_rest()
    return model.eval()


def pack_layers(model: nn.Module, weights: WeightSource, precision: str) -> None:
    """Puts packed ones in the place of all linear layers and mixtures, and values where there are none yet.

    Args:
        model: is changed; its other parameters may be on ``meta``.
        weights: by the names of the ``state_dict`` that it had.
        precision: of the packed weights.
    """
    slabs = Slabs()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            has_bias = module.bias is not None
            _replace(model, name, PackedLinear(weights, name, precision, has_bias, slabs))
        elif isinstance(module, MixtureFeedForward):
            packed = PackedMixture(
                weights, name, module.num_experts, module.num_chosen, module.activation, precision, slabs
            )  # fmt: skip
            _replace(model, name, packed)
    for prefix, module in model.named_modules():
        for kept in (module._parameters, module._buffers):
            for name, value in kept.items():
                if value is not None and value.is_meta:
                    found: Any = weights.tensor(f"{prefix}.{name}")
                    is_parameter = isinstance(value, nn.Parameter)
                    kept[name] = nn.Parameter(found, False) if is_parameter else found


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(cast(Any, model.get_submodule(parent)), last, module)
