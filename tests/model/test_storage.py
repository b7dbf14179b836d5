"""Weights in fewer bits: how far they are from the originals, and every way a file of them can be wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from moe_asr.cli.main import main
from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.model.directory import load_model_dir, save_model_dir
from moe_asr.model.storage import (
    STORAGES,
    dequantize,
    matrices_of,
    pack,
    quantize,
    read_stored,
    unpack,
)
from tests.model.test_model_directory import OPTIONS, save
from tests.nn.references import make_model

LINEAR, EXPERTS = "encoder.layers.0.attention.output.weight", "encoder.layers.1.feed_forward.w1"


@st.composite
def matrices(draw) -> torch.Tensor:
    """(out, in) or (E, in, out), channels of very different size, some of them zeros."""
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    values = generator.standard_normal(shape)
    size = 10.0 ** generator.integers(-12, 5, shape)
    axis = 1 if len(shape) == 3 else -1
    values = values * np.take(size, [0], axis) * generator.integers(0, 2, shape)
    return torch.tensor(values, dtype=torch.float32)


@given(matrices())
@settings(max_examples=200, deadline=None)
def test_every_weight_is_within_half_a_step(weight: torch.Tensor) -> None:
    """By an independent loop over channels; and the largest of each channel is met exactly."""
    values, scale = quantize(weight)
    assert values.dtype == torch.int8 and values.shape == weight.shape
    again = dequantize(values, scale).double().numpy()
    exact, steps = weight.double().numpy(), scale.double().numpy()
    channels = (
        [(np.s_[row, :], row) for row in range(len(weight))]
        if weight.ndim == 2
        else [
            (np.s_[expert, :, column], (expert, column))
            for expert in range(weight.shape[0])
            for column in range(weight.shape[2])
        ]
    )
    assert scale.shape == (weight.shape[:1] if weight.ndim == 2 else weight.shape[::2])
    for place, channel in channels:
        largest, step = np.abs(exact[place]).max(), steps[channel]
        assert step == pytest.approx(largest / 127, rel=1e-6, abs=1e-40)
        assert np.abs(again[place] - exact[place]).max() <= step / 2 + 1e-6 * largest
        assert np.abs(values.numpy()[place]).max() == (127 if largest > 0 else 0)


def test_a_product_of_integers_is_the_product() -> None:
    """Scales are of output channels: they can be put on after the sums over int32 products."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-127, 128, (5, 7), generator=generator)
    linear = torch.randn(4, 7, generator=generator)
    experts = torch.randn(3, 7, 4, generator=generator)
    values, scale = quantize(linear)
    expected = torch.nn.functional.linear(x.float(), dequantize(values, scale))
    assert torch.allclose((x @ values.long().T).float() * scale, expected, rtol=1e-5, atol=1e-5)
    values, scale = quantize(experts)
    expected = torch.matmul(x.float(), dequantize(values, scale))
    assert torch.allclose(
        (x @ values.long()).float() * scale[:, None], expected, rtol=1e-5, atol=1e-5
    )


def test_what_is_stored_in_fewer_bits() -> None:
    """Nearly all weights; no router, norm, bias, convolution or CMVN."""
    model = make_model()
    names = set(matrices_of(model))
    for name, value in model.state_dict().items():
        last = name.rpartition(".")[2]
        kept = value.ndim < 2 or last in ("router", "content_bias", "position_bias", "b1", "b2")
        kept |= "depthwise" in name or "subsampling.convolutions" in name
        assert (name in names) != kept, name


@pytest.mark.parametrize("storage", STORAGES)
def test_a_directory_round_trips(tmp_path, storage) -> None:
    model, tokenizer = save(tmp_path / "plain")
    save_model_dir(tmp_path / "small", model, tokenizer, OPTIONS, storage)
    loaded = load_model_dir(tmp_path / "small")
    assert loaded.storage == storage and load_model_dir(tmp_path / "plain").storage == "float32"
    matrices = matrices_of(model)
    for name, value in model.state_dict().items():
        found = loaded.model.state_dict()[name]
        assert found.dtype == value.dtype
        if storage == "float32" or name not in matrices:
            assert torch.equal(found, value), name
        elif storage == "float16":
            assert torch.allclose(found, value, rtol=2**-11, atol=2**-25), name
        else:
            assert torch.equal(found, dequantize(*quantize(value))), name
    # once more gives the same bytes
    files = [tmp_path / folder / "model.safetensors" for folder in ("small", "again")]
    save_model_dir(tmp_path / "again", model, tokenizer, OPTIONS, storage)
    assert files[0].read_bytes() == files[1].read_bytes()
    size = {"float32": 1.0, "float16": 0.75, "int8": 0.65}[storage]
    plain = (tmp_path / "plain" / "model.safetensors").stat().st_size
    assert files[0].stat().st_size <= size * plain + 8192  # names and scales weigh in a tiny model


@pytest.fixture
def int8(tmp_path):
    model, tokenizer = save(tmp_path / "plain")
    save_model_dir(tmp_path / "int8", model, tokenizer, OPTIONS, "int8")
    return tmp_path / "int8"


