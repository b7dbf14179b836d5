"""Rules that make spellings equal before texts are compared, in files like NIST's glm (global mapping).

A line is a rule, ``pattern => replacement``: words that are replaced wherever they come. Brackets around
words are optional, an empty replacement is ``[]``, and the replacement may have alternatives:

    ;; a comment, to the end of the line; a line may also begin with #
    * case_sensitive = 'F'
    [gonna]   => [going to]
    uh        => []
    who's     => { who's / who is / who has }
    [dr]      => [doctor]  / [ ] __ [ ]          ;; as whole words: what is meant without it, too
    [saint]   => [st]      / [ ] __ [ street]    ;; only before "street"

Patterns are whole words, never parts of words. (Format: the manual of csrfilt and rfilter1 in NIST's Scoring
Toolkit, whose filter may also replace within words.)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe_asr.errors import DataError, TextError
from moe_asr.evaluate.alternatives import (
    MAX_READINGS,
    NOTHING,
    SIGNS,
    Reading,
    Segment,
    Segments,
    expand,
    parse_alternatives,
)
from moe_asr.files import PathLike
from moe_asr.text.lines import read_lines

_HEADER = re.compile(r"\*\s*(\w+)\s*=?\s*['\"]?(.*?)['\"]?\s*")
_TOKEN = re.compile(r"\[([^\[\]]*)\]|([{}])|([^\s\[\]{}]+)|([\[\]])")
_CONTEXT = re.compile(r"\s*\[([^\[\]]*)\]\s*__\s*\[([^\[\]]*)\]\s*")
# What the header may set to something else than rules here mean; its other names say nothing about them.
_HEADER_VALUES = {"format": ("NIST1",), "copy_no_hit": ("T",), "case_sensitive": ("T", "F")}


@dataclass(frozen=True)
class Rule:
    """Words that are replaced, where ``left`` comes before and ``right`` after them."""

    pattern: Reading
    replacement: tuple[Segment, ...]
    left: Reading = ()
    right: Reading = ()


class Rules:
    """Applies rules to texts, from left to right, once: what was put in is not looked at again.

    Of several rules that match at a word, the one with the longest pattern is taken, of these the one with
    the most context. Contexts are looked for in the text as it came.

    Args:
        rules: no two with the same pattern and context.
        case_sensitive: whether patterns and contexts must match in case.
    """

    def __init__(self, rules: Sequence[Rule], case_sensitive: bool = True) -> None:
        self._key: Callable[[str], str] = str if case_sensitive else str.casefold
        self._by_word: dict[str, list[Rule]] = {}
        for rule in rules:
            parts = [tuple(map(self._key, part)) for part in (rule.pattern, rule.left, rule.right)]
            keyed = Rule(parts[0], rule.replacement, parts[1], parts[2])
            self._by_word.setdefault(keyed.pattern[0], []).append(keyed)
        for same in self._by_word.values():
            same.sort(key=lambda rule: (-len(rule.pattern), -len(rule.left) - len(rule.right)))

    @classmethod
    def read(cls, path: PathLike, normalize: Callable[[str], str] = str) -> "Rules":
        """Reads a file of rules.

        Args:
            path: the file.
            normalize: what is done to texts before rules are applied, which is done to the rules, too.

        Raises:
            DataError: with file and line, of a rule that is malformed or comes twice, or of a pattern of
                which ``normalize`` leaves nothing; on what is not UTF-8; naming the file if it cannot be
                read or has no rules.
        """
        rules: list[Rule] = []
        lines: dict[tuple[Reading, ...], int] = {}
        case_sensitive = True
        try:
            for number, line in enumerate(read_lines(path), start=1):
                text = line.removeprefix("\ufeff").split(";;")[0].strip()
                if not text or text.startswith("#"):
                    continue
                try:
                    if text.startswith("*") and "=>" not in text:
                        case_sensitive = _header(text, bool(rules), case_sensitive)
                        continue
                    rule = parse_rule(text, normalize)
                except DataError as error:
                    raise DataError(f"{path}:{number}: {error}") from error
                fold = str if case_sensitive else str.casefold
                key = tuple(
                    tuple(map(fold, part)) for part in (rule.pattern, rule.left, rule.right)
                )
                if key in lines:
                    raise DataError(
                        f"{path}:{number}: the rule of '{' '.join(rule.pattern)}' comes twice, "
                        f"also in line {lines[key]}"
                    )
                lines[key] = number
                rules.append(rule)
        except TextError as error:
            raise DataError(str(error)) from error
        if not rules:
            raise DataError(f"{path}: there are no rules in it")
        return cls(rules, case_sensitive)

    def __call__(self, text: Segments) -> list[Segment]:
        """The text with its words replaced; alternatives are texts of their own.

        Raises:
            DataError: if alternatives get more than `MAX_READINGS` readings.
        """
        keys = [self._key(word) if isinstance(word, str) else None for word in text]
        if not any(key in self._by_word for key in keys) and None not in keys:
            return list(text)
        result: list[Segment] = []
        position = 0
        while position < len(text):
            segment, rule = text[position], self._match(keys, position)
            if rule is not None:
                result += rule.replacement
                position += len(rule.pattern)
                continue
            if not isinstance(segment, str):
                readings = [way for one in segment for way in expand(self(one))]
                if len(readings) > MAX_READINGS:
                    raise DataError(f"alternatives have more than {MAX_READINGS} readings")
                segment = tuple(dict.fromkeys(readings))
            result.append(segment)
            position += 1
        return result

    def _match(self, keys: Sequence[str | None], position: int) -> Rule | None:
        key = keys[position]
        for rule in self._by_word.get(key, ()) if key is not None else ():
            end, begin = position + len(rule.pattern), position - len(rule.left)
            if (
                tuple(keys[position:end]) == rule.pattern
                and tuple(keys[end : end + len(rule.right)]) == rule.right
                and (begin >= 0 and tuple(keys[begin:position]) == rule.left)
            ):
                return rule
        return None


def parse_rule(text: str, normalize: Callable[[str], str] = str) -> Rule:
    """A rule of a line without comments; `DataError` if it is malformed."""
    parts = text.split("=>")
    if len(parts) != 2:
        raise DataError(f"expected 'pattern => replacement', found {len(parts) - 1} times '=>'")
    pattern = _words(parts[0], "pattern")
    if any(word in SIGNS for word in pattern):
        raise DataError("a pattern has no alternatives: write a rule for each")
    kept = normalize(" ".join(pattern)).split()
    if not kept:
        what = (
            f"normalisation leaves nothing of '{' '.join(pattern)}'" if pattern else "it is empty"
        )
        raise DataError(f"pattern: {what}")
    replaced, context = _split_context(parts[1])
    left: Reading = ()
    right: Reading = ()
    if context is not None:
        left, right = _parse_context(context, normalize)
    words = [
        word if word in (*SIGNS, NOTHING) else normalize(word)
        for word in _words(replaced, "replacement")
    ]
    segments = tuple(one for one in parse_alternatives(" ".join(words)) if one != NOTHING)
    return Rule(tuple(kept), segments, left, right)


def _words(text: str, what: str) -> list[str]:
    """The words and signs of one side; brackets only hold words together."""
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        if match[4]:
            raise DataError(f"{what}: a bracket '{match[4]}' has no partner")
        words += [match[2]] if match[2] else (match[1] or match[3] or "").split()
    return words


def _split_context(text: str) -> tuple[str, str | None]:
    """What is before the first slash outside of braces and brackets, and what is after it."""
    depth = 0
    for match in _TOKEN.finditer(text):
        depth += (match[2] == "{") - (match[2] == "}")
        if match[3] == "/" and depth == 0:
            return text[: match.start()], text[match.end() :]
    return text, None


def _parse_context(text: str, normalize: Callable[[str], str]) -> tuple[Reading, Reading]:
    match = _CONTEXT.fullmatch(text)
    if match is None:
        raise DataError(f"context: expected '/ [ left ] __ [ right ]', found '/{text}'")
    if not match[1].endswith(" ") or not match[2].startswith(" "):
        raise DataError(
            "context: patterns are whole words, with a space between them and what is before and after: "
            f"'/ [ ] __ [ ]', found '/{text}'"
        )
    return tuple(normalize(match[1]).split()), tuple(normalize(match[2]).split())


def _header(text: str, late: bool, case_sensitive: bool) -> bool:
    """Whether case matters after this line of the header."""
    match = _HEADER.fullmatch(text)
    if match is None or late:
        raise DataError(f"expected a rule, 'pattern => replacement', found '{text}'")
    name, value = match[1].lower(), match[2]
    if name in _HEADER_VALUES and value not in _HEADER_VALUES[name]:
        choices = " or ".join(f"'{one}'" for one in _HEADER_VALUES[name])
        raise DataError(f"{name} must be {choices}, found '{value}'")
    return value == "T" if name == "case_sensitive" else case_sensitive
