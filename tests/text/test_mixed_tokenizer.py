"""Chinese characters beside byte-pair encoding: round trips, spellings, training, files."""

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.bpe import train_bpe
from moe_asr.text.cjk import has_cjk, space_cjk, text_words
from moe_asr.text.lexicon import lexicon_from_tokenizer
from moe_asr.text.mixed import MixedTokenizer
from moe_asr.text.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer, load_tokenizer

TEXTS = [
    "我想听hello world这首歌",
    "打开 bluetooth",
    "turn on 蓝牙，好吗",
    "turn off the light",
    "你好 世界",
] * 3
KNOWN = "".join(sorted(set("".join(TEXTS)))) + "\u3000▁"
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.fixture(scope="module")
def mixed() -> MixedTokenizer:
    return MixedTokenizer.train(TEXTS, 60)


def test_the_tokens_are_pieces_then_characters(mixed: MixedTokenizer) -> None:
    symbols = list(mixed.tokens)
    assert mixed.vocab_size == len(symbols) == 60
    characters = sorted({char for text in TEXTS for char in text if has_cjk(char)})
    assert symbols[-len(characters) :] == characters
    assert not any(has_cjk(piece) for piece in symbols[: -len(characters)])


@given(st.text(st.sampled_from(KNOWN), max_size=40))
def test_decode_inverts_encode(mixed: MixedTokenizer, text: str) -> None:
    ids = mixed.encode(text, strict=True)
    assert mixed.decode(ids) == space_cjk(text)
    assert mixed.decode([1, 0, *ids, 0]) == space_cjk(text)
    assert all(3 <= index < mixed.vocab_size for index in ids)
    assert ids == mixed.encode(space_cjk(text))


@given(ANY | st.sampled_from(["<blk>", "你<blk>好", "<sos/eos>", "a<blk><sos/eos>b", "你<unk>"]))
def test_no_text_becomes_blank_or_sos_eos(mixed: MixedTokenizer, text: str) -> None:
    ids = mixed.encode(text)
    assert all(2 <= index < mixed.vocab_size for index in ids)
    if 2 in ids:
        with pytest.raises(TextError):
            mixed.encode(text, strict=True)
    else:
        assert mixed.decode(ids) == space_cjk(text)


@given(st.lists(st.text(st.sampled_from(KNOWN), max_size=6), max_size=6))
def test_a_text_is_spelled_word_by_word(mixed: MixedTokenizer, chunks: list[str]) -> None:
    text = " ".join(chunks)
    words = text_words(text)
    assert mixed.encode(text) == [index for word in words for index in mixed.encode(word)]
    for word in words:
        assert mixed.spellings(word) == [(tuple(mixed.encode(word)), 0.0)]


def test_spaces_beside_characters_change_nothing(mixed: MixedTokenizer) -> None:
    assert mixed.encode("听hello世界") == mixed.encode("听 hello 世 界")
    assert mixed.decode(mixed.encode("听hello世界")) == "听 hello 世界"


def test_unknown_characters(mixed: MixedTokenizer) -> None:
    assert mixed.decode(mixed.encode("你龙 hello")) == "你 <unk> hello"
    with pytest.raises(TextError, match="character '龙' is not in .*: '你龙'"):
        mixed.encode("你龙", strict=True)


@pytest.mark.parametrize("kind", ["mixed", "char", "char without spaces"])
def test_words_of_both_languages_are_spelled(mixed: MixedTokenizer, kind: str) -> None:
    tokenizer: Tokenizer = mixed
    if kind != "mixed":
        texts = TEXTS if kind == "char" else [text.replace(" ", "") for text in TEXTS]
        tokenizer = CharTokenizer.from_texts(texts)
    lexicon = lexicon_from_tokenizer(["你好", "hello", "turn", "听", "开hello"], tokenizer)
    spelled: dict[str, set[tuple[str, ...]]] = {}
    for entry in lexicon.pronunciations:
        spelled.setdefault(entry.word, set()).add(entry.tokens)
    expected = {("你", "好"), ("▁", "你", "好")} if kind == "char" else {("你", "好")}
    assert spelled["你好"] == expected
    # every text is spelled by some choice of spellings for its words
    for text in ["你好hello听", "turn 你好"]:
        if kind == "char without spaces":
            text = text.replace(" ", "")
        wanted = "".join(tokenizer.tokens.symbol(i) for i in tokenizer.encode(text))
        pattern = "".join(
            "(" + "|".join(re.escape("".join(tokens)) for tokens in spelled[word]) + ")"
            for word in re.findall("你好|hello|听|turn", text)
        )
        assert re.fullmatch(pattern, wanted), (pattern, wanted)


def test_the_number_of_tokens_is_that_of_all(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="vocab_size is 5000; .* at most (\\d+) tokens") as raised:
        MixedTokenizer.train(TEXTS, 5000)
    most = int(str(raised.value).split()[-2])
    assert MixedTokenizer.train(TEXTS, most).vocab_size == most
    with pytest.raises(TextError, match="vocab_size is 30; .* alone need (\\d+) tokens") as raised:
        MixedTokenizer.train(TEXTS, 30)
    least = int(str(raised.value).split()[-2])
    assert MixedTokenizer.train(TEXTS, least).vocab_size == least
    with pytest.raises(TextError, match="vocab_size is 10; expected more than"):
        MixedTokenizer.train(TEXTS, 10)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["turn on"], "no Chinese or Japanese in the text"),
        (["你好", " "], "nothing but Chinese or Japanese in the text"),
        ([], "no Chinese or Japanese"),
        (["你好 on", "turn <blk>你"], "zh.txt:2: '<blk>' is reserved"),
    ],
)
def test_texts_that_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(TextError, match=message):
        MixedTokenizer.train(texts, 60, "zh.txt")


def test_saving_and_loading(tmp_path: Path, mixed: MixedTokenizer) -> None:
    mixed.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(MixedTokenizer.files)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, MixedTokenizer) and loaded.tokens == mixed.tokens
    for tokenizer in (loaded, pickle.loads(pickle.dumps(mixed))):
        for text in [*TEXTS, "unknown Ω 龙"]:
            assert tokenizer.encode(text) == mixed.encode(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda symbols: [*symbols, "▁on"], "duplicate symbol '▁on'"),
        (lambda symbols: [*symbols, "你好"], "token 60 is '你好'; expected a CJK character"),
        (lambda symbols: [*symbols, "q"], "token 60 is 'q'; expected a CJK character"),
        (lambda symbols: [*symbols[:4], *symbols[5:]], "does not begin with the pieces of"),
    ],
)
def test_other_tokens_are_refused(tmp_path: Path, mixed: MixedTokenizer, change, message) -> None:
    mixed.save(tmp_path)
    symbols = change(list(mixed.tokens))
    lines = [f"{symbol} {index}\n" for index, symbol in enumerate(symbols)]
    (tmp_path / "tokens.txt").write_text("".join(lines))
    with pytest.raises(TextError, match=f"tokens.txt.*{message}"):
        load_tokenizer(tmp_path)


def test_pieces_with_chinese_characters_are_refused(tmp_path: Path) -> None:
    bpe = train_bpe(TEXTS, 60, tmp_path)
    assert isinstance(bpe, BpeTokenizer)
    with pytest.raises(TextError, match="piece '.*' has a CJK character"):
        MixedTokenizer(bpe, "你")
