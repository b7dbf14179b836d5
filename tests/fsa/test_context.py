"""Contextual phrases: whatever way gains are spread, a path gets the boosts of what it says."""

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError, TextError
from moe_asr.fsa.context import ContextGraph, Match, Phrase, compile_context, read_phrases
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.cjk import text_words
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable

SPECIAL = ["<blk>", "<sos/eos>", "<unk>"]
WORDS = ["a", "b", "ab", "c"]
PIECES = [
    "▁",
    "a",
    "b",
    "▁a",
    "▁b",
    "ab",
    "▁ab",
    "ba",
    "▁ba",
    "c",
    "abc",
    "中",
    "国",
    "▁国",
    "b中",
    "国a▁",
]


def graph_of(kind: str, tokens: Sequence[str], words: Sequence[str] = ()) -> DecodingGraph:
    """With an arc for every word or token; what it accepts is of no interest here."""
    token_table = SymbolTable([*SPECIAL, *tokens])
    word_table = SymbolTable(["<eps>", *words, "#0"]) if words else token_table
    count = max(len(token_table), len(word_table)) - 1
    labels = np.arange(1, count)
    carried = np.minimum(labels, len(word_table) - (2 if words else 1)).astype(np.int32)
    return DecodingGraph(
        np.zeros(count, np.int32),
        np.append(np.zeros(count - 1), 1).astype(np.int32),
        np.append(np.minimum(labels, len(token_table) - 1), -1).astype(np.int32),
        np.zeros(count, np.float32),
        np.minimum(np.arange(count + 1), count - 1).astype(np.int32),
        carried,
        token_table,
        word_table,
        {"kind": kind},
    )


WORD_GRAPH = graph_of("LG", ["x"], WORDS)
TOKEN_GRAPH = graph_of("T", PIECES)


def gain_of(context: ContextGraph, units: Sequence[int]) -> tuple[float, list[float]]:
    """The sum of the gains of a whole sequence, and those of its beginnings."""
    state, total, sums = context.start, 0.0, []
    for unit in units:
        column = context.tables.class_of[unit]
        total += float(context.tables.gain[state, column])
        state = int(context.tables.next[state, column])
        sums.append(total)
    return total + float(context.end_gain[state]), sums


def count(words: Sequence[object], phrase: Sequence[object]) -> int:
    return sum(list(words[i : i + len(phrase)]) == list(phrase) for i in range(len(words)))


def random_phrases(rng: random.Random, words: Sequence[str], separator: str = " ") -> list[Phrase]:
    phrases = {}
    for _ in range(rng.randint(1, 5)):
        text = separator.join(rng.choice(words) for _ in range(rng.randint(1, 4)))
        phrases[" ".join(text_words(text))] = Phrase(text, rng.choice([-2.0, -0.3, 0.7, 1.0, 3.1]))
    return list(phrases.values())


@settings(max_examples=200)
@given(st.integers(0, 10**9))
def test_words_gain_the_boosts_of_all_occurrences(number: int) -> None:
    rng = random.Random(number)
    phrases = random_phrases(rng, WORDS[:3])
    context = compile_context(phrases, WORD_GRAPH)
    assert context.level == "word"
    for _ in range(5):
        words = [rng.choice(WORDS) for _ in range(rng.randint(0, 10))]
        units = [WORD_GRAPH.word_table[word] for word in words]
        expected = sum(p.boost * count(words, p.text.split()) for p in phrases)
        found, beginnings = gain_of(context, units)
        assert found == pytest.approx(expected, abs=1e-5)
        assert context.score(units) == pytest.approx(expected, abs=1e-9)
        for end, total in enumerate(beginnings, start=1):
            # so far: what has been found, and the best that is begun, in proportion
            begun = [
                max(p.boost, 0.0) * length / len(p.text.split())
                for p in phrases
                for length in range(1, len(p.text.split()))
                if words[:end][-length:] == p.text.split()[:length] and length <= end
            ]
            complete = sum(p.boost * count(words[:end], p.text.split()) for p in phrases)
            assert total == pytest.approx(complete + max(begun, default=0.0), abs=1e-5)
        assert context.matches(units) == sorted(
            (
                Match(index, i, i + len(p.text.split()))
                for index, p in enumerate(context.phrases)
                for i in range(len(words))
                if words[i : i + len(p.text.split())] == p.text.split()
            ),
            key=lambda match: (match.end, match.begin),
        )


