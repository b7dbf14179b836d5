"""Scripts that are written without spaces: their characters are units of their own.

These are Han ideographs (with the iteration mark and the zero that stand among them), hiragana and
katakana, half-width forms included. Hangul is not among them: Korean has spaces between its words.
"""

import re
from collections.abc import Iterable

from moe_asr.text.normalize import normalize_text

# U+3099 and U+309A, the combining voicing marks, are left out: NFC joins them to what is before them.
_CJK = (
    "\u3005\u3007\u3041-\u3098\u309b-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003fffd"
)
_CHARACTER = re.compile(f"[{_CJK}]")
_WORD = re.compile(f"[{_CJK}]|[^ {_CJK}]+")
_SPACE_BETWEEN = re.compile(f"(?<=[{_CJK}]) (?=[{_CJK}])")
_BOUNDARY = re.compile(f"(?<=[{_CJK}])(?=[^ {_CJK}])|(?<=[^ {_CJK}])(?=[{_CJK}])")


def has_cjk(text: str) -> bool:
    """Whether a character of ``text`` is a unit of its own."""
    return not text.isascii() and _CHARACTER.search(text) is not None


def text_words(text: str) -> list[str]:
    """The words of a text where no word list says otherwise.

    Every CJK character is one, and so is what stands between CJK characters and spaces:
    ``text_words("我用 Python 3写")`` is ``["我", "用", "Python", "3", "写"]``. The text is normalised first.
    """
    if text.isascii():
        return normalize_text(text).split()
    return _WORD.findall(normalize_text(text))


def space_cjk(text: str) -> str:
    """`normalize_text`, with the one spacing that mixed text has here.

    No space between two CJK characters; one where a CJK character meets anything else; words of other
    scripts as they are. Writers differ in all of this, and nobody hears it.
    """
    text = normalize_text(text)
    if text.isascii():
        return text
    return _BOUNDARY.sub(" ", _SPACE_BETWEEN.sub("", text))


class WordSplitter:
    """Joins what `text_words` separates where that makes a word of a list.

    Forward maximum matching: from left to right, the longest run of neighbours that is a word of the
    list. Spaces of the text always separate words.

    Args:
        words: the list; 北京 and K歌 make a difference, 京 and Python do not.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._compounds: set[str] = set()
        lengths: set[int] = set()
        for word in words:
            if not has_cjk(word):
                continue
            length = len(text_words(word))
            if length > 1:
                self._compounds.add(word)
                lengths.add(length)
        self._lengths = sorted(lengths, reverse=True)  # a title among the words costs one more try

    def __call__(self, text: str) -> list[str]:
        """The words of ``text``."""
        if not self._compounds or not has_cjk(text):
            return text_words(text)
        words: list[str] = []
        for chunk in normalize_text(text).split():
            parts = _WORD.findall(chunk)
            start = 0
            while start < len(parts):
                end = self._end_of_word(parts, start)
                words.append("".join(parts[start:end]))
                start = end
        return words

    def _end_of_word(self, parts: list[str], start: int) -> int:
        for length in self._lengths:
            end = start + length
            if end <= len(parts) and "".join(parts[start:end]) in self._compounds:
                return end
        return start + 1
