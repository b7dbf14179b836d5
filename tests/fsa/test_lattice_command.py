"""``moe-asr lattice``: info, draw and text, and what they refuse."""

import json
import random
from importlib import import_module
from pathlib import Path

import pytest

from moe_asr.cli.lattice import ACTIONS
from moe_asr.cli.main import main
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_file import write_lattices
from moe_asr.fsa.lattice_info import lattice_info
from moe_asr.fsa.lattice_scores import prune
from moe_asr.fsa.lattice_text import lattice_to_text
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import random_lattice

TOKENS = SymbolTable(["<blk>", "a", "b", "c"])
WORDS = SymbolTable(["<eps>", "one", "two", "three"])
LATTICES = {f"utt-{i}": random_lattice(random.Random(i + 20), num_frames=6) for i in range(3)}
LATTICES["none"] = Lattice.empty(4)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_lattices(tmp_path / "lat.safetensors", LATTICES, TOKENS, WORDS, {"graph": "HLG", "n": 3})
    return tmp_path / "lat.safetensors"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status = main(["lattice", *map(str, arguments)])
    output = capsys.readouterr()
    assert status == 0, output.err
    return output.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that tells what is wrong."""
    assert main(["lattice", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("moe-asr lattice: error: ")
    return lines[0].removeprefix("moe-asr lattice: error: ")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lattice", action, "--help"])
    assert stop.value.code == 0
    assert f"moe-asr lattice {action}" in capsys.readouterr().out
    module = import_module(ACTIONS[action][0])
    assert Path(module.__file__ or "").read_text(encoding="utf-8").count("\n") <= 100


def test_json_is_the_figures(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "info", archive, "--json", "--graph-scale", "0.5").splitlines()
    for line, (name, lattice) in zip(lines, LATTICES.items(), strict=True):
        expected = lattice_info(lattice, 1.0, 0.5)
        found = json.loads(line)
        assert found.pop("utterance") == name
        if expected["best"] is not None:
            text = found["best"].pop("text")
            assert text == (
                " ".join(WORDS.symbol(w) for w in expected["best"]["words"]) or "(none)"
            )
        assert found == expected


def test_figures_of_one(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = lattice_info(LATTICES["utt-1"])
    text = run(capsys, "info", archive, "--utterance", "utt-1")
    rows = dict(line.split("  ", 1) for line in text.replace("\n  ", "\n").splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["file"] == f"{archive} (of 4 lattices)" and rows["utterance"] == "utt-1"
    assert (rows["graph"], rows["n"]) == ("HLG", "3")  # the metadata
    assert rows["states"] == str(info["states"])
    assert rows["arcs"].startswith(f"{info['arcs']}, of these {info['final_arcs']} final")
    assert rows["paths"].startswith(f"{round(10 ** info['log10_paths'])}, of frames 0 to")
    assert rows["best path"].startswith(f"score {info['best']['score']:.4f}; acoustic")
    best = [WORDS.symbol(word) for word in info["best"]["words"]]
    assert rows["words"] == " ".join(best)
    tokens = [TOKENS.symbol(token) for token in info["best"]["tokens"]]
    assert rows["tokens"] == (" ".join(tokens) or "(none)")
    text = run(capsys, "info", archive, "--utterance", "none")
    assert text.splitlines()[-1].split() == ["paths", "none"]


def test_a_line_for_each_of_several(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "info", archive).splitlines()
    assert len(lines) == 6
    for line, (name, lattice) in zip(lines[1:], LATTICES.items(), strict=False):
        fields = line.split()
        sizes = [str(x) for x in (lattice.num_frames, lattice.num_states, lattice.num_arcs)]
        assert fields[:4] == [name, *sizes]
    assert lines[4].endswith("(no path)")
    total = lines[5].split()
    assert total[:4] == ["sum,", "mean", "of", "4"]
    assert int(total[6]) == sum(lattice.num_arcs for lattice in LATTICES.values())
    two = run(capsys, "info", archive, "--utterance", "utt-2", "--utterance", "utt-0")
    assert [line.split()[0] for line in two.splitlines()[1:3]] == ["utt-2", "utt-0"]


def test_text(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = "".join(lattice_to_text(name, x) for name, x in LATTICES.items())
    assert run(capsys, "text", archive) == expected
    output = tmp_path / "lat.txt"
    assert run(capsys, "text", archive, output) == f"written: {output}\n"
    assert output.read_text(encoding="utf-8") == expected
    pruned = prune(LATTICES["utt-1"], 0.5, 2.0)
    found = run(
        capsys, "text", archive, "--utterance", "utt-1", "--symbols", "--beam", "0.5",
        "--acoustic-scale", "2",
    )  # fmt: skip
    assert found == lattice_to_text("utt-1", pruned, TOKENS, WORDS)
    assert pruned.num_arcs < LATTICES["utt-1"].num_arcs


def test_draw(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ([], ["--arcs"], ["--arcs", "--frames", "0:2"], ["--seconds-per-frame", "0.04"]):
        picture = tmp_path / "lat.svg"
        printed = run(capsys, "draw", archive, picture, "--utterance", "utt-1", *extra)
        assert printed == f"written: {picture}\n"
        assert picture.read_bytes().startswith(b"<?xml")
        picture.unlink()


def test_what_is_refused(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = refused(capsys, "info", tmp_path / "absent")
    assert absent.startswith(f"{tmp_path / 'absent'}: cannot be read as an archive of lattices")
    assert refused(capsys, "info", archive, "--utterance", "utt-9").endswith("mean 'utt-2'?")
    assert "beam must be 0 or more" in refused(capsys, "info", archive, "--beam", "-1")
    assert "graph_scale must be finite" in refused(capsys, "info", archive, "--graph-scale", "nan")
    picture = tmp_path / "x.png"
    assert "4 lattices (utt-0, utt-1, utt-2, ...): which one" in refused(
        capsys, "draw", archive, picture
    )
    two = ["--utterance", "utt-1", "--utterance", "utt-2"]
    assert "one --utterance at a time" in refused(capsys, "draw", archive, picture, *two)
    one = ["draw", archive, picture, "--utterance", "utt-1"]
    assert "--frames goes with --arcs" in refused(capsys, *one, "--frames", "1:2")
    for frames in ("1", "2:1", "a:b", "-1:3", "1:2:3"):
        assert "expected FIRST:END" in refused(capsys, *one, "--arcs", f"--frames={frames}")
    assert "(the limit is 1)" in refused(capsys, *one, "--arcs", "--most", "1")
    assert "expected a name that ends in" in refused(capsys, "draw", archive, tmp_path / "x.dot")
    assert "there is nothing to draw" in refused(
        capsys, "draw", archive, picture, "--utterance", "none"
    )
    bare = tmp_path / "bare.safetensors"
    write_lattices(bare, LATTICES)
    assert "it has no tables of symbols" in refused(capsys, "text", bare, "--symbols")
    TOKENS.write(tmp_path / "tokens.txt")
    WORDS.write(tmp_path / "words.txt")
    tables = ["--tokens", tmp_path / "tokens.txt", "--words", tmp_path / "words.txt"]
    assert run(capsys, "text", bare, "--symbols", *tables) == run(
        capsys, "text", archive, "--symbols"
    )
    blocked = tmp_path / "folder.txt"
    blocked.mkdir()
    assert "folder.txt: Is a directory" in refused(capsys, "text", archive, blocked)
