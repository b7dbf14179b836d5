"""Drawings: every arc is there once, whatever its symbols, in the source and in what ``dot`` makes of it."""

import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError, MissingDependencyError
from moe_asr.fsa.best_path import best_path, random_path
from moe_asr.fsa.draw import graph_to_dot, quote, write_drawing, write_picture
from moe_asr.fsa.draw_path import path_to_dot
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.view import GraphView, view_of
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_graphs import TOKENS, arcs_of, random_view

needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None, reason="graphviz's dot is not installed"
)
# what DOT, its labels, HTML and XML give a meaning to
NASTY = [
    '"', '""', "\\", "\\\\", "\\n", "\\N", '\\"', "a\\", "&amp;", "&", "&lt;", "<b>", "<", ">", "->", "{x}",
    "|", "[y]", ";", "#1", "%", "//", "/*", "\u7535\u706f", "\u65e5\u672c", "\u00e9", "\u2581the", "0", "-1",
]  # fmt: skip
EDGE = re.compile(r'"((?:[^"\\]|\\.)*)" -> "((?:[^"\\]|\\.)*)" \[(.*)\];')
LABEL = re.compile(r'label="((?:[^"\\]|\\.)*)"')


def unquote(text: str) -> list[str]:
    """The lines of a DOT label."""
    lines, position = [""], 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
            if text[position] == "n":
                lines.append("")
            else:
                lines[-1] += text[position]
        else:
            lines[-1] += text[position]
        position += 1
    return [line.replace("&amp;", "&") for line in lines]


def edges_of(source: str) -> list[tuple[str, str, str]]:
    """(source, destination, line of the label) of every edge, one for each line."""
    found = []
    for line in source.split("\n"):
        match = EDGE.search(line)
        if match:
            label = LABEL.search(match[3])
            texts = unquote(label[1]) if label else [""]
            found += [(match[1], match[2], text) for text in texts]
    return found


def labels_of_svg(source: str) -> Counter[str]:
    """All texts in the picture that ``dot`` makes."""
    done = subprocess.run(
        ["dot", "-Tsvg"], input=source, encoding="utf-8", capture_output=True, check=True
    )
    assert done.stderr == ""
    root = ElementTree.fromstring(done.stdout)
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    return Counter((text.text or "").replace("\xa0", " ") for text in texts)


def expected_label(view: GraphView, arc) -> str:
    """``input:outputs/score`` without tables: by numbers."""
    read = "\u03b5" if arc.label == 0 and view.epsilon_inputs else str(arc.label)
    if view.isymbols is not None and arc.label >= 0:
        read = view.isymbols.symbol(arc.label)
    some = [
        str(word) if view.osymbols is None else view.osymbols.symbol(word) for word in arc.outputs
    ]
    if view.same_alphabet and arc.outputs == ((arc.label,) if arc.label else ()):
        text = read
    elif some or view.epsilon_inputs:
        text = f"{read}:{' '.join(some) or chr(0x3B5)}"
    else:
        text = read
    return text + (f"/{arc.score:.4g}" if arc.score else "")


@given(st.integers(0, 10**6))
def test_every_arc_is_drawn_once(number):
    view = random_view(random.Random(number), gains=True)
    arcs = arcs_of(view)
    wanted = Counter((str(arc.src), str(arc.dst), expected_label(view, arc)) for arc in arcs)
    source = graph_to_dot(view, "title")
    assert Counter(edges_of(source)) == wanted
    assert source == graph_to_dot(view, "title")
    nodes = re.findall(r'^  "(\d+)" \[(.*)\];$', source, re.MULTILINE)
    assert [int(name) for name, _ in nodes] == list(range(view.num_states))
    for name, attributes in nodes:
        final = float(view.final_score[int(name)])
        assert ("doublecircle" in attributes) == (final > -np.inf)
        assert (f"\\n{final:.4g}" in attributes) == (final > -np.inf and final != 0)


def nasty_view() -> tuple[GraphView, list[str]]:
    table = SymbolTable(["<eps>", *NASTY])
    ids = range(1, len(table))
    fst = Fst.from_list([(label % 3, label % 4, label, label, -0.5) for label in ids], {3: -1.5})
    view = view_of(fst, {"kind": "G"}, table, table)
    return view, [f"{symbol}/-0.5" for symbol in NASTY]


