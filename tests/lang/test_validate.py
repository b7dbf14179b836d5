"""Validation: what passes, what bounds mean, what is skipped, how it is reported."""

import gzip
import json
import random
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_asr.config import to_dict
from moe_asr.errors import ConfigError, GraphError, TextError
from moe_asr.files import write_yaml
from moe_asr.lang.directory import LangDir
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.lang.validate import ValidationOptions
from moe_asr.lang.validate_files import check_determinizable
from moe_asr.lang.validate_report import Findings, Report, Runner, Skipped
from moe_asr.model.config import preset
from moe_asr.text.tokenizer import BpeTokenizer
from tests.lang import damage as d
from tests.lang.validated import BUILDERS, Workplace, by_name

SCRIPT = Path(__file__).parents[2] / "lang" / "validate_lang.py"


@pytest.mark.parametrize("forged", [False, True], ids=["as-is", "forged"])
@pytest.mark.parametrize("base", BUILDERS)
def test_good_directories_pass(
    built: dict[str, Workplace], tmp_path: Path, base: str, forged: bool
) -> None:
    place = built[base].copy(tmp_path / "place")
    if forged:
        place.forge()
    graphs = ["ngram", "grammar", *(["tokens"] if base == "bpe" else [])]
    report = place.validate(*graphs)
    assert report.ok, report.text()
    assert report.counts["skipped"] == 0 and report.counts["failed"] == 0
    assert len(by_name(report, "sampled sentences")) == len(graphs)


@pytest.mark.parametrize(("number", "ok"), [(35, False), (36, True), (37, False)])
def test_number_of_outputs(built: dict[str, Workplace], number: int, ok: bool) -> None:
    report = built["bpe"].validate("ngram", num_outputs=number, text=None)
    assert report.ok == ok
    if not ok:
        assert f"36 tokens, but the model has {number} outputs" in report.errors("outputs")[0]
        assert [result.status for result in by_name(report, "LG")] == ["skipped"]


def model_directory(place: Workplace, folder: Path, vocab_size: int) -> Path:
    """What validation reads of a model: its tokenizer and its configuration."""
    shutil.copytree(place / "units", folder)
    config = preset("small", vocab_size=vocab_size)
    write_yaml(folder / "config.yaml", {"model": to_dict(config), "features": {}})
    return folder


def test_model(built: dict[str, Workplace], tmp_path: Path) -> None:
    place = built["bpe"]
    model = model_directory(place, tmp_path / "model", 36)
    assert place.validate(model=model).ok
    assert place.validate(tokenizer=place / "units").ok
    larger = model_directory(place, tmp_path / "larger", 40)
    report = place.validate(model=larger)
    assert report.failed == ["outputs"] and "the model has 40 outputs" in report.errors()[0]
    (model / "config.yaml").write_text("features: {}\n")
    assert "no section 'model'" in place.validate(model=model).errors("outputs")[0]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("other symbols", ["turn on the lamp", "play the lamp"], "by "),
        ("other merges", None, "is not the same file as"),
        ("another kind", [], "a bpe tokenizer, expected char"),
    ],
)
def test_tokenizer_of_another_model(
    place: Workplace, tmp_path: Path, name: str, text: list[str] | None, says: str
) -> None:
    other = tmp_path / "other"
    if text is None:  # the same pieces, not the same model
        shutil.copytree(place / "units", other)
        from sentencepiece import sentencepiece_model_pb2

        model = sentencepiece_model_pb2.ModelProto.FromString((other / "bpe.model").read_bytes())
        model.pieces[5].score -= 1.0
        BpeTokenizer(model.SerializeToString()).save(other)
    else:
        (tmp_path / "text").write_text("".join(f"{line}\n" for line in text) or "turn\n")
        size = {} if not text else {"vocab_size": 36 - 8}
        make_tokenizer(other, "bpe" if text else "char", text=tmp_path / "text", **size)
    report = place.validate(tokenizer=other)
    assert report.failed == ["outputs"], report.text()
    assert says in report.errors()[0]


def test_oov_rate_and_coverage(place: Workplace) -> None:
    text = place / "new"
    text.write_text("play the polka polka\nplay jazz\nplay fado\nplay the news louder please\n")
    (result,) = by_name(place.validate(text=text, max_oov_rate=3 / 13), "OOV rate")
    assert result.status == "ok"
    assert result.note == (
        "OOV rate 23.08 % (3 of 13 words): polka (2), fado (1); 6 of the lexicon's 15 words occur"
    )
    report = place.validate(text=text, max_oov_rate=0.23)
    assert report.failed == ["OOV rate"]
    assert "at most 23 %; most frequent: polka (2), fado (1)" in report.errors()[0]


def test_text_may_be_gzipped_and_must_be_whole(place: Workplace) -> None:
    packed = place / "text.gz"
    packed.write_bytes(gzip.compress((place / "text").read_bytes()))
    assert place.validate("ngram", text=packed).ok
    packed.write_bytes(packed.read_bytes()[:-12])
    report = place.validate("ngram", text=packed)
    assert report.failed == ["text"] and "text.gz: cannot be read" in report.errors()[0]
    (result,) = by_name(report, "text sentences")
    assert result.status == "skipped"


