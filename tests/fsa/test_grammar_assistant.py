"""The shipped grammar of a voice assistant: its size, its words, and G against its rules."""

import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_ast import Grammar, format_grammar
from moe_asr.fsa.grammar_compiler import CompileReport, compile_grammar, grammar_words
from moe_asr.fsa.grammar_parser import parse_grammar, read_grammar
from moe_asr.fsa.grammar_sampler import sample_paths, sample_sentences
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.grammar_references import Parse, parse_probability

FOLDER = Path(__file__).parents[2] / "egs" / "voice_commands" / "grammar"


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return read_grammar(FOLDER / "assistant.gram")


@pytest.fixture(scope="module")
def words(grammar: Grammar) -> SymbolTable:
    return SymbolTable(["<eps>", *grammar_words(grammar), "#0"], "words.txt")


@pytest.fixture(scope="module")
def compiled(grammar: Grammar, words: SymbolTable) -> tuple[Fst, CompileReport]:
    return compile_grammar(grammar, words)


def test_every_file_is_used(grammar: Grammar) -> None:
    assert sorted(path.name for path in grammar.files) == sorted(p.name for p in FOLDER.iterdir())
    assert set(grammar.reachable()) == set(grammar.rules) and not grammar.warnings


def test_size_of_the_language(compiled: tuple[Fst, CompileReport]) -> None:
    fst, report = compiled
    figures = report.statistics
    assert 900 <= figures.num_words <= 1100 and figures.num_words == len(set(fst.ilabel.tolist()))
    assert figures.num_sentences > 10**8
    assert (figures.shortest, figures.longest) == (2, 14)
    assert 5.8 <= figures.mean_length <= 7
    assert figures.total_probability == pytest.approx(1.0, abs=1e-4)
    assert report.num_arcs < 20_000 and not report.warnings


def test_words_can_be_spoken(grammar: Grammar) -> None:
    for word in grammar_words(grammar):
        assert re.fullmatch(r"[a-z]+(o'clock|'s)?|o'clock", word), word


def test_sampled_sentences_have_the_probability_of_their_derivations(
    grammar: Grammar, words: SymbolTable, compiled: tuple[Fst, CompileReport]
) -> None:
    """G is deterministic, so the one path of a sentence must have the sum over its derivations."""
    fst, _ = compiled
    splits = fst.arc_splits
    for sentence in sample_sentences(grammar, 150, random.Random(1), distinct=True):
        state, score = 0, 0.0
        for word in sentence.split():
            begin, end = splits[state], splits[state + 1]
            (found,) = (fst.ilabel[begin:end] == words[word]).nonzero()
            assert len(found) == 1, f"'{word}' in '{sentence}'"
            arc = begin + int(found[0])
            state, score = int(fst.dst[arc]), score + float(fst.score[arc])
        score += float(fst.final_score[state])
        expected = math.log(parse_probability(grammar, sentence.split()))
        assert score == pytest.approx(expected, abs=1e-4), sentence


def test_sampled_paths_are_sentences_of_the_grammar(
    grammar: Grammar, words: SymbolTable, compiled: tuple[Fst, CompileReport]
) -> None:
    for path in sample_paths(compiled[0], 50, random.Random(2)):
        sentence = [words.symbol(word) for word in path.words]
        expected = math.log(parse_probability(grammar, sentence))
        assert path.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "sentence",
    [
        "turn on the kitchen lights",
        "hey computer set a timer for twenty five minutes",
        "call anna smith on speaker",
        "play dancing under the moon by silver river",
        "will it rain in london tomorrow morning",
        "set the thermostat to twenty one degrees",
        "add two bottles of milk to the shopping list",
        "remind me to water the plants on friday",
        "navigate to forty two oak street",
        "convert three cups to grams",
        "never mind",
    ],
)
def test_what_people_say(grammar: Grammar, sentence: str) -> None:
    assert parse_probability(grammar, sentence.split()) > 0


@pytest.mark.parametrize(
    "sentence", ["turn on", "set a timer for", "call lights", "play play music", "rain will it"]
)
def test_what_people_do_not_say(grammar: Grammar, sentence: str) -> None:
    assert parse_probability(grammar, sentence.split()) == 0
    parse = Parse(grammar, sentence.split())
    assert len(sentence.split()) not in parse.ends(grammar.rules["utterance"].body, 0)


def test_a_large_sample_is_varied(grammar: Grammar) -> None:
    sample = sample_sentences(grammar, 20_000, random.Random(3))
    assert len(set(sample)) > 12_000
    assert Counter(sample).most_common(1)[0][1] < 100
    counts = Counter(word for sentence in sample for word in sentence.split())
    rare = [word for word in grammar_words(grammar) if counts[word] < 3]
    assert len(rare) < 10, rare


def test_one_file_says_the_same(grammar: Grammar) -> None:
    assert parse_grammar(format_grammar(grammar)) == grammar