@settings(max_examples=200)
@given(st.integers(0, 10**9))
def test_tokens_gain_what_the_words_that_they_spell_do(number: int) -> None:
    """Whatever the segmentation: the reference looks at the text alone."""
    rng = random.Random(number)
    phrases = random_phrases(rng, ["a", "b", "ab", "ba", "中", "国", "aba"], rng.choice([" ", ""]))
    context = compile_context(phrases, TOKEN_GRAPH)
    assert context.level == "token"
    for _ in range(10):
        tokens = [rng.choice(PIECES) for _ in range(rng.randint(0, 9))]
        units = [TOKEN_GRAPH.token_table[token] for token in tokens]
        words = text_words("".join(tokens))
        expected = sum(p.boost * count(words, text_words(p.text)) for p in phrases)
        assert gain_of(context, units)[0] == pytest.approx(expected, abs=1e-5)
        assert context.score(units) == pytest.approx(expected, abs=1e-9)
        for match in context.matches(units):
            spelled = "".join(tokens[match.begin : match.end])
            wanted = "".join(text_words(context.phrases[match.phrase].text))
            assert wanted in "".join(text_words(spelled))


def test_a_word_gains_its_characters_before_it_ends_and_loses_them_if_it_goes_on() -> None:
    context = compile_context([Phrase("ab", 2.0)], TOKEN_GRAPH)
    ids = [TOKEN_GRAPH.token_table[token] for token in ("▁a", "b", "a", "▁ba")]
    total, beginnings = gain_of(context, ids)
    assert beginnings == [1.0, 2.0, 0.0, 0.0] and total == 0.0
    total, beginnings = gain_of(context, [*ids[:2], *ids[3:]])
    assert beginnings == [1.0, 2.0, 2.0] and total == 2.0
    assert gain_of(context, ids[:2])[0] == 2.0 and gain_of(context, ids[:1])[0] == 0.0
    # an unfinished word is none yet
    assert context.score(ids[:2]) == 2.0 and context.score(ids[:2], is_complete=False) == 0.0


def test_an_unknown_token_within_a_word_is_another_word() -> None:
    context = compile_context([Phrase("ab", 2.0)], TOKEN_GRAPH)
    a, b = TOKEN_GRAPH.token_table["▁a"], TOKEN_GRAPH.token_table["b"]
    assert gain_of(context, [a, 2, b])[0] == 0.0
    assert gain_of(context, [a, 0, b])[0] == 2.0  # blank is nothing


LEXICON = Lexicon(
    [
        Pronunciation("x", ("p", "q")),
        Pronunciation("x", ("p",)),
        Pronunciation("y", ("q", "p")),
        Pronunciation("z", ("r",)),
    ]
)
PHONE_GRAPH = graph_of("T", ["p", "q", "r", "s"])


