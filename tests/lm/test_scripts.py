"""lang/train_ngram.py and lang/compute_perplexity.py."""

import json
import random
import re
import runpy
import sys
from pathlib import Path

import pytest

from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.model import NgramModel
from moe_asr.lm.perplexity import measure_perplexity
from moe_asr.lm.prune import prune
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer
from tests.lm.references import random_text

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = random_text(random.Random(5), 200, 20)


def run(name: str, *arguments: object) -> int:
    """The exit status of a script."""
    argv = sys.argv
    sys.argv = [f"lang/{name}", *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / "lang" / name), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
    return 0


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("\n".join(SENTENCES) + "\n")
    return path


def test_train_then_score(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = tmp_path / "lm" / "word.arpa.gz"
    arguments = ["--text", text, "--order", 3, "--min-counts", "1,1,2", "--prune", "1e-4"]
    assert run("train_ngram.py", *arguments, "--output", lm) == 0
    said = capsys.readouterr().out
    trained = train_kneser_ney(corpus_of(SENTENCES), 3, [1, 1, 2])
    model = prune(trained.model, 1e-4, trained.history_log_prob)
    written = NgramModel.read_arpa(lm)
    assert written.counts == model.counts
    for n, row in enumerate(trained.statistics, start=1):
        discounts = ", ".join(f"{value:.4f}" for value in row.discounts)
        line = rf"^ +{n} +{row.num_seen} +{row.num_kept} +{model.counts[n - 1]} +{discounts}$"
        assert re.search(line, said, re.MULTILINE), said
    assert re.search(r"word.arpa.gz: [\d.]+ s, peak memory \d+ MB", said)
    assert "off 1 by at most" in said and f"{len(SENTENCES)} sentences" in said

    assert run("compute_perplexity.py", "--lm", lm, "--text", text) == 0
    said = capsys.readouterr().out
    report = measure_perplexity(written, corpus_of(SENTENCES))
    assert f"perplexity {report.perplexity:.4f}, without sentence ends" in said
    assert "0 unknown (0.00 %)" in said


def test_provenance(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = tmp_path / "lm" / "word.arpa"
    arguments = ["--text", text, "--order", 2, "--output", lm]
    assert run("train_ngram.py", *arguments) == 0
    record = json.loads((lm.parent / "provenance.json").read_text())["steps"]["word.arpa"]
    assert record["settings"] == {"order": 2, "min_counts": [1], "prune": None}
    assert list(record["inputs"]) == ["text"]
    before = lm.stat().st_mtime_ns
    capsys.readouterr()
    assert run("train_ngram.py", *arguments) == 0
    assert "up to date" in capsys.readouterr().out and lm.stat().st_mtime_ns == before
    text.write_text("w0 w1\nw1\n")
    assert run("train_ngram.py", *arguments) == 0
    said = capsys.readouterr().out
    assert "made (changed: text)" in said
    assert "notice: order 2: the counts of counts (n1=" in said
    assert NgramModel.read_arpa(lm).words.get("w2") is None


def test_vocabulary_and_tokenizer(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SymbolTable(["<eps>", "w1", "w0", "extra", "#0"]).write(tmp_path / "words.txt")
    lm = tmp_path / "word.arpa"
    arguments = ["--text", text, "--order", 2, "--output", lm]
    assert run("train_ngram.py", *arguments, "--vocab", tmp_path / "words.txt") == 0
    assert list(NgramModel.read_arpa(lm).words)[3:] == ["w1", "w0", "extra"]
    assert re.search(r"notice: \d+ of \d+ words \([\d.]+ %\) are <unk>", capsys.readouterr().out)

    CharTokenizer.from_texts(SENTENCES).save(tmp_path / "chars")
    lm = tmp_path / "token.arpa"
    units = ["--tokenizer", tmp_path / "chars"]
    arguments = ["--text", text, "--order", 4, "--output", lm]
    assert run("train_ngram.py", *arguments, *units) == 0
    model = NgramModel.read_arpa(lm)
    assert set(model.words) == {*"0123456789w▁", "<unk>", "<s>", "</s>"} and model.order == 4
    capsys.readouterr()
    assert run("compute_perplexity.py", "--lm", lm, "--text", text, *units) == 0
    spelled = [" ".join(sentence.replace(" ", "▁")) for sentence in SENTENCES]
    report = measure_perplexity(model, corpus_of(spelled))
    assert f"perplexity {report.perplexity:.4f}," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "none"], "none: cannot be read"),
        (["--min-counts", "2,1"], "1 for order 2 is less than 2 for order 1"),
        (["--order", "0"], "order is 0"),
        (["--order", "99"], "no n-grams of 99 words"),
        (["--vocab", "none"], "none: cannot be read"),
        (["--tokenizer", "none"], "none: cannot be read"),
        (["--min-counts", "1,x"], "invalid whole_numbers value"),
        (["--prune", "nan"], "invalid positive_number value"),
    ],
)
def test_bad_arguments_give_one_line_and_status_2(
    text: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lm = tmp_path / "lm.arpa"
    first = ["--text", text, "--order", 2, "--output", lm]
    assert run("train_ngram.py", *first, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "train_ngram.py: error: " in error
    assert not lm.exists()


def test_perplexity_names_a_bad_file(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compute_perplexity.py", "--lm", text, "--text", text) == 2
    error = capsys.readouterr().err
    assert error.startswith("compute_perplexity.py: error: ") and "no line \\data\\" in error
