"""The decoding graph: validation, its file, conversion to and from k2."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from moe_asr.errors import GraphError
from moe_asr.fsa.graph import KINDS, DecodingGraph
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import arcs_language, random_arcs

TOKENS = SymbolTable(["<blk>", "a", "b"])
WORDS = SymbolTable(["<eps>", "A", "AB", "#0"])
ARRAYS = ("src", "dst", "token", "score", "word_row_splits", "words")


def parts(**changed: Any) -> dict[str, Any]:
    """A valid graph: 0 -a-> 1 -b:AB-> 2, a loop of blanks, finals from 1 (two words) and 2."""
    values = {
        "src": np.array([0, 0, 1, 1, 2], np.int32),
        "dst": np.array([0, 1, 2, 3, 3], np.int32),
        "token": np.array([0, 1, 2, -1, -1], np.int32),
        "score": np.array([0.0, -0.5, -1.25, 0.1, 0.0], np.float32),
        "word_row_splits": np.array([0, 0, 0, 1, 3, 3], np.int32),
        "words": np.array([2, 1, 1], np.int32),
        "token_table": TOKENS,
        "word_table": WORDS,
        "metadata": {"kind": "HLG", "built_by": "hand"},
    }
    assert set(changed) <= set(values)
    return {**values, **changed}


def equal(one: DecodingGraph, other: DecodingGraph) -> bool:
    return (
        all(
            getattr(one, name).dtype == getattr(other, name).dtype
            and getattr(one, name).tobytes() == getattr(other, name).tobytes()
            for name in ARRAYS
        )
        and one.token_table == other.token_table
        and one.word_table == other.word_table
        and one.metadata == other.metadata
    )


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


BROKEN = {
    "not sorted": (dict(src=i32(0, 1, 0, 1, 2)), "not sorted"),
    "negative state": (dict(src=i32(-1, 0, 1, 1, 2)), "negative state"),
    "arc leaves the final state": (dict(src=i32(0, 0, 1, 1, 3)), "final state"),
    "-1 into another state": (dict(token=i32(0, -1, 2, -1, -1)), "arc 1: token -1"),
    "token into the final state": (dict(token=i32(0, 1, 2, 2, -1)), "arc 3: token 2"),
    "no final arc": (dict(dst=i32(0, 1, 2, 1, 3), token=i32(0, 1, 2, 0, 0)), "token 0 into state"),
    "token beyond the table": (dict(token=i32(0, 3, 2, -1, -1)), "arc 1: token 3"),
    "token below -1": (dict(token=i32(0, -2, 2, -1, -1)), "arc 1: token -2"),
    "nan": (dict(score=np.array([0, np.nan, 0, 0, 0], np.float32)), "arc 1: score nan"),
    "infinite": (dict(score=np.array([0, 0, -np.inf, 0, 0], np.float32)), "arc 2: score -inf"),
    "splits too short": (dict(word_row_splits=i32(0, 0, 1, 3, 3)), "word_row_splits"),
    "splits empty": (dict(word_row_splits=i32()), "word_row_splits"),
    "splits decrease": (dict(word_row_splits=i32(0, 2, 1, 1, 3, 3)), "decreases at arc 1"),
    "splits start late": (dict(word_row_splits=i32(1, 1, 1, 1, 3, 3)), "from 1 to 3"),
    "splits end early": (dict(word_row_splits=i32(0, 0, 0, 1, 2, 2)), "from 0 to 2"),
    "word beyond the table": (dict(words=i32(2, 4, 1)), "words: 4"),
    "epsilon as a word": (dict(words=i32(2, 0, 1)), "words: 0"),
    "wrong dtype": (dict(src=np.array([0, 0, 1, 1, 2])), "src: expected a vector of int32"),
    "wrong shape": (dict(score=np.zeros((5, 1), np.float32)), "score: expected a vector"),
    "unequal lengths": (dict(dst=i32(0, 1, 2, 3)), "dst: 4 values for 5 arcs"),
    "a state far away": (dict(dst=i32(0, 1, 2, 2**31 - 1, 2**31 - 1)), "have no arc"),
    "no kind": (dict(metadata={}), "kind must be one of"),
    "blank in an LG": (dict(metadata={"kind": "LG"}), "arc 0: token 0"),
    "no arcs": (
        dict(
            src=i32(), dst=i32(), token=i32(), score=np.zeros(0, np.float32),
            word_row_splits=i32(0), words=i32(),
        ),
        "without arcs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_graphs_are_refused(name: str, tmp_path: Path) -> None:
    changed, message = BROKEN[name]
    with pytest.raises(GraphError, match=message):
        DecodingGraph(**parts(**changed))
    # the same arrays in a file, which names the file
    path = tmp_path / "graph.safetensors"
    DecodingGraph(**parts()).save(path)
    broken = parts(**changed)
    metadata = {"format": "moe_asr.decoding_graph", "version": "1", "header": header(broken)}
    save_file({key: broken[key] for key in ARRAYS}, path, metadata=metadata)
    with pytest.raises(GraphError, match=message) as caught:
        DecodingGraph.load(path)
    assert str(caught.value).startswith(str(path))


def header(values: dict[str, Any], **changed: Any) -> str:
    plain = {
        "tokens": list(values["token_table"]),
        "words": list(values["word_table"]),
        "metadata": values["metadata"],
    }
    return json.dumps({**plain, **changed})


def test_properties() -> None:
    graph = DecodingGraph(**parts())
    assert (graph.num_states, graph.num_arcs, graph.kind) == (4, 5, "HLG")
    assert [graph.words_of(arc).tolist() for arc in range(5)] == [[], [], [2], [1, 1], []]
    assert graph.word_symbols([2, 1]) == ["AB", "A"]
    graph.check_vocabulary(3)
    with pytest.raises(GraphError, match="built for 3 tokens, the posteriors have 4"):
        graph.check_vocabulary(4)


def test_file_round_trip(tmp_path: Path) -> None:
    graph = DecodingGraph(**parts(metadata={"kind": "HLG", "deep": {"é": [1, 2.5, None]}}))
    path = tmp_path / "graph.safetensors"
    graph.save(path)
    assert equal(DecodingGraph.load(path), graph)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.safetensors"]
    with pytest.raises(GraphError, match="JSON"):
        DecodingGraph(**parts(metadata={"kind": "HLG", "bad": object()})).save(path)
    assert equal(DecodingGraph.load(path), graph)  # the old file is still whole


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    DecodingGraph(**parts()).save(path)
    content = path.read_bytes()
    rng = random.Random(0)
    cases = [content[:length] for length in (0, 1, 8, 100, len(content) // 2, len(content) - 1)]
    cases += [content + b"\0", b"\xff" * 8 + content[8:], bytes(200), rng.randbytes(300)]
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(GraphError) as caught:
            DecodingGraph.load(path)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(GraphError, match="absent"):
        DecodingGraph.load(tmp_path / "absent")


def test_a_flipped_byte_is_never_another_error(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    DecodingGraph(**parts()).save(path)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        for flip in (0x01, 0x80):
            path.write_bytes(
                content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :]
            )
            try:
                DecodingGraph.load(path)
            except GraphError as error:
                assert str(error).startswith(str(path))
                refused += 1
    assert refused > len(content)  # most flips are noticed; a score's last bit cannot be


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "pt"}, "not a decoding graph"),
        ({"version": "3"}, "format version '3'"),
        ({"header": "{"}, "not JSON"),
        ({"header": "[" * 100000}, "JSON"),
        ({"header": "[]"}, "must hold tokens, words and metadata"),
        ({"header": header(parts(), tokens=["a", 1])}, "tokens must be a list of strings"),
        ({"header": header(parts(), words="ABC")}, "words must be a list of strings"),
        ({"header": header(parts(), words=["<eps>", "A", "A", "#0"])}, "duplicate"),
        ({"header": header(parts(), tokens=["<blk>", "a b", "c"])}, "whitespace"),
        ({"header": header(parts(), metadata=[])}, "metadata must be a mapping"),
        ({"header": header(parts(), metadata={"kind": ["HLG"]})}, "kind must be"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    path = tmp_path / "graph.safetensors"
    metadata = {"format": "moe_asr.decoding_graph", "version": "1", "header": header(parts())}
    save_file({key: parts()[key] for key in ARRAYS}, path, metadata={**metadata, **changed})
    with pytest.raises(GraphError, match=message) as caught:
        DecodingGraph.load(path)
    assert str(caught.value).startswith(str(path))


def test_missing_and_foreign_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    DecodingGraph(**parts()).save(path)
    metadata = {"format": "moe_asr.decoding_graph", "version": "1", "header": header(parts())}
    arrays = load_file(path)
    save_file({**arrays, "extra": arrays["src"]}, path, metadata=metadata)
    with pytest.raises(GraphError, match="expected arrays"):
        DecodingGraph.load(path)
    del arrays["words"]
    save_file(arrays, path, metadata=metadata)
    with pytest.raises(GraphError, match="expected arrays"):
        DecodingGraph.load(path)


def test_kinds() -> None:
    implied = {kind: dict(token=i32(1, 1, 2, -1, -1), metadata={"kind": kind}) for kind in KINDS}
    found = {
        kind: DecodingGraph(**parts(**changed)).topology_implied
        for kind, changed in implied.items()
    }
    assert found == {"HLG": False, "LG": True, "HT": False, "T": True}
    with pytest.raises(GraphError, match="token 0 .blank. cannot occur in a graph of kind T"):
        DecodingGraph(**parts(metadata={"kind": "T"}))


def test_openfst_text() -> None:
    """Frames' labels plus one; two words on a final arc come on epsilons before the final state."""
    graph = DecodingGraph(**parts())
    assert graph.to_openfst_text() == (
        "0 0 1 0 0\n0 1 2 0 0.5\n1 2 3 2 1.25\n1 3 0 1 0\n2 0\n3 4 0 1 0\n4 -0.100000001\n"
    )
    text = graph.to_openfst_text(symbols=True)
    assert text.startswith("0 0 <blk> <eps> 0\n0 1 a <eps> 0.5\n1 2 b AB 1.25\n1 3 <eps> A 0\n")
    lg = DecodingGraph(**parts(token=i32(1, 1, 2, -1, -1), metadata={"kind": "LG"}))
    assert lg.to_openfst_text(symbols=True).startswith("0 0 a <eps> 0\n0 1 a <eps> 0.5\n")
    assert lg.to_fst().ilabel.tolist() == [1, 1, 2, 0, 0]


