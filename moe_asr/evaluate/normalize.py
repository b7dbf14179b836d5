"""What is done to references and hypotheses alike before they are compared."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.alternatives import SIGNS, Segments, parse_alternatives
from moe_asr.evaluate.glm import Rules
from moe_asr.files import PathLike
from moe_asr.text.cjk import has_cjk, text_words
from moe_asr.text.normalize import normalize_text

NormalForm = Literal["NFC", "NFKC"]
NORMAL_FORMS: tuple[NormalForm, ...] = ("NFC", "NFKC")
# Marks of writing direction, the soft hyphen, the word joiner: nobody sees or says them.
_UNSEEN = re.compile("[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069]+")
_CANDIDATE = re.compile(r"[^\w\s]|_")
_APOSTROPHES = "'\u2019\uff07"
_SPOKEN = "%&@#\uff05\uff06\uff20\uff03"  # punctuation to Unicode, but said as words


@dataclass(frozen=True)
class NormalizeOptions:
    """Steps of `TextNormalizer`, in their order.

    Args:
        form: NFC, which all tokenizers apply, or NFKC, which also makes full-width and half-width forms,
            ligatures and the like equal.
        fold_case: by Unicode's case folding (``STRASSE`` is ``straße``).
        remove_punctuation: puts spaces for it, see `remove_punctuation`.
        alternatives: whether ``{ a / b }`` in texts are alternatives, or words. None refuses texts in which
            a ``{`` stands alone.
    """

    form: NormalForm = "NFC"
    fold_case: bool = False
    remove_punctuation: bool = False
    alternatives: bool | None = None

    def __post_init__(self) -> None:
        if self.form not in NORMAL_FORMS:
            raise ConfigError(f"form must be one of {', '.join(NORMAL_FORMS)}, found '{self.form}'")


class TextNormalizer:
    """Unicode normal form, single spaces, case, punctuation, alternatives, rules.

    Marks of writing direction, soft hyphens and word joiners are dropped whatever the options.

    Args:
        options: which of them.
        rules: file of `Rules`, or None; patterns, contexts and replacements are normalised like texts.
        unit: what errors will be counted in. To rules, every Chinese character is a word if these are
            characters or mixed units; else what stands between spaces is.
    """

    def __init__(
        self,
        options: NormalizeOptions = NormalizeOptions(),
        rules: PathLike | None = None,
        unit: str = "word",
    ) -> None:
        self.options = options
        self._has_cjk_words = unit in ("char", "mixed")
        self._rules = None if rules is None else Rules.read(rules, self._spaced)

    def __call__(self, text: str) -> str | Segments:
        """The text, or its segments if there are alternatives in it.

        Raises:
            DataError: if alternatives are malformed, or it is not said whether they are alternatives.
        """
        if self.options.alternatives is None and "{" in text and "{" in text.split():
            raise DataError(
                "there is a '{': option 'alternatives' must say if it begins alternatives"
            )
        if self.options.alternatives and not set(SIGNS).isdisjoint(text.split()):
            words = [word if word in SIGNS else self._spaced(word) for word in text.split()]
            segments: Segments = parse_alternatives(" ".join(words))
        elif self._rules is None:
            return self._characters(text)
        else:
            segments = self._spaced(text).split()
        if self._rules is not None:
            segments = self._rules(segments)
        if any(not isinstance(segment, str) for segment in segments):
            return segments
        return " ".join(segments)  # type: ignore[arg-type]

    def texts(self, texts: Mapping[str, str], source: str) -> dict[str, str | Segments]:
        """Many texts by utterance id; `DataError` naming ``source`` and the utterance."""
        result: dict[str, str | Segments] = {}
        for name, text in texts.items():
            try:
                result[name] = self(text)
            except DataError as error:
                raise DataError(f"{source}: utterance '{name}': {error}") from error
        return result

    def _spaced(self, text: str) -> str:
        """`_characters`, with spaces between what are words to rules."""
        text = self._characters(text)
        return " ".join(text_words(text)) if self._has_cjk_words and has_cjk(text) else text

    def _characters(self, text: str) -> str:
        """The steps that know no words."""
        options = self.options
        text = normalize_text(text if text.isascii() else _UNSEEN.sub("", text))
        if not text.isascii():
            text = unicodedata.normalize(options.form, text)
        if options.fold_case:
            text = (
                text.lower()
                if text.isascii()
                else unicodedata.normalize(options.form, text.casefold())
            )
        if options.remove_punctuation:
            text = remove_punctuation(text)
        return " ".join(text.split()) if options != NormalizeOptions() else text


def remove_punctuation(text: str) -> str:
    """Puts a space for every character of Unicode's categories P.

    But for an apostrophe between letters or digits, which becomes ``'`` whatever it was, and for ``% & @ #``,
    which are said. Symbols (``$ + < =``, categories S) stay.
    """
    return " ".join(_CANDIDATE.sub(_replacement, text).split())


def _replacement(match: re.Match[str]) -> str:
    char, text, position = match[0], match.string, match.start()
    if char in _SPOKEN or not unicodedata.category(char).startswith("P"):
        return char
    if char in _APOSTROPHES and 0 < position < len(text) - 1:
        if _is_letter(text[position - 1]) and _is_letter(text[position + 1]):
            return "'"
    return " "


def _is_letter(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char).startswith("M")
