"""Scripts without spaces: which characters, how mixed text is spaced, and what its words are."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.text.cjk import WordSplitter, has_cjk, space_cjk, text_words
from moe_asr.text.normalize import normalize_text

MIXED = st.text(st.sampled_from("你好京东かー々𠮷ab'é１，·가 \u3000\u3099\u0301"), max_size=25)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=25)


@pytest.mark.parametrize("char", "你〇々㐀豈𠮷𰀀あゞアーヿㇰｱﾞ")
def test_units_of_their_own(char: str) -> None:
    assert has_cjk(char) and has_cjk(f"a{char}")


@pytest.mark.parametrize("char", "a1éßя가ᄀㄅ，。・「Ａ１\u3099\u309a🙂")
def test_what_is_left_to_other_words(char: str) -> None:
    assert not has_cjk(char)


def test_every_ideograph_and_kana_letter_is_among_them() -> None:
    """Of the characters that Python's Unicode names, and no other letter."""
    for char in map(chr, range(128, sys.maxunicode + 1)):
        if unicodedata.category(char) not in ("Lo", "Lm"):
            continue
        name = unicodedata.name(char, "")
        wanted = name.startswith(
            (
                "CJK UNIFIED",
                "CJK COMPATIBILITY IDEOGRAPH",
                "HENTAIGANA",
                "HIRAGANA",
                "KATAKANA",
                "HALFWIDTH KATAKANA",
            )
        )
        # prolonged sound and iteration marks are not named after one script
        if not name.startswith(("IDEOGRAPHIC", "VERTICAL IDEOGRAPHIC", "KATAKANA-HIRAGANA")):
            assert has_cjk(char) == wanted, name


@pytest.mark.parametrize(
    ("text", "spaced"),
    [
        ("", ""),
        ("open the door", "open the door"),
        ("你 好", "你好"),
        ("我想听hello world这首歌", "我想听 hello world 这首歌"),
        ("我想听 hello  world 这首歌", "我想听 hello world 这首歌"),
        ("你好，世界", "你好 ， 世界"),
        ("iPhone 6 手机", "iPhone 6 手机"),
        ("안녕 하세요", "안녕 하세요"),
        ("カ\u3099", "ガ"),
    ],
)
def test_spacing(text: str, spaced: str) -> None:
    assert space_cjk(text) == spaced


@given(MIXED | ANY)
def test_spacing_changes_spaces_only(text: str) -> None:
    spaced = space_cjk(text)
    assert space_cjk(spaced) == spaced == normalize_text(spaced)
    assert spaced.replace(" ", "") == normalize_text(text).replace(" ", "")
    # spaces are where a definition by single characters has them
    for left, middle, right in zip(spaced, spaced[1:], spaced[2:], strict=False):
        if middle == " ":
            assert not (has_cjk(left) and has_cjk(right))
    for left, right in zip(spaced, spaced[1:], strict=False):
        if " " not in (left, right):
            assert has_cjk(left) == has_cjk(right)


@given(MIXED | ANY)
def test_words_are_characters_and_what_is_between(text: str) -> None:
    words = text_words(text)
    assert "".join(words) == normalize_text(text).replace(" ", "")
    assert all(len(word) == 1 or not has_cjk(word) for word in words)
    assert words == text_words(space_cjk(text))
    if not has_cjk(text):
        assert words == normalize_text(text).split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我在北京大学用Python3", ["我", "在", "北京大学", "用", "Python3"]),
        ("北京大雨", ["北京", "大", "雨"]),
        ("唱K歌", ["唱", "K歌"]),
        ("北 京", ["北", "京"]),
        ("Python 3 大学", ["Python", "3", "大学"]),
        ("plain text", ["plain", "text"]),
    ],
)
def test_a_list_joins_characters(text: str, words: list[str]) -> None:
    splitter = WordSplitter(["北京", "北京大学", "大学", "大", "K歌", "Python", "plain text"])
    assert splitter(text) == words


@given(
    st.lists(st.text(st.sampled_from("甲乙a"), min_size=1, max_size=4)),
    st.text("甲乙a ", max_size=12),
)
def test_joining_against_a_search_of_all_prefixes(words: list[str], text: str) -> None:
    found = WordSplitter(words)(text)
    position = 0
    compact = normalize_text(text)
    for word in found:
        compact_rest = compact[position:].removeprefix(" ")
        position += len(compact[position:]) - len(compact_rest)
        # words that begin here, end where a unit ends, and are in the list; else the first unit
        chunk = compact_rest.split(" ")[0]
        parts = text_words(chunk)
        ends = ["".join(parts[:end]) for end in range(len(parts), 1, -1)]
        assert word == next((end for end in ends if end in words), parts[0])
        position += len(word)
    assert position == len(compact)