def test_without_a_text_its_checks_are_skipped(built: dict[str, Workplace]) -> None:
    report = built["bpe"].validate("ngram", text=None)
    skipped = [result.name for result in report.results if result.status == "skipped"]
    assert report.ok and skipped == ["text"]
    assert not by_name(report, "text sentences")


@pytest.mark.parametrize("seed", [0, 1])
def test_text_is_sampled_evenly(built: dict[str, Workplace], seed: int) -> None:
    """Of a text that is longer than the sample all lines have a chance."""
    from moe_asr.lang.validate_text import read_text

    lang = LangDir.load(built["bpe"].lang)
    counts: dict[str, int] = {}
    rng = random.Random(seed)
    for _ in range(300):
        statistics = read_text(
            Findings(10), built["bpe"] / "text", lang.lexicon, lang.words, 3, rng
        )
        assert statistics is not None and len(statistics.sample) == 3
        for sentence in statistics.sample:
            counts[sentence.place] = counts.get(sentence.place, 0) + 1
    assert len(counts) == 10
    assert all(50 < count < 140 for count in counts.values())  # 90 expected, deviation 8


def test_a_lexicon_that_the_tokenizer_did_not_make_may_spell_otherwise(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.write("text", ["read a book", "a book"])
    place.make_units(kind="char", text=place / "text")
    (place / "lexicon").write_text("read r e d\na ▁ a\nbook ▁ b o o k\n", encoding="utf-8")
    place.make_lang(lexicon_probabilities=False)
    report = place.validate()
    (result,) = by_name(report, "spelling")
    assert report.ok and result.status == "warning" and result.num_warnings == 2
    assert "the tokenizer spells 'read a book' as r e a d" in result.findings[0].message


def test_words_that_were_left_out(place: Workplace) -> None:
    (place / "own_words").write_text("turn\nna\u00efve\nlight\nca\u00f1on\n", encoding="utf-8")
    arguments = {"words": place / "own_words", "skip_unspellable": place / "skipped"}
    place.make_lang(**arguments)
    report = place.validate(text=None)
    (source,) = by_name(report, "lexicon source")
    assert report.ok and source.note.startswith("2 words of it cannot be spelled")
    d.delete_line(1)(place / "lang/unspellable.txt")
    place.forge()
    report = place.validate(text=None)
    assert report.failed == ["lexicon source"]
    assert "unspellable.txt:1: found 'ca\u00f1on', expected 'na\u00efve'" in report.errors()[0]


def test_stale_inputs_of_inputs_are_found(place: Workplace) -> None:
    """The text changed after the word list was made of it, which the language directory was made of."""
    (place / "text").write_text((place / "text").read_text() + "play a waltz\n")
    errors = place.validate(max_oov_rate=1.0).errors("provenance")
    assert any("text (text): has changed since step 'words'" in error for error in errors)


def test_inputs_that_are_gone(place: Workplace) -> None:
    assert place.validate("ngram").ok
    (place / "words").unlink()
    (place / "lm.arpa").unlink()
    shutil.rmtree(place / "units")
    report = place.validate("ngram")
    assert report.failed == ["provenance", "provenance"]
    report = place.validate("ngram", allow_missing_inputs=True)
    assert report.ok
    for name, count in (("lexicon source", 1), ("G source", 1)):
        results = by_name(report, name)
        assert [result.status for result in results] == ["skipped"] * count
    warnings = [result.num_warnings for result in by_name(report, "provenance")]
    assert warnings == [4, 5]  # those of the language directory are inputs of the graph too
    (place / "lang/words.txt").write_text("<eps> 0\n")  # this is no input of the directory
    assert not place.validate("ngram", allow_missing_inputs=True).ok


def test_what_needs_a_failed_check_is_skipped(place: Workplace) -> None:
    d.delete_line(6)(place / "lang/tokens.txt")
    report = place.validate("ngram")
    status = {result.name: result.status for result in report.results}
    assert status["tokens"] == "failed"
    for name in ("lexicon", "words", "L", "L_disambig", "determinizable", "text", "G", "LG"):
        assert status[name] == "skipped", name
    for name in ("HLG", "topology", "sampled sentences", "text sentences", "G source"):
        assert status[name] == "skipped", name
    (result,) = by_name(report, "sampled sentences")
    assert result.note.startswith("needs '") and result.note.endswith("could not be used")
    passed = {name for name, one in status.items() if one == "ok"}
    assert passed == {"files", "tokenizer", "outputs"}


def test_all_errors_count_and_the_first_are_shown(place: Workplace) -> None:
    path = place / "lang/words.txt"
    path.write_text("".join(f"{line} x\n" for line in path.read_text().splitlines()))
    (result,) = by_name(place.validate(max_findings=3), "words")
    assert result.num_errors == 17 and len(result.findings) == 3
    lines = result.lines()
    assert len(lines) == 4 and lines[0].startswith(f"FAIL  words: {path}:1: expected 'symbol id'")
    assert lines[3] == "FAIL  words: ... and 14 more"


def test_findings() -> None:
    found = Findings(2)
    found.errors(np.array([4, 7, 9]), lambda place: f"arc {place}")
    found.warn("a")
    assert found.num_errors == 3 and found.num_warnings == 1
    assert [finding.message for finding in found.kept] == ["arc 4", "arc 7", "a"]
    found.errors(np.array([1]), lambda place: "never shown")
    assert found.num_errors == 4


def test_runner() -> None:
    report, told = Report(), []
    run = Runner(report, on_result=told.append)
    run.directory = "x"

    def refuse(found: Findings) -> int:
        raise TextError("x:1: no")

    def usable(found: Findings, number: int) -> int:
        found.error("x:2: odd")
        return number + 1

    def leave(found: Findings) -> int:
        raise Skipped("because")

    assert run("refused", refuse).value is None
    assert run("usable", usable, run("also", usable, 1)).value == 3
    assert run("skipped", usable, run("left", leave)).value is None
    assert run.derive(usable, Findings(1), run("none", lambda found: None)).value is None
    assert [(result.name, result.status) for result in report.results] == [
        ("refused", "failed"), ("also", "failed"), ("usable", "failed"), ("left", "skipped"),
        ("skipped", "skipped"), ("none", "ok"),
    ]  # fmt: skip
    assert told == report.results
    assert report.errors("refused") == ["x:1: no"]
    assert report.results[4].note == "needs 'left', which could not be used"
    with pytest.raises(ZeroDivisionError):  # a defect of a check is no finding
        run("defect", lambda found: 1 // 0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_oov_rate": 1.5},
        {"max_oov_rate": float("nan")},
        {"max_deficit": -0.1},
        {"max_excess": -1.0},
        {"num_sentences": 0},
        {"max_findings": 0},
        {"model": "a", "tokenizer": "b"},
        {"model": "a", "num_outputs": 5},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ValidationOptions(**options)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, place: Workplace):
    """Runs the script in the folder of the workplace; returns its exit status."""
    monkeypatch.chdir(place.folder)

    def call(arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments.split()])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return call


