"""The tables that belong to an L or a G, found beside it or where its step read them."""

from pathlib import Path

import pytest

from moe_asr.errors import TextError
from moe_asr.files import write_text
from moe_asr.fsa.fst import Fst
from moe_asr.lang import provenance
from moe_asr.lang.symbols import find_tables

FST = Fst.from_list([(0, 0, 1, 1, 0.0)], {0: 0.0})


def lang(path: Path, disambig: bool = True) -> Path:
    write_text(path / "tokens.txt", "<blk> 0\na 1\n")
    if disambig:
        write_text(path / "tokens_disambig.txt", "<blk> 0\na 1\n#0 2\n")
    write_text(path / "words.txt", "<eps> 0\nA 1\n#0 2\n")
    FST.save(path / "L.safetensors", {"kind": "L"})
    return path


def symbols(tables) -> list[list[str] | None]:
    return [None if table is None else list(table) for table in tables]


def test_beside_l(tmp_path: Path) -> None:
    file = lang(tmp_path / "lang") / "L.safetensors"
    for kind in ("L", "L_disambig"):
        assert symbols(find_tables(file, kind)) == [["<blk>", "a", "#0"], ["<eps>", "A", "#0"]]
    (tmp_path / "lang" / "tokens_disambig.txt").unlink()
    assert symbols(find_tables(file, "L")) == [["<blk>", "a"], ["<eps>", "A", "#0"]]
    assert find_tables(file, "FST") == (None, None) == find_tables(file, "None")


@pytest.mark.parametrize("role", ["folder", "file"])
def test_where_g_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    source = lang(tmp_path / "lang")
    graph = tmp_path / "graph"
    FST.save(graph / "G.safetensors", {"kind": "G"})
    assert find_tables(graph / "G.safetensors", "G") == (None, None)
    provenance.make(
        graph, "g", {"words": source if role == "folder" else source / "words.txt"}, ["G.safetensors"],
        {}, lambda folder: FST.save(folder / "G.safetensors", {"kind": "G"}), command="make_g.py ...",
        report=lambda text: None,
    )  # fmt: skip
    words = ["<eps>", "A", "#0"]
    assert symbols(find_tables(graph / "G.safetensors", "G")) == [words, words]
    monkeypatch.chdir(graph)
    assert symbols(find_tables("G.safetensors", "G")) == [words, words]
    assert provenance.makers("G.safetensors") == [(graph, "g")]
    assert provenance.recorded_command(graph, "g") == "make_g.py ..."
    assert provenance.makers(source / "L.safetensors") == []


def test_a_g_of_tokens(tmp_path: Path) -> None:
    source = lang(tmp_path / "lang")
    file = lang(tmp_path / "graph") / "G.safetensors"  # whatever words there are
    provenance.make(
        file.parent, "g", {"tokens": source / "tokens.txt", "arpa": source / "words.txt"}, [file.name],
        {}, lambda folder: FST.save(folder / file.name, {"kind": "G"}), report=lambda text: None,
    )  # fmt: skip
    assert symbols(find_tables(file, "G")) == [["<blk>", "a", "#0"]] * 2


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    file = lang(tmp_path) / "L.safetensors"
    write_text(tmp_path / "words.txt", "<eps> 0\nA 0\n")
    with pytest.raises(TextError, match=r"words\.txt:2: duplicate id 0"):
        find_tables(file, "L")
