"""LG and HLG of both builders against enumeration of all frame labels and all word sequences."""

import importlib
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.fsa.build import BuiltGraphs, build_graphs, build_hlg, build_lg
from moe_asr.fsa.builder import builder_names, make_builder
from moe_asr.fsa.draw import fst_to_dot, write_drawing
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar import WordLoop, word_loop
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import (
    BUILDERS,
    brute_force,
    brute_force_with_g,
    graph_paths,
    random_g,
    random_lexicon,
)

TOKENS = ["<blk>", "x", "y", "unused"]


def homophones() -> Lexicon:
    """Homophones, a word that begins others, a doubled token, two pronunciations."""
    return Lexicon(
        [
            Pronunciation("A", ("x",)),
            Pronunciation("B", ("x", "y")),
            Pronunciation("C", ("x", "y"), -0.5),
            Pronunciation("D", ("y", "y")),
            Pronunciation("A", ("y",), -1.0),
        ]
    )


def loop_graphs(
    lexicon: Lexicon,
    grammar: WordLoop,
    topology: str = "standard",
    builder: str = "auto",
    tokens: list[str] = TOKENS,
) -> BuiltGraphs:
    g = grammar.to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, SymbolTable(tokens), topology, builder)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("topology", ["standard", "modified"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_hlg_holds_every_path_once_with_its_score(
    builder: str, topology: str, num_frames: int
) -> None:
    lexicon = homophones()
    grammar = word_loop(lexicon.words, word_insertion_penalty=0.125)
    graph = loop_graphs(lexicon, grammar, topology, builder).hlg
    expected = brute_force(lexicon, grammar.scores, TOKENS, num_frames, topology == "modified")
    found = graph_paths(graph, num_frames)
    assert found.keys() == expected.keys()
    assert len(found) > 1
    for key, score in expected.items():
        assert found[key] == pytest.approx(score, abs=1e-5), key


@pytest.mark.parametrize("builder", BUILDERS)
@settings(max_examples=40)
@given(number=st.integers(0, 10**6), topology=st.sampled_from(["standard", "modified"]))
def test_graphs_of_random_lexicons_and_grammars(builder: str, number: int, topology: str) -> None:
    rng = random.Random(number)
    lexicon = random_lexicon(rng, TOKENS[1:3])
    g = random_g(rng, lexicon)
    expected = brute_force_with_g(lexicon, g, TOKENS, 3, topology == "modified")
    graphs = build_graphs(lexicon, g, SymbolTable(TOKENS), topology, builder)
    found = graph_paths(graphs.hlg, 3)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-4)
    assert graphs.hlg.kind == "HLG" and graphs.lg.kind == "LG"
    assert graphs.hlg.metadata["topology"] == topology
    assert graphs.hlg.metadata["builder"] == graphs.lg.metadata["builder"] == builder
    assert not (graphs.lg.token == 0).any()


def test_word_loop_scores() -> None:
    assert word_loop(["a", "b"]).scores == pytest.approx({"a": -math.log(2), "b": -math.log(2)})
    weighted = word_loop(["a", "b"], {"a": -1.0, "b": 0.5}, word_insertion_penalty=0.25)
    assert weighted.scores == {"a": -1.25, "b": 0.25}
    for words, weights, message in (
        (["a", "a"], None, "'a' is given twice"),
        (["a"], {"b": 0.0}, "'a' has a weight or is a word"),
        (["a"], {"a": float("nan")}, "score of 'a' is nan"),
        ([], {}, "at least one word"),
    ):
        with pytest.raises(GraphError, match=message):
            word_loop(words, weights)
    with pytest.raises(GraphError):
        WordLoop({"a": float("-inf")})


def test_absent_k2_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingDependencyError, match="make env"):
        import_k2()


@pytest.mark.k2
def test_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires_k2: Any) -> None:
    lexicon, tokens = homophones(), SymbolTable(TOKENS)
    graphs = build_hlg(lexicon, word_loop(lexicon.words), tokens)
    source = k2_to_dot(graphs.l_disambig, tokens, lexicon.word_table(), "L")
    assert source.count("->") == graphs.l_disambig.num_arcs
    for arc in ("x:B", "#2:<eps>", "x:C/-0.5"):
        assert arc in source
    assert "A/-1.39" in k2_to_dot(graphs.g, lexicon.word_table())
    monkeypatch.setenv("PATH", str(tmp_path))  # no `dot` here: the source is still written
    said: list[str] = []
    assert write_drawing(source, tmp_path / "L", said.append) == tmp_path / "L.dot"
    assert (tmp_path / "L.dot").read_text(encoding="utf-8") == source
    assert said and "not installed" in said[0]
