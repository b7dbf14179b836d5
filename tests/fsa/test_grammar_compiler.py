"""Grammars compiled to G: the language and every probability against enumeration and parsing."""

import itertools
import math
import random
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, TextError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_ast import Grammar
from moe_asr.fsa.grammar_compiler import compile_grammar, grammar_words
from moe_asr.fsa.grammar_parser import parse_grammar
from moe_asr.fsa.grammar_statistics import language_statistics
from moe_asr.fsa.openfst import from_kaldifst, import_kaldifst, to_kaldifst
from moe_asr.fsa.probabilistic import EpsilonClosure, ProbabilisticAutomaton, determinize, minimize
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.grammar_references import (
    WORDS,
    Language,
    TooManySentencesError,
    enumerate_language,
    grammars,
    parse_probability,
    same_language,
    sentences_of,
)

TABLE = SymbolTable(["<eps>", *WORDS, "#0"], "words.txt")
SYMBOLS = list(TABLE)


def compiled(text: str, table: SymbolTable = TABLE) -> Fst:
    return compile_grammar(parse_grammar(text), table)[0]


def enumerated(grammar: Grammar) -> Language:
    try:
        return enumerate_language(grammar)
    except TooManySentencesError:
        assume(False)
        raise


def assert_language_model(fst: Fst) -> None:
    """Deterministic, sorted, without epsilons, connected, and of each state the sum is one."""
    assert (fst.ilabel == fst.olabel).all() and (fst.ilabel > 0).all()
    for state in range(fst.num_states):
        begin, end = fst.arc_splits[state : state + 2]
        assert (np.diff(fst.ilabel[begin:end]) > 0).all()
        total = np.exp(fst.score[begin:end]).sum() + np.exp(fst.final_score[state])
        assert total == pytest.approx(1.0, abs=1e-5)
    assert fst.connect().num_states == fst.num_states


def num_residuals(language: Language) -> int:
    """States of the smallest such automaton: different distributions of what follows some words."""
    prefixes: dict[tuple[str, ...], Language] = defaultdict(dict)
    for sentence, probability in language.items():
        for length in range(len(sentence) + 1):
            prefixes[sentence[:length]][sentence[length:]] = probability
    residuals = set()
    for rest in prefixes.values():
        total = sum(rest.values())
        rows = ((words, round(1e7 * math.log(p / total) + 0.3)) for words, p in rest.items())
        residuals.add(
            tuple(sorted(rows))
        )  # 0.3: where rounding goes either way, no usual value lies
    return len(residuals)


@settings(max_examples=80)
@given(grammars())
def test_bounded_grammars_are_their_enumeration(grammar: Grammar) -> None:
    expected = enumerated(grammar)
    fst, report = compile_grammar(grammar, TABLE)
    longest = max(map(len, expected))
    found = sentences_of(fst, SYMBOLS, longest + 1)
    same_language(found, expected)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    assert_language_model(fst)
    assert fst.num_states == num_residuals(expected)
    figures = report.statistics
    assert figures.num_sentences == len(expected)
    assert (figures.shortest, figures.longest) == (min(map(len, expected)), longest)
    mean = sum(len(sentence) * p for sentence, p in expected.items())
    assert figures.mean_length == pytest.approx(mean, abs=1e-4)
    entropy = -sum(p * math.log2(p) for p in expected.values())
    assert figures.entropy == pytest.approx(entropy, abs=1e-3)
    assert figures.perplexity == pytest.approx(2 ** (entropy / (mean + 1)), rel=1e-4)
    assert figures.total_probability == pytest.approx(1.0, abs=1e-5)
    used = {word for sentence in expected for word in sentence}
    assert grammar_words(grammar) == sorted(used) and figures.num_words == len(used)
    assert any("can be empty" in warning for warning in report.warnings) == (() in expected)


def assert_short_sentences(grammar: Grammar, max_arcs: int) -> None:
    """Up to 4 words, those that cannot be said included, against parsing with the rules."""
    fst, report = compile_grammar(grammar, TABLE, max_arcs)
    assert_language_model(fst)
    assert report.statistics.total_probability == pytest.approx(1.0, abs=1e-4)
    found = sentences_of(fst, SYMBOLS, 4)
    for length in range(5):
        for sentence in itertools.product(WORDS, repeat=length):
            expected = parse_probability(grammar, sentence)
            assert found.get(sentence, 0.0) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@settings(max_examples=60)