def test_script(run, place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--lang lang --graph ngram grammar --text text --num-sentences 20 --json report.json"
    )
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lang" and lines[1].startswith("  ok    files: ")
    assert [line for line in lines if line in ("lang", "text", "ngram", "grammar")] == [
        "lang", "text", "ngram", "grammar",
    ]  # fmt: skip
    assert sum(line.startswith("  ok ") for line in lines) == 38
    assert lines[-1].startswith("39 checks: 38 ok, 1 with warnings, 0 failed, 0 skipped; ")
    content = json.loads((place / "report.json").read_text())
    assert content["ok"] and content["counts"]["ok"] == 38 and len(content["checks"]) == 39
    d.edit("radio", "ratio")(place / "lang/words.txt")
    assert run(arguments) == 1
    out = capsys.readouterr().out
    assert "FAIL  words: lang/words.txt:13: word 'ratio' has no pronunciation" in out
    assert "skip  G: needs 'words', which could not be used" in out
    content = json.loads((place / "report.json").read_text())
    assert not content["ok"] and content["counts"]["failed"] > 1
    (words,) = (check for check in content["checks"] if check["name"] == "words")
    assert words["status"] == "failed" and words["directory"] == "lang" and words["errors"] == 2
    assert words["findings"][0]["message"].startswith("lang/words.txt:13: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--lang nowhere", "nowhere: no such directory"),
        ("--lang lang --graph nowhere", "nowhere: no such directory"),
        ("--lang lang --text nowhere", "nowhere: no such file"),
        ("--lang lang --model nowhere", "nowhere: no such directory"),
        ("--lang lang --max-oov-rate 2", "max_oov_rate must be 0 to 1"),
        ("--lang lang --num-outputs 3 --model lang", "not allowed with"),
        ("", "--lang"),
    ],
)
def test_unusable_arguments(
    run, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err


def test_every_check_is_documented(built: dict[str, Workplace]) -> None:
    """And no others are: the names in the first columns of the document's tables of checks."""
    document = (SCRIPT.parents[1] / "docs" / "validation.md").read_text(encoding="utf-8")
    report = built["bpe"].validate("ngram", "tokens")
    names = {result.name for result in report.results}
    checks = document.split("## Checks of a language directory")[1]
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", checks, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    listed |= {name for name in ("T", "HT", "T rebuilt") if f"`{name}`" in checks}
    assert names == listed
    options = document.split("## Options")[1].split("##")[0]
    assert all(f"--{name.replace('_', '-')}" in options for name in vars(ValidationOptions()))


def test_what_cannot_be_determinized(built: dict[str, Workplace]) -> None:
    """L itself, which has homophones and beginnings: no file of a consistent directory can be so."""
    lang = LangDir.load(built["phone"].lang)
    found = Findings(10)
    assert check_determinizable(found, lang.L_disambig, lang.tokens, lang.words)
    with pytest.raises(GraphError, match="L cannot tell"):
        check_determinizable(found, lang.L, lang.tokens, lang.words)
