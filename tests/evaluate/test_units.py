"""Characters as readers see them, by Unicode's own examples and against its normal forms."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.evaluate.units import characters, split_text

# with marks, jamo, kana, pictographs, flags; sampled, as hypothesis' own text is slow to begin with
RANGES = (0x20, 0x400), (0x900, 0xA00), (0x1100, 0x1200), (0x2000, 0x2100), (0x3040, 0x3100)
CHARACTERS = [
    chr(code) for first, last in (*RANGES, (0x1F1E0, 0x1F400)) for code in range(first, last)
]


@pytest.mark.parametrize(
    "clusters",
    [
        ["e\u0301", "a", "<unk>", "b\u0308\u0323"],  # bases with one and two marks
        ["\u0301", "a"],  # a mark without a base
        ["\u0e01\u0e33", "\u0e25\u0e31", "\u0e07"],  # Thai: SARA AM and MAI HAN-AKAT
        ["\u0928", "\u092e", "\u0938\u094d", "\u0924\u0947"],  # Devanagari, conjuncts apart
        ["\u1112\u1161\u11ab", "\ud55c", "\uad6d", "\uac00\u11a8", "\u1100"],  # jamo
        ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7", "\U0001f1ec"],  # flags, half a flag
        ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "x"],  # a family
        ["\u2764\ufe0f\u200d\U0001f525", "!"],  # variation selector and joiner
        ["\u30ab\u3099", "\uff76\uff9e", "\u4eca"],  # voicing marks
        ["a\u200d", "b"],  # a joiner joins pictographs only
    ],
)
def test_clusters(clusters: list[str]) -> None:
    assert characters("".join(clusters)) == clusters
    assert characters(" ".join(clusters)) == clusters


def test_no_space_is_a_character() -> None:
    """Nor is part of one, beside marks and after joiners; some are among the pictographs."""
    spaces = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    assert "\u205f" in spaces and "\u3000" in spaces
    for space in spaces:
        assert characters(f"e\u0301{space}\u2764\u200d{space}x") == ["e\u0301", "\u2764\u200d", "x"]


@given(st.lists(st.sampled_from(CHARACTERS), max_size=12).map("".join))
def test_nothing_but_spaces_is_lost(text: str) -> None:
    assert "".join(characters(text)) == "".join(text.split())
    assert not any(any(char.isspace() for char in one) for one in characters(text))


@given(
    st.text(
        st.sampled_from("e\u00e9\u1ec7\u00f1 \uac01\ud7a3\uac00\u304c\u4eca<unk>a"), max_size=12
    )
)
def test_normal_forms_have_equally_many_characters(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    pairs = zip(characters(composed), characters(decomposed), strict=True)
    assert all(unicodedata.normalize("NFD", one) == other for one, other in pairs)


def test_all_marks_go_with_what_is_before_them() -> None:
    marks = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
    ]
    assert len(marks) > 2000
    assert characters("".join("x" + mark for mark in marks)) == ["x" + mark for mark in marks]


def test_units_of_a_text() -> None:
    text = "打开 the e\u0301"
    assert split_text(text, "word") == ["打开", "the", "e\u0301"]
    assert split_text(text, "char") == ["打", "开", "t", "h", "e", "e\u0301"]
    assert split_text(text, "mixed") == ["打", "开", "the", "\u00e9"]