@given(grammars(bounded=False, max_leaves=5))
def test_any_grammar_gives_the_probabilities_of_its_derivations(grammar: Grammar) -> None:
    try:
        assert_short_sentences(grammar, max_arcs=2000)
    except TextError as error:  # those that no finite G can hold
        assert "too large" in str(error) or "no bounded memory" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "a* | b c",
        "(a*:0.7 | /3/ b) c | [c*] a",
        "[a+:0.3]:0.4 b | c*",
        "/3/ a* b | /1/ a* c",
        "(a | b+ c){1,2}:0.2 a* | b* c",
        "(a | b c)* (a b)*",
        "((a [b])* c)+",
        "((a*)*)*:0.7 b",
        "([a] [b]:0.2 c*)* | b",
        "(a [b* c*] a)+ | [c]{0,2}",
        "[[a] [b]]{0,3} ([a] [b])+",
    ],
)
def test_repetitions_in_one_another(text: str) -> None:
    grammar = parse_grammar(f"@start <s0>; <s0> = {text};")
    assert_short_sentences(grammar, max_arcs=2000)


@st.composite
def automata(draw: st.DrawFn) -> ProbabilisticAutomaton:
    """A normalised automaton without epsilons and without cycles."""
    size = draw(st.integers(1, 5))
    automaton = ProbabilisticAutomaton()
    for _ in range(size):
        automaton.add_state()
    for state in range(size):
        ways = st.tuples(st.integers(1, 2), st.integers(state + 1, max(size - 1, state + 1)))
        drawn = draw(st.lists(ways, max_size=4)) if state < size - 1 else []
        weights = [draw(st.integers(1, 4)) for _ in range(len(drawn) + 1)]
        *rest, final = (math.log(weight / sum(weights)) for weight in weights)
        automaton.final[state] = final
        for (label, destination), value in zip(drawn, rest, strict=True):
            automaton.arcs[state].append((label, destination, value))
    return automaton


def as_fst(automaton: ProbabilisticAutomaton) -> Fst:
    arcs = [
        (state, destination, label, label, value)
        for state, row in enumerate(automaton.arcs)
        for label, destination, value in row
    ]
    return Fst.from_list(arcs, dict(enumerate(automaton.final)))


@pytest.mark.parametrize("num_states", [1, 2, 3, 5, 7, 12])
def test_epsilon_closure_solves_the_linear_equations(num_states: int) -> None:
    """Epsilons in any cycles: K = (I - E)^-1, by numpy."""
    rng = random.Random(num_states)
    for _ in range(60):
        automaton = ProbabilisticAutomaton()
        for _ in range(num_states):
            automaton.add_state(final=math.log(0.1))
        for row in automaton.epsilons:
            count = rng.randint(0, 3)
            row += [(rng.randrange(num_states), math.log(0.9 / count)) for _ in range(count)]
        assert_closure(automaton)


def assert_closure(automaton: ProbabilisticAutomaton) -> None:
    size = automaton.num_states
    step = np.zeros((size, size))
    for state, row in enumerate(automaton.epsilons):
        for destination, value in row:
            step[state, destination] += math.exp(value)
    expected = np.linalg.inv(np.eye(size) - step)
    closure = EpsilonClosure(automaton, 1000)
    for state in range(size):
        other = (state + 1) % size
        found = np.zeros(size)
        distribution = {state: math.log(0.25)}
        distribution[other] = math.log(0.75) if other != state else 0.0
        for inner, value in closure(distribution).items():
            found[inner] += math.exp(value)
        weights = (0.25, 0.75) if other != state else (0.0, 1.0)
        mixture = weights[0] * expected[state] + weights[1] * expected[other]
        np.testing.assert_allclose(found, mixture, atol=1e-12)


