"""LG and HLG of both builders against enumeration of all frame labels and all word sequences."""

import importlib
import importlib.util
import math
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.fsa.accept import best_score_of_words, score_lg, spellings_of
from moe_asr.fsa.build import BuiltGraphs, build_graphs, build_hlg, build_lg
from moe_asr.fsa.builder import builder_names, make_builder
from moe_asr.fsa.check import words_missing
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar import WordLoop, word_loop
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.steps import format_steps
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.conftest import k2_is_installed
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


@pytest.mark.k2
@settings(max_examples=20)
@given(number=st.integers(0, 10**6), topology=st.sampled_from(["standard", "modified"]))
def test_the_two_builders_give_the_same_weighted_language(number: int, topology: str) -> None:
    """Longer words and sentences than enumeration of frames allows: by the sentences that are accepted."""
    rng = random.Random(number)
    tokens = ["<blk>", *"abcde"]
    lexicon = random_lexicon(rng, tokens[1:], max_entries=12, words="ABCDEF", longest=5)
    g = random_g(rng, lexicon)
    table, words = SymbolTable(tokens), lexicon.word_table()
    spellings = spellings_of(lexicon, table, words)
    built = [build_graphs(lexicon, g, table, topology, name) for name in ("k2", "openfst")]
    sentences = [()] + [
        tuple(rng.choice(list(spellings)) for _ in range(rng.randint(1, 5))) for _ in range(40)
    ]
    accepted = 0
    for sentence in sentences:
        expected = score_lg(spellings, g, sentence)
        accepted += expected is not None
        for graphs in built:
            for graph in (graphs.lg, graphs.hlg):
                found = best_score_of_words(graph, spellings, sentence)
                assert found == pytest.approx(expected, abs=1e-4), sentence
    assert accepted > 0 or score_lg(spellings, g, ()) is None


@pytest.mark.parametrize("builder", BUILDERS)
def test_steps_count_states_and_arcs(builder: str) -> None:
    lexicon = homophones()
    graphs = loop_graphs(lexicon, word_loop(lexicon.words), builder=builder)
    steps = {step.name: step for step in graphs.steps}
    assert list(steps) == ["L_disambig", "L o G", "det(L o G)", "LG", "HLG"]
    for name, graph in (("LG", graphs.lg), ("HLG", graphs.hlg)):
        assert steps[name].num_states == graph.num_states
        assert steps[name].num_arcs == graph.num_arcs
    # arcs: tokens 1+2+2+2+1, symbols (A begins B, B = C, A's y begins D: 4), #0 loop
    assert (steps["L_disambig"].num_states, steps["L_disambig"].num_arcs) == (8, 8 + 4 + 1)
    for step in graphs.steps:
        assert step.seconds >= 0
        if sys.platform == "linux":
            assert step.peak_bytes is not None and step.peak_bytes > 1 << 20
            assert step.growth_bytes is not None and step.growth_bytes <= step.peak_bytes
    table = format_steps(graphs.steps).split("\n")
    assert len(table) == len(steps) + 2 and table[0].split()[:3] == ["graph", "states", "arcs"]
    assert table[-2].split()[:3] == ["HLG", str(graphs.hlg.num_states), str(graphs.hlg.num_arcs)]


def acceptor(*arcs: tuple[int, int, int, float], finals: tuple[int, ...] = (0,)) -> Fst:
    rows = [(src, dst, label, 0 if label == 5 else label, score) for src, dst, label, score in arcs]
    return Fst.from_list(rows, dict.fromkeys(finals, 0.0))


@pytest.mark.parametrize(
    ("g", "message"),
    [
        (acceptor((0, 0, 1, 0.0), (0, 0, 1, -1.0)), "state 0 has 2 arcs for 'A': determinise"),
        (
            acceptor((0, 0, 1, 0.0), (0, 1, 5, -1.0), (1, 0, 5, 0.0)),
            "backoff arcs lead in a circle",
        ),
        (acceptor((0, 1, 1, 0.0), (1, 0, 0, 0.0)), "arc 1 .of state 1. is an epsilon"),
        (acceptor((0, 1, 1, 0.0), finals=(2,)), "G is empty"),
        (acceptor(finals=(0,)), "G is empty"),
        (acceptor((0, 0, 6, 0.0)), "ilabel 6, but symbol table has 6 words"),
        (
            Fst.from_list([(0, 0, 1, 2, 0.0)], {0: 0.0}),
            "arc 0 is A:B; expected word:word or #0:<eps>",
        ),
        (Fst.from_list([(0, 0, 5, 5, 0.0)], {0: 0.0}), "arc 0 is #0:#0"),
    ],
)
def test_grammars_that_are_none_are_refused(g: Fst, message: str) -> None:
    lexicon = homophones()
    l_disambig = lexicon_fst(lexicon, SymbolTable(TOKENS), lexicon.word_table())
    with pytest.raises(GraphError, match=message):
        build_lg(l_disambig, g, SymbolTable(TOKENS), lexicon.word_table(), "openfst")


