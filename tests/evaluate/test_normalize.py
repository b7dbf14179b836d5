"""What is made equal before texts are compared."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.normalize import NormalizeOptions, TextNormalizer, remove_punctuation

# of the first scripts, punctuation, full-width forms; sampled, as hypothesis' own text is slow to begin with
CHARACTERS = [chr(code) for code in (*range(0x600), *range(0x1E00, 0x2100), *range(0xFF00, 0xFFF0))]
ALL = NormalizeOptions("NFKC", fold_case=True, remove_punctuation=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,world -- don\u2019t  (you)?", "Hello world don't you"),
        ("rock 'n' roll 'cause dogs'", "rock n roll cause dogs"),
        ("5% of R&D @home #1 $3+4", "5% of R&D @home #1 $3+4"),
        ("snake_case <unk> well-known/new", "snake case <unk> well known new"),
        ("今天，天气很好。「是」", "今天 天气很好 是"),
        ("l\u2019e\u0301te\u0301 e\u0301'a", "l'e\u0301te\u0301 e\u0301'a"),
    ],
)
def test_punctuation(text: str, expected: str) -> None:
    assert remove_punctuation(text) == expected
    assert remove_punctuation(expected) == expected


@given(st.lists(st.sampled_from(CHARACTERS), max_size=15).map("".join))
def test_normalisation_is_done_after_one_pass(text: str) -> None:
    normalizer = TextNormalizer(ALL)
    once = normalizer(text)
    assert isinstance(once, str) and normalizer(once) == once
    assert unicodedata.is_normalized("NFKC", once)
    assert once == " ".join(once.split())


def test_steps_are_options() -> None:
    text = " ＡＢ\u3000Stra\u00dfe e\u0301, "
    assert TextNormalizer()(text) == "ＡＢ Stra\u00dfe \u00e9,"
    assert TextNormalizer(NormalizeOptions("NFKC"))(text) == "AB Stra\u00dfe \u00e9,"
    assert TextNormalizer(NormalizeOptions(fold_case=True))(text) == "ａｂ strasse \u00e9,"
    assert TextNormalizer(ALL)(text) == "ab strasse \u00e9"
    with pytest.raises(ConfigError, match="form must be one of NFC, NFKC, found 'NFD'"):
        NormalizeOptions("NFD")  # type: ignore[arg-type]


def test_what_nobody_sees_makes_no_errors() -> None:
    """Joiners stay: they change what letters and emoji look like."""
    hebrew = "\u05e9\u05dc\u05d5\u05dd"
    for options in (NormalizeOptions(), ALL):
        normalizer = TextNormalizer(options)
        assert (
            normalizer(f"\u200f{hebrew}\u200f \u2067{hebrew}\u2069\u202c") == f"{hebrew} {hebrew}"
        )
        assert normalizer("co\u00adop\u2060ed \u200e") == "cooped"
        assert normalizer("\u0645\u06cc\u200c\u0631") == "\u0645\u06cc\u200c\u0631"
        assert normalizer("e\u200f\u0301") == "\u00e9"


def test_alternatives_keep_their_signs() -> None:
    normalizer = TextNormalizer(
        NormalizeOptions(fold_case=True, remove_punctuation=True, alternatives=True)
    )
    assert normalizer("He's { Well-known, / @ } OK.") == ["he's", (("well", "known"), ()), "ok"]
    assert normalizer("and/or") == "and or"
    assert TextNormalizer(NormalizeOptions(alternatives=False))("{ a / b }") == "{ a / b }"
    assert TextNormalizer()("{a/b} a / b") == "{a/b} a / b"
    with pytest.raises(DataError, match="there is a '{': option 'alternatives' must say"):
        TextNormalizer()("x { a / b }")
    with pytest.raises(DataError, match="ref.txt: utterance 'u2': a '{' has no '}'"):
        normalizer.texts({"u1": "a", "u2": "{ a"}, "ref.txt")


def test_rules_are_normalised_like_texts(tmp_path: Path) -> None:
    path = tmp_path / "rules.glm"
    path.write_text("Mr. => MISTER\n二十 => 20\n& => and\n", encoding="utf-8")
    folding = NormalizeOptions(fold_case=True, remove_punctuation=True)
    assert TextNormalizer(folding, path)("MR. Smith, & co") == "mister smith and co"
    assert TextNormalizer(NormalizeOptions(), path)("MR. & Mr.") == "MR. and MISTER"
    # characters are words to rules where they are counted
    assert TextNormalizer(folding, path, "mixed")("有二十个") == "有 20 个"
    assert TextNormalizer(folding, path, "word")("有二十个") == "有二十个"
    path.write_text("a => b\n. => dot\n")
    with pytest.raises(DataError, match=r"rules.glm:2: .*leaves nothing of '\.'"):
        TextNormalizer(folding, path)