@settings(max_examples=100)
@given(automata())
def test_determinisation_is_that_of_kaldi(automaton: ProbabilisticAutomaton) -> None:
    """Without epsilons: Kaldi counts some paths of epsilons twice in the log semiring."""
    ours = minimize(determinize(automaton, EpsilonClosure(automaton, 1000), 1000))
    theirs = to_kaldifst(as_fst(automaton))
    import_kaldifst().determinize_star(theirs, delta=1e-6, use_log=True)
    expected = sentences_of(from_kaldifst(theirs), SYMBOLS, 6)
    same_language(sentences_of(ours, SYMBOLS, 6), expected)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", {("a",): 1.0}),
        ("a | b | c", {("a",): 1 / 3, ("b",): 1 / 3, ("c",): 1 / 3}),
        ("/3/ a | b", {("a",): 0.75, ("b",): 0.25}),
        ("/3/ a | /2/ a | /5/ b", {("a",): 0.5, ("b",): 0.5}),
        ("a [b]", {("a",): 0.5, ("a", "b"): 0.5}),
        ("a [b | /3/ c]:0.2", {("a",): 0.8, ("a", "b"): 0.05, ("a", "c"): 0.15}),
        ("a{2}", {("a", "a"): 1.0}),
        ("a{1,3}", {("a",): 1 / 3, ("a", "a"): 1 / 3, ("a", "a", "a"): 1 / 3}),
        ("a{1,3}:0.1", {("a",): 0.9, ("a", "a"): 0.09, ("a", "a", "a"): 0.01}),
        ("[a] [a]", {(): 0.25, ("a",): 0.5, ("a", "a"): 0.25}),
    ],
)
def test_probability_model(text: str, expected: Language) -> None:
    fst = compiled(f"@start <s0>; <s0> = {text};")
    same_language(sentences_of(fst, SYMBOLS, 4), expected)


@pytest.mark.parametrize(
    ("text", "more", "least"),
    [
        ("a*", 0.5, 0),
        ("a+", 0.5, 1),
        ("a*:0.25", 0.25, 0),
        ("a+:0.25", 0.25, 1),
        ("a{3,}:0.9", 0.9, 3),
    ],
)
def test_repetition_without_bound_is_geometric(text: str, more: float, least: int) -> None:
    fst = compiled(f"@start <s0>; <s0> = {text};")
    assert fst.num_states == least + 1
    found = sentences_of(fst, SYMBOLS, 8)
    expected = {("a",) * n: more ** (n - least) * (1 - more) for n in range(least, 9)}
    same_language(found, expected)
    figures = language_statistics(fst)
    assert figures.num_sentences == figures.longest == math.inf
    assert figures.mean_length == pytest.approx(least + more / (1 - more), rel=1e-4)


def test_very_unlikely_sentences_are_not_lost() -> None:
    """After 200 words, one choice is 1e-451 times as likely as the other."""
    fst = compiled("@start <s0>; <s0> = a{0,200}:0.005 c | a{0,200}:0.9 b;")
    state, score = 0, 0.0
    for label in [1] * 200 + [3]:
        (arc,) = (
            arc
            for arc in range(fst.arc_splits[state], fst.arc_splits[state + 1])
            if fst.ilabel[arc] == label
        )
        state, score = int(fst.dst[arc]), score + float(fst.score[arc])
    expected = math.log(0.5) + 200 * math.log(0.005)
    assert score + fst.final_score[state] == pytest.approx(expected, rel=1e-5)


def test_options_that_hardly_say_anything_are_exact() -> None:
    """A loop that is empty with probability 1 - 1e-12, and goes on with 1 - 1e-12."""
    fst = compiled("@start <s0>; <s0> = ([a]:1e-12)*:0.999999999999 b;")
    ends = 1 - 0.999999999999
    expected = ends / (ends + 1e-12)  # to 1e-12
    (arc,) = np.flatnonzero(fst.ilabel[: fst.arc_splits[1]] == 2)
    assert math.exp(fst.score[arc]) == pytest.approx(expected, abs=1e-7)


