"""What errors are counted in: words, characters, Chinese characters and other words, phones."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from moe_asr.text.cjk import text_words

Words = Sequence[str]
# How the rate of each unit is called. Mixed are Chinese characters and other words.
UNITS = {"word": "WER", "char": "CER", "mixed": "MER", "phone": "PER"}
PLURALS = {"word": "words", "char": "chars", "mixed": "units", "phone": "phones"}
_SIMPLE = re.compile(r"<unk>|\S")  # what the tokens cannot spell is one character, not five
# The planes in which there are combining marks: the basic and the supplementary one, and variation selectors.
_MARK_PLANES = (range(0x20000), range(0xE0100, 0xE01F0))
# Others that go with the character before, by Unicode: joiners, half-width voicing marks, skin tones, tags;
# and two vowels, of Thai and Lao, that are letters by their category.
_OTHER_EXTENDERS = "\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u0e33\u0eb3"


def split_text(text: str | Words, unit: str = "word") -> Words:
    """A text as its units.

    They are separated by spaces (word, phone); or single characters, where spaces do not count and
    ``<unk>`` is one (char, see `characters`); or what `text_words` makes of it (mixed). What is split
    already stays as it is.
    """
    assert unit in UNITS, unit
    if not isinstance(text, str):
        return text
    if unit == "mixed":
        return text_words(text)
    return characters(text) if unit == "char" else text.split()


def characters(text: str) -> list[str]:
    """What a reader takes for characters; spaces are left out, ``<unk>`` is one.

    These are the extended grapheme clusters of Unicode (UAX 29) as far as the categories of `unicodedata`
    tell: a base with its combining marks, joiners and variation selectors; Hangul syllables written in jamo;
    pairs of regional indicators (flags); emoji joined by U+200D, with skin tones. Not covered: prepended
    signs (as U+0600, Arabic numbers) and conjuncts of Indic scripts stay apart, the latter as in
    Unicode before 15.1. Marks that have nothing before them are characters of their own.
    """
    if text.isascii():
        return _SIMPLE.findall(text)
    special, cluster = _patterns()
    return (cluster if special.search(text) else _SIMPLE).findall(text)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What may make a character of several code points, and a character."""
    marks = "".join(
        chr(code)
        for plane in _MARK_PLANES
        for code in plane
        if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
    )
    extenders = _as_ranges(marks) + _OTHER_EXTENDERS
    leading, vowels = "\u1100-\u115f\ua960-\ua97c", "\u1160-\u11a7\ud7b0-\ud7c6"
    trailing, flags = "\u11a8-\u11ff\ud7cb-\ud7fb", "\U0001f1e6-\U0001f1ff"
    syllable = (
        f"[{leading}]*[\uac00-\ud7a3{vowels}][{vowels}]*[{trailing}]*|[{leading}]+|[{trailing}]+"
    )
    # there are spaces in this range
    pictograph = r"(?!\s)[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]"
    joined = rf"{pictograph}(?:[{extenders}]*(?<=\u200d){pictograph})*"
    return (
        re.compile(f"[{extenders}{leading}{vowels}{trailing}{flags}]"),
        re.compile(f"<unk>|(?:[{flags}]{{2}}|{syllable}|{joined}|\\S)[{extenders}]*"),
    )


def _as_ranges(text: str) -> str:
    """Sorted characters as the inside of a class of a regular expression."""
    parts: list[list[int]] = []
    for code in map(ord, text):
        if parts and parts[-1][1] == code - 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in parts)
