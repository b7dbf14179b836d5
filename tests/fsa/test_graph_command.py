"""``moe-asr graph``: info, draw, path and convert on files of every kind, and what they refuse."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from moe_asr.cli.graph import ACTIONS
from moe_asr.cli.main import main
from moe_asr.files import write_text
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.graph_info import graph_info
from moe_asr.fsa.view import view_of
from moe_asr.lang import provenance
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_graphs import TOKENS, WORDS, random_graph

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="graphviz's dot is not installed"
)
SENTENCES = SymbolTable(["<eps>", "set", "a", "timer", "\u7535\u706f", "#0"])


def save_g(path: Path) -> Path:
    """A bigram with a backoff state, and its words beside it."""
    arcs = [
        (0, 2, 1, 1, -0.5), (0, 1, 5, 0, -1.0), (1, 2, 1, 1, -2.0), (1, 3, 2, 2, -2.0),
        (1, 4, 3, 3, -2.5), (1, 4, 4, 4, -3.0), (2, 3, 2, 2, -0.25), (2, 1, 5, 0, -1.5),
        (3, 4, 3, 3, -0.25), (3, 1, 5, 0, -1.5), (4, 1, 5, 0, -0.75),
    ]  # fmt: skip
    Fst.from_list(arcs, {1: -2.0, 4: -0.5}).save(path / "G.safetensors", {"kind": "G", "order": 2})
    SENTENCES.write(path / "words.txt")
    return path / "G.safetensors"


def save_graph(path: Path, kind: str = "HLG") -> Path:
    graph = random_graph(random.Random(3), kind)
    graph.save(path / f"{kind}.safetensors")
    return path / f"{kind}.safetensors"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status = main(["graph", *map(str, arguments)])
    output = capsys.readouterr()
    assert status == 0, output.err
    return output.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that tells what is wrong."""
    assert main(["graph", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("moe-asr graph: error: ")
    return lines[0].removeprefix("moe-asr graph: error: ")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["graph", action, "--help"])
    assert stop.value.code == 0
    assert f"moe-asr graph {action}" in capsys.readouterr().out
    module = import_module(ACTIONS[action][0])
    assert Path(module.__file__ or "").read_text(encoding="utf-8").count("\n") <= 100


def test_json_is_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_graph(tmp_path)
    info = json.loads(run(capsys, "info", path, "--json"))
    expected = graph_info(view_of(DecodingGraph.load(path)))
    assert {key: info[key] for key in expected} == expected
    assert set(info) - set(expected) == {"file", "format", "file_bytes", "made_by", "stale"}
    assert (info["file"], info["format"]) == (str(path), "safetensors")
    assert info["file_bytes"] == path.stat().st_size and info["made_by"] == info["stale"] == []


def test_info_of_a_g(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = dict(
        re.split(r"\s{2,}", line.strip(), maxsplit=1)
        for line in run(capsys, "info", save_g(tmp_path)).split("\n")
        if line[:1].strip()
    )
    assert rows["kind"] == "G"
    assert rows["states"] == "5, of these 2 final; 0 unreachable, 0 dead ends"
    assert rows["arcs"] == "11, of these 0 of label -1, 0 self-loops"
    assert rows["out-degree"].startswith("mean 2.20, ") and rows["out-degree"].endswith("max 4")
    assert rows["inputs"].startswith("5 labels of 6 in the table")
    assert rows["outputs"] == "4 labels of 6 in the table; 4 arcs without, at most 1 on an arc"
    assert rows["scores"].startswith("-3 to -0.25, mean -1.386")
    assert rows["final scores"] == "-2 to -0.5"
    text = run(capsys, "info", tmp_path / "G.safetensors")
    assert "\n  order " in text and "sorted, deterministic" in text and "connected, cyclic" in text


@pytest.mark.parametrize("name", ["g.fst", "g.txt", "g.k2"])
def test_info_of_other_formats(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures of an FST do not depend on its format."""
    path = save_g(tmp_path)
    expected = json.loads(run(capsys, "info", path, "--json"))
    run(capsys, "convert", path, tmp_path / name)
    info = json.loads(run(capsys, "info", tmp_path / name, "--kind", "G", "--json"))
    for key in ("kind", "states", "arcs", "input", "output", "structure", "scores", "mass"):
        assert info[key] == expected[key], key


def test_stale_files_are_shown_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_g(tmp_path / "lang")
    words = tmp_path / "lang" / "words.txt"
    provenance.make(
        tmp_path / "graph", "g", {"words": words}, ["G.safetensors"], {},
        lambda folder: shutil.move(save_g(folder / "x"), folder / "G.safetensors"),
        command="make_g.py --lang lang", report=lambda text: None,
    )  # fmt: skip
    file = tmp_path / "graph" / "G.safetensors"
    text = run(capsys, "info", file)
    assert "made by       make_g.py --lang lang\n" in text and "\nstale" not in text
    assert "labels of 6 in the table" in text
    write_text(words, words.read_text(encoding="utf-8").replace("timer", "clock"))
    assert f"\nstale         {words} (words): has changed" in run(capsys, "info", file)
    assert main(["graph", "path", str(file), "--best"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(
        f"moe-asr graph: warning: {words} (words): has changed since step 'g'"
    )
    assert captured.err.count("\n") == 1 and "score -1.5" in captured.out


def test_path_of_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_g(tmp_path)
    assert run(capsys, "path", path, "--words", "set a timer").split("\n") == [
        "state  input  words    score    total",
        "    0  set    set    -0.5000  -0.5000",
        "    2  a      a      -0.2500  -0.7500",
        "    3  timer  timer  -0.2500  -1.0000",
        "    4                -0.5000  -1.5000",
        "words: set a timer",
        "3 arcs, 3 words, score -1.5000",
        "",
    ]
    backing_off = run(capsys, "path", path, "--words", "timer \u7535\u706f")
    assert "#0" in backing_off and "4 arcs, 2 words, score -7.7500" in backing_off
    assert "0 words" in run(capsys, "path", path, "--words", "")
    best = run(capsys, "path", path, "--best")
    assert "words: set a timer" in best
    drawn = run(capsys, "path", path, "--random", "0", "--seed", "4")
    assert drawn == run(capsys, "path", path, "--random", "0", "--seed", "4")


def test_path_by_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In an HLG equal tokens get a blank between them."""
    arcs = [
        (0, 1, 3, (1,)),
        (1, 1, 3, ()),
        (1, 2, 0, ()),
        (1, 3, -1, ()),
        (2, 1, 3, (2,)),
        (2, 2, 0, ()),
    ]
    DecodingGraph(
        np.array([arc[0] for arc in arcs], np.int32), np.array([arc[1] for arc in arcs], np.int32),
        np.array([arc[2] for arc in arcs], np.int32), np.zeros(6, np.float32),
        np.cumsum([0] + [len(arc[3]) for arc in arcs]).astype(np.int32), np.array([1, 2], np.int32),
        TOKENS, WORDS, {"kind": "HLG"},
    ).save(tmp_path / "HLG.safetensors")  # fmt: skip
    text = run(capsys, "path", tmp_path / "HLG.safetensors", "--tokens", "a a")
    assert "words: A B" in text and "<blk>" in text and "4 arcs" in text
    both = run(capsys, "path", tmp_path / "HLG.safetensors", "--tokens", "a a", "--words", "A B")
    assert both == text
    message = refused(capsys, "path", tmp_path / "HLG.safetensors", "--tokens", "a", "--words", "B")
    assert message == "no path: word 1, 'B', cannot follow at the start; " + (
        "input 1, 'a', cannot follow at the start"
    )


def test_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_g(tmp_path)
    output = run(capsys, "draw", path, tmp_path / "g.dot")
    assert output == f"written: {tmp_path / 'g.dot'}\n"
    source = (tmp_path / "g.dot").read_text(encoding="utf-8")
    assert '"1" -> "4" [label="timer/-2.5\\n\u7535\u706f/-3"]' in source and 'label="G"' in source
    run(capsys, "draw", path, tmp_path / "p.dot", "--words", "set a timer", "--context", "0")
    source = (tmp_path / "p.dot").read_text(encoding="utf-8")
    assert source.count("->") == 3 and "set a timer\\nscore -1.5" in source
    run(capsys, "draw", path, tmp_path / "p.dot", "--best", "--title", "T", "--arcs-per-row", "1")
    source = (tmp_path / "p.dot").read_text(encoding="utf-8")
    assert source.count("subgraph") == 3 and 'label="T\\nscore -1.5"' in source
    message = refused(capsys, "draw", path, tmp_path / "h.dot", "--max-arcs", "10")
    assert message.startswith("11 arcs are too many for a picture (the limit is 10)")
    assert not (tmp_path / "h.dot").exists()


@needs_dot
def test_draw_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "draw", save_graph(tmp_path), tmp_path / "g.svg")
    assert "<svg" in (tmp_path / "g.svg").read_text(encoding="utf-8")


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_g(tmp_path)
    words = tmp_path / "words.txt"
    text = tmp_path / "g.txt"
    output = run(capsys, "convert", path, text, "--write-symbols")
    assert output == f"written: {text} (openfst-text; of 5 states and 11 arcs)\n"
    assert text.read_text(encoding="utf-8").startswith("0 2 set set 0.5\n0 1 #0 <eps> 1\n")
    tables = ["--isymbols", words, "--osymbols", words]
    run(
        capsys, "convert", text, tmp_path / "again.safetensors", "--symbols", *tables, "--kind", "G"
    )
    again, metadata = Fst.load(tmp_path / "again.safetensors")
    fst, _ = Fst.load(path)
    assert metadata == {"kind": "G", "read_from": "openfst-text"}
    for name in ("src", "dst", "ilabel", "olabel", "score", "final_score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fst, name))


def test_convert_a_decoding_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_graph(tmp_path, "LG")
    TOKENS.write(tmp_path / "t.txt")
    WORDS.write(tmp_path / "w.txt")
    tables = ["--isymbols", tmp_path / "t.txt", "--osymbols", tmp_path / "w.txt"]
    run(capsys, "convert", path, tmp_path / "x.bin", "--to", "k2-text")
    run(
        capsys, "convert", tmp_path / "x.bin", tmp_path / "again.safetensors", "--kind", "LG", *tables,
        "--format", "k2-text",
    )  # fmt: skip
    graph, again = DecodingGraph.load(path), DecodingGraph.load(tmp_path / "again.safetensors")
    assert again.metadata == {"kind": "LG", "read_from": "k2-text"}
    for name in ("src", "dst", "token", "score", "word_row_splits", "words"):
        np.testing.assert_array_equal(getattr(again, name), getattr(graph, name))
    assert list(again.token_table) == list(TOKENS) and list(again.word_table) == list(WORDS)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, absent = save_g(tmp_path), tmp_path / "absent.fst"
    for arguments, message in (
        (["info", absent], f"{absent}: cannot be read: No such file or directory"),
        (
            ["info", tmp_path / "words.txt"],
            f"{tmp_path / 'words.txt'}:1: expected a state, found '<eps>'",
        ),
        (["info", path, "--kind", "L"], f"{path}: it is of kind G, not L"),
        (["info", path, "--format", "fst"], "format must be one of safetensors, openfst, "),
        (["path", path], "which path? Give --words, --tokens, --best or --random"),
        (
            ["path", path, "--best", "--random"],
            "of --words or --tokens, --best and --random only one",
        ),
        (
            ["path", path, "--words", "set tymer"],
            "'tymer' is none of the 6 output symbols of the G; did",
        ),
        (["path", path, "--random", "-1"], "max_arcs must be at least 0, found -1"),
        (["path", path, "--random", "--seed", "-1"], "seed must be at least 0, found -1"),
        (["draw", path, tmp_path / "g.jpg"], f"{tmp_path / 'g.jpg'}: expected a name that ends in"),
        (["convert", path, tmp_path / "g.xyz"], f"{tmp_path / 'g.xyz'}: the name tells no format"),
        (["convert", path, tmp_path / "g.fst", "--to", "k2"], "format must be one of safetensors"),
    ):
        assert refused(capsys, *arguments).startswith(message), arguments


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_g(tmp_path)
    (tmp_path / "file").write_text("")
    for action, name in (("draw", "g.dot"), ("convert", "g.fst")):
        output = tmp_path / "file" / name
        message = refused(capsys, action, path, output)
        assert message in (f"{output}: Not a directory", f"{output}: File exists")


def test_a_reader_that_goes_is_no_error(tmp_path: Path) -> None:
    states = np.arange(2500)  # the table is longer than what a pipe holds
    line = Fst.from_arcs(
        states, states + 1, states + 1, states + 1, 0.0 * states, 0.0 * np.arange(2501)
    )
    line.save(tmp_path / "line.safetensors")
    words = " ".join(map(str, states + 1))
    command = [
        sys.executable,
        "-m",
        "moe_asr.cli",
        "graph",
        "path",
        "line.safetensors",
        "--words",
        words,
    ]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | head -n 1', "bash", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["state", "input", "words", "score", "total"]


def test_it_starts_without_torch(tmp_path: Path) -> None:
    path = save_graph(tmp_path)
    code = (
        "import sys; from moe_asr.cli.main import main\n"
        f"for action in (['info'], ['path', '--best']):\n"
        f"    assert main(['graph', action[0], {str(path)!r}, *action[1:]]) == 0\n"
        "print([name for name in ('torch', 'lhotse', 'k2', 'sentencepiece') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split("\n")[-1] == "[]"
