"""Graph files: what was written in any format comes back, k2's text as k2 has it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.best_path import best_path
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.graph_file import (
    FORMATS,
    format_of_file,
    format_of_name,
    read_graph_file,
    write_graph_file,
)
from moe_asr.fsa.k2_text import arcs_from_k2_text, arcs_to_k2_text
from moe_asr.fsa.view import view_of
from tests.fsa.random_graphs import TOKENS, WORDS, random_fst, random_graph

FST_ARRAYS = ("src", "dst", "ilabel", "olabel", "score", "final_score")
GRAPH_ARRAYS = ("src", "dst", "token", "score", "word_row_splits", "words")
NAMES = ["a.safetensors", "a.fst", "a.txt", "a.fst.txt", "a.k2", "a.k2.txt"]


def same(one: Any, other: Any, arrays: tuple[str, ...]) -> None:
    for name in arrays:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_an_fst_comes_back(tmp_path: Path, name: str) -> None:
    fst = Fst.from_list(
        [(0, 1, 1, 2, -0.1), (0, 2, 0, 0, 0.0), (1, 1, 3, 0, 1e-9), (1, 2, 4, 4, -12345.678)],
        {1: -1 / 3, 2: 0.0},
    )
    written = write_graph_file(fst, tmp_path / name, {"kind": "L", "note": 1})
    assert written == format_of_name(name) == format_of_file(tmp_path / name)
    file = read_graph_file(tmp_path / name, "L")
    assert file.format == written
    same(file.graph, fst, FST_ARRAYS)
    about = {"note": 1} if name == "a.safetensors" else {}
    assert file.metadata == {"kind": "L", "read_from": written, **about}
    if name == "a.safetensors":
        with pytest.raises(GraphError, match=r"a\.safetensors: it is of kind L, not G"):
            read_graph_file(tmp_path / name, "G")
    if written == "openfst-text":
        write_graph_file(fst, tmp_path / name, None, TOKENS, WORDS, symbols=True)
        assert "0 1 <sos/eos> B 0.1" in (tmp_path / name).read_text(encoding="utf-8")
        same(read_graph_file(tmp_path / name, None, TOKENS, WORDS, True).graph, fst, FST_ARRAYS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["HLG", "LG"])
def test_a_decoding_graph_comes_back(tmp_path: Path, name: str, kind: str) -> None:
    """Exactly from k2's text; from OpenFst's formats its arcs may be in another order: paths are compared."""
    for number in range(20):
        graph = random_graph(random.Random(number), kind)
        format = write_graph_file(graph, tmp_path / name)
        if "fst" in format and score(graph, None) is None:
            with pytest.raises(GraphError, match=f"{name}: a graph without arcs"):
                read_graph_file(tmp_path / name, kind, TOKENS, WORDS)
            continue
        file = read_graph_file(tmp_path / name, kind, TOKENS, WORDS)
        assert isinstance(file.graph, DecodingGraph) and file.graph.kind == kind
        if format in ("safetensors", "k2-text"):
            same(file.graph, graph, GRAPH_ARRAYS)
            continue
        for words in ([], [1], [2], [1, 2], [3, 3, 1]):
            assert score(file.graph, words) == pytest.approx(score(graph, words), abs=1e-5)


def score(graph: DecodingGraph, words: list[int] | None) -> float | None:
    try:
        return best_path(view_of(graph), words).score
    except GraphError:
        return None


@given(st.integers(0, 10**6))
def test_k2_text_comes_back_as_it_was(number: int) -> None:
    arcs = random_graph(random.Random(number), "HLG", gains=True).arcs()
    again = arcs_from_k2_text(arcs_to_k2_text(arcs))
    same(again, arcs, ("src", "dst", "label", "score", "row_splits", "words"))


@pytest.mark.k2
def test_k2_reads_our_text_and_we_read_its(requires_k2: Any) -> None:
    k2 = requires_k2
    for number in range(30):
        graph = random_graph(random.Random(number), "HLG")
        text = arcs_to_k2_text(graph.arcs())
        most = int(np.diff(graph.word_row_splits).max())
        options: dict[str, Any] = (
            {"ragged_label_names": ["aux_labels"]} if most > 1 else {"num_aux_labels": most}
        )
        theirs = k2.Fsa.from_str(text, **options)
        same_as = graph.to_k2()
        assert (theirs.arcs.values() == same_as.arcs.values()).all()
        if most:
            same(DecodingGraph.from_k2(theirs, TOKENS, WORDS, graph.metadata), graph, GRAPH_ARRAYS)
        for shown in (k2.to_str(theirs), str(theirs), str(same_as)):
            again = arcs_from_k2_text(shown)
            same(again, graph.arcs(), ("src", "dst", "label", "row_splits", "words"))
            np.testing.assert_allclose(again.score, graph.score, rtol=1e-5)


@given(st.integers(0, 10**6))
def test_an_fst_in_k2_text_has_the_same_arcs(number: int) -> None:
    fst = random_fst(random.Random(number)).connect()
    if not np.isfinite(fst.final_score).any():
        with pytest.raises(GraphError, match="nothing is accepted"):
            arcs_to_k2_text(arcs_of(fst))
        return
    arcs = arcs_from_k2_text(arcs_to_k2_text(arcs_of(fst)))
    final = arcs.label == -1
    assert sorted(arcs.label[~final].tolist()) == sorted(fst.ilabel.tolist())
    assert sorted(arcs.words.tolist()) == sorted(fst.olabel[fst.olabel > 0].tolist())
    assert sorted(arcs.score[final].tolist()) == sorted(
        fst.final_score[np.isfinite(fst.final_score)].tolist()
    )


def arcs_of(fst: Fst) -> Any:
    from moe_asr.fsa.arcs import arcs_of_fst

    return arcs_of_fst(fst)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.k2: no FSA in it"),
        ("0 1 -1 0.5\n", "a.k2:1: expected the final state alone"),
        ("0 1 -1\n1\n", "a.k2:1: expected 'src dst label"),
        ("0 1 -1 0 0 0.5\n1\n", "a.k2:1: expected 'src dst label"),
        ("0 1 -1 [ 1 0.5\n1\n", "a.k2:1: expected 'src dst label"),
        ("0 1 x 0.5\n1\n", "a.k2:1: expected a state, or a label, found 'x'"),
        ("0 1 -1 [ y ] 0.5\n1\n", "a.k2:1: expected a word, found 'y'"),
        ("0 1 -1 nan\n1\n", "a.k2:1: expected a finite score, found 'nan'"),
        ("0 0 1 0\n0 2 -1 0\n1\n", "a.k2:2: state or label out of range"),
        ("1 2 -1 0\n0 1 3 0\n2\n", "a.k2:2: arcs must be sorted by source, found 0 after 1"),
        ("0 1 3 0\n1\n", "a.k2:1: label 3 from 0 to 1: label -1, and it only"),
        ("0 0 -1 0\n0 1 -1 0\n1\n", "a.k2:1: label -1 from 0 to 0"),
        ("0 0 3 0\n1\n", "a.k2: no arc enters the final state 1"),
        ("1\n", "a.k2: an FSA without arcs"),
    ],
)
def test_bad_k2_text_is_named(text: str, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        arcs_from_k2_text(text, "a.k2")
    assert str(caught.value).startswith(message)


def test_states_without_arcs_are_kept_by_text(tmp_path: Path) -> None:
    """Also the start, which the first line tells."""
    fst = Fst.from_list([(1, 2, 1, 1, 0.0)], {2: -0.5, 3: -np.inf})
    write_graph_file(fst, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").startswith("0 Infinity\n1 2 1 1 0\n")
    same(read_graph_file(tmp_path / "a.txt").graph, fst, FST_ARRAYS)


def test_names_and_contents_tell_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.dot: the name tells no format: .* \.fst"):
        format_of_name("a.dot")
    with pytest.raises(GraphError, match="absent: cannot be read: No such file"):
        format_of_file(tmp_path / "absent")
    graph = random_graph(random.Random(0), "LG")
    for format in FORMATS:  # whatever the name
        path = tmp_path / f"graph.{format}.bin"
        assert write_graph_file(graph, path, format=format) == format
        found = format_of_file(path)
        assert found == format or (found, format) == ("openfst-text", "k2-text")
        assert read_graph_file(path, "LG", TOKENS, WORDS, format=format).format == format
    (tmp_path / "b.safetensors").write_bytes(b"{}")
    with pytest.raises(GraphError, match=r"b\.safetensors: cannot be read as safetensors"):
        read_graph_file(tmp_path / "b.safetensors")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    graph = random_graph(random.Random(0), "HLG")
    path = tmp_path / "g.fst"
    write_graph_file(graph, path)
    with pytest.raises(
        ConfigError, match=r"g\.fst: a graph of kind HLG needs tables of tokens and words"
    ):
        read_graph_file(path, "HLG", TOKENS)
    with pytest.raises(ConfigError, match="only OpenFst's text can have symbols, not openfst"):
        write_graph_file(graph, path, symbols=True)
    fst = Fst.from_list([(0, 1, 1, 1, 0.0)], {1: 0.0})
    with pytest.raises(
        ConfigError, match=r"g\.txt: writing symbols needs the tables of both sides"
    ):
        write_graph_file(fst, tmp_path / "g.txt", symbols=True)
    write_graph_file(fst, tmp_path / "g.txt")
    with pytest.raises(
        ConfigError, match=r"g\.txt: reading symbols needs the tables of both sides"
    ):
        read_graph_file(tmp_path / "g.txt", symbols=True, isymbols=TOKENS)
    bad = Fst.from_list([(0, 1, 99, 1, 0.0)], {1: 0.0})
    write_graph_file(bad, path)
    with pytest.raises(GraphError, match=r"g\.fst: arc 0: token 99"):
        read_graph_file(path, "LG", TOKENS, WORDS)
    from safetensors.numpy import save_file

    save_file({"weights": np.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(GraphError, match="not a graph: it has the arrays weights"):
        read_graph_file(tmp_path / "model.safetensors")
