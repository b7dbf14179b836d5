"""The scripts for grammars: what they write, when they do it again, and their messages."""

import gzip
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_asr.fsa.fst import Fst
from moe_asr.lang.provenance import verify

LANG = Path(__file__).parents[2] / "lang"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script as from the command line: exit status, stdout, stderr."""

    def call(script: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(LANG / script), run_name="__main__")
        out, err = capsys.readouterr()
        code = caught.value.code
        return int(code or 0), out, err

    return call


@pytest.fixture
def grammar(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("anna\t3\nbob\n")
    path = tmp_path / "call.gram"
    path.write_text('@start <c>;\n<c> = call @"names.txt" [now];\n<spare> = call;\n')
    (tmp_path / "words.txt").write_text("<eps> 0\nanna 1\nbob 2\ncall 3\nnow 4\n#0 5\n")
    return path


def test_compile_is_done_again_when_a_list_changes(grammar: Path, run: Run) -> None:
    folder = grammar.parent
    output = folder / "graph" / "G.safetensors"
    arguments = ("--grammar", grammar, "--words", folder / "words.txt", "--output", output)
    code, out, err = run("compile_grammar.py", *arguments, "--sample", 3)
    assert code == 0 and "made (never made)" in out and "4 sentences of 2 to 3 words" in out
    assert f"warning: {grammar}:3:1: rule <spare> is not used" in err
    sampled = out.splitlines()[-3:]
    for line in sampled:
        score, *words = line.split()
        expected = {"anna": "-0.981", "bob": "-2.079"}[words[1]]
        assert score == expected and words[0] == "call"
    fst, metadata = Fst.load(output)
    assert (fst.num_states, fst.num_arcs) == (4, 4) and metadata["kind"] == "G"
    verify(output.parent, "G.safetensors")

    code, out, _ = run("compile_grammar.py", *arguments)
    assert code == 0 and "up to date" in out
    (folder / "names.txt").write_text("anna\t3\nbob\nnow\n")
    code, out, _ = run("compile_grammar.py", *arguments)
    assert code == 0 and "changed: " in out and "names.txt" in out and "6 sentences" in out


def test_two_grammars_in_one_folder(grammar: Path, run: Run) -> None:
    folder = grammar.parent / "graph"
    for name in ("a.safetensors", "b.safetensors"):
        arguments = ("--grammar", grammar, "--words", grammar.parent / "words.txt")
        assert run("compile_grammar.py", *arguments, "--output", folder / name)[0] == 0
    assert {path.name for path in folder.glob("*.safetensors")} == {
        "a.safetensors",
        "b.safetensors",
    }
    verify(folder)


def test_a_mistake_leaves_the_old_graph(grammar: Path, run: Run) -> None:
    folder = grammar.parent
    output = folder / "graph" / "G.safetensors"
    arguments = ("--grammar", grammar, "--words", folder / "words.txt", "--output", output)
    run("compile_grammar.py", *arguments)
    before = output.read_bytes()
    (folder / "names.txt").write_text("anna\nnou\n")
    code, _, err = run("compile_grammar.py", *arguments)
    assert code == 2 and output.read_bytes() == before
    assert f"compile_grammar.py: error: {folder / 'names.txt'}:2:1: 'nou' is not in" in err
    assert "did you mean now" in err
    code, _, err = run("compile_grammar.py", *arguments[:-1], folder / "G.fst")
    assert code == 2 and "expected a name that ends in .safetensors" in err


def test_sample_sentences(grammar: Path, run: Run, tmp_path: Path) -> None:
    output, other = tmp_path / "train.txt", tmp_path / "test.txt"
    arguments = ("--grammar", grammar, "--seed", 7)
    code, out, _ = run("sample_sentences.py", *arguments, "--num", 400, "--output", output)
    lines = output.read_text().splitlines()
    assert code == 0 and len(lines) == 400 and "400 sentences" in out
    assert set(lines) == {"call anna", "call bob", "call anna now", "call bob now"}
    assert 260 < sum("anna" in line for line in lines) < 340
    run("sample_sentences.py", *arguments, "--num", 400, "--output", other)
    assert other.read_text().splitlines() == lines
    other.write_bytes(gzip.compress(b"call anna\ncall  bob now\n"))
    options = ("--distinct", "--exclude", other, "--output", output)
    assert run("sample_sentences.py", *arguments, "--num", 2, *options)[0] == 0
    assert sorted(output.read_text().splitlines()) == ["call anna now", "call bob"]
    before = output.read_text()
    code, _, err = run("sample_sentences.py", *arguments, "--num", 3, *options)
    assert code == 2 and "hardly any other sentences" in err and output.read_text() == before
    assert run("sample_sentences.py", *arguments, "--num", 0, "--output", output)[0] == 2
    assert run("sample_sentences.py", *arguments, "--num", 1, "--output", output)[0] == 0


def test_grammar_info(grammar: Path, run: Run, tmp_path: Path) -> None:
    words, flat = tmp_path / "words.list", tmp_path / "flat.gram"
    code, out, err = run("grammar_info.py", "--grammar", grammar, "--words", words, "--flat", flat)
    assert code == 0 and "(2 files)" in out and "<spare> is not used" in err
    assert "4 words, 4 sentences of 2 to 3 words (mean 2.50), 1.8 bits" in out
    assert words.read_text() == "anna\nbob\ncall\nnow\n"
    (tmp_path / "names.txt").unlink()
    assert "4 sentences" in run("grammar_info.py", "--grammar", flat)[1]
    code, _, err = run("grammar_info.py", "--grammar", grammar)
    assert code == 2 and f"grammar_info.py: error: {grammar}:2:12: " in err
