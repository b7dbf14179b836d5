"""Weights from mapped files: what they are, that pages are given back, and every way a file can be wrong."""

import json
import mmap
import os
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.model import mapped
from moe_asr.model.directory import load_model_dir, save_model_dir
from moe_asr.model.mapped import MappedTensors, MappedWeights
from moe_asr.model.storage import matrices_of, read_stored
from moe_asr.nn.quantization import dequantize, quantize
from tests.model.test_model_directory import (
    OPTIONS,
    damage_absent,
    damage_directory,
    damage_empty,
    damage_header,
    damage_header_size,
    damage_text,
    damage_truncated,
    edit,
    rewrite,
    save,
)
from tests.model.test_storage import CHANGES

TENSORS = {
    "float32": torch.tensor([[1.5, -2.0], [3.0, float("inf")]]),
    "float16": torch.tensor([0.5, -7.0]).half(),
    "bfloat16": torch.tensor([0.5, -7.0, 1.0]).bfloat16(),
    "float64": torch.tensor(2.0).double(),
    "int8": torch.tensor([[-127, 5, 6]], dtype=torch.int8),
    "int64": torch.tensor([1 << 40]),
    "bool": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 3),
}


def test_tensors_are_those_of_the_file(tmp_path) -> None:
    save_file(TENSORS, tmp_path / "a", metadata={"made": "here"})
    found = MappedTensors(tmp_path / "a")
    assert found.metadata == {"made": "here"} and set(found.shapes) == set(TENSORS)
    for name, value in TENSORS.items():
        assert found.shapes[name].shape == value.shape and found.shapes[name].is_meta
        again = found[name]
        assert again.dtype == found.shapes[name].dtype == value.dtype
        assert torch.equal(again, value), name
    with pytest.raises(KeyError):
        found["nothing"]


def test_tensors_that_are_not_aligned(tmp_path) -> None:
    """The format does not pad: after three bytes come four of a float."""
    header = (
        b'{"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}'
    )
    header += b" " * (-len(header) % 8)
    values = torch.tensor([1.25, -3.0])
    data = len(header).to_bytes(8, "little") + header + b"\1\2\3" + values.numpy().tobytes()
    (tmp_path / "a").write_bytes(data)
    found = MappedTensors(tmp_path / "a")
    assert found["b"].data_ptr() % 4 == 0  # some machines cannot read it otherwise
    assert torch.equal(found["b"], values) and found["a"].tolist() == [1, 2, 3]


@pytest.mark.skipif(not hasattr(mmap.mmap, "madvise"), reason="pages cannot be given back here")
def test_pages_are_given_back_and_read_again(tmp_path, monkeypatch) -> None:
    tensors = {str(n): torch.randn(1024) for n in range(20)}
    save_file(tensors, tmp_path / "a")
    monkeypatch.setattr(mapped, "GIVE_BACK_BYTES", 3 * 4096)
    advice: list[int] = []

    class Memory(mmap.mmap):
        """Notes what it is told."""

        def madvise(self, option: int) -> None:
            advice.append(option)
            super().madvise(option)

    monkeypatch.setattr(mapped.mmap, "mmap", Memory)
    found = MappedTensors(tmp_path / "a")
    views = {name: found[name] for name in tensors}
    assert advice == [mmap.MADV_DONTNEED] * 6  # of 20, every three
    assert all(torch.equal(views[name], value) for name, value in tensors.items())


@pytest.fixture(params=["float32", "float16", "int8"])
def stored(request, tmp_path):
    """A model, and the directory that it is stored in."""
    model, tokenizer = save(tmp_path / "plain")
    save_model_dir(tmp_path / "model", model, tokenizer, OPTIONS, request.param)
    return model, tmp_path / "model", request.param


