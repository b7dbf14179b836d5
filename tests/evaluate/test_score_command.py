"""``moe-asr score`` from end to end."""

import json
from pathlib import Path

import pytest

from moe_asr.cli.main import main
from moe_asr.evaluate.trn import read_trn


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """References as text and trn, two systems as text and ctm, rules."""
    for name, text in (
        ("ref.txt", "s1-a I'm gonna go, Mr. X\ns1-b one two\ns2-a three\ns2-b silence\n"),
        ("ref.trn", "i'm { gonna / going to } go mister x (s1-a)\none two (s1-b)\n"
         "three (s2-a)\n{ silence / @ } (s2-b)\n"),
        ("one.txt", "s1-a i'm going to go mister ex\ns1-b one two\ns2-a tree\ns2-b silence\n"),
        ("two.ctm", "s1-a 1 0 .1 i'm\ns1-a 1 .1 .1 gonna\ns1-a 1 .2 .1 go\ns1-a 1 .3 .1 mister\n"
         "s1-a 1 .4 .1 x\ns1-b 1 0 .1 one\ns1-b 1 .1 .1 two 0.5\ns2-a 1 0 1 three NA\n"),
        ("rules.glm", ";; rules\n[gonna] => [going to]\nmr => mister\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    return tmp_path


def score(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit status, and what was printed (errors, if there are any)."""
    status = main(["score", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, err or out


def test_normalised_texts_and_a_ctm(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = files / "one.txt", files / "two.ctm"
    outputs = [files / "out" / name for name in ("a.txt", "a.html", "a.json")]
    status, printed = score(
        capsys, files / "ref.txt", one, two, "--glm", files / "rules.glm", "--fold-case",
        "--remove-punctuation", "--missing", "empty", "--speaker-regex", "^[^-]*",
        "--text", outputs[0], "--html", outputs[1], "--json", outputs[2],
        "--write-trn", files / "trn", "--bootstrap", 200,
    )  # fmt: skip
    assert status == 0
    value = json.loads(outputs[2].read_text())["systems"]
    wers = [value[str(path)]["wer"] for path in (one, two)]
    assert wers == pytest.approx([20.0, 10.0])  # of ten words: x and three; silence
    assert f"{one}: speakers" in printed and "200 samples of 2 speakers" in printed
    assert f"{two}: 1 utterance(s) (s2-b) without hypothesis, 1 words: taken for empty" in printed
    for path in (*outputs, files / "trn" / "hyp2.trn"):
        assert f"written: {path}" in printed and path.is_file()
    alignments = outputs[0].read_text()
    assert f"== {two}\nWER 10.00 %" in alignments and "  hyp ***\n  err D" in alignments
    assert read_trn(files / "trn" / "ref1.trn")["s1-a"] == "i'm going to go mister x"


def test_alternatives_of_a_trn(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [files / "ref.trn", files / "two.ctm", "--alternatives", "--missing", "empty"]
    out = files / "out"
    status, printed = score(capsys, *arguments, "--write-trn", out)
    assert status == 0 and printed.split("\n")[1].split()[1] == "0.00"
    assert read_trn(out / "ref.trn")["s2-b"] == "" == read_trn(out / "hyp.trn")["s2-b"]
    assert read_trn(out / "ref.trn") == read_trn(out / "hyp.trn")


def test_what_is_read_is_not_written_over(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ref, trn, one = files / "ref.txt", files / "ref.trn", files / "one.txt"
    (files / "link.txt").symlink_to(one)
    rules = files / "rules.glm"
    before = {path: path.read_bytes() for path in files.iterdir()}
    for arguments in (
        [trn, one, "--alternatives", "--write-trn", files],
        [ref, one, "--text", ref],
        [ref, one, "--glm", rules, "--json", files / "." / "rules.glm"],
        [ref, files / "link.txt", "--html", one],
        [ref, one, "--text", files / "same", "--json", files / "same"],
        [ref, one, "--json", files / "hyp.trn", "--write-trn", files / "."],
    ):
        status, printed = score(capsys, *arguments)
        assert status == 2 and "is read, or written twice" in printed, arguments
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_scores_are_printed_though_a_file_cannot_be_written(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = files / "folder.html"
    folder.mkdir()
    arguments = [files / "ref.txt", files / "one.txt", "--text", files / "a", "--html", folder]
    assert main(["score", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert "one.txt" in out and f"written: {files / 'a'}" in out
    assert err == f"moe-asr score: error: {folder}: cannot be written: Is a directory\n"


def test_bad_input_is_one_line_and_status_2(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref, one, two = files / "ref.txt", files / "one.txt", files / "two.ctm"
    (files / "bad.glm").write_text("a\n")
    (files / "bad.ctm").write_text("s1-a 1 0 -1 a\n")
    (files / "bad.trn").write_text("a (u)\nb\n")
    (files / "bad.txt").write_bytes(b"s1-a a\ns1-b \xff\n")
    (files / "twice.txt").write_text("s1-a a\ns1-a b\n")
    (files / "empty.txt").write_text("")
    for arguments, message in (
        ([ref, two], "two.ctm: 1 utterance(s) have no hypothesis: s2-b"),
        ([two, one], "one.txt: 1 utterance(s) have no reference: s2-b"),
        ([ref, one, one], "a hypothesis is given twice"),
        ([ref, one, "--glm", files / "bad.glm"], "bad.glm:1: expected 'pattern => replacement'"),
        ([ref, files / "bad.ctm"], "bad.ctm:1: duration_seconds must not be negative"),
        ([ref, files / "bad.trn"], "bad.trn:2: expected 'text (id)'"),
        ([ref, files / "bad.txt"], "bad.txt:2: not UTF-8"),
        ([ref, files / "twice.txt"], "twice.txt:2: utterance 's1-a' comes twice"),
        ([ref, files / "empty.txt"], "empty.txt: there are no utterances"),
        ([ref, files / "absent.txt"], "absent.txt: cannot be read"),
        ([ref, one, "--ref-format", "trn"], "ref.txt:1: expected 'text (id)'"),
        ([files / "ref.trn", one], "ref.trn: utterance 's1-a': there is a '{'"),
        ([ref, one, "--blocks", "speaker"], "needs --utt2spk or --speaker-regex"),
        ([ref, one, "--speaker-regex", "x(.)"], "finds no speaker"),
        ([ref, one, "--html-limit", 0], "--html-limit must be at least 1"),
        ([ref, one, "--json", ref / "x.json"], "cannot be written"),
    ):
        status, printed = score(capsys, *arguments)
        assert status == 2 and message in printed, printed
        assert printed.startswith("moe-asr score: error: ") and printed.count("\n") == 1
