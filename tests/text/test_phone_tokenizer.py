"""Phones by a lexicon: which pronunciation, unknown words, files."""

import math
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.lexicon import Lexicon, Pronunciation, lexicon_from_tokenizer
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.tokenizer import BpeTokenizer, CharTokenizer, load_tokenizer

LINES = [
    "red 1 r eh d",
    "read 0.25 r iy d",
    "read 0.75 r eh d",
    "a 0.5 ah",
    "a 0.5 ey",
    "北京 1 b ei",
]
FORMS = st.lists(st.sampled_from(["red", "read", "a", "北京"]), max_size=8)


def lexicon_of(*lines: str) -> Lexicon:
    return Lexicon(
        Pronunciation(word, tuple(phones), math.log(float(probability)))
        for word, probability, *phones in map(str.split, lines)
    )


@pytest.fixture(scope="module")
def tokenizer() -> PhoneTokenizer:
    return PhoneTokenizer.from_lexicon(lexicon_of(*LINES))


def test_tokens_are_the_phones(tokenizer: PhoneTokenizer) -> None:
    phones = sorted({"r", "eh", "d", "iy", "ah", "ey", "b", "ei"})
    assert list(tokenizer.tokens) == ["<blk>", "<sos/eos>", "<unk>", *phones]
    assert not tokenizer.spells_words and CharTokenizer.spells_words and BpeTokenizer.spells_words


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("", ""),
        ("red", "r eh d"),
        ("read  red", "r eh d r eh d"),  # the more probable one
        ("a", "ah"),  # the first of equals
        ("red北京a", "r eh d b ei ah"),
        ("a 北 京", "ah <unk> <unk>"),
        ("blue <blk> red", "<unk> <unk> r eh d"),
    ],
)
def test_phones_of_texts(tokenizer: PhoneTokenizer, text: str, phones: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == phones
    assert tokenizer.decode([1, 0, *ids, 0, 1]) == phones
    assert all(2 <= index < tokenizer.vocab_size for index in ids)
    if "<unk>" in phones:
        with pytest.raises(TextError, match=r"word '(blue|北)' is not in the lexicon"):
            tokenizer.encode(text, strict=True)
    else:
        assert tokenizer.encode(text, strict=True) == ids


@given(FORMS)
def test_a_text_is_the_phones_of_its_words(words: list[str]) -> None:
    tokenizer = PhoneTokenizer.from_lexicon(lexicon_of(*LINES))
    best = {"red": "r eh d", "read": "r eh d", "a": "ah", "北京": "b ei"}
    text = tokenizer.decode(tokenizer.encode(" ".join(words), strict=True))
    assert text == " ".join(best[word] for word in words)


def test_an_unknown_word_has_the_phones_of_unk() -> None:
    tokenizer = PhoneTokenizer.from_lexicon(lexicon_of("a 1 ah", "<unk> 1 SPN NSN"))
    assert tokenizer.decode(tokenizer.encode("a b <unk>")) == "ah SPN NSN SPN NSN"
    with pytest.raises(TextError, match="word 'b'"):
        tokenizer.encode("a b", strict=True)
    assert len(tokenizer.encode("a <unk>", strict=True)) == 3
    plain = PhoneTokenizer.from_lexicon(lexicon_of("a 1 ah", "<unk> 1 <unk>"))
    assert list(plain.tokens)[2:] == ["<unk>", "ah"]
    assert plain.encode("b a") == [2, 3]


def test_a_graph_gets_all_pronunciations(tokenizer: PhoneTokenizer) -> None:
    lexicon = lexicon_from_tokenizer(["a", "read"], tokenizer)
    assert lexicon.pronunciations == [
        Pronunciation("a", ("ah",), math.log(0.5)),
        Pronunciation("a", ("ey",), math.log(0.5)),
        Pronunciation("read", ("r", "iy", "d"), math.log(0.25)),
        Pronunciation("read", ("r", "eh", "d"), math.log(0.75)),
    ]
    with pytest.raises(TextError, match="word 'blue' cannot be spelled"):
        lexicon_from_tokenizer(["a", "blue"], tokenizer)


@pytest.mark.parametrize("probabilities", [True, False])
def test_saving_and_loading(tmp_path: Path, tokenizer: PhoneTokenizer, probabilities: bool) -> None:
    if not probabilities:
        tokenizer = PhoneTokenizer.from_lexicon(lexicon_of("one 1 w ah n", "two 1 t uw"))
    tokenizer.save(tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(PhoneTokenizer.files)
    settings = yaml.safe_load((tmp_path / "a" / "tokenizer.yaml").read_text())
    assert settings["kind"] == "phone" and settings["probabilities"] is probabilities
    loaded = load_tokenizer(tmp_path / "a")
    assert isinstance(loaded, PhoneTokenizer)
    assert loaded.tokens == tokenizer.tokens
    assert loaded.lexicon.pronunciations == tokenizer.lexicon.pronunciations
    loaded.save(tmp_path / "b")  # a model's directory has the very files of the tokenizer's
    for name in PhoneTokenizer.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.encode("a two red") == tokenizer.encode("a two red")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lexicon.txt", "red r eh d\n", "lexicon.txt: its SHA-256 is"),
        ("lexicon.txt", None, "lexicon.txt: cannot be read"),
        (
            "tokens.txt",
            "<blk> 0\n<sos/eos> 1\n<unk> 2\nr 3\n",
            "lexicon.txt:1: word 'red': token 'eh'",
        ),
        (
            "tokens.txt",
            "".join(f"{p} {i}\n" for i, p in enumerate("r eh d iy ah ey b ei".split())),
            "tokens.txt: expected <blk> <sos/eos> <unk>",
        ),
        ("tokenizer.yaml", "kind: phone\n", "expected lexicon_sha256, probabilities; found none"),
        (
            "tokenizer.yaml",
            "kind: phone\nlexicon_sha256: a\nprobabilities: 1\n",
            "expected true or",
        ),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, tokenizer: PhoneTokenizer, name: str, content: str | None, message: str
) -> None:
    tokenizer.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(TextError, match=message):
        load_tokenizer(tmp_path)