@settings(max_examples=100)
@given(st.integers(0, 10**9), st.booleans())
def test_all_pronunciations_count(number: int, by_tokenizer: bool) -> None:
    rng = random.Random(number)
    phrases = random_phrases(rng, ["x", "y", "z"])
    if by_tokenizer:
        tokenizer = PhoneTokenizer(PHONE_GRAPH.token_table, LEXICON)
        context = compile_context(phrases, PHONE_GRAPH, tokenizer=tokenizer)
    else:
        context = compile_context(phrases, PHONE_GRAPH, lexicon=LEXICON)
    for _ in range(5):
        phones = tuple(rng.choice("pqrs") for _ in range(rng.randint(0, 9)))
        expected = 0.0
        for phrase in phrases:
            ways: set[tuple[str, ...]] = {()}
            for word in phrase.text.split():
                ways = {(*way, *entry.tokens) for way in ways for entry in LEXICON[word]}
            expected += phrase.boost * sum(count(phones, way) for way in ways)
        units = [PHONE_GRAPH.token_table[phone] for phone in phones]
        assert gain_of(context, units)[0] == pytest.approx(expected, abs=1e-5)
        assert context.score(units) == pytest.approx(expected, abs=1e-9)


def test_no_phrases_gain_nothing() -> None:
    for graph in (WORD_GRAPH, TOKEN_GRAPH):
        context = compile_context([], graph)
        assert context.is_empty and gain_of(context, [1, 3, 2]) == (0.0, [0.0] * 3)


def test_the_most_gain_is_reached() -> None:
    context = compile_context([Phrase("a b", 2.0), Phrase("b", -1.0), Phrase("c", 3.0)], WORD_GRAPH)
    a = context.tables.next[0, context.tables.class_of[WORD_GRAPH.word_table["a"]]]
    assert context.most_gain[0] == 3.0 and context.most_gain[a] == 2.0
    only_loss = compile_context([Phrase("b", -1.0)], WORD_GRAPH)
    assert only_loss.most_gain.tolist() == [0.0]  # an arc without words brings nothing


@pytest.mark.parametrize(
    ("text", "graph", "message"),
    [
        ("a zoo", WORD_GRAPH, "list:7: phrase 'a zoo': no word 'zoo' in symbol table"),
        ("a #0", WORD_GRAPH, "phrase 'a #0': no word '#0'"),
        ("ab dab", TOKEN_GRAPH, "phrase 'ab dab': .* 'ab▁' of it, but not 'dab'"),
        ("中人", TOKEN_GRAPH, "phrase '中人': .* '中▁' of it, but not '人'"),
        ("<unk>", TOKEN_GRAPH, "phrase '<unk>'"),
    ],
)
def test_a_phrase_that_cannot_be_spelled(text: str, graph: DecodingGraph, message: str) -> None:
    with pytest.raises(TextError, match=message):
        compile_context([Phrase("a"), Phrase(text, source="list:7")], graph)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([*PIECES, "a▁b", "b▁", "▁中a"]), min_size=1, max_size=4, unique=True),
       st.sampled_from(["a", "ab", "a b", "b a", "中", "a中", "中 b", "国", "a国"]))  # fmt: skip
def test_a_phrase_is_refused_if_no_tokens_say_it(pieces: list[str], text: str) -> None:
    """Also tokens that go beyond the phrase; against all sequences of up to four tokens."""
    everything = graph_of("T", [*pieces, *(set("▁ab中国") - set(pieces)), "unused"])
    some = graph_of("T", [*pieces, "unused"])
    score = compile_context([Phrase(text)], everything).score
    ids = range(3, 3 + len(pieces))
    sequences = (itertools.product(ids, repeat=length) for length in range(1, 5))
    if any(score(sequence) > 0 for sequence in itertools.chain(*sequences)):
        compile_context([Phrase(text)], some)
    else:
        with pytest.raises(TextError, match="spell"):
            compile_context([Phrase(text)], some)


def test_words_must_be_in_the_graph_and_the_lexicon() -> None:
    graph = graph_of("LG", ["x"], WORDS)
    graph.words[graph.words == graph.word_table["b"]] = graph.word_table["a"]
    with pytest.raises(TextError, match="phrase 'a b': no arc of the graph has the word 'b'"):
        compile_context([Phrase("a b")], graph)
    with pytest.raises(TextError, match="phrase 'c': word 'c' is not in the lexicon"):
        compile_context([Phrase("c")], graph, lexicon=LEXICON)
    with pytest.raises(TextError, match="phrase 'x w': word 'w' has no pronunciation"):
        compile_context([Phrase("x w")], PHONE_GRAPH, lexicon=LEXICON)