def test_weights_are_what_is_stored(stored) -> None:
    model, directory, storage = stored
    weights = MappedWeights(directory / "model.safetensors")
    assert weights.storage == storage
    state, matrices = model.state_dict(), matrices_of(model)
    assert set(weights.shapes) == set(state)
    for name, value in state.items():
        found, scale = weights.matrix(name)
        kept = weights.tensor(name)
        assert kept.dtype == torch.float32
        if name not in matrices or storage == "float32":
            assert torch.equal(found, value) and torch.equal(kept, value) and scale is None
        elif storage == "float16":
            assert torch.equal(found, value.half().float()) and torch.equal(kept, found)
        else:
            quantized = quantize(value)
            assert torch.equal(found, quantized[0]) and torch.equal(scale, quantized[1])
            assert torch.equal(kept, dequantize(*quantized))
    part = weights.part("encoder.layers.0.")
    name = "attention.output.weight"
    expected = weights.tensor(f"encoder.layers.0.{name}")
    assert torch.equal(part.tensor(name), expected)
    assert part.matrix(name)[0].shape == expected.shape
    with pytest.raises(KeyError):
        part.tensor("attention.output.wait")


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_file_is_named_with_the_tensor(tmp_path, change, precision) -> None:
    """The same words as where the weights are loaded for torch."""
    model, tokenizer = save(tmp_path / "plain")
    save_model_dir(tmp_path / "int8", model, tokenizer, OPTIONS, "int8")
    path = tmp_path / "int8" / "model.safetensors"
    tensors, metadata = read_stored(path)
    change, message = CHANGES[change]
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=f"int8/model.safetensors: .*{message}") as found:
        load_model_dir(tmp_path / "int8", precision=precision)
    with pytest.raises(CheckpointError) as expected:
        load_model_dir(tmp_path / "int8")
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "damage",
    [damage_truncated, damage_header, damage_header_size, damage_empty, damage_text, damage_absent,
     damage_directory],
)  # fmt: skip
def test_damaged_weights_name_the_file(tmp_path, damage) -> None:
    save(tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="model.safetensors: cannot be read as safetensors"):
        load_model_dir(tmp_path, precision="int8")


@pytest.mark.parametrize(
    "name",
    ["ctc.weight", "cmvn.mean", "encoder.layers.1.feed_forward.w2", "encoder.norm_input.bias",
     "left_to_right.layers.0.feed_forward.router", "right_to_left.embedding.weight"],
)  # fmt: skip
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, name, value) -> None:
    save(tmp_path, left_to_right_layers=1, right_to_left_layers=1)
    rewrite(tmp_path, lambda tensors: tensors[name].view(-1)[3:4].fill_(value))
    for precision in (None, "float32", "int8"):
        with pytest.raises(CheckpointError, match=f"architecture: {name}: not finite"):
            load_model_dir(tmp_path, precision=precision)


@pytest.mark.parametrize("precision", [None, "float32", "int8"])
def test_weights_beyond_float32_are_named(tmp_path, precision) -> None:
    save(tmp_path)

    def change(tensors) -> None:
        tensors["ctc.bias"] = torch.full(tensors["ctc.bias"].shape, 1e300, dtype=torch.float64)

    rewrite(tmp_path, change)
    with pytest.raises(CheckpointError, match="architecture: ctc.bias: not finite"):
        load_model_dir(tmp_path, precision=precision)


def write_one(path, entry: dict, data: bytes) -> None:
    header = json.dumps({"one": entry}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_a_type_that_is_not_known_is_named(tmp_path) -> None:
    entry = {"dtype": "U32", "shape": [2], "data_offsets": [0, 8]}
    write_one(tmp_path / "a", entry, bytes(8))
    with pytest.raises(CheckpointError, match="a: cannot be read as .* one is of type U32"):
        MappedTensors(tmp_path / "a")
    if not hasattr(torch, "uint32"):  # of what reads files for torch
        with pytest.raises(CheckpointError, match="a: cannot be read as safetensors"):
            read_stored(tmp_path / "a")


def test_a_file_that_shrinks_while_it_is_opened(tmp_path, monkeypatch) -> None:
    """What is not there any more would be read all the same, and end the process."""
    entry = {"dtype": "U8", "shape": [8192], "data_offsets": [0, 8192]}
    write_one(tmp_path / "a", entry, bytes(8192))

    @contextmanager
    def opened(path, **options):
        with safe_open(path, **options) as file:
            yield file
        os.truncate(path, 4096)

    monkeypatch.setattr(mapped, "safe_open", opened)
    with pytest.raises(
        CheckpointError, match="a: cannot be read as .* changed while it was opened"
    ):
        MappedTensors(tmp_path / "a")


def test_finite_weights_whose_sum_is_not_are_fine(tmp_path) -> None:
    save_file({"a": torch.full((4, 4), 3e38)}, tmp_path / "a")
    assert MappedWeights(tmp_path / "a").tensor("a").max() == pytest.approx(3e38)


def test_weights_of_another_architecture_take_no_memory(tmp_path) -> None:
    save(tmp_path)
    edit(tmp_path, lambda values: values["model"].update(num_experts=10**9))
    with pytest.raises(CheckpointError, match=r"feed_forward.w1: \(4, 16, 24\) instead of"):
        load_model_dir(tmp_path, precision="int8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "int4"}, "precision must be one of torch, float32, int8, found 'int4'"),
        ({"precision": "int8", "device": "cuda"}, "precision int8 is for the CPU: on cuda"),
    ],
)
def test_a_precision_that_there_is_not(tmp_path, given, message) -> None:
    save(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_model_dir(tmp_path, **given)