def set_to(name: str, value: float):
    return lambda tensors, metadata: tensors[name].view(-1)[1:2].fill_(value)


CHANGES = {
    "a scale is missing": (
        lambda tensors, metadata: tensors.pop(EXPERTS + ".scale"),
        f"{EXPERTS}: int8, but there is no {EXPERTS}.scale",
    ),
    "a weight is missing": (
        lambda tensors, metadata: tensors.pop(EXPERTS),
        f"{EXPERTS}.scale: scales of nothing that is int8",
    ),
    "scales of the wrong axis": (
        lambda tensors, metadata: tensors.update({EXPERTS + ".scale": torch.ones(4, 16)}),
        rf"{EXPERTS}: scales are torch.float32 of shape \(4, 16\), expected torch.float32 of shape \(4, 24\)",
    ),
    "scales of another type": (
        lambda tensors, metadata: tensors.update({LINEAR + ".scale": torch.ones(16).double()}),
        rf"{LINEAR}: scales are torch.float64",
    ),
    "negative": (set_to(LINEAR + ".scale", -1.0), f"{LINEAR}: a scale is -1.0"),
    "nan": (set_to(LINEAR + ".scale", float("nan")), f"{LINEAR}: a scale is nan"),
    "what it scales is infinite": (
        set_to(LINEAR + ".scale", 3e38),
        f"{LINEAR}: a scale is 3.*, expected 2.679e.36 or less",
    ),
    "infinite": (set_to(EXPERTS + ".scale", float("inf")), f"{EXPERTS}: a scale is inf"),
    "-128": (set_to(EXPERTS, -128), f"{EXPERTS}: has -128"),
    "an int8 vector": (
        lambda tensors, metadata: tensors.update(
            {"ctc.bias": torch.ones(11, dtype=torch.int8), "ctc.bias.scale": torch.ones(11)}
        ),
        r"ctc.bias: int8 of shape \(11,\)",
    ),
    "an unknown way": (
        lambda tensors, metadata: metadata.update({"moe_asr.storage": "int4"}),
        "stored as 'int4', this version reads float32, float16, int8",
    ),
    "a later version": (
        lambda tensors, metadata: metadata.update({"moe_asr.storage_version": "2"}),
        "stored as int8, version '2', this code reads 1",
    ),
    "nothing said": (
        lambda tensors, metadata: metadata.clear(),
        "int8 in a file that is stored as",
    ),
    "another shape": (
        lambda tensors, metadata: tensors.update(
            {LINEAR: torch.ones(3, 16, dtype=torch.int8), LINEAR + ".scale": torch.ones(3)}
        ),
        rf"{LINEAR}: \(3, 16\) instead of \(16, 16\)",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_file_is_named_with_the_tensor(int8, change) -> None:
    path = int8 / "model.safetensors"
    tensors, metadata = read_stored(path)
    assert metadata["moe_asr.storage"] == "int8" and tensors[EXPERTS].dtype == torch.int8
    edit, message = CHANGES[change]
    edit(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=f"int8/model.safetensors: .*{message}"):
        load_model_dir(int8)


def test_a_truncated_file_is_named(int8) -> None:
    path = int8 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="int8/model.safetensors: cannot be read"):
        load_model_dir(int8)


def test_files_of_before_load_as_they_did(tmp_path) -> None:
    """Metadata of any kind, or none, and no word on storage: the tensors are the weights."""
    model, _ = save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for metadata in (None, {"format": "pt"}, {"format": "pt", "made_by": "somebody"}):
        save_file(tensors, path, metadata=metadata)
        state = load_model_dir(tmp_path).model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_stored() -> None:
    model = make_model()
    with pytest.raises(ConfigError, match="one of float32, float16, int8, found 'int4'"):
        pack(model, "int4")
    with torch.no_grad():
        model.ctc.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match="ctc.weight: 1e.06 is beyond float16"):
        pack(model, "float16")
    assert unpack(*pack(model, "int8"), "here")[1] == "int8"
    with torch.no_grad():
        model.ctc.weight[0, 0] = float("nan")
    for storage in ("float16", "int8"):
        with pytest.raises(CheckpointError, match="ctc.weight: not finite"):
            pack(model, storage)


def test_the_command(tmp_path, capsys) -> None:
    model, _ = save(tmp_path / "model")
    arguments = ["convert-model", "--model", str(tmp_path / "model"), "--storage", "int8"]
    assert main([*arguments, "--output", str(tmp_path / "int8")]) == 0
    assert "model: float32, 0." in (out := capsys.readouterr().out) and "int8: int8, 0." in out
    with safe_open(tmp_path / "int8" / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("ctc.weight").dtype == torch.int8
    state = load_model_dir(tmp_path / "int8").model.state_dict()
    assert torch.equal(state["ctc.weight"], dequantize(*quantize(model.ctc.weight.detach())))
    assert main([*arguments, "--output", str(tmp_path / "model")]) == 2
    assert "is the model itself" in capsys.readouterr().err
    (tmp_path / "int8" / "RELEASE.json").write_text("{}")
    assert main([*arguments, "--output", str(tmp_path / "int8")]) == 2
    assert "int8 is a release, whose parts are not changed" in capsys.readouterr().err
