import hashlib
import io
import pickle

import pytest
import sentencepiece
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.bpe import train_bpe
from moe_asr.text.normalize import normalize_text
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import (
    SPECIAL_TOKENS,
    BpeTokenizer,
    CharTokenizer,
    Tokenizer,
    load_tokenizer,
    register_tokenizer,
    tokenizer_kinds,
)

TEXTS = [
    "one two three",
    "four five six seven",
    "eight nine zero oh",
    "two tone stone",
    "你好 世界",
]
TEXTS = TEXTS * 3
LETTERS = sorted(set("".join(TEXTS)))
known_text = st.text(st.sampled_from(LETTERS + ["▁", "\t", "\u3000"]), max_size=40)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HOSTILE = ["<blk>", "one <blk> two", "<sos/eos>", "a<blk><sos/eos>b", "<unk>", "▁<blk>▁"]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> BpeTokenizer:
    return train_bpe(TEXTS, 50, tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def char() -> CharTokenizer:
    return CharTokenizer.from_texts(TEXTS)


@pytest.fixture(params=["bpe", "char"])
def tokenizer(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def test_the_special_tokens_are_ids_0_1_2(tokenizer):
    assert list(tokenizer.tokens)[:3] == ["<blk>", "<sos/eos>", "<unk>"]
    assert tokenizer.vocab_size == len(tokenizer.tokens)


@given(text=known_text)
def test_decode_inverts_encode(bpe, char, text):
    for tokenizer in (bpe, char):
        ids = tokenizer.encode(text, strict=True)
        assert tokenizer.decode(ids) == normalize_text(text)
        assert all(3 <= i < tokenizer.vocab_size for i in ids)
        assert ids == tokenizer.encode(normalize_text(text))


@given(text=any_text | st.sampled_from(HOSTILE))
def test_no_text_becomes_blank_or_sos_eos(bpe, char, text):
    for tokenizer in (bpe, char):
        ids = tokenizer.encode(text)
        assert all(2 <= i < tokenizer.vocab_size for i in ids)
        if 2 in ids:
            with pytest.raises(TextError):
                tokenizer.encode(text, strict=True)
        else:
            assert tokenizer.decode(ids) == normalize_text(text)


@given(text=any_text)
def test_characters_of_the_text_round_trip(text):
    if not normalize_text(text):
        with pytest.raises(TextError, match="no text"):
            CharTokenizer.from_texts([text])
        return
    tokenizer = CharTokenizer.from_texts([text])
    assert tokenizer.decode(tokenizer.encode(text, strict=True)) == normalize_text(text)
    assert tokenizer.vocab_size == 3 + len(set(normalize_text(text)))


@pytest.mark.parametrize("text", HOSTILE[:4])
def test_special_tokens_that_a_text_spells_are_unknown(bpe, text):
    assert 2 in bpe.encode(text)
    with pytest.raises(TextError, match="cannot spell"):
        bpe.encode(text, strict=True)


def test_empty_text_is_no_tokens(tokenizer):
    assert tokenizer.encode("") == tokenizer.encode(" \n▁") == []
    assert tokenizer.decode([]) == ""


def test_characters_one_by_one(char):
    tokens = char.tokens
    assert char.encode("one 你") == [
        tokens["o"],
        tokens["n"],
        tokens["e"],
        tokens["▁"],
        tokens["你"],
    ]
    assert list(tokens)[3:] == sorted(list(tokens)[3:])
    assert char.encode("oXe") == [tokens["o"], 2, tokens["e"]]
    assert char.decode(char.encode("oXe")) == "o<unk>e"
    with pytest.raises(TextError, match="character 'X' is not in .*: 'oXe'"):
        char.encode("oXe", strict=True)


def test_bpe_spells_with_its_pieces(bpe):
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(bpe._model)
    for text in TEXTS:
        assert bpe.encode(text) == processor.encode(text)
        assert bpe.decode(bpe.encode(text)) == processor.decode(bpe.encode(text)) == text
    assert len(bpe.encode("one two three")) < len("one two three")  # something was merged
    assert "<unk>" in bpe.decode(bpe.encode("one X"))


def test_decoding_leaves_out_blank_and_sos_eos(tokenizer):
    ids = tokenizer.encode("one two")
    assert tokenizer.decode([1, 0, *ids, 0, 1]) == "one two"
    for index in (-1, tokenizer.vocab_size):
        with pytest.raises(TextError, match=f"no id {index}"):
            tokenizer.decode([index])


def test_saving_and_loading(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "lang")
    loaded = load_tokenizer(tmp_path / "lang")
    assert type(loaded) is type(tokenizer) and loaded.tokens == tokenizer.tokens
    for text in [*TEXTS, "unknown Ω text", ""]:
        assert loaded.encode(text) == tokenizer.encode(text)
    settings = yaml.safe_load((tmp_path / "lang" / "tokenizer.yaml").read_text())
    assert settings["kind"] == tokenizer.kind
    assert SymbolTable.read(tmp_path / "lang" / "tokens.txt") == tokenizer.tokens
    expected = {"tokenizer.yaml", "tokens.txt"} | (
        {"bpe.model"} if tokenizer.kind == "bpe" else set()
    )
    assert {path.name for path in (tmp_path / "lang").iterdir()} == expected


def test_a_tokenizer_can_be_pickled(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.tokens == tokenizer.tokens and copy.encode("one two") == tokenizer.encode("one two")


@pytest.mark.parametrize("lost", [1, 100, 300])
def test_a_truncated_bpe_model_is_refused(tmp_path, bpe, lost):
    bpe.save(tmp_path)
    path = tmp_path / "bpe.model"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(TextError, match="bpe.model: its SHA-256 is"):
        load_tokenizer(tmp_path)


def replace_model(directory, model: bytes):
    (directory / "bpe.model").write_bytes(model)
    digest = hashlib.sha256(model).hexdigest()
    (directory / "tokenizer.yaml").write_text(f"kind: bpe\nmodel_sha256: {digest}\n")


def test_a_model_that_is_none_is_refused(tmp_path, bpe):
    bpe.save(tmp_path)
    replace_model(tmp_path, b"hello")
    with pytest.raises(TextError, match="bpe.model: not a sentencepiece model"):
        load_tokenizer(tmp_path)


def test_a_model_of_another_vocabulary_is_refused(tmp_path, bpe):
    bpe.save(tmp_path)
    other = train_bpe(TEXTS, 45, tmp_path / "other")
    replace_model(tmp_path, other._model)
    with pytest.raises(TextError, match="tokens.txt: not the pieces of .*bpe.model"):
        load_tokenizer(tmp_path)


def test_a_model_without_the_special_tokens_is_refused():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="bpe",
        vocab_size=50,
        minloglevel=2,
    )
    with pytest.raises(TextError, match="expected <blk> <sos/eos> <unk> as ids 0, 1, 2"):
        BpeTokenizer(model.getvalue())


@pytest.mark.parametrize(
    "settings, message",
    [
        (None, "cannot be read"),
        ("", "expected a mapping"),
        ("[char]", "expected a mapping"),
        ("kind: [", "not YAML"),
        ("type: char", "with the key 'kind'"),
        ("kind: phone-lattice", "expected one of char, bpe"),
        ("kind: [char]", "expected one of char, bpe"),
        ("kind: char\nsize: 4", "expected none; found size"),
        ("kind: bpe", "expected model_sha256; found none"),
        ("kind: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_settings_that_are_refused(tmp_path, char, settings, message):
    char.save(tmp_path)
    path = tmp_path / "tokenizer.yaml"
    path.unlink() if settings is None else path.write_text(settings)
    with pytest.raises(TextError) as raised:
        load_tokenizer(tmp_path)
    assert str(path) in str(raised.value) and message in str(raised.value)


@pytest.mark.parametrize(
    "tokens, message",
    [
        ("<blk> 0\n<sos/eos> 1\n<unk> 2\nab 3\n", "token 3 is 'ab'; expected one character"),
        ("<blk> 0\n<unk> 1\n<sos/eos> 2\na 3\n", "expected <blk> <sos/eos> <unk> as ids 0, 1, 2"),
        ("<blk> 0\n", "expected <blk> <sos/eos> <unk>"),
        ("<blk> 0\n<sos/eos> 1\n<unk> 2\na 3\na 4\n", ":5: duplicate symbol"),
    ],
)
def test_tokens_that_are_refused(tmp_path, char, tokens, message):
    char.save(tmp_path)
    (tmp_path / "tokens.txt").write_text(tokens)
    with pytest.raises(TextError, match=message) as raised:
        load_tokenizer(tmp_path)
    assert "tokens.txt" in str(raised.value)


@pytest.mark.parametrize("name", ["tokens.txt", "bpe.model"])
def test_a_missing_file_is_named(tmp_path, bpe, name):
    bpe.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TextError, match=f"{name}: cannot be read"):
        load_tokenizer(tmp_path)


def test_another_kind_can_be_added(tmp_path, monkeypatch):
    """Its own files, settings and decode."""
    known = tokenizer_kinds()
    monkeypatch.setattr("moe_asr.text.tokenizer._REGISTRY", {})

    @register_tokenizer("syllable")
    class SyllableTokenizer(Tokenizer):
        def __init__(self, lexicon: dict[str, list[str]], separator: str) -> None:
            phones = sorted({phone for phones in lexicon.values() for phone in phones})
            super().__init__(SymbolTable([*SPECIAL_TOKENS, *phones]))
            self.lexicon, self.separator = lexicon, separator

        def encode(self, text, strict=False):
            words = normalize_text(text).split()
            return [self.tokens[p] for word in words for p in self.lexicon.get(word, ["<unk>"])]

        def decode(self, ids):
            return self.separator.join(self.tokens.symbol(i) for i in ids)

        def _save_files(self, directory):
            lines = [f"{word} {' '.join(phones)}\n" for word, phones in self.lexicon.items()]
            (directory / "lexicon.txt").write_text("".join(lines))
            return {"separator": self.separator}

        @classmethod
        def from_dir(cls, directory, settings):
            lines = (directory / "lexicon.txt").read_text().splitlines()
            return cls({line.split()[0]: line.split()[1:] for line in lines}, settings["separator"])

    SyllableTokenizer({"one": ["W", "AH", "N"], "two": ["T", "UW"]}, " ").save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, SyllableTokenizer) and tokenizer_kinds() == ["syllable"]
    assert sorted(known) == ["bpe", "char", "mixed", "phone"]
    assert loaded.decode(loaded.encode("two one three")) == "T UW W AH N <unk>"
