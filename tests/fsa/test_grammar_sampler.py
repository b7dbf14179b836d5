"""Sampled sentences and paths come as often as their probabilities say."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_compiler import compile_grammar
from moe_asr.fsa.grammar_parser import parse_grammar
from moe_asr.fsa.grammar_sampler import (
    SampledPath,
    iterate_sentences,
    iterate_words,
    sample_paths,
    sample_sentences,
)
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.grammar_references import enumerate_language

TABLE = SymbolTable(["<eps>", "a", "b", "c", "#0"], "words.txt")
GRAMMAR = parse_grammar(
    "@start <s0>;"
    "<s0> = /3/ a <t> | [b]:0.2 <t>{0,2} | /0.5/ (a | /4/ c){1,3}:0.3;"
    "<t> = b c | /0.7/ [a] c;"
)


def assert_plausible(counts: Counter, expected: dict, num: int) -> None:
    """Pearson's chi-square, those that are expected less than 5 times taken together."""
    assert counts.keys() <= expected.keys() and sum(counts.values()) == num
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    cells = [(counts[x], p * num) for x, p in expected.items() if p * num >= 5]
    rest = (num - sum(n for n, _ in cells), num - sum(e for _, e in cells))
    cells += [rest] if rest[1] >= 5 else []
    assert len(cells) > 5
    statistic = sum((found - wanted) ** 2 / wanted for found, wanted in cells)
    assert statistic < chi2.ppf(0.999, len(cells) - 1)


def test_sentences_come_as_often_as_their_probability() -> None:
    num = 20_000
    rng = random.Random(1)
    counts = Counter(itertools.islice(iterate_words(GRAMMAR, rng), num))
    assert_plausible(counts, enumerate_language(GRAMMAR), num)


def test_chi_square_finds_a_wrong_weight() -> None:
    other = parse_grammar("@start <s0>; <s0> = a{0,5} | /1.2/ b{0,5};")
    wanted = parse_grammar("@start <s0>; <s0> = a{0,5} | b{0,5};")
    counts = Counter(itertools.islice(iterate_words(other, random.Random(1)), 20_000))
    with pytest.raises(AssertionError):
        assert_plausible(counts, enumerate_language(wanted), 20_000)


def test_repetitions_without_bound_are_geometric() -> None:
    grammar = parse_grammar("@start <s0>; <s0> = a+:0.75;")
    lengths = Counter(
        len(words) for words in itertools.islice(iterate_words(grammar, random.Random(2)), 20_000)
    )
    expected = {n: 0.25 * 0.75 ** (n - 1) for n in range(1, 200)}
    assert_plausible(lengths, expected, 20_000)


def test_paths_of_a_compiled_grammar() -> None:
    num = 20_000
    fst, _ = compile_grammar(GRAMMAR, TABLE)
    paths = sample_paths(fst, num, random.Random(3))
    language = enumerate_language(GRAMMAR)
    counts = Counter(tuple(TABLE.symbol(word) for word in path.words) for path in paths)
    assert_plausible(counts, language, num)
    for path in paths[:200]:
        probability = language[tuple(TABLE.symbol(word) for word in path.words)]
        assert path.score == pytest.approx(math.log(probability), abs=1e-4)


def backoff_bigram() -> Fst:
    """States 0: after <s>, 1: after a, 2: backed off; #0 is 4; scores not normalised in state 2."""
    log = math.log
    return Fst.from_list(
        [(0, 1, 1, 1, log(0.7)), (0, 2, 4, 0, log(0.3)),
         (1, 1, 1, 1, log(0.25)), (1, 2, 4, 0, log(0.5)),
         (2, 1, 1, 1, log(0.4)), (2, 2, 2, 2, log(0.8)), (2, 2, 3, 3, log(0.2))],
        {1: log(0.25), 2: log(0.6)},
    )  # fmt: skip


def enumerate_paths(fst: Fst, longest: int) -> dict[SampledPath, float]:
    """Probabilities of (words, rounded score), each state's exp(scores) taken over their sum."""
    expected: dict[SampledPath, float] = {}
    level = [(0, (), 0.0, 1.0)]
    for _ in range(longest):
        following = []
        for state, words, score, probability in level:
            arcs = np.flatnonzero(fst.src == state)
            final = float(fst.final_score[state])
            total = np.exp(fst.score[arcs]).sum() + math.exp(final)
            key = SampledPath(words, round(score + final, 3))
            expected[key] = expected.get(key, 0.0) + probability * math.exp(final) / total
            for arc in arcs:
                label = (int(fst.olabel[arc]),) if fst.olabel[arc] else ()
                following.append(
                    (int(fst.dst[arc]), words + label, score + float(fst.score[arc]),
                     probability * math.exp(fst.score[arc]) / total)
                )  # fmt: skip
        level = following
    return expected


def test_backoff_arcs_are_followed_and_leave_no_word() -> None:
    num, fst = 20_000, backoff_bigram()
    paths = sample_paths(fst, num, random.Random(4))
    assert all(4 not in path.words and 0 not in path.words for path in paths)
    expected = enumerate_paths(fst, 9)
    short = [SampledPath(path.words, round(path.score, 3)) for path in paths if len(path.words) < 4]
    counts = Counter(short)
    assert counts.keys() <= expected.keys()
    wanted = {path: p for path, p in expected.items() if len(path.words) < 4}
    share = sum(wanted.values())
    assert len(short) == pytest.approx(share * num, abs=5 * math.sqrt(num))
    assert_plausible(counts, {path: p / share for path, p in wanted.items()}, len(short))
    ways = {path.score for path in paths if path.words == (1,)}
    assert len(ways) >= 3  # with and without backing off, before and after


def test_same_seed_same_sentences() -> None:
    assert sample_sentences(GRAMMAR, 50, random.Random(5)) == sample_sentences(
        GRAMMAR, 50, random.Random(5)
    )
    assert sample_sentences(GRAMMAR, 50, random.Random(5)) != sample_sentences(
        GRAMMAR, 50, random.Random(6)
    )


def test_distinct_and_excluded() -> None:
    grammar = parse_grammar("@start <s0>; <s0> = /9/ a | b [c] | [a] [b];")
    everything = {"a", "b", "b c", "a b"}
    assert set(sample_sentences(grammar, 4, random.Random(1), distinct=True)) == everything
    found = sample_sentences(grammar, 50, random.Random(1), exclude=["a", "b c"])
    assert set(found) == {"b", "a b"}  # and never the empty one
    sentences = iterate_sentences(grammar, random.Random(1), True, {"a"})
    assert {next(sentences) for _ in range(3)} == everything - {"a"}
    with pytest.raises(GraphError, match="hardly any other sentences: 100,000 in a row"):
        next(sentences)


@pytest.mark.parametrize(
    ("fst", "message"),
    [
        (Fst.from_list([(0, 1, 1, 1, 0.0)], {}), "state 1 is a dead end"),
        (Fst.from_list([(0, 0, 1, 1, 0.0)], {0: -60.0}), "did not end within 100000 arcs"),
    ],
)
def test_graphs_that_cannot_be_sampled(fst: Fst, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        sample_paths(fst, 1, random.Random(1))