def test_special_characters_in_the_source():
    view, labels = nasty_view()
    assert sorted(text for *_, text in edges_of(graph_to_dot(view))) == sorted(labels)


@needs_dot
def test_special_characters_in_the_picture():
    view, labels = nasty_view()
    title = 'a "title" of <G> & \\N'
    shown = labels_of_svg(graph_to_dot(view, title))
    assert shown == Counter([*labels, "0", "1", "2", "3", "-1.5", title])
    path = random_path(view, np.random.default_rng(0), 20)
    shown = labels_of_svg(path_to_dot(view, path, 2, title))
    for arc in path.arcs.tolist():
        assert shown[labels[int(view.ilabel[arc]) - 1]] > 0
    assert shown[title] == 1


@needs_dot
@settings(max_examples=20)
@given(
    st.text(st.characters(blacklist_categories=["Cs", "Cn", "Co", "Zs", "Zl", "Zp"]), min_size=1)
)
def test_any_text_survives(text):
    if any(char.isspace() or "\ufdd0" <= char <= "\ufdef" for char in text):
        return
    source = f"digraph {{ graph [charset=utf8]; a [label={quote(text)}] }}"
    visible = re.sub(r"[\x00-\x1f\x7f]", "?", text)
    assert labels_of_svg(source) == Counter([visible])


def test_blank_epsilon_and_backoff_are_grey():
    fst = Fst.from_list([(0, 0, 0, 0, 0.0), (0, 0, 0, 3, 0.0), (0, 1, 1, 0, 0.0)], {1: 0.0})
    grey = [line for line in graph_to_dot(view_of(fst)).split("\n") if "#8c8c8c" in line]
    assert len(grey) == 1 and '"\u03b5:\u03b5"' in grey[0] and '"0" -> "0"' in grey[0]
    words = SymbolTable(["<eps>", "A", "#0"])
    g = Fst.from_list([(0, 0, 2, 0, -1.0), (0, 0, 2, 2, 0.0), (0, 0, 1, 1, 0.0)], {0: 0.0})
    source = graph_to_dot(view_of(g, {"kind": "G"}, words, words))
    grey = [line for line in source.split("\n") if "#8c8c8c" in line]
    assert len(grey) == 1 and '"#0:\u03b5/-1"' in grey[0]
    hlg = replace(view_of(fst), epsilon_inputs=False, has_blank=True, isymbols=TOKENS)
    grey = [line for line in graph_to_dot(hlg).split("\n") if "#8c8c8c" in line]
    assert len(grey) == 1 and '"<blk>"' in grey[0]


def test_large_graphs_are_refused_with_advice():
    fst = Fst.from_list([(0, 0, label, label, 0.0) for label in range(1, 12)], {0: 0.0})
    with pytest.raises(GraphError, match=r"11 arcs .* \(the limit is 10\): draw one path"):
        graph_to_dot(view_of(fst), max_arcs=10)
    assert len(edges_of(graph_to_dot(view_of(fst), max_arcs=11))) == 11