def test_lexicons_that_cannot_be_determinised_are_refused() -> None:
    lexicon, tokens = homophones(), SymbolTable(TOKENS)
    words = lexicon.word_table()
    g = word_loop(lexicon.words).to_fst(words)
    plain = lexicon_fst(lexicon, tokens, words, disambig=False)
    with pytest.raises(GraphError, match=r"cannot tell 'A' \(x\) from '[BC]'.*L_disambig"):
        build_lg(plain, g, tokens, words, "openfst")
    twice = Lexicon([Pronunciation("A", ("y",)), Pronunciation("B", ("y",))])
    plain = lexicon_fst(twice, tokens, twice.word_table(), disambig=False)
    with pytest.raises(GraphError, match=r"cannot tell 'A' \(y\) from 'B'"):
        build_lg(plain, word_loop(["A"]).to_fst(twice.word_table()), tokens, twice.word_table())
    # none are needed here
    easy = Lexicon([Pronunciation("A", ("x", "y")), Pronunciation("B", ("y",))])
    words = easy.word_table()
    plain = lexicon_fst(easy, tokens, words, disambig=False)
    g = word_loop(easy.words).to_fst(words)
    expected = graph_paths(build_hlg(build_lg(plain, g, tokens, words)), 3)
    full = lexicon_fst(easy, tokens, words)
    assert expected == graph_paths(build_hlg(build_lg(full, g, tokens, words)), 3)


def test_words_of_one_side_only_are_named() -> None:
    lexicon, tokens = homophones(), SymbolTable(TOKENS)
    words = lexicon.word_table()
    l_disambig = lexicon_fst(lexicon, tokens, words)
    some = word_loop(["B", "D"]).to_fst(words)
    assert words_missing(l_disambig, some, words) == ["A", "C"]
    larger = SymbolTable([*list(words)[:-1], "E", "F", "#0"])
    l_larger = lexicon_fst(lexicon, tokens, larger)
    g = word_loop(["A", "F", "E"]).to_fst(larger)
    with pytest.raises(GraphError, match=r"word 'E', which L cannot spell \(2 such words\)"):
        build_lg(l_larger, g, tokens, larger)
    backs_off = acceptor((0, 1, 1, 0.0), (1, 0, 5, 0.0))
    easy = Lexicon(
        [Pronunciation(word, (token,)) for word, token in zip("ABCD", "xyuv", strict=True)]
    )
    letters = SymbolTable(["<blk>", *"xyuv"])
    plain = lexicon_fst(easy, letters, easy.word_table(), disambig=False)
    with pytest.raises(GraphError, match="backs off through #0, but L has no loop"):
        build_lg(plain, backs_off, letters, easy.word_table())
    with pytest.raises(TextError, match="word 'B': token 'y'"):
        build_graphs(lexicon, some, SymbolTable(["<blk>", "x"]))
    with pytest.raises(GraphError, match="'E' of the grammar is not in the lexicon"):
        word_loop([*lexicon.words, "E"]).to_fst(words)


def test_an_l_of_other_tokens_is_refused() -> None:
    """One token less, and its last token would be taken for #0: a graph without the words that have it."""
    lexicon = Lexicon([Pronunciation("A", ("x", "y")), Pronunciation("B", ("y",))])
    words = lexicon.word_table()
    g = word_loop(lexicon.words).to_fst(words)
    l_disambig = lexicon_fst(lexicon, SymbolTable(["<blk>", "x", "y"]), words)
    for tokens in (["<blk>", "x"], ["<blk>", "x", "y", "z"]):
        with pytest.raises(GraphError, match=f"it was not made for these {len(tokens)} tokens"):
            build_lg(l_disambig, g, SymbolTable(tokens), words)
    arcs = [(0, 1, 1, 1, 0.0), (1, 0, 2, 2, 0.0)]
    with pytest.raises(GraphError, match="word of each pronunciation on its first arc"):
        build_lg(Fst.from_list(arcs, {0: 0.0}), g, SymbolTable(["<blk>", "x", "y"]), words)
    with pytest.raises(GraphError, match="begin and end in state 0"):
        build_lg(Fst.from_list(arcs, {1: 0.0}), g, SymbolTable(["<blk>", "x", "y"]), words)


def test_a_graph_gets_one_topology() -> None:
    lexicon = homophones()
    graphs = loop_graphs(lexicon, word_loop(lexicon.words))
    with pytest.raises(GraphError, match="kind HLG has its topology already"):
        build_hlg(graphs.hlg)
    with pytest.raises(
        GraphError, match="topology must be one of standard, modified, found 'tight'"
    ):
        build_hlg(graphs.lg, "tight")


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


def test_builders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert builder_names() == ["auto", "k2", "openfst"]
    with pytest.raises(GraphError, match="no graph builder 'fst', expected auto, k2, openfst"):
        make_builder("fst")
    assert make_builder().name == ("k2" if k2_is_installed() else "openfst")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert make_builder().name == "openfst"


def test_absent_k2_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingDependencyError, match="make env"):
        import_k2()
    with pytest.raises(MissingDependencyError, match="make env"):
        make_builder("k2")
