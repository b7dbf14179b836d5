import pytest
from lhotse import CutSet, SupervisionSegment
from lhotse.testing.dummies import dummy_cut

from moe_asr.cli.main import main
from moe_asr.text.bpe import train_bpe
from moe_asr.text.tokenizer import load_tokenizer

TEXTS = ["one two three", "four five six seven", "eight nine zero oh", "two tone stone"]


def supervision(index: int, text: str | None) -> SupervisionSegment:
    return SupervisionSegment(
        id=f"s{index}", recording_id="rec", start=0.0, duration=1.0, text=text
    )


def write_manifest(path, texts):
    cuts = [dummy_cut(i, supervisions=[supervision(i, text)]) for i, text in enumerate(texts)]
    CutSet.from_cuts(cuts).to_file(path)
    return path


@pytest.mark.parametrize("source", ["manifest", "text"])
def test_trains_on_a_manifest_or_a_text(tmp_path, capsys, source):
    path = tmp_path / ("cuts.jsonl.gz" if source == "manifest" else "text")
    if source == "manifest":
        write_manifest(path, TEXTS)
    else:
        path.write_text("\n".join(TEXTS) + "\n")
    output = tmp_path / "bpe"
    argv = ["train-bpe", f"--{source}", str(path), "--vocab-size", "30", "--output", str(output)]
    assert main(argv) == 0
    assert "30 tokens" in capsys.readouterr().out
    expected = train_bpe(TEXTS, 30, tmp_path / "expected")
    assert load_tokenizer(output).tokens == expected.tokens
    assert main([*argv, "--no-dummy-prefix"]) == 0
    assert load_tokenizer(output).encode("one") != expected.encode("one")


@pytest.mark.parametrize(
    "texts, vocab_size, message",
    [
        (TEXTS, 5000, "supports at most"),
        ([*TEXTS, None], 30, "cut dummy-mono-cut-0004: a supervision without text"),
        ([""], 30, "no text"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, texts, vocab_size, message):
    path = write_manifest(tmp_path / "cuts.jsonl", texts)
    argv = ["train-bpe", "--manifest", str(path), "--vocab-size", str(vocab_size)]
    assert main([*argv, "--output", str(tmp_path / "bpe")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("moe-asr train-bpe: error: ")
    assert not (tmp_path / "bpe").exists()


def test_text_that_is_absent_or_not_utf8_is_named(tmp_path, capsys):
    (tmp_path / "latin").write_bytes("größe\n".encode("latin-1"))
    for name, message in {"nowhere": "cannot be read", "latin": "not UTF-8"}.items():
        argv = ["train-bpe", "--text", str(tmp_path / name), "--vocab-size", "30"]
        assert main([*argv, "--output", str(tmp_path / "bpe")]) == 2
        error = capsys.readouterr().err
        assert name in error and message in error
