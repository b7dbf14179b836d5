"""The scripts of units and language directories, as they are called."""

import runpy
import sys
from pathlib import Path

import pytest
from lhotse import CutSet, SupervisionSegment
from lhotse.testing.dummies import dummy_cut

from moe_asr.lang.directory import LangDir
from moe_asr.lang.provenance import PROVENANCE_FILE
from moe_asr.text.bpe import train_bpe
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.tokenizer import load_tokenizer, tokenizer_kinds

SCRIPTS = Path(__file__).parents[2] / "lang"
TEXTS = ["one two three", "four five six seven", "eight nine zero oh", "two tone stone"]
MIXED = ["我 要 two tickets", "one 张 票", "打开 the light", "one two three"]
LEXICON = "one w ah n\none hh w ah n\ntwo t uw\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a script in this process, from a folder with its inputs; returns its exit status."""
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("".join(f"{text}\n" for text in TEXTS))
    Path("mixed_text").write_text("".join(f"{text}\n" for text in MIXED))
    Path("lexicon").write_text(LEXICON)

    def call(name: str, arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{name}.py"), *arguments.split()])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return call


def write_manifest(path: str, texts: list[str | None]) -> None:
    cuts = []
    for index, text in enumerate(texts):
        supervision = SupervisionSegment(f"s{index}", "rec", 0.0, 1.0, text=text)
        cuts.append(dummy_cut(index, supervisions=[supervision]))
    CutSet.from_cuts(cuts).to_file(path)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_is_thin_and_has_help(path: Path, run, capsys) -> None:
    assert run(path.stem, "--help") == 0
    shown = capsys.readouterr().out
    assert path.name in shown and "--" in shown
    assert path.read_text(encoding="utf-8").count("\n") <= 100


@pytest.mark.parametrize("source", ["--text text", "--manifest cuts.jsonl.gz"])
def test_training_on_a_text_or_a_manifest(run, capsys, source: str) -> None:
    write_manifest("cuts.jsonl.gz", [*TEXTS])
    command = f"--kind bpe {source} --vocab-size 30 --output bpe"
    assert run("train_tokenizer", command) == 0
    assert "30 tokens" in capsys.readouterr().out
    expected = train_bpe(TEXTS, 30, "expected")
    for name in expected.files:
        assert Path("bpe", name).read_bytes() == Path("expected", name).read_bytes()
    assert run("train_tokenizer", command) == 0
    assert "bpe/tokenizer: up to date" in capsys.readouterr().out
    assert run("train_tokenizer", f"{command} --no-dummy-prefix") == 0
    assert "another add_dummy_prefix" in capsys.readouterr().out
    assert load_tokenizer("bpe").encode("one") != expected.encode("one")


def test_every_kind_makes_a_language_directory(run, capsys) -> None:
    options = {
        "char": "--text text",
        "bpe": "--text text --vocab-size 30",
        "mixed": "--text mixed_text --vocab-size 40",
        "phone": "--lexicon lexicon",
    }
    assert set(options) == set(tokenizer_kinds())
    Path("words").write_text("one\ntwo\n")
    for kind, source in options.items():
        assert run("train_tokenizer", f"--kind {kind} {source} --output {kind}") == 0
        command = f"--tokenizer {kind} --words words --output lang_{kind}"
        assert run("prepare_lang", command) == 0
        lang = LangDir.load(f"lang_{kind}")
        assert lang.tokenizer.kind == kind and lang.lexicon.words == ["one", "two"]
        said = capsys.readouterr().out
        assert f"lang_{kind}: {len(lang.tokens)} tokens, 2 words" in said
        assert run("prepare_lang", command) == 0
        assert f"lang_{kind}/lang: up to date" in capsys.readouterr().out
    assert len(lang.lexicon["one"]) == 2  # of phones


def test_a_lexicon_with_probabilities(run) -> None:
    Path("lexiconp").write_text("one 0.5 w ah n\none 0.25 ah n\n")
    units = "--kind phone --lexicon lexiconp --lexicon-probabilities --output phone"
    assert run("train_tokenizer", units) == 0
    assert isinstance(load_tokenizer("phone"), PhoneTokenizer)
    lang = "--tokenizer phone --lexicon lexiconp --lexicon-probabilities --output lang"
    assert run("prepare_lang", lang) == 0
    assert LangDir.load("lang").has_probabilities
    assert Path("lang/lexicon.txt").read_text() == Path("lexiconp").read_text()


def test_word_lists(run, capsys) -> None:
    assert run("make_word_list", "--text text --min-count 2 --output data/words") == 0
    assert "data/words: 1 words" in capsys.readouterr().out
    assert Path("data/words").read_text() == "two\n"
    assert run("make_word_list", "--text text --max-words 2 --output data/words") == 0
    assert Path("data/words").read_text() == "eight\ntwo\n"
    assert run("make_word_list", "--text text --max-words 2 --output data/words") == 0
    assert "up to date" in capsys.readouterr().out
    # the list is stale when its text has changed, and so is what is made of it
    assert run("train_tokenizer", "--kind char --text text --output char") == 0
    prepare = "--tokenizer char --words data/words --output lang"
    assert run("prepare_lang", prepare) == 0
    Path("text").write_text("five\n")
    assert run("train_tokenizer", "--kind char --text text --output char") == 0
    capsys.readouterr()
    assert run("prepare_lang", prepare) == 2
    error = capsys.readouterr().err
    assert "text (text): has changed since step 'words'" in error and "make_word_list.py" in error
    assert run("make_word_list", "--text text --max-words 2 --output data/words") == 0
    assert run("prepare_lang", prepare) == 0


def test_splitting_text(run) -> None:
    Path("compounds").write_text("打开\n票\n")
    assert run("split_text", "--text mixed_text --words compounds --output data/split") == 0
    assert Path("data/split").read_text(encoding="utf-8").splitlines() == [
        "我 要 two tickets",
        "one 张 票",
        "打开 the light",
        "one two three",
    ]
    assert run("split_text", "--text mixed_text --output data/characters") == 0
    assert "打 开 the light" in Path("data/characters").read_text(encoding="utf-8")
    assert run("split_text", "--text text --output data/english") == 0
    assert Path("data/english").read_bytes() == Path("text").read_bytes()


def test_words_left_out(run, capsys) -> None:
    Path("words").write_text("one\nquiz\n")
    assert run("train_tokenizer", "--kind char --text text --output char") == 0
    prepare = "--tokenizer char --words words --output lang"
    assert run("prepare_lang", prepare) == 2
    assert "words: word 'quiz' cannot be spelled" in capsys.readouterr().err
    assert run("prepare_lang", f"{prepare} --skip-unspellable skipped") == 0
    assert "skipped: 1 words left out" in capsys.readouterr().out
    assert Path("skipped").read_text() == "quiz\n"


def test_moving_the_whole_folder_of_results(run) -> None:
    assert run("train_tokenizer", "--kind char --text text --output char") == 0
    Path("words").write_text("one\n")
    assert run("prepare_lang", "--tokenizer char --words words --output lang") == 0
    Path("lang").rename("moved")
    assert LangDir.load("moved").lexicon.words == ["one"]
    assert run("prepare_lang", "--tokenizer char --words words --output moved") == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train_tokenizer", "--kind bpe --text text --vocab-size 5000 --output x", "supports at most"),
        ("train_tokenizer", "--kind bpe --manifest no_text.jsonl --vocab-size 30 --output x",
         "cut dummy-mono-cut-0001: a supervision without text"),
        ("train_tokenizer", "--kind bpe --text text --output x", "bpe tokenizer needs a vocabulary"),
        ("train_tokenizer", "--kind char --text text --vocab-size 9 --output x", "does not need a"),
        ("train_tokenizer", "--kind phone --text text --output x", "made from a lexicon, found text"),
        ("train_tokenizer", "--kind char --lexicon lexicon --output x", "from a text or manifest"),
        ("train_tokenizer", "--kind phone --lexicon bad --output x", "bad:1: word 'one'"),
        ("train_tokenizer", "--kind phone --lexicon weighted --output x",
         "weighted: every pronunciation begins with a number, as 'one 1.0 w ah'"),
        ("train_tokenizer", "--kind bpe --text bad --vocab-size 9 --output x", "bad:2: '<blk>' is res"),
        ("train_tokenizer", "--kind char --text absent --output x", "absent: cannot be read"),
        ("train_tokenizer", "--kind bpe --text latin --vocab-size 9 --output x", "latin:1: not UTF-8"),
        ("prepare_lang", "--tokenizer absent --words text --output x", "tokenizer.yaml: cannot be"),
        ("make_word_list", "--text text --min-count 0 --output x/words", "min_count must be at least"),
        ("train_tokenizer", "--kind char --text text --output text", "text: cannot be written to"),
        ("split_text", "--text empty --output x/split", "empty: no words in it"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(
    run, capsys, name: str, arguments: str, message: str
) -> None:
    write_manifest("no_text.jsonl", ["one", None])
    Path("bad").write_text("one\n<blk> two\n")
    Path("weighted").write_text("one 1.0 w ah\ntwo 1e-1 t\n")
    Path("latin").write_bytes("größe\n".encode("latin-1"))
    Path("empty").write_text("\n")
    capsys.readouterr()
    assert run(name, arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith(f"{name}.py: error: ") and "\n" not in error
    made = [path for path in Path("x").rglob("*") if path.name != PROVENANCE_FILE]
    assert made == []
