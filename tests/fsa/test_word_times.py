"""Tokens cut into words, against the enumeration of all ways to cut them."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.word_times import (
    LexiconCutter,
    SpellingCutter,
    TokenCutter,
    WordTime,
    word_times,
)
from moe_asr.text.bpe import train_bpe
from moe_asr.text.lexicon import Lexicon, Pronunciation, lexicon_from_tokenizer
from moe_asr.text.mixed import MixedTokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer, Tokenizer
from tests.fsa.random_lattices import LatticeArc, lattice_of

TOKENS = SymbolTable(["<blk>", "<sos/eos>", "<unk>", "a", "b", "c"])
SEEDS = st.integers(0, 2**32)
Spans = list[tuple[int, int]]


def random_lexicon(rng: random.Random) -> Lexicon:
    entries = {}
    for word in ("A", "B", "C"):
        for _ in range(rng.randint(1, 3)):
            spelling = tuple(rng.choice("ab") for _ in range(rng.randint(1, 3)))
            entries[word, spelling] = Pronunciation(word, spelling, -rng.randint(0, 2) / 8)
    return Lexicon(entries.values())


def all_cuts(lexicon: Lexicon, words: list[str], tokens: list[str]) -> list[tuple[float, Spans]]:
    """Every choice of pronunciations that spells the tokens, with its log-probability."""
    found = []
    for choice in itertools.product(*(lexicon[word] for word in words)):
        if [token for entry in choice for token in entry.tokens] == tokens:
            ends = list(itertools.accumulate(len(entry.tokens) for entry in choice))
            found.append(
                (sum(entry.log_prob for entry in choice), list(zip([0, *ends], ends, strict=False)))
            )
    return found


@settings(max_examples=1000)
@given(SEEDS)
def test_lexicon_against_all_cuts(seed: int) -> None:
    rng = random.Random(seed)
    lexicon = random_lexicon(rng)
    table = lexicon.word_table()
    words = [rng.choice(lexicon.words) for _ in range(rng.randint(0, 5))]
    tokens = [token for word in words for token in rng.choice(lexicon[word]).tokens]
    if rng.random() < 0.3 and tokens:  # most often there is no way then
        tokens[rng.randrange(len(tokens))] = rng.choice("abc")
    if rng.random() < 0.2:
        tokens.append("a")
    cutter = LexiconCutter(lexicon, TOKENS, table)
    ids = [table[word] for word in words], [TOKENS[token] for token in tokens]
    expected = all_cuts(lexicon, words, tokens)
    if not expected:
        with pytest.raises(GraphError, match="is not spelled by|are left over"):
            cutter.cut(*ids)
        return
    # the most probable; then the latest begin of the last word, of the one before, ...
    best = max(expected, key=lambda cut: (cut[0], [begin for begin, _ in cut[1][::-1]]))
    assert cutter.cut(*ids) == best[1]


@settings(max_examples=500)
@given(SEEDS)
def test_the_path_stops_anywhere(seed: int) -> None:
    """Of a partial path the words before the last one have what they have in some whole path."""
    rng = random.Random(seed)
    lexicon = random_lexicon(rng)
    table = lexicon.word_table()
    words = [rng.choice(lexicon.words) for _ in range(rng.randint(1, 4))]
    spellings = [rng.choice(lexicon[word]).tokens for word in words]
    tokens = [token for spelling in spellings for token in spelling]
    stop = rng.randint(0, len(tokens))
    known = rng.choice([len(words), len(words) - 1])  # the last label may come late
    if sum(map(len, spellings[:known])) > stop:
        known = len(words)
    cutter = LexiconCutter(lexicon, TOKENS, table)
    spans = cutter.cut(
        [table[word] for word in words[:known]], [TOKENS[token] for token in tokens[:stop]], True
    )
    assert len(spans) == known
    end = 0
    unfinished = 0
    for word, (begin, after) in zip(words, spans, strict=False):
        assert begin == end
        end = after
        taken = tuple(tokens[begin:after])
        whole = any(entry.tokens == taken for entry in lexicon[word])
        assert whole or (
            after == stop and any(entry.tokens[: len(taken)] == taken for entry in lexicon[word])
        )
        unfinished += not whole
    unfinished += end < stop
    # the path it was made of, cut short, is one way
    begins = [0, *itertools.accumulate(map(len, spellings))]
    short = sum(begins[i + 1] > stop for i in range(known)) + (begins[known] < stop)
    assert unfinished <= short


def test_homophones_and_long_paths() -> None:
    """No recursion: a thousand words that can be cut in two ways each."""
    lexicon = Lexicon(
        [
            Pronunciation("A", ("a",)),
            Pronunciation("A", ("a", "a"), -0.5),
            Pronunciation("B", ("a",)),
        ]
    )
    table = lexicon.word_table()
    count = 1200
    words = [table["A"], table["B"]] * (count // 2)
    cutter = LexiconCutter(lexicon, TOKENS, table)
    assert cutter.cut(words, [3] * count) == [(i, i + 1) for i in range(count)]
    # one token more: all ways are equally good, and the last words have the fewest
    assert cutter.cut(words, [3] * (count + 1))[:3] == [(0, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("kind", ["bpe", "char", "mixed"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spelling_of_tokenizers(kind: str, data: st.DataObject) -> None:
    tokenizer, vocabulary = TOKENIZERS(kind)
    words = data.draw(st.lists(st.sampled_from(vocabulary), max_size=8))
    if kind == "mixed":
        words = [w for w in words if len(w) > 1 or not w.isascii()]
    tokens = tokenizer.encode(" ".join(words))
    lexicon = lexicon_from_tokenizer(vocabulary, tokenizer)
    table = lexicon.word_table()
    ids = [table[word] for word in words]
    spans = SpellingCutter(tokenizer.tokens, table).cut(ids, tokens)
    assert [tokenizer.decode(tokens[begin:end]) for begin, end in spans] == words
    assert LexiconCutter(lexicon, tokenizer.tokens, table).cut(ids, tokens) == spans
    mark = tokenizer.tokens.get("▁")
    covered = {place for begin, end in spans for place in range(begin, end)}
    left = [token for place, token in enumerate(tokens) if place not in covered]
    assert set(left) <= {mark}
    stop = data.draw(st.integers(0, len(tokens)))
    partial = SpellingCutter(tokenizer.tokens, table).cut(ids, tokens[:stop], True)
    assert partial[: len([1 for _, end in spans if end <= stop])] == [
        span for span in spans if span[1] <= stop
    ]


def _tokenizers():
    made: dict[str, tuple[Tokenizer, list[str]]] = {}

    def get(kind: str) -> tuple[Tokenizer, list[str]]:
        if kind not in made:
            latin = ["hello", "hell", "low", "lower", "wer", "er", "o", "follow", "we"]
            if kind == "mixed":
                words = [*latin, *"我们好"]
                texts = [" ".join(latin), "我 们 好", "follow 我 lower"]
                made[kind] = MixedTokenizer.train(texts, 26), words
            elif kind == "char":
                made[kind] = CharTokenizer.from_texts([" ".join(latin)]), latin
            else:
                import tempfile

                with tempfile.TemporaryDirectory() as directory:
                    made[kind] = train_bpe([" ".join(latin)] * 3, 22, Path(directory)), latin
        return made[kind]

    return get


TOKENIZERS = _tokenizers()


def test_spelling_that_does_not_fit() -> None:
    tokens = SymbolTable(["<blk>", "<sos/eos>", "<unk>", "▁ab", "c", "▁", "▁c", "abc"])
    words = SymbolTable(["<eps>", "abc", "ab", "c", "d"])
    cutter = SpellingCutter(tokens, words)
    assert cutter.cut([1], [3, 4]) == [(0, 2)]
    assert cutter.cut([2, 3], [3, 4]) == [(0, 1), (1, 2)]
    assert cutter.cut([2, 3], [5, 5, 3, 5, 4, 5]) == [(2, 3), (4, 5)]
    assert cutter.cut([1, 3], [3], True) == [(0, 1), (1, 1)]
    assert cutter.cut([2], [3, 4], True) == [(0, 1)]
    with pytest.raises(GraphError, match="word 1 of 1, 'abc', is not spelled by '▁ab ▁c'"):
        cutter.cut([1], [3, 6])  # the mark is within the word
    with pytest.raises(GraphError, match="word 2 of 2, 'd', is not spelled by 'c'"):
        cutter.cut([2, 4], [3, 4])
    with pytest.raises(GraphError, match="word 1 of 1, 'ab', is not spelled by 'abc'"):
        cutter.cut([2], [7])
    with pytest.raises(GraphError, match="tokens 'c' are left over after 1 words"):
        cutter.cut([2], [3, 4])
    with pytest.raises(GraphError, match="word 2 of 2, 'c', is not spelled by ''"):
        cutter.cut([2, 3], [3])


def test_lexicon_of_another_graph() -> None:
    lexicon = Lexicon([Pronunciation("A", ("a",)), Pronunciation("B", ("b", "a"))])
    words = SymbolTable(["<eps>", "A", "B", "other"])
    cutter = LexiconCutter(lexicon, TOKENS, words)
    with pytest.raises(GraphError, match="word 'other' is not in the lexicon"):
        cutter.cut([1, 3], [3, 4])
    with pytest.raises(
        GraphError, match="word 2 of 2, 'B', is not spelled by 'b b'; is it the lexicon"
    ):
        cutter.cut([1, 2], [3, 4, 4])
    with pytest.raises(GraphError, match="tokens 'b' are left over after 1 words"):
        cutter.cut([1], [3, 4])


def test_words_that_are_tokens() -> None:
    assert TokenCutter().cut((3, 4, 4), (3, 4, 4)) == [(0, 1), (1, 2), (2, 3)]
    with pytest.raises(GraphError, match="1 words and 2 tokens are not the same"):
        TokenCutter().cut((3,), (3, 4))


def test_times() -> None:
    times = word_times([7, 8, 9], [(0, 2), (3, 4), (4, 4)], [0, 2, 5, 8], [1, 4, 6, 9])
    assert times == (WordTime(7, 0, 4), WordTime(8, 8, 9))  # a word without tokens has no time
    assert times[1].seconds(0.04) == pytest.approx((0.32, 0.4))
    with pytest.raises(ConfigError, match="frame_shift_seconds must be positive"):
        times[0].seconds(0.0)


def whole_lattice(graph: DecodingGraph, log_probs: np.ndarray, is_partial: bool = False) -> Lattice:
    """All paths of an HLG over the frames, none pruned; states may be on no path."""
    num_frames, width = len(log_probs), graph.num_states
    final = num_frames * width + width - 1
    arcs, entered = [], dict(zip(graph.dst.tolist(), graph.token.tolist(), strict=True))
    for frame in range(num_frames + 1):
        for i in range(graph.num_arcs):
            src, dst, token = int(graph.src[i]), int(graph.dst[i]), int(graph.token[i])
            if (token < 0) != (frame == num_frames) or (frame == 0 and src > 0):
                continue
            arcs.append(
                LatticeArc(
                    frame * width + src,
                    final if token < 0 else (frame + 1) * width + dst,
                    token,
                    token > 0 and entered.get(src) != token,
                    0.0 if token < 0 else float(log_probs[frame, token]),
                    float(graph.score[i]),
                    tuple(graph.words_of(i).tolist()),
                )
            )
    if is_partial:
        last = range(num_frames * width, final)
        arcs = [arc for arc in arcs if arc.token >= 0]
        arcs += [LatticeArc(state, final, -1, False, 0.0, 0.0, ()) for state in last]
    frames = [min(state // width, num_frames) for state in range(final + 1)]
    return lattice_of(arcs, frames, num_frames, is_partial)


def decoded_utterance() -> tuple[DecodingGraph, LexiconCutter, np.ndarray, list[int]]:
    """Three words that begin alike: an HLG, the cutter, posteriors, and the labels that are in them."""
    lexicon = Lexicon(
        [Pronunciation("first", ("a", "b", "c")), Pronunciation("second", ("a", "a")),
         Pronunciation("third", ("a", "b"))]
    )  # fmt: skip
    table = lexicon.word_table()
    loop = [(0, 0, table[word], table[word], -1.0) for word in lexicon.words]
    graphs = build_graphs(lexicon, Fst.from_list(loop, {0: 0.0}), TOKENS, builder="openfst")
    labels = [0, 3, 3, 0, 4, 4, 5, 0, 0, 3, 0, 3, 3, 0, 3, 4, 4]
    log_probs = np.full((len(labels), len(TOKENS)), -5.0, np.float32)
    log_probs[np.arange(len(labels)), labels] = -0.1
    return graphs.hlg, LexiconCutter(lexicon, TOKENS, table), log_probs, labels


def test_times_of_a_decoded_utterance() -> None:
    """The words' labels come late, their times do not."""
    hlg, cutter, log_probs, labels = decoded_utterance()
    lattice = whole_lattice(hlg, log_probs)
    best = nbest(lattice, 20)[0]
    assert hlg.word_symbols(best.words) == ["first", "second", "third"]
    assert best.labels.tolist() == labels
    times = [(time.first_frame, time.last_frame) for time in best.word_times(cutter)]
    assert times == [(1, 6), (9, 12), (14, 16)]
    # no such luck with the labels: the graph cannot tell the words by their first token
    assert [time.first_frame for time in best.word_times()] == [6, 11, 16]
    for path in nbest(lattice, 20):
        assert len(path.word_times(cutter)) == len(path.words)


def test_times_of_every_beginning_of_it() -> None:
    """What words are known, and which of their tokens, depends on where the labels are in the graph."""
    hlg, cutter, log_probs, _ = decoded_utterance()
    for length in range(len(log_probs) + 1):
        lattice = whole_lattice(hlg, log_probs[:length], is_partial=True)
        for path in nbest(lattice, 30, "token"):
            times = path.word_times(cutter, lattice.is_partial)
            assert len(times) >= len(path.words) - 1
            assert [time.word for time in times] == list(path.words[: len(times)])
        best = nbest(lattice, 1)[0]
        whole = [WordTime(1, 1, 6), WordTime(2, 9, 12), WordTime(3, 14, 16)]
        finished = [time for time in whole if time.last_frame < length]
        found = list(best.word_times(cutter, True))
        assert found[: len(finished)] == finished[: len(found)]
        assert len(found) >= len(finished) - 1  # "a b" may still become another word