@settings(max_examples=40)
@given(number=st.integers(0, 10**6), kind=st.sampled_from(KINDS), symbols=st.booleans())
def test_openfst_round_trips(number: int, kind: str, symbols: bool) -> None:
    arcs = random_arcs(random.Random(number))
    if kind.startswith("H"):  # blanks too
        arcs = replace(arcs, label=np.where(arcs.label > 0, arcs.label - 1, -1).astype(np.int32))
    plain = (arcs.label == -1) & (arcs.num_words == 0)
    tables = SymbolTable(["<blk>", "a", "b"]), SymbolTable(["<eps>", "A", "AB", "C", "#0"])
    graph = DecodingGraph.from_arcs(arcs, *tables, {"kind": kind, "more": 1})
    text = graph.to_openfst_text(symbols)
    again = DecodingGraph.from_openfst_text(text, *tables, graph.metadata, symbols)
    assert again.metadata == graph.metadata and again.word_table == graph.word_table
    if np.bincount(arcs.src[plain], minlength=1).max() <= 1:
        for name in ARRAYS:  # the very same arrays
            np.testing.assert_array_equal(getattr(again, name), getattr(graph, name), err_msg=name)
    assert arcs_language(again.arcs(), 3) == arcs_language(graph.arcs(), 3)
    third = DecodingGraph.from_fst(again.to_fst(), *tables, graph.metadata)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(third, name), getattr(again, name), err_msg=name)


