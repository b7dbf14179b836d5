"""Model directories: round trip, damage of every kind, and that loading runs no code."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from moe_asr.audio.fbank import FbankOptions
from moe_asr.errors import CheckpointError, ConfigError, MoeAsrError
from moe_asr.model.directory import load_model_dir, load_weights, read_tensors, save_model_dir
from moe_asr.text.tokenizer import CharTokenizer
from tests.nn.references import make_model

OPTIONS = FbankOptions(num_bins=20)


def save(directory: Path, **overrides):
    tokenizer = CharTokenizer.from_texts(["six to ten"])
    model = make_model(**{"vocab_size": tokenizer.vocab_size, **overrides})
    save_model_dir(directory, model, tokenizer, OPTIONS)
    return model, tokenizer


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("overrides", [{}, {"num_experts": 1, "num_chosen": 1}, {"subsampling": 6}])
def test_round_trip(tmp_path, overrides):
    model, tokenizer = save(tmp_path, **overrides)
    loaded = load_model_dir(tmp_path)
    assert loaded.model.config == model.config and loaded.fbank_options == OPTIONS
    assert loaded.tokenizer.encode("ten six") == tokenizer.encode("ten six")
    assert not loaded.model.training
    state = loaded.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    features, lengths = torch.randn(2, 60, 20), torch.tensor([60, 33])
    memory, out_lengths = model.encode(features, lengths, 4, 1)
    again, again_lengths = loaded.model.encode(features, lengths, 4, 1)
    assert torch.equal(memory, again) and torch.equal(out_lengths, again_lengths)
    targets = torch.tensor([[3, 4], [5, 6]])
    two = torch.tensor([2, 2])
    for reverse in (False, True):
        expected = model.decoder_log_probs(memory, out_lengths, targets, two, reverse)
        got = loaded.model.decoder_log_probs(memory, out_lengths, targets, two, reverse)
        assert torch.equal(got, expected)


def test_the_files(saved):
    assert {path.name for path in saved.iterdir()} == {
        "config.yaml", "model.safetensors", "tokenizer.yaml", "tokens.txt",
    }  # fmt: skip
    values = yaml.safe_load((saved / "config.yaml").read_text())
    assert set(values) == {"model", "features"} and values["features"]["num_bins"] == 20


def test_saving_again_replaces(saved):
    model, _ = save(saved)
    loaded = load_model_dir(saved)
    assert torch.equal(loaded.model.ctc.weight, model.ctc.weight)
    assert not [path for path in saved.iterdir() if path.name.startswith(".")]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_loading_never_unpickles(saved, tmp_path):
    planted = tmp_path / "planted"
    payload = pickle.dumps(Payload(planted))
    torch_file = tmp_path / "payload.pt"
    torch.save({"x": Payload(planted)}, torch_file)
    bait = ["model.pt", "pytorch_model.bin", "model.pkl", "config.pkl", "tokenizer.pkl"]
    for name in bait:
        (saved / name).write_bytes(payload)
    load_model_dir(saved)
    for data in (payload, torch_file.read_bytes()):
        for name in ("model.safetensors", "tokens.txt", "tokenizer.yaml", "config.yaml"):
            original = (saved / name).read_bytes()
            (saved / name).write_bytes(data)
            with pytest.raises(MoeAsrError, match=name):
                load_model_dir(saved)
            (saved / name).write_bytes(original)
    assert not planted.exists()
    pickle.loads(payload).close()
    assert planted.exists(), "the payload works where something unpickles it"


def test_yaml_tags_run_nothing(saved, tmp_path):
    planted = tmp_path / "planted"
    tag = f"!!python/object/apply:os.mkdir ['{planted}']\n"
    (saved / "config.yaml").write_text(f"model: {tag}")
    with pytest.raises(ConfigError, match="config.yaml"):
        load_model_dir(saved)
    assert not planted.exists()


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[9] ^= 0xFF
    path.write_bytes(bytes(data))


def damage_header_size(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("not weights at all, but a text of some length\n" * 10)


def damage_absent(path: Path) -> None:
    path.unlink()


def damage_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [damage_truncated, damage_header, damage_header_size, damage_empty, damage_text, damage_absent,
     damage_directory],
)  # fmt: skip
def test_damaged_weights_name_the_file(saved, damage):
    damage(saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="model.safetensors: cannot be read as safetensors"):
        load_model_dir(saved)


def rewrite(saved: Path, change) -> None:
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(saved, value):
    rewrite(saved, lambda tensors: tensors["ctc.weight"].view(-1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match="model.safetensors.*ctc.weight: not finite"):
        load_model_dir(saved)


def test_a_missing_and_an_unexpected_tensor_are_named(saved):
    def change(tensors):
        tensors["ctc.wait"] = tensors.pop("ctc.weight")

    rewrite(saved, change)
    with pytest.raises(CheckpointError, match="missing ctc.weight; unexpected ctc.wait"):
        load_model_dir(saved)


@pytest.mark.parametrize(
    "change,text",
    [
        ({"num_experts": 5}, r"\(4, .*instead of \(5,"),
        ({"dim": 32}, "instead of"),
        ({"encoder_layers": 3}, "missing encoder.layers.2"),
        ({"encoder_layers": 1}, "unexpected encoder.layers.1"),
        ({"num_experts": 1, "num_chosen": 1}, "router"),
    ],
)
def test_weights_of_another_architecture(saved, change, text):
    values = yaml.safe_load((saved / "config.yaml").read_text())
    values["model"].update(change)
    (saved / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(CheckpointError, match=f"not a checkpoint of this architecture.*{text}"):
        load_model_dir(saved)


def test_a_refused_checkpoint_leaves_the_model_unchanged():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: value + 1.0 for name, value in before.items()}
    tensors["ctc.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"here: .*ctc.bias: \(3,\) instead of \(11,\)"):
        load_weights(model, tensors, "here")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_many_problems_are_counted():
    with pytest.raises(CheckpointError, match=r"\(and \d+ more\)"):
        load_weights(make_model(), {}, "here")


def test_another_tokenizer(saved):
    CharTokenizer.from_texts(["abcdefghijklmnop"]).save(saved)
    with pytest.raises(CheckpointError, match="tokenizer has 19 tokens, the model 11 outputs"):
        load_model_dir(saved)


def edit(saved: Path, change) -> None:
    values = yaml.safe_load((saved / "config.yaml").read_text())
    change(values)
    (saved / "config.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    "change,error,text",
    [
        (lambda v: v["model"].pop("vocab_size"), ConfigError, "missing key.*vocab_size"),
        (lambda v: v["model"].update(dims=3), ConfigError, "unknown key 'dims'.*'dim'"),
        (lambda v: v["model"].update(dim="big"), ConfigError, "dim: expected int, found 'big'"),
        (lambda v: v["features"].update(num_bins=0), ConfigError, "num_bins"),
        (lambda v: v["features"].update(num_bins=40), CheckpointError, "40 bins.*takes 20"),
        (lambda v: v["features"].update(bins=40), ConfigError, "unknown key 'bins'"),
        (lambda v: v.pop("features"), ConfigError, "sections 'features' and 'model'"),
        (lambda v: v.update(extra=1), ConfigError, "found .'extra'"),
        (lambda v: v.update(model=None), ConfigError, "expected a mapping"),
    ],
)
def test_a_wrong_config_names_file_and_key(saved, change, error, text):
    edit(saved, change)
    with pytest.raises(error, match=f"config.yaml.*{text}"):
        load_model_dir(saved)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("encoder_layers", 10**9, CheckpointError, r"tensors for 100000000\d layers"),
        ("left_to_right_layers", 10**9, CheckpointError, r"tensors for 100000000\d layers"),
        ("num_experts", 10**9, CheckpointError, r"feed_forward.w1: \(4, 16, 24\) instead of \(1000000000, "),
        ("kernel", 10**9 + 1, CheckpointError, "instead of"),
        ("hidden_dim", 10**18, ConfigError, "config.yaml: model: there is no such model"),
    ],
)  # fmt: skip
def test_a_config_of_a_huge_model_takes_no_memory(saved, key, value, error, message):
    edit(saved, lambda values: values["model"].update({key: value}))
    with pytest.raises(error, match=message):
        load_model_dir(saved)


def test_config_that_is_not_yaml_or_absent(saved):
    (saved / "config.yaml").write_text("model: [1,\n")
    with pytest.raises(ConfigError, match=r"config.yaml:2: not YAML"):
        load_model_dir(saved)
    (saved / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="config.yaml: cannot be read"):
        load_model_dir(saved)


def test_read_tensors_reads_what_the_header_says(tmp_path):
    """A file written by hand from the format's definition."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.5, -2.0)
    (tmp_path / "a.safetensors").write_bytes(data)
    assert read_tensors(tmp_path / "a.safetensors")["a"].tolist() == [1.5, -2.0]


def test_an_interrupted_save_leaves_no_complete_directory(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("moe_asr.model.directory.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path)
    assert not (tmp_path / "config.yaml").exists()
    assert not (tmp_path / "model.safetensors").exists()
