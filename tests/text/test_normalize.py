import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.text.normalize import normalize_text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ""),
        (" \t\n", ""),
        ("  one\ttwo \u3000three\u00a0\n", "one two three"),
        ("▁one▁two", "one two"),
        ("\ufeffone", "one"),
        ("e\u0301te\u0301", "été"),
        ("你 好", "你 好"),
        ("One, Two!", "One, Two!"),
        ("１２", "１２"),
    ],
)
def test_examples(text, expected):
    assert normalize_text(text) == expected


@given(st.text())
def test_what_is_normalised_stays(text):
    once = normalize_text(text)
    assert normalize_text(once) == once == unicodedata.normalize("NFC", once)
    assert once == " ".join(once.split()) and "▁" not in once


@given(st.text(), st.text())
def test_words_do_not_depend_on_their_neighbours(a, b):
    assert (
        normalize_text(f"{a} {b}").split() == normalize_text(a).split() + normalize_text(b).split()
    )
