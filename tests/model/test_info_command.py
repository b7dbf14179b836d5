"""``moe-asr info``: what it prints and what it refuses."""

import re

import pytest

from moe_asr.cli.main import main
from moe_asr.model.config import PRESETS, preset
from moe_asr.model.u2 import U2MoeModel


def numbers(text: str) -> dict[str, int]:
    """The rows ``name  1,234  5.6 %`` of the table."""
    found = re.findall(r"^(\w[\w ]*?)\s{2,}([\d,]+)", text, re.MULTILINE)
    return {name: int(value.replace(",", "")) for name, value in found}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(name, capsys):
    assert main(["info", "--preset", name]) == 0
    text = capsys.readouterr().out
    table = numbers(text)
    parts = table["encoder"] + table["ctc"] + table["left_to_right"] + table["right_to_left"]
    assert parts == table["total"]
    config = preset(name)
    assert f"num_experts: {config.num_experts}\n" in text
    assert f"encoder_layers: {config.encoder_layers}\n" in text
    assert "max_chunk_size: 25" in text
    if name in ("tiny", "small"):
        model = U2MoeModel(config)
        assert table["total"] == model.num_parameters()
        assert table["active per frame"] == model.num_active_parameters()


def test_vocabulary(capsys):
    main(["info", "--preset", "tiny", "--vocab-size", "500"])
    text = capsys.readouterr().out
    assert "vocab_size: 500\n" in text
    assert numbers(text)["ctc"] == 500 * 33


def test_a_model_directory(tmp_path, capsys):
    from tests.model.test_model_directory import save

    model, tokenizer = save(tmp_path)
    assert main(["info", "--model", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert numbers(text)["total"] == model.num_parameters()
    assert f"char, {tokenizer.vocab_size} tokens\nweights: stored as float32\n" in text
    assert "num_bins: 20\n" in text and "dim: 16\n" in text


@pytest.mark.parametrize(
    "arguments,culprit",
    [
        (["--preset", "smal"], "did you mean 'small'"),
        (["--preset", "tiny", "--vocab-size", "1"], "vocab_size must be at least 3, found 1"),
        (["--model", "no/such/dir"], "no/such/dir/config.yaml: cannot be read"),
    ],
)
def test_wrong_input_gives_one_line(arguments, culprit, capsys):
    assert main(["info", *arguments]) == 2
    error = capsys.readouterr().err
    assert culprit in error and error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--preset", "tiny", "--model", "x"]])
def test_exactly_one_of_preset_and_model(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["info", *arguments])
    assert raised.value.code == 2
    assert "--preset" in capsys.readouterr().err
