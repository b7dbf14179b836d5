"""What a call of the encoder has to do: multiplications by precision, and bytes of weights to read.

Counted from the shapes of the model's weights, two FLOPs for a multiply-add. Only matrix products and
convolutions count, and of them only what cannot be had more cheaply: no frame of padding, one score by
content and one by position for each pair of query and key, and no product of relative positions with their
weights, which depends on nothing that is said and can be kept from call to call. With int8 weights, products
of activations with one another (attention scores, sums of values), the router, the depthwise convolutions
and the first convolution of the subsampling are float32 all the same.

Each weight matrix is read once a call, from wherever it is; those of an expert only if a frame chose it.

Legend: N streams, W feature frames, C frames, L frames of left context, E experts, k chosen ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_asr.model.storage import matrices_of
from moe_asr.nn.encoder import ConformerEncoder, ConformerLayer
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.packing import FramePacking
from moe_asr.nn.subsampling import output_length


@dataclass(frozen=True)
class Call:
    """A call of the encoder: ``num_streams`` times ``feature_frames``, with ``cached_frames`` before them."""

    num_streams: int
    feature_frames: int
    cached_frames: int = 0


@dataclass(frozen=True)
class Work:
    """FLOPs in float32 and in int8, and bytes of weights that are read."""

    float_flops: float
    int8_flops: float
    weight_bytes: float

    @property
    def flops(self) -> float:
        return self.float_flops + self.int8_flops


def count_work(
    encoder: ConformerEncoder, call: Call, precision: str, num_used: Mapping[str, float]
) -> Work:
    """The work of a call.

    Args:
        encoder: its weights' shapes are what counts.
        precision: "fp32" or "int8".
        num_used: experts that the call's frames choose, by the name of the mixture layer (`count_used`).
    """
    is_int8 = precision == "int8"
    flops = count_flops(encoder, call)
    eight_bit = sum(flops[name] for name in INT8_PRODUCTS) if is_int8 else 0.0
    num_bytes = weight_bytes(encoder, is_int8, num_used)
    return Work(sum(flops.values()) - eight_bit, eight_bit, num_bytes)


# those of `count_flops` that an int8 model does in int8
INT8_PRODUCTS = ("subsampling", "linear", "experts")


def count_flops(encoder: ConformerEncoder, call: Call) -> dict[str, float]:
    """FLOPs by kind of product."""
    flops = {"first_convolution": 0.0, "subsampling": 0.0}
    height, width = call.feature_frames, encoder.subsampling.num_features
    for module in encoder.subsampling.convolutions:
        if isinstance(module, nn.Conv2d):
            (kernel, _), (stride, _) = module.kernel_size, module.stride
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
            kind = "first_convolution" if module.in_channels == 1 else "subsampling"
            flops[kind] += 2.0 * height * width * module.weight.numel()
    frames = output_length(call.feature_frames, encoder.subsampling.factor)
    keys = call.cached_frames + frames
    flops["subsampling"] += 2.0 * frames * encoder.subsampling.projection.weight.numel()
    flops.update(linear=0.0, experts=0.0, router=0.0, depthwise=0.0, attention=0.0)
    for layer in encoder.layers:
        assert isinstance(layer, ConformerLayer)
        for module in layer.modules():
            if isinstance(module, nn.Linear) and module is not layer.attention.position:
                flops["linear"] += 2.0 * frames * module.weight.numel()
            elif isinstance(module, nn.Conv1d):
                flops["depthwise"] += 2.0 * frames * module.weight.numel()
            elif isinstance(module, MixtureFeedForward):
                _, dim, hidden = module.w1.shape
                flops["experts"] += 2.0 * frames * module.num_chosen * 2 * dim * hidden
                if module.router is not None:
                    flops["router"] += 2.0 * frames * module.router.numel()
        flops["attention"] += 2.0 * frames * keys * 3 * encoder.dim
    return {kind: call.num_streams * value for kind, value in flops.items()}


def weight_bytes(encoder: ConformerEncoder, is_int8: bool, num_used: Mapping[str, float]) -> float:
    """Of all weights that a call reads, with the scales of the int8 ones."""
    matrices = set(matrices_of(encoder)) if is_int8 else set()
    if is_int8:  # quantised when it is packed, not in the model directory
        matrices |= {
            f"subsampling.convolutions.{index}.weight"
            for index, module in enumerate(encoder.subsampling.convolutions)
            if isinstance(module, nn.Conv2d) and module.in_channels > 1
        }
    total = 0.0
    for name, weight in encoder.named_parameters():
        if name.endswith("attention.position.weight"):
            continue
        num_bytes = 4.0 * weight.numel()
        if name in matrices:
            outputs = weight.numel() // weight.shape[1] if weight.ndim == 3 else len(weight)
            num_bytes = weight.numel() + 4.0 * outputs
        prefix, _, kind = name.rpartition(".")
        if prefix in num_used and kind in ("w1", "b1", "w2", "b2"):
            num_bytes *= num_used[prefix] / len(weight)
        total += num_bytes
    return total


class Routing:
    """Which experts each frame of each stream chose.

    Attributes:
        chosen: (N, S, k) int64 of each mixture layer, by name.
    """

    def __init__(self, chosen: dict[str, Tensor]) -> None:
        self.chosen = chosen

    @staticmethod
    @torch.no_grad()
    def of(
        encoder: ConformerEncoder, features: Tensor, chunk_size: int = -1, left_chunks: int = -1
    ) -> "Routing":
        """Of features (N, W, F), encoded under the mask that makes them what streams see."""
        chosen: dict[str, Tensor] = {}

        def record(name: str, layer: MixtureFeedForward) -> torch.utils.hooks.RemovableHandle:
            def hook(_: nn.Module, inputs: tuple[Tensor, FramePacking]) -> None:
                x = inputs[0]
                chosen[name] = layer.route(x.flatten(0, 1))[2].view(*x.shape[:2], -1)

            return layer.register_forward_pre_hook(hook)

        layers = encoder.named_modules()
        handles = [
            record(name, layer)
            for name, layer in layers
            if isinstance(layer, MixtureFeedForward) and layer.router is not None
        ]
        try:
            lengths = torch.full((len(features),), features.shape[1])
            encoder(features, lengths, chunk_size, left_chunks)
        finally:
            for handle in handles:
                handle.remove()
        return Routing(chosen)

    def count_used(self, num_streams: int, chunks: Sequence[slice]) -> dict[str, float]:
        """How many experts of each layer a call with these frames of ``num_streams`` streams chooses.

        Args:
            chunks: frames of each of some calls; the result is their mean.
        """
        return {
            name: sum(len(one[:num_streams, frames].unique()) for frames in chunks) / len(chunks)
            for name, one in self.chosen.items()
        }

    def load(self, num_experts: int, num_streams: int, chunks: Sequence[slice]) -> "Load":
        """Of the same calls, the means of layers and calls."""
        used = self.count_used(num_streams, chunks)
        all_shares = []
        for one in self.chosen.values():
            frames = torch.cat([one[:num_streams, chunk].flatten() for chunk in chunks])
            counts = torch.bincount(frames, minlength=num_experts).double()
            all_shares.append((counts / counts.sum()).sort(descending=True)[0])
        entropy = torch.stack([-torch.special.xlogy(s, s).sum() for s in all_shares]).mean()
        return Load(
            torch.stack(all_shares).mean(0).tolist(), float(entropy) / math.log(num_experts),
            sum(used.values()) / len(used),
        )  # fmt: skip


@dataclass(frozen=True)
class Load:
    """How frames are shared out among the experts of a layer.

    Attributes:
        shares: of all assignments, the most loaded expert's first.
        entropy: of the shares over its largest value: 1 is an even load, 1 / log2(E) two experts for all.
        used: experts that one call chooses.
    """

    shares: list[float]
    entropy: float
    used: float
