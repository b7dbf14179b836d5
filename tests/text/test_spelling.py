"""Spellings of words against the enumeration of all of them."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.bpe import train_bpe
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.mixed import MixedTokenizer
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.spelling import LexiconSpeller, PieceSpeller, Speller, Spelling, make_speller
from moe_asr.text.tokenizer import BpeTokenizer, CharTokenizer

TEXTS = ["one two three", "four five six seven", "eight nine zero oh", "two tone stone"] * 3


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    return train_bpe(TEXTS, 45, tmp_path_factory.mktemp("bpe"))


def ways(spelling: Spelling, node: int = 0) -> Iterator[tuple[tuple[int, ...], float]]:
    """Tokens and score of every way from a node to the last."""
    if node == spelling.num_nodes - 1:
        yield (), 0.0
    for src, dst, token, score in spelling.arcs:
        if src == node:
            assert dst > src
            for tokens, rest in ways(spelling, dst):
                yield (token, *tokens), score + rest


def check_nodes(spelling: Spelling) -> None:
    """Every node is entered (but the first) and left (but the last)."""
    inner = set(range(spelling.num_nodes))
    assert {arc[1] for arc in spelling.arcs} == inner - {0}
    assert {arc[0] for arc in spelling.arcs} == inner - {spelling.num_nodes - 1}


def splits(letters: str, pieces: set[str]) -> set[tuple[str, ...]]:
    """All segmentations, by trying every set of cuts."""
    found = set()
    for cuts in itertools.product([False, True], repeat=len(letters) - 1):
        parts, begin = [], 0
        for place, cut in enumerate([*cuts, True], start=1):
            if cut:
                parts.append(letters[begin:place])
                begin = place
        if pieces.issuperset(parts):
            found.add(tuple(parts))
    return found


def symbols(speller: Speller, spelling: Spelling) -> set[tuple[str, ...]]:
    found = list(ways(spelling))
    assert len(found) == len({tokens for tokens, _ in found})
    return {tuple(speller.tokens.symbol(token) for token in tokens) for tokens, _ in found}


@settings(max_examples=60)
@given(st.lists(st.text("onetwhrsfuvixgz", min_size=1, max_size=7), min_size=1, max_size=3))
def test_all_segmentations(bpe: BpeTokenizer, words: list[str]) -> None:
    speller = make_speller(bpe)
    assert isinstance(speller, PieceSpeller)
    pieces = {symbol for index, symbol in enumerate(bpe.tokens) if index > 2}
    spellings = speller.spell("  ".join(words))
    assert [spelling.word for spelling in spellings] == words
    own = [bpe.tokens.symbol(index) for index in bpe.encode(" ".join(words))]
    for word, spelling in zip(words, spellings, strict=True):
        check_nodes(spelling)
        found = symbols(speller, spelling)
        assert found == splits("▁" + word, pieces)
        length = next(n for n in range(1, len(own) + 1) if "".join(own[:n]) == "▁" + word)
        assert tuple(own[:length]) in found  # the tokenizer's own
        own = own[length:]


def test_the_first_word_without_a_mark(tmp_path: Path) -> None:
    """As the tokenizer has it; special tokens and <unk> spell nothing."""
    plain = train_bpe(TEXTS, 45, tmp_path, add_dummy_prefix=False)
    speller = make_speller(plain)
    first, second = speller.spell("two two")
    assert {"".join(parts) for parts in symbols(speller, first)} == {"two"}
    assert {"".join(parts) for parts in symbols(speller, second)} == {"▁two"}
    for word in ("<unk>", "one<blk>", "été", "two4"):
        with pytest.raises(TextError, match=f"word '{word}' has no spelling"):
            speller.spell(f"one {word} two")
    assert speller.spell(" ") == []


def test_mixed_text() -> None:
    tokenizer = MixedTokenizer.train(["打开 one light", "关 two tone 灯", "three stone"] * 4, 30)
    speller = make_speller(tokenizer)
    spellings = speller.spell("打开two tone灯")
    assert [spelling.word for spelling in spellings] == ["打", "开", "two", "tone", "灯"]
    for spelling, letters in zip(spellings, ["打", "开", "▁two", "▁tone", "灯"], strict=True):
        assert {"".join(parts) for parts in symbols(speller, spelling)} == {letters}
    for text in ("打开two tone灯", "two", "关灯"):
        chosen = speller.spell(text)
        own = tuple(tokenizer.encode(text))
        choices = itertools.product(*([tokens for tokens, _ in ways(s)] for s in chosen))
        assert own in {tuple(itertools.chain(*choice)) for choice in choices}
    with pytest.raises(TextError, match="word '炉' has no spelling"):
        speller.spell("打炉")


@pytest.mark.parametrize("alphabet", ["one two", "onetwo", "打开灯 on"])
def test_characters_are_the_tokenizers(alphabet: str) -> None:
    tokenizer = CharTokenizer.from_texts([alphabet])
    speller = make_speller(tokenizer)
    rng = random.Random(3)
    for _ in range(20):
        letters = alphabet.replace(" ", "")
        words = ["".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(3)]
        text = " ".join(words)
        found = []
        for spelling in speller.spell(text):
            ((tokens, score),) = ways(spelling)
            assert score == 0.0
            found += tokens
        expected = [index for index in tokenizer.encode(text) if index != 2]
        assert found == expected  # without a token for the space it is left out
        assert "".join(spelling.word for spelling in speller.spell(text)) == "".join(words)
    with pytest.raises(TextError, match="word 'q' has no spelling by characters of the text"):
        speller.spell("on q")


def test_pronunciations_of_a_lexicon() -> None:
    lexicon = Lexicon(
        [
            Pronunciation("read", ("r", "iy", "d"), -0.5),
            Pronunciation("read", ("r", "eh", "d"), -1.0),
            Pronunciation("a", ("ah",)),
            Pronunciation("北京", ("b", "ey", "jh")),
            Pronunciation("北", ("b", "ey")),
        ]
    )
    tokenizer = PhoneTokenizer.from_lexicon(lexicon)
    speller = make_speller(tokenizer)
    assert isinstance(speller, LexiconSpeller)
    spellings = speller.spell("a read 北京北")
    assert [spelling.word for spelling in spellings] == ["a", "read", "北京", "北"]
    for spelling in spellings:
        check_nodes(spelling)
        assert sorted(ways(spelling)) == sorted(tokenizer.spellings(spelling.word))
    with pytest.raises(TextError, match="word 'book' has no spelling in the lexicon"):
        speller.spell("a book")
    with pytest.raises(TextError, match="word 'read': token 'r' is not in the token table"):
        make_speller(CharTokenizer.from_texts(["a"]), lexicon)
    letters = Lexicon([Pronunciation("a", ("a",))])
    assert make_speller(CharTokenizer.from_texts(["a b"]), letters).spell("a")[0].num_nodes == 2