@given(number=st.integers(0, 10**6), context=st.integers(0, 3), arcs_per_row=st.integers(1, 4))
def test_a_path_and_what_is_beside_it(number, context, arcs_per_row):
    view = random_view(random.Random(number))
    try:
        path = random_path(view, np.random.default_rng(number), 6)
    except GraphError:
        return
    source = path_to_dot(view, path, context, "", arcs_per_row)
    assert f"score {path.score:.4g}" in source
    arcs = arcs_of(view)
    edges = edges_of(source)
    rows = source.count("subgraph")
    assert rows == max(-(-len(path.arcs) // arcs_per_row), 1)
    steps = [edge for edge in edges if re.fullmatch(r"p\d+", edge[1]) and edge[0] != edge[1]]
    taken = [expected_label(view, arcs[arc]) for arc in path.arcs.tolist()]
    assert Counter(text for *_, text in steps) == Counter(taken)
    assert {target for _, target, _ in steps} == {f"p{place}" for place in range(1, len(taken) + 1)}
    for place, state in enumerate(path.states.tolist()):
        beside = [
            (target, text) for origin, target, text in edges
            if origin == f"p{place}" and not re.fullmatch(rf"p{place + 1}", target)
        ]  # fmt: skip
        leaving = [arc for arc in range(len(arcs)) if arcs[arc].src == state]
        others = [arc for arc in leaving if [arc] != path.arcs[place : place + 1].tolist()]
        loops = [arc for arc in others if arcs[arc].dst == state and not arcs[arc].outputs]
        rest = sorted(-arcs[arc].score for arc in others if arc not in loops)
        if context == 0:
            assert beside == []
            continue
        drawn_loops = [text for target, text in beside if target == f"p{place}"]
        assert len(drawn_loops) == min(len(loops), 4)
        drawn = [(target, text) for target, text in beside if "a" in target]
        more = [target for target, _ in beside if target.endswith("more")]
        counted = sum(
            int(count.replace(",", ""))
            for count in re.findall(rf'"p{place}more" .*label="\+ ([\d,]+) arcs"', source)
        )
        assert len(drawn) + counted == len(rest) and len(more) == (counted > 0)
        assert len(drawn) in (context - 1, len(rest)) and counted != 1
        found = sorted(-arcs[int(target.split("a")[1])].score for target, _ in drawn)
        assert found == rest[: len(drawn)]


def test_paths_refuse_what_makes_no_sense():
    view = view_of(Fst.from_list([(0, 1, 1, 1, 0.0)], {1: 0.0}))
    path = best_path(view)
    with pytest.raises(ConfigError, match="context must be at least 0, found -1"):
        path_to_dot(view, path, -1)
    with pytest.raises(ConfigError, match="arcs_per_row must be at least 1"):
        path_to_dot(view, path, arcs_per_row=0)
    empty = path_to_dot(
        view_of(Fst.from_list([], {0: -0.5})), best_path(view_of(Fst.from_list([], {0: -0.5})))
    )
    assert "score -0.5" in empty and edges_of(empty) == []


@needs_dot
@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF")]
)
def test_pictures(tmp_path: Path, name: str, start: bytes) -> None:
    view, _ = nasty_view()
    write_picture(graph_to_dot(view), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@needs_dot
def test_rows_are_below_one_another():
    fst = Fst.from_list([(state, state + 1, 1, 1, 0.0) for state in range(9)], {9: 0.0})
    source = path_to_dot(view_of(fst), best_path(view_of(fst)), arcs_per_row=3)
    done = subprocess.run(["dot", "-Tplain"], input=source, encoding="utf-8", capture_output=True)
    heights = {
        fields[1]: float(fields[3])
        for fields in map(str.split, done.stdout.split("\n"))
        if fields[:1] == ["node"]
    }
    assert heights["p0"] > heights["again3"] > heights["again6"]


def test_source_and_picture_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon = Lexicon([Pronunciation("A", ("x",)), Pronunciation("B", ("x", "y"), -0.5)])
    tokens, words = SymbolTable(["<blk>", "x", "y"]), lexicon.word_table()
    view = view_of(lexicon_fst(lexicon, tokens, words), {"kind": "L_disambig"}, tokens, words)
    source = graph_to_dot(view, "L_disambig")
    assert {text for *_, text in edges_of(source)} == {
        "x:A", "#1:\u03b5", "x:B/-0.5", "y:\u03b5", "#0:#0",
    }  # fmt: skip
    said: list[str] = []
    shown = write_drawing(source, tmp_path / "L", said.append)
    if shutil.which("dot") is not None:
        assert shown == tmp_path / "L.svg" and "<svg" in shown.read_text(encoding="utf-8")
        assert said == []
        shown.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))  # no `dot` here: the source is still written
    assert write_drawing(source, tmp_path / "L", said.append) == tmp_path / "L.dot"
    assert (tmp_path / "L.dot").read_text(encoding="utf-8") == source
    assert len(said) == 1 and "not installed" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["L.dot"]


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = graph_to_dot(view_of(Fst.from_list([], {0: 0.0})))
    with pytest.raises(ConfigError, match=r"a\.jpg: expected a name that ends in one of \.dot"):
        write_picture(source, tmp_path / "a.jpg")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"a\.svg: pictures need graphviz"):
        write_picture(source, tmp_path / "a.svg")
    write_picture(source, tmp_path / "a.dot")  # needs no graphviz
    assert (tmp_path / "a.dot").read_text(encoding="utf-8") == source
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\necho 'syntax error' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(GraphError, match=r"a\.svg: dot failed: syntax error"):
        write_picture(source, tmp_path / "a.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dot", "dot"]
