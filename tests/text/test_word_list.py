"""Word lists: files in and out, and the words of a text."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, TextError
from moe_asr.text.cjk import WordSplitter
from moe_asr.text.lines import read_lines
from moe_asr.text.word_list import read_word_list, words_from_text, write_word_list


@given(
    st.lists(st.text(st.sampled_from("abc你é'"), min_size=1, max_size=4), min_size=1, unique=True)
)
def test_reading_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    path = tmp_path_factory.mktemp("words") / "words"
    write_word_list(words, path)
    assert read_word_list(path) == words


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("one\n\ntwo\n", 2, "expected a word, found an empty line"),
        ("one\ntwo 3\n", 2, "expected a word, found more than one: 'two 3'"),
        ("one\n two\n", 2, "whitespace"),
        ("\ufeffone\n", 1, "whitespace (or BOM)"),
        ("one\ntwo\none\n", 3, "duplicate word 'one', also in line 1"),
        ("<eps>\n", 1, "'<eps>' is reserved"),
        ("a\n<s>\n", 2, "'<s>' is reserved"),
        ("a\n#12\n", 2, "'#12' is reserved"),
        ("cafe\u0301\n", 1, "not as texts are once normalised"),
        ("a\u2581b\n", 1, "not as texts are"),
        ("a\nb\nc\udcff\n", 3, "not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, line: int, message: str) -> None:
    path = tmp_path / "words"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TextError) as raised:
        read_word_list(path)
    assert str(raised.value).startswith(f"{path}:{line}: ") and message in str(raised.value)


def test_files_without_words_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, message in {"empty": "expected one word a line", "absent": "cannot be read"}.items():
        with pytest.raises(TextError, match=f"{name}: .*{message}"):
            read_word_list(tmp_path / name)


def test_lines_end_with_line_feeds_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("one\r\ntwo\u2028\x85three\n\nfour".encode())
    assert list(read_lines(tmp_path / "a")) == ["one", "two\u2028\x85three", "", "four"]


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    packed = gzip.compress("one\ntwö\n".encode() * 1000)
    path.write_bytes(packed)
    assert list(read_lines(path)) == ["one", "twö"] * 1000
    for damaged in (packed[:-20], packed[:20] + b"x" + packed[21:], packed[:3]):
        path.write_bytes(damaged)
        with pytest.raises(TextError, match="text.gz: cannot be read: "):
            list(read_lines(path))


@given(st.lists(st.text("ab é", max_size=12), max_size=8), st.integers(1, 3), st.integers(1, 4))
def test_words_of_a_text_against_counting(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], min_count: int, max_words: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text("\n".join([*lines, "z z z"]), encoding="utf-8")
    counts = Counter(word for line in lines for word in line.split())
    counts["z"] += 3
    words = words_from_text(path, min_count)
    assert words == sorted(word for word, count in counts.items() if count >= min_count)
    fewer = words_from_text(path, min_count, max_words)
    assert fewer == sorted(fewer) and len(fewer) == min(max_words, len(words))
    for kept in fewer:
        for dropped in set(words) - set(fewer):
            assert (-counts[kept], kept) < (-counts[dropped], dropped)


def test_words_of_a_chinese_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("你好hello\n你 <unk> hello\n")
    assert words_from_text(path) == ["hello", "你", "好"]
    assert words_from_text(path, splitter=WordSplitter(["你好"])) == ["hello", "你", "你好"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\ntwo <s> three\n", ":2: '<s>' is reserved"),
        ("#1\n", ":1: '#1' is reserved"),
        ("\n \n", ": no word that occurs 2 time"),
        ("one\ntwo\n", "found 2 rarer ones"),
        ("one\nt\udcffwo\n", ":2: not UTF-8"),
    ],
)
def test_bad_texts_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TextError) as raised:
        words_from_text(path, min_count=2)
    assert str(raised.value).startswith(str(path)) and message in str(raised.value)


def test_counts_below_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one\n")
    with pytest.raises(ConfigError, match="min_count must be at least 1, found 0"):
        words_from_text(tmp_path / "text", 0)
    with pytest.raises(ConfigError, match="max_words must be at least 1, found -1"):
        words_from_text(tmp_path / "text", 1, -1)
