"""Lexicons: files in and out, spelling by tokenizers, disambiguation symbols."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.lexicon import (
    Lexicon,
    Pronunciation,
    add_disambig_symbols,
    lexicon_from_tokenizer,
    spell_words,
)
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer
from tests.fsa.references import random_lexicon


def entries(*lines: str) -> Lexicon:
    return Lexicon(Pronunciation(line.split()[0], tuple(line.split()[1:])) for line in lines)


def test_round_trip(tmp_path: Path) -> None:
    lexicon = entries("one w ah n", "two t uw", "one hh w ah n", "一 y i")
    lexicon.write(tmp_path / "lexicon.txt")
    assert (tmp_path / "lexicon.txt").read_text(encoding="utf-8") == (
        "one w ah n\ntwo t uw\none hh w ah n\n一 y i\n"
    )
    again = Lexicon.read(tmp_path / "lexicon.txt")
    assert again.pronunciations == lexicon.pronunciations
    assert again.words == ["one", "two", "一"]
    assert [entry.tokens for entry in again["one"]] == [("w", "ah", "n"), ("hh", "w", "ah", "n")]
    assert list(again.word_table()) == ["<eps>", "one", "two", "一", "#0"]
    with pytest.raises(KeyError):
        again["three"]


def test_round_trip_with_probabilities(tmp_path: Path) -> None:
    lexicon = Lexicon(
        [Pronunciation("a", ("x",), math.log(0.3)), Pronunciation("a", ("y",), math.log(0.7))]
    )
    with pytest.raises(TextError, match="lose"):
        lexicon.write(tmp_path / "lexicon.txt")
    lexicon.write(tmp_path / "lexiconp.txt", probabilities=True)
    again = Lexicon.read(tmp_path / "lexiconp.txt", probabilities=True)
    assert [entry.tokens for entry in again.pronunciations] == [("x",), ("y",)]
    assert [entry.log_prob for entry in again.pronunciations] == pytest.approx(
        [math.log(0.3), math.log(0.7)], rel=1e-12
    )


@pytest.mark.parametrize("probability", ["1", "0.3", "0.7", "0.123456789012345", "1e-300"])
def test_a_probability_is_written_as_it_was(tmp_path: Path, probability: str) -> None:
    (tmp_path / "a").write_text(f"a {probability} x y\n")
    Lexicon.read(tmp_path / "a", probabilities=True).write(tmp_path / "b", probabilities=True)
    assert (tmp_path / "b").read_text() == (tmp_path / "a").read_text()


@given(st.floats(-700.0, 0.0))
def test_writing_again_writes_the_same(
    tmp_path_factory: pytest.TempPathFactory, log_prob: float
) -> None:
    folder = tmp_path_factory.mktemp("lexicon")
    lexicon = Lexicon([Pronunciation("a", ("x",), log_prob)])
    lexicon.write(folder / "a", probabilities=True)
    again = Lexicon.read(folder / "a", probabilities=True)
    assert again["a"][0].log_prob == pytest.approx(log_prob, rel=1e-15, abs=1e-15)
    again.write(folder / "b", probabilities=True)
    assert (folder / "b").read_text() == (folder / "a").read_text()


def test_a_probability_too_small_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="word 'a': the probability .* too small"):
        Lexicon([Pronunciation("a", ("x",), -800.0)]).write(tmp_path / "a", probabilities=True)


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("one w ah n\ntwo\n", 2, "empty pronunciation"),
        ("one w ah n\n\none w ah n\n", 3, "same entry as in line 1"),
        ("one w #1 n\n", 1, "'#1' is reserved"),
        ("a a\n#0 b\n", 2, "'#0' is reserved"),
        ("<eps> a\n", 1, "'<eps>' is reserved"),
        ("a <blk>\n", 1, "'<blk>' is reserved"),
        ("\ufeffa b\n", 1, "BOM"),
        ("a a\ncafe\u0301 b\n", 2, "not as texts are once normalised"),
        ("\u2581a a\n", 1, "expected 'a'"),
        ("a x\r\nb y\rc z\n", 2, "a carriage return within the line"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, line: int, found: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_bytes(content.encode())
    with pytest.raises(TextError) as caught:
        Lexicon.read(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert found in str(caught.value)


@pytest.mark.parametrize("field", ["0", "1.5", "-0.1", "nan", "inf", "x", "", "0_1", "\uff10.5"])
def test_bad_probabilities_are_named(tmp_path: Path, field: str) -> None:
    path = tmp_path / "lexiconp.txt"
    path.write_text(f"a 0.5 x\nb {field} y\n", encoding="utf-8")
    with pytest.raises(TextError, match=r":2: word 'b': expected a probability"):
        Lexicon.read(path, probabilities=True)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("caf\u00e9 k\n".encode("latin-1"))
    (tmp_path / "empty").write_text("\n \n")
    for name in ("latin", "empty", "absent"):
        with pytest.raises(TextError, match=name):
            Lexicon.read(tmp_path / name)


def test_tokens_outside_the_table_are_named(tmp_path: Path) -> None:
    entries("a x", "b x z").write(tmp_path / "lexicon.txt")
    with pytest.raises(TextError, match=r"lexicon\.txt:2: word 'b': token 'z' is not in .*table"):
        Lexicon.read(tmp_path / "lexicon.txt", tokens=SymbolTable(["<blk>", "x"]))
    with pytest.raises(TextError, match="word 'b': token 'z'"):
        entries("a x", "b x z").check_tokens(SymbolTable(["<blk>", "x"]))


def test_spelling_by_characters_keeps_the_separator() -> None:
    tokenizer = CharTokenizer.from_texts(["one two"])
    lexicon = lexicon_from_tokenizer(["one", "two"], tokenizer)
    spellings = {entry.tokens for entry in lexicon["two"]}
    assert spellings == {tuple("two"), tuple("\u2581two")}
    ids = [tokenizer.tokens[token] for token in (*"one", *"\u2581two")]
    assert ids == tokenizer.encode("one two")
    with pytest.raises(TextError, match="word 'six'"):
        lexicon_from_tokenizer(["one", "six"], tokenizer)
    with pytest.raises(TextError, match="whitespace"):
        lexicon_from_tokenizer([" "], tokenizer)
    with pytest.raises(TextError, match="^word '<unk>' cannot be spelled by the tokenizer$"):
        lexicon_from_tokenizer(["<unk>"], CharTokenizer.from_texts(["<unk>"]))


def test_words_that_cannot_be_spelled_are_counted() -> None:
    tokenizer = CharTokenizer.from_texts(["ab"])
    words = ["ab", *(f"a{letter}" for letter in "cdefghijklm")]
    with pytest.raises(TextError, match=r"^11 words cannot .*: 'ac', 'ad', .*'al', \.\.\.$"):
        lexicon_from_tokenizer(words, tokenizer)
    spelled, unspellable = spell_words(words, tokenizer)
    assert [entry.word for entry in spelled] == ["ab"] and unspellable == words[1:]


def test_disambiguation_of_a_known_lexicon() -> None:
    lexicon = entries("red r eh d", "read r eh d", "a ah", "abut ah b", "read r iy d", "cat k")
    symbols, highest = add_disambig_symbols(lexicon)
    assert symbols == [
        ("r", "eh", "d", "#1"),
        ("r", "eh", "d", "#2"),
        ("ah", "#1"),
        ("ah", "b"),
        ("r", "iy", "d"),
        ("k",),
    ]
    assert highest == 2


@given(st.integers(0, 10**6))
def test_disambiguation_against_pairwise_comparison(number: int) -> None:
    lexicon = random_lexicon(random.Random(number), ["x", "y"], max_entries=9)
    symbols, highest = add_disambig_symbols(lexicon)
    plain = [entry.tokens for entry in lexicon.pronunciations]
    for i, tokens in enumerate(plain):
        others = [other for j, other in enumerate(plain) if j != i]
        ambiguous = any(other[: len(tokens)] == tokens for other in others)
        number_among_equals = sum(other == tokens for other in plain[: i + 1])
        expected = (*tokens, f"#{number_among_equals}") if ambiguous else tokens
        assert symbols[i] == expected
    for i, first in enumerate(symbols):  # what it is for: no entry begins another any more
        assert not any(second[: len(first)] == first for j, second in enumerate(symbols) if j != i)
    used = [int(s[-1][1:]) for s in symbols if s[-1].startswith("#")]
    assert highest == max(used, default=0)
