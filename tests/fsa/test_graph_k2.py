"""HLG against enumeration of all frame labels and all word sequences."""

import importlib
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.fsa.draw import k2_to_dot, write_drawing
from moe_asr.fsa.grammar import WordLoop, word_loop
from moe_asr.fsa.graph_k2 import build_hlg, lexicon_fst
from moe_asr.fsa.k2_module import import_k2
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import brute_force, graph_paths, random_lexicon

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


@pytest.mark.k2
@pytest.mark.parametrize("modified", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_hlg_holds_every_path_once_with_its_score(modified: bool, num_frames: int) -> None:
    lexicon = homophones()
    grammar = word_loop(lexicon.words, word_insertion_penalty=0.125)
    graph = build_hlg(lexicon, grammar, SymbolTable(TOKENS), modified).hlg
    expected = brute_force(lexicon, grammar.scores, TOKENS, num_frames, modified)
    found = graph_paths(graph, num_frames)
    assert found.keys() == expected.keys()
    assert len(found) > 1
    for key, score in expected.items():
        assert found[key] == pytest.approx(score, abs=1e-5), key


@pytest.mark.k2
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_hlg_of_random_lexicons(number: int, modified: bool) -> None:
    rng = random.Random(number)
    lexicon = random_lexicon(rng, TOKENS[1:3])
    weights = {word: rng.uniform(-2, 1) for word in lexicon.words}
    grammar = word_loop(lexicon.words, weights)
    graphs = build_hlg(lexicon, grammar, SymbolTable(TOKENS), modified)
    expected = brute_force(lexicon, grammar.scores, TOKENS, 3, modified)
    found = graph_paths(graphs.hlg, 3)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-5)
    assert graphs.hlg.kind == "HLG" and graphs.lg.kind == "LG"
    assert not (graphs.lg.token == 0).any()
    assert set(graphs.hlg.metadata) > {"topology", "grammar", "builder"}


@pytest.mark.k2
def test_report_counts_states_and_arcs() -> None:
    lexicon = homophones()
    graphs = build_hlg(lexicon, word_loop(lexicon.words), SymbolTable(TOKENS))
    steps = {step.name: step for step in graphs.report}
    last = graphs.report[-1]
    assert (last.name, last.num_states, last.num_arcs) == (
        "HLG", graphs.hlg.num_states, graphs.hlg.num_arcs,
    )  # fmt: skip
    assert (steps["G"].num_states, steps["G"].num_arcs) == (2, 5)
    # arcs: tokens 1+2+2+2+1, symbols (A begins B, B = C, A's y begins D: 4), #0 loop, final
    assert steps["L_disambig"].num_arcs == 8 + 4 + 1 + 1


@pytest.mark.k2
def test_plain_l_has_no_disambiguation_symbols() -> None:
    lexicon = homophones()
    tokens = SymbolTable(TOKENS)
    plain = lexicon_fst(lexicon, tokens, lexicon.word_table(), disambig=False)
    assert plain.num_arcs == 9 and int(plain.labels.max()) < len(TOKENS)
    full = lexicon_fst(lexicon, tokens, lexicon.word_table())
    assert sorted(set(full.labels[full.labels >= len(TOKENS)].tolist())) == [4, 5, 6]


@pytest.mark.k2
def test_what_does_not_fit_is_named() -> None:
    lexicon, tokens = homophones(), SymbolTable(TOKENS)
    with pytest.raises(TextError, match="word 'B': token 'y'"):
        build_hlg(lexicon, word_loop(lexicon.words), SymbolTable(["<blk>", "x"]))
    with pytest.raises(GraphError, match="'E' of the grammar is not in the lexicon"):
        build_hlg(lexicon, word_loop([*lexicon.words, "E"]), tokens)


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