def test_openfst_text_that_is_no_graph_is_refused() -> None:
    for text, message in (
        ("0 1 2 0\n1\n1 x\n", "a.txt:3: expected a cost"),
        ("0 1 9 0\n1\n", "a.txt: arc 0: token 8 is not in the table of 3 tokens"),
        ("0 1 2 9\n1\n", "a.txt: words: 9 is not in the table"),
        ("0 1 0 1\n1 0 0 0\n1 2 1 0\n2\n", "a.txt: a cycle of epsilons"),
        ("0 1 2 0\n", "a.txt: a graph without arcs"),
    ):
        with pytest.raises(GraphError, match=message):
            DecodingGraph.from_openfst_text(text, TOKENS, WORDS, {"kind": "HLG"}, source="a.txt")


@pytest.mark.k2
def test_k2_round_trip_is_exact() -> None:
    graph = DecodingGraph(**parts())
    fsa = graph.to_k2()
    assert fsa.shape == (4, None)
    assert fsa.aux_labels.tolist() == [[], [], [2], [1, 1], []]
    assert fsa.scores.numpy().tobytes() == graph.score.tobytes()
    assert equal(DecodingGraph.from_k2(fsa, TOKENS, WORDS, graph.metadata), graph)
    again = DecodingGraph.from_k2(fsa, TOKENS, WORDS, graph.metadata).to_k2()
    assert (again.arcs.values() == fsa.arcs.values()).all()
    assert again.aux_labels == fsa.aux_labels


@pytest.mark.k2
def test_from_k2_drops_fillers_and_refuses_what_is_no_graph(requires_k2: Any) -> None:
    k2 = requires_k2
    text = "0 0 0 0 0.5\n0 1 1 2 -1\n1 2 -1 -1 0.25\n2"
    fsa = k2.Fsa.from_str(text, num_aux_labels=1)
    graph = DecodingGraph.from_k2(fsa, TOKENS, WORDS, {"kind": "HLG"})
    assert [graph.words_of(arc).tolist() for arc in range(3)] == [[], [2], []]
    assert graph.score.tolist() == [0.5, -1.0, 0.25]
    with pytest.raises(GraphError, match="single FSA"):
        DecodingGraph.from_k2(k2.create_fsa_vec([fsa]), TOKENS, WORDS, {"kind": "HLG"})
    with pytest.raises(GraphError, match="aux_labels"):
        acceptor = k2.Fsa.from_str("0 1 -1 0\n1")
        DecodingGraph.from_k2(acceptor, TOKENS, WORDS, {"kind": "HLG"})
