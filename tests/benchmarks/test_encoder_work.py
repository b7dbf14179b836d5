"""Counted FLOPs and bytes against what torch is seen to do, and against weights counted by hand."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.encoder_work import Call, Routing, count_flops, count_work, weight_bytes
from benchmarks.moe_reference import PlainEncoder
from moe_asr.nn.encoder import ConformerEncoder
from tests.nn.references import make_model

DIM, LAYERS = 16, 2


class CountFlops(TorchDispatchMode):
    """Counts the FLOPs of the products and convolutions that torch's operators do."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function, kinds, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        name = function._schema.name.split("::")[1]
        if name in ("mm", "bmm"):
            self.flops += 2 * out.numel() * arguments[0].shape[-1]
        elif name == "addmm":
            self.flops += 2 * out.numel() * arguments[1].shape[-1]
        elif "convolution" in name:
            self.flops += 2 * out.numel() * arguments[1][0].numel()
        return out


def make_encoder(**overrides) -> ConformerEncoder:
    return make_model(**overrides).encoder


DENSE = {"num_experts": 1, "num_chosen": 1}


@pytest.mark.parametrize("overrides", [{}, DENSE, {"subsampling": 6}])
@pytest.mark.parametrize(
    ("num", "chunk", "cached"), [(1, 23, 0), (2, 5, 15)], ids=["offline", "chunk"]
)
@torch.no_grad()
def test_flops_are_those_of_the_plain_encoder(
    overrides: dict[str, int], num: int, chunk: int, cached: int
) -> None:
    encoder = make_encoder(**overrides)
    plain, subsampling = PlainEncoder(encoder), encoder.subsampling
    window = (chunk - 1) * subsampling.factor + subsampling.receptive_field
    features, caches = torch.randn(num, window, 20), None
    for _ in range(cached // chunk):
        _, caches = plain.encode_chunk(features, caches, cached)
    with CountFlops() as counted:
        plain.encode_chunk(features, caches, cached)
    distances = chunk + cached + chunk - 1
    of_positions = 2 * distances * DIM * DIM  # not streams times: the same for all
    of_other_distances = 2 * num * chunk * (chunk - 1) * DIM
    expected = counted.flops - LAYERS * (of_positions + of_other_distances)
    assert sum(count_flops(encoder, Call(num, window, cached)).values()) == expected


def test_precisions_share_the_flops() -> None:
    encoder, call = make_encoder(), Call(2, 39, 8)
    used = dict.fromkeys(mixtures(encoder), 4.0)
    full, eight = (count_work(encoder, call, precision, used) for precision in ("fp32", "int8"))
    assert full.int8_flops == 0 and eight.flops == full.flops
    frames, keys = 2 * 9, 17
    kept = 3 * DIM * keys + 5 * DIM + 2 * 4 * DIM  # attention, depthwise convolution, routers
    first = 2 * 19 * 9 * 4 * 9  # frames, bins, channels, taps
    assert eight.float_flops == 2 * (frames * LAYERS * kept + first)


def mixtures(encoder: ConformerEncoder) -> list[str]:
    return [
        f"layers.{number}.{name}"
        for number in range(len(encoder.layers))
        for name in ("feed_forward_macaron", "feed_forward")
    ]


def test_bytes_of_float32_weights() -> None:
    encoder = make_encoder(**DENSE)
    parameters = sum(p.numel() for p in encoder.parameters()) - LAYERS * DIM * DIM
    assert weight_bytes(encoder, False, {}) == 4 * parameters


def test_only_chosen_experts_are_read() -> None:
    encoder = make_encoder()
    names, expert = mixtures(encoder), 16 * 24 * 2 + 16 + 24
    everything = weight_bytes(encoder, False, dict.fromkeys(names, 4.0))
    assert everything == 4 * (sum(p.numel() for p in encoder.parameters()) - LAYERS * DIM * DIM)
    fewer = weight_bytes(
        encoder, False, {**dict.fromkeys(names, 4.0), names[1]: 1.0, names[2]: 3.5}
    )
    assert everything - fewer == 4 * (3 + 0.5) * expert


def test_bytes_of_int8_weights() -> None:
    encoder = make_encoder()
    names = mixtures(encoder)
    eight = weight_bytes(encoder, True, dict.fromkeys(names, 4.0))
    one_byte, scales = 4 * 4 * 9, 4  # the second convolution: channels, channels, taps
    one_byte, scales = one_byte + 16 * 4 * 4, scales + 16  # projection of 4 bins of 4 channels
    for _ in range(LAYERS):
        one_byte += 4 * DIM * DIM + 3 * DIM * DIM + 2 * 4 * 2 * 16 * 24
        scales += 4 * DIM + 3 * DIM + 2 * 4 * (16 + 24)
    parameters = sum(p.numel() for p in encoder.parameters()) - LAYERS * DIM * DIM
    assert eight == 4 * (parameters - one_byte) + one_byte + 4 * scales


@torch.no_grad()
def test_experts_are_counted_call_by_call() -> None:
    encoder, features = make_encoder(), torch.randn(3, 67, 20)
    routing = Routing.of(encoder, features, 4, 2)
    assert set(routing.chosen) == set(mixtures(encoder))
    chunks = [slice(0, 4), slice(4, 8), slice(12, 16)]
    used = routing.count_used(2, chunks)
    for name, one in routing.chosen.items():
        assert one.shape == (3, 16, 2)
        sets = [set(one[:2, chunk].flatten().tolist()) for chunk in chunks]
        assert used[name] == pytest.approx(sum(map(len, sets)) / 3)
    x = encoder.norm_input(encoder.subsampling(features))
    layer = encoder.layers[0]
    expected = layer.feed_forward_macaron.route(layer.norm_macaron(x).flatten(0, 1))[2]
    assert torch.equal(routing.chosen["layers.0.feed_forward_macaron"].flatten(0, 1), expected)


def test_load_of_known_choices() -> None:
    even = torch.arange(8).reshape(1, 4, 2) % 4
    hot = torch.tensor([3, 1]).expand(1, 4, 2)
    routing = Routing({"first": even, "second": hot})
    load = routing.load(4, 1, [slice(0, 2), slice(2, 4)])
    assert load.used == 3.0  # four of the first, two of the second
    assert load.shares == pytest.approx([3 / 8, 3 / 8, 1 / 8, 1 / 8])
    assert load.entropy == pytest.approx((1.0 + 0.5) / 2)
    assert routing.load(4, 1, [slice(0, 1)]).used == 2.0