def test_as_many_sentences_as_there_are_are_counted_in_little_memory() -> None:
    size = 30_000  # 2^30000 sentences: the numbers of all states would take 56 MB
    src = np.repeat(np.arange(size), 2)
    label = np.tile([1, 2], size)
    final = np.full(size + 1, -np.inf)
    final[[size // 2, size]] = math.log(0.5), 0.0
    score = np.where(src == size // 2, math.log(0.25), math.log(0.5))
    fst = Fst.from_arcs(src, src + 1, label, label, score, final)
    tracemalloc.start()
    try:
        figures = language_statistics(fst)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert figures.num_sentences == 2 ** (size // 2) + 2**size
    assert (figures.shortest, figures.longest) == (size // 2, size)


def test_shared_endings_are_merged() -> None:
    names = " | ".join(f"w{i}" for i in range(50))
    table = SymbolTable(["<eps>", *(f"w{i}" for i in range(50)), "call", "text", "#0"], "words.txt")
    text = f"@start <c>; <c> = call <name> | text <name>; <name> = ({names}) ({names});"
    fst = compiled(text, table)
    assert (fst.num_states, fst.num_arcs) == (4, 2 + 50 + 50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "@start <a>;\n<a> = (x | y) lihgt;",
            r"grammar:2:8: 'x' is not in words\.txt \(2 more words are missing\)",
        ),
        (
            "@start <a>;\n<a> = a\n | lamq;",
            r"grammar:3:4: 'lamq' is not in words\.txt; did you mean lamp",
        ),
        (
            "@start <a>;\n<a> = b ((a | b){0,1000}){0,1000};",
            r"grammar:2:26: rule <a> is too large: this part alone has 3,001,000 arcs.*limit is 50,000",
        ),
        (
            "@start <a>;\n<a> = <b>{0,100} c;\n<b> = <c>{5,100} <c>{9000,};\n<c> = a{9999};",
            r"grammar:3:10: rule <b> is too large: this part alone has 1,999,900 arcs",
        ),
        (
            "@start <r0>;"
            + "".join(f"<r{i}> = <r{i + 1}>{{1,999999999}};" for i in range(60))
            + "<r60> = a;",
            r"rule <r59> is too large: this part alone has 1,999,999,998 arcs",
        ),
        (
            "@start <a>;\n<a> = a+:0.3 b |\n a+:0.6 c;",
            r"grammar:2:8: this repetition and that at grammar:3:3 can take the same words",
        ),
        (
            "@start <a>;\n<a> = (a* [b* c*] a*)+;",
            r"grammar:2:9: two passes through this repetition can take the same words",
        ),
        (
            "@start <a>;\n<a> = (a* | b+){1,2} c;",
            r"grammar:2:1: <a> is too large: more than 50,000 arcs .* as in a\+ a\+, need bounds",
        ),
        (
            "@start <a>;\n<a> = (a | b)* a (a | b){20};",
            "grammar:2:1: <a> is too large: more than 50,000 arcs in the deterministic",
        ),
        (
            "@start <a>;\n<a> = ([a]{0,400})*;",
            "grammar:2:1: <a> is too large: more than 50,000 ways through optional parts",
        ),
    ],
)
def test_what_cannot_be_compiled_is_named(text: str, message: str) -> None:
    table = SymbolTable(["<eps>", "a", "b", "c", "lamp", "light", "#0"], "words.txt")
    with pytest.raises(TextError, match=message):
        compile_grammar(parse_grammar(text), table, max_arcs=50_000)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "home.gram"
    path.write_text("@start <a>;\n<a> = b | z;\n")
    with pytest.raises(TextError, match=r"home\.gram:2:11: 'z' is not in words\.txt"):
        compile_grammar(path, TABLE)


@pytest.mark.parametrize(
    ("arcs", "finals", "message"),
    [
        ([(0, 1, 1, 2, 0.0)], {1: 0.0}, "acceptor"),
        ([(0, 1, 0, 0, 0.0)], {1: 0.0}, "without epsilons"),
        ([(0, 1, 1, 1, math.log(0.5)), (0, 0, 1, 1, math.log(0.5))], {1: 0.0}, "state 0: two arcs"),
        ([(0, 1, 1, 1, math.log(0.5))], {1: 0.0}, "state 0: the probabilities sum to 0.5"),
    ],
)
def test_statistics_refuse_other_graphs(
    arcs: list[tuple[int, int, int, int, float]], finals: dict[int, float], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        language_statistics(Fst.from_list(arcs, finals))
