"""Text as word ids: sentences, vocabularies, tokens, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from moe_asr.errors import TextError
from moe_asr.lm import corpus as corpus_module
from moe_asr.lm.corpus import Corpus, corpus_of, read_corpus, read_vocabulary
from moe_asr.text.tokenizer import CharTokenizer


def texts(corpus: Corpus) -> list[str]:
    words = list(corpus.words)
    line = " ".join(words[i] for i in corpus.ids.tolist())
    assert line.startswith("<s> ") and line.endswith(" </s>")
    return line.removeprefix("<s> ").removesuffix(" </s>").split(" </s> <s> ")


def test_lines_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffb a\r\n\n \t\n  a   \u3000c d\na".encode())
    corpus = read_corpus(path)
    assert list(corpus.words) == ["<unk>", "<s>", "</s>", "b", "a", "c", "d"]
    assert texts(corpus) == ["b a", "a c d", "a"]
    assert corpus.ids.dtype == np.int32
    assert (corpus.num_sentences, corpus.num_words, corpus.num_unknown) == (3, 6, 0)
    (tmp_path / "text.gz").write_bytes(gzip.compress(path.read_bytes()))
    packed = read_corpus(tmp_path / "text.gz")
    np.testing.assert_array_equal(packed.ids, corpus.ids)


def test_a_closed_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("b a x\n<unk> c\n")
    corpus = read_corpus(path, ["c", "z", "a"])
    assert list(corpus.words) == ["<unk>", "<s>", "</s>", "c", "z", "a"]
    assert texts(corpus) == ["<unk> a <unk>", "<unk> c"]
    assert (corpus.num_words, corpus.num_unknown) == (5, 3)


def test_rare_words_become_unknown() -> None:
    corpus = corpus_of(["a b a", "c b a"]).limit_vocabulary(2)
    assert list(corpus.words) == ["<unk>", "<s>", "</s>", "a", "b"]
    assert texts(corpus) == ["a b a", "<unk> b a"]


def test_empty_sentences_are_kept_where_asked() -> None:
    assert corpus_of(["a", "", "b"]).num_sentences == 2
    kept = corpus_of(["", "a", "", "b", " "], keep_empty=True)
    assert kept.num_sentences == 5 and kept.num_words == 2


@pytest.mark.parametrize("block_bytes", [1, 7, 64])
def test_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    path = tmp_path / "text"
    path.write_text("\n".join(f"w{i % 7} größe w{i % 3}" + "\n" * (i % 3) for i in range(50)))
    whole = read_corpus(path)
    monkeypatch.setattr(corpus_module, "_BLOCK_BYTES", block_bytes)
    parts = read_corpus(path)
    assert parts.words == whole.words
    np.testing.assert_array_equal(parts.ids, whole.ids)
    path.write_bytes(b"a b\nc\n\nd \xff\n")
    with pytest.raises(TextError, match="text:4: not UTF-8"):
        read_corpus(path)
    path.write_text("a b\nc x<s>y\n\nd </s> e\n")
    with pytest.raises(TextError, match="text:4: '</s>' cannot be a word"):
        read_corpus(path)


@pytest.mark.parametrize("word", ["<s>", "</s>", "<eps>", "#0"])
def test_reserved_words_are_refused(tmp_path: Path, word: str) -> None:
    path = tmp_path / "text"
    path.write_text(f"a b\n{word}x x{word}\nc {word}\n")
    for vocabulary in (None, ["a"]):
        with pytest.raises(TextError, match=f"text:3: '{word}' cannot be a word"):
            read_corpus(path, vocabulary)


def test_texts_without_words_or_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for content in (b"", b"\n \n"):
        path.write_bytes(content)
        with pytest.raises(TextError, match="text: no words"):
            read_corpus(path)
    with pytest.raises(TextError, match="none: cannot be read: No such file"):
        read_corpus(tmp_path / "none")
    path.write_bytes(gzip.compress(b"a b\n" * 1000)[:-9])
    with pytest.raises(TextError, match="text: cannot be read"):
        read_corpus(path)


def test_tokens_of_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.from_texts(["ab cab"])
    path = tmp_path / "text"
    path.write_text("ab  a\n\nxc\n")
    corpus = read_corpus(path, tokenizer=tokenizer)
    assert list(corpus.words) == ["<unk>", "<s>", "</s>", "a", "b", "c", "▁"]
    assert texts(corpus) == ["a b ▁ a", "<unk> c"]


def test_lists_of_words(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("one\n<unk>\n\n two \n#1\n<s>\n")
    assert read_vocabulary(path) == ["one", "two"]
    path.write_text("<eps> 0\none 1\n<unk> 2\ntwo 3\n#0 4\n<s> 5\n")
    assert read_vocabulary(path) == ["one", "two"]
    for content, message in {
        "one\ntwo\none\n": "words:3: 'one' is also in line 1",
        "one\ntwo three\n": "words:2: expected one word, found 'two three'",
        "<eps> 0\none 0\n": "words:2: duplicate id 0",
        "\n<unk>\n": "words: no words in it",
    }.items():
        path.write_text(content)
        with pytest.raises(TextError, match=message):
            read_vocabulary(path)
    path.write_bytes(b"one\nt\xf6\n")
    with pytest.raises(TextError, match="words:2: not UTF-8"):
        read_vocabulary(path)