def test_a_phrase_with_too_many_pronunciations() -> None:
    with pytest.raises(TextError, match="16384 pronunciations; at most 10000"):
        compile_context([Phrase(" ".join("x" * 14))], PHONE_GRAPH, lexicon=LEXICON)


def test_what_makes_no_context() -> None:
    with pytest.raises(TextError, match="phrase ' ▁ ': a phrase without a word"):
        Phrase(" ▁ ")
    for boost in (math.nan, math.inf, -math.inf, 1e300, -10001.0):
        with pytest.raises(TextError, match="phrase 'a': the boost is"):
            Phrase("a", boost)
    with pytest.raises(TextError, match=r"phrase 'a  b': boost 2, but it was there with 1"):
        compile_context([Phrase("a b", 1.0), Phrase("a  b", 2.0)], WORD_GRAPH)
    assert len(compile_context([Phrase("a b", 1.0), Phrase("a  b", 1.0)], WORD_GRAPH).phrases) == 1
    with pytest.raises(ConfigError, match="level must be one of auto, word, token"):
        compile_context([], WORD_GRAPH, "phone")
    with pytest.raises(ConfigError, match="kind T has no words"):
        compile_context([], TOKEN_GRAPH, "word")
    with pytest.raises(GraphError, match="compile them for it"):
        compile_context([], WORD_GRAPH).check_graph(graph_of("LG", ["x"], ["other"]))
    with pytest.raises(GraphError, match="word 99 is none of 6"):
        compile_context([Phrase("a")], WORD_GRAPH).score([99])


def test_tables_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_asr.fsa.context_tables.MAX_BYTES", 300)
    for graph in (WORD_GRAPH, TOKEN_GRAPH):
        compile_context([Phrase("a")], graph)
        with pytest.raises(ConfigError, match="take fewer phrases"):
            compile_context([Phrase("a b ab a b ab b b b a a a b")], graph)


def test_only_what_begins_a_phrase_takes_memory() -> None:
    """A phrase that is complete is a state only where a longer one goes on: lists of words have one state."""
    words = [f"w{number}" for number in range(3000)]
    graph = graph_of("LG", ["x"], words)
    context = compile_context([Phrase(word, 2.0) for word in words], graph)
    assert context.num_states == 1 and context.tables.gain.nbytes < 20_000
    units = [graph.word_table[word] for word in ("w7", "w7", "w2999")]
    assert gain_of(context, units)[0] == context.score(units) == 6.0
    assert context.matches(units) == [Match(7, 0, 1), Match(7, 1, 2), Match(2999, 2, 3)]
    longer = compile_context([Phrase("w1"), Phrase("w1 w2"), Phrase("w2 w3 w4")], graph)
    assert longer.num_states == 4  # of nothing, w1, w2, w2 w3


def test_reading_phrases(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes("new york\t4.5\r\n\n北京\nno\t-1\nnew  york\t4.5\n".encode())
    phrases = read_phrases(path, 2.0)
    assert phrases == [Phrase("new york", 4.5), Phrase("北京", 2.0), Phrase("no", -1.0)]
    assert phrases[1].source == f"{path}:3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\t1\t2\n", ":1: expected 'phrase' or"),
        (b"a\n\nb\tx\n", ":3: expected a number as boost, found 'x'"),
        (b"a\tnan\n", ":1: phrase 'a': the boost is nan"),
        (b"\t1\n", ":1: phrase '': a phrase without a word"),
        (b"a\na\t1\n", ":2: phrase 'a': boost 1, but it was there with 3 .*:1"),
        (b"a\n\xff\n", ":2: not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_phrases(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_phrases(path)
    with pytest.raises(TextError, match="cannot be read"):
        read_phrases(tmp_path / "absent")
