"""Reads the grammar format of docs/grammar.md; every mistake is named with file, line and column."""

import bisect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moe_asr.errors import ConfigError, TextError
from moe_asr.files import PathLike, read_text
from moe_asr.fsa.grammar_ast import (
    RULE_NAME,
    Choice,
    Grammar,
    Maybe,
    Node,
    Position,
    Reference,
    Repeat,
    Rule,
    Sequence,
    Word,
    check_weight,
    error_at,
    nearest,
)

_MAX_BRACKETS = 60  # inside one another, in one rule
_MAX_IMPORTS = 60  # files that import one another in a row
_TOKEN = re.compile(
    r"""(?P<space>(?:\s+|//[^\n]*)+)
    |(?P<rule></?[^<>\s]*>)
    |(?P<list>@"[^"\n]*")
    |(?P<directive>@\w+)
    |(?P<string>"[^"\n]*")
    |(?P<weight>/[^/\n]*/)
    |(?P<probability>:[^\s()\[\]{}<>|;=*+"@/:]*)
    |(?P<bounds>\{[^{}\n]*\})
    |(?P<mark>[()\[\]|;=*+])
    |(?P<word>[^\s()\[\]{}<>|;=*+"@/:]+)""",
    re.VERBOSE,
)
_STRAY = {
    "<": "a rule is named in angle brackets: <name>",
    ">": "a rule is named in angle brackets: <name>",
    "{": "expected bounds as in {2,5} or {2,}",
    "}": "unbalanced '}'",
    '"': "this quotation mark is not closed on its line",
    "@": 'expected @start, @import or a list file as in @"names.txt"',
    "/": "a weight stands between two slashes, as in /0.5/; a comment begins with two",
}
_BOUNDS = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_CLOSING = {"(": ")", "[": "]"}


class _Token(NamedTuple):
    kind: str  # a group of _TOKEN, or 'end'
    text: str
    at: Position


@dataclass
class _Gathered:
    """What the files of one grammar have said so far."""

    rules: dict[str, Rule]
    files: dict[Path, Path]  # as they are named, by what they resolve to
    depth: int = 0  # of imports


def read_grammar(path: PathLike) -> Grammar:
    """Reads a grammar with the files that it imports and its list files.

    Raises:
        TextError: naming file, line and column, if anything does not hold together; the file, if it
            cannot be read or is not UTF-8.
    """
    path = Path(path)
    text = _read(path, None)
    return _grammar(text, str(path), path.parent, _Gathered({}, {path.resolve(): path}))


def parse_grammar(text: str, source: str = "grammar", folder: PathLike = ".") -> Grammar:
    """The grammar that ``text`` describes; see `read_grammar`.

    Args:
        source: what messages call the text.
        folder: where imports and list files are looked for.
    """
    return _grammar(text, source, Path(folder), _Gathered({}, {}))


def _grammar(text: str, source: str, folder: Path, gathered: _Gathered) -> Grammar:
    start = _Parser(text, source, folder, gathered).file()
    rules = gathered.rules
    if not rules:
        raise TextError(f"{source}: there is no rule in it: no sentence could be said")
    if start is None:
        raise TextError(
            f"{source}: no start rule: expected '@start <{next(reversed(rules))}>;' or the like"
        )
    if start.name not in rules:  # said here, where the position of @start is known
        hint = nearest(f"<{start.name}>", [f"<{name}>" for name in rules])
        raise error_at(start.at, f"no rule <{start.name}>{hint}")
    grammar = Grammar(start.name, rules, files=tuple(gathered.files.values()))
    used = set(grammar.reachable())
    warnings = tuple(
        f"{rule.at}: rule <{rule.name}> is not used"
        for rule in rules.values()
        if rule.name not in used and rule.at.source == source  # others may be a library
    )
    return Grammar(grammar.start, rules, warnings, grammar.files)


def _read(path: Path, at: Position | None) -> str:
    try:
        return read_text(path)
    except (ConfigError, ValueError) as error:  # ValueError: a null character in the name
        raise TextError(f"{at}: {error}" if at is not None else str(error)) from error


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, text: str, source: str, folder: Path, gathered: _Gathered) -> None:
        self.source = source
        self.folder = folder
        self.gathered = gathered
        self.tokens = self._split(text)
        self.next = 0
        self.depth = 0  # of brackets

    def _split(self, text: str) -> list[_Token]:
        starts = [0, *(match.end() for match in re.finditer("\n", text))]  # of lines
        tokens = []
        position = 0
        if text.startswith("\ufeff"):
            at = Position(self.source)
            raise error_at(at, "a byte order mark; save the file as UTF-8 without it")
        while position <= len(text):
            line = bisect.bisect_right(starts, position)
            at = Position(self.source, line, position - starts[line - 1] + 1)
            if position == len(text):
                tokens.append(_Token("end", "the end of the file", at))
                break
            match = _TOKEN.match(text, position)
            if match is None:
                raise error_at(at, _STRAY[text[position]])
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match[0], at))
            position = match.end()
        return tokens

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        self.next += 1
        return self.tokens[self.next - 1]

    def file(self) -> Reference | None:
        """Reads all of it; returns what @start names."""
        start: Reference | None = None
        while self.token.kind != "end":
            token = self.take()
            if token.kind == "rule":
                self._rule(token)
            elif token.text == "@start":
                if start is not None:
                    raise error_at(token.at, f"a second @start, the first is at {start.at}")
                start = self._reference(self._expect("rule", "the name of a rule, as in <command>"))
                self._semicolon(token)
            elif token.text == "@import":
                name = self._expect("string", 'the name of a file, as in "numbers.gram"')
                self._semicolon(token)
                self._import(name)
            else:
                expected = "expected '<name> = ... ;', '@start <name>;' or '@import \"file\";'"
                raise error_at(token.at, f"{expected}, found {_shown(token)}")
        return start

    def _expect(self, kind: str, what: str) -> _Token:
        token = self.take()
        if token.kind != kind:
            raise error_at(token.at, f"expected {what}, found {_shown(token)}")
        return token

    def _semicolon(self, statement: _Token) -> None:
        if self.token.text != ";" or self.token.kind != "mark":
            raise error_at(
                self.token.at,
                f"missing ';' after the statement that begins at {statement.at}, "
                f"found {_shown(self.token)}",
            )
        self.take()

    def _import(self, name: _Token) -> None:
        path = self.folder / name.text.strip('"')
        text = _read(path, name.at)
        if self.gathered.files.setdefault(path.resolve(), path) is not path:
            return  # a file that several import is read once
        self.gathered.depth += 1
        if self.gathered.depth > _MAX_IMPORTS:
            raise error_at(
                name.at, f"more than {_MAX_IMPORTS} files that import one another in a row"
            )
        _Parser(text, str(path), path.parent, self.gathered).file()
        self.gathered.depth -= 1

    def _rule(self, name: _Token) -> None:
        reference = self._reference(name)
        if self.token.text != "=":
            raise error_at(self.token.at, f"expected '=' after {name.text}")
        self.take()
        body = self._alternatives(name)
        if self.token.text in (")", "]"):
            raise error_at(self.token.at, f"unbalanced '{self.token.text}'")
        self._semicolon(name)
        before = self.gathered.rules.get(reference.name)
        if before is not None:
            raise error_at(name.at, f"rule {name.text} is defined twice, first at {before.at}")
        self.gathered.rules[reference.name] = Rule(reference.name, body, name.at)

    def _reference(self, token: _Token) -> Reference:
        name = token.text[1:-1]
        if not RULE_NAME.fullmatch(name):
            raise error_at(
                token.at, f"'{token.text}' is no name of a rule: letters, digits, '_', '-' and '.'"
            )
        if name in ("eps", "s", "unk", "blk"):
            raise error_at(token.at, f"'{token.text}' is reserved and cannot name a rule")
        return Reference(name, token.at)

    def _alternatives(self, opened: _Token) -> Node:
        weights, branches = [], []
        while True:
            at = self.token.at
            weight = 1.0
            if self.token.kind == "weight":
                weight = _number(self.token.text[1:-1], "weight", self.take().at)
                check_weight(weight, at)
            branches.append(self._sequence(at))
            weights.append(weight)
            if self.token.text != "|" or self.token.kind != "mark":
                break
            self.take()
        if len(branches) == 1:
            return branches[0]
        return Choice(tuple(branches), tuple(weights), opened.at)

    def _sequence(self, at: Position) -> Node:
        items: list[Node] = []
        while True:
            item = self._item()
            if item is None:
                break
            items.append(item)
        if self.token.kind == "weight":
            raise error_at(
                self.token.at,
                "a weight belongs at the beginning of an alternative, as in (/2/ a | /1/ b); "
                "the probability of an optional part follows it, as in [a]:0.2",
            )
        if self.token.kind == "directive" or self.token.text == "=":
            raise error_at(self.token.at, f"missing ';' before {_shown(self.token)}")
        if self.token.kind == "probability":
            raise error_at(
                self.token.at, f"'{self.token.text}': a probability follows ']' or a repetition"
            )
        if self.token.kind == "bounds" or self.token.text in ("*", "+"):
            raise error_at(
                self.token.at,
                f"'{self.token.text}' must follow a word, a rule or a bracket, and only one of them can",
            )
        if not items:
            raise error_at(at, f"empty alternative: expected words before {_shown(self.token)}")
        if len(items) == 1:
            return items[0]
        return Sequence(tuple(items), at)

    def _item(self) -> Node | None:
        """One item with its operator; None if there is none before the next token."""
        token = self.token
        node: Node
        if token.kind == "word":
            node = Word(self.take().text, token.at)
        elif token.kind == "string":
            node = self._phrase(self.take())
        elif token.kind == "rule":
            node = self._reference(self.take())
        elif token.kind == "list":
            node = self._list(self.take())
        elif token.text in ("(", "["):
            node = self._bracket()
        else:
            return None
        return self._operator(node, token)

    def _bracket(self) -> Node:
        opened = self.take()
        self.depth += 1
        if self.depth > _MAX_BRACKETS:
            raise error_at(opened.at, f"more than {_MAX_BRACKETS} brackets inside one another")
        node = self._alternatives(opened)
        if self.token.text != _CLOSING[opened.text]:
            raise error_at(opened.at, f"'{opened.text}' is not closed before {_shown(self.token)}")
        self.take()
        self.depth -= 1
        if opened.text == "(":
            return node
        if self.token.kind == "probability":
            return Maybe(node, self._probability(), opened.at)
        return Maybe(node, at=opened.at)

    def _operator(self, node: Node, first: _Token) -> Node:
        token = self.token
        if token.text == "*":
            least, most = 0, None
        elif token.text == "+":
            least, most = 1, None
        elif token.kind == "bounds":
            match = _BOUNDS.fullmatch(token.text)
            if match is None:
                raise error_at(
                    token.at, f"expected bounds as in {{2,5}} or {{2,}}, found {token.text}"
                )
            least = int(match[1])
            most = int(match[3]) if match[3] else None if match[2] else least
        else:
            return node
        self.take()
        probability = self._probability() if self.token.kind == "probability" else None
        return Repeat(node, least, most, probability, token.at)

    def _probability(self) -> float:
        token = self.take()
        return _number(token.text[1:], "probability", token.at)

    def _phrase(self, token: _Token) -> Node:
        text = token.text[1:-1]
        words = _words(text, token.at._replace(column=token.at.column + 1))
        if not words:
            raise error_at(token.at, "an empty phrase")
        return words[0] if len(words) == 1 else Sequence(tuple(words), token.at)

    def _list(self, token: _Token) -> Node:
        path = self.folder / token.text[2:-1]
        text = _read(path, token.at)
        self.gathered.files.setdefault(path.resolve(), path)
        return _parse_list(text, str(path), token.at)


def _parse_list(text: str, source: str, at: Position) -> Node:
    """A phrase a line, perhaps a tab and its weight; blank lines and ``//`` lines are skipped."""
    weights: list[float] = []
    branches: list[Node] = []
    line_of: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("//"):
            continue
        phrase, *rest = line.rstrip("\r").split("\t")
        begin = Position(source, number, 1)
        words = _words(phrase, begin)
        if not words or len(rest) > 1:
            raise error_at(begin, f"expected a phrase, or phrase<tab>weight, found {line!r}")
        weight_at = begin._replace(column=len(phrase) + 2)
        weight = _number(rest[0], "weight", weight_at) if rest else 1.0
        check_weight(weight, weight_at)
        key = tuple(word.text for word in words)
        if line_of.setdefault(key, number) != number:
            raise error_at(begin, f"'{' '.join(key)}' is already in line {line_of[key]}")
        branches.append(words[0] if len(words) == 1 else Sequence(tuple(words), begin))
        weights.append(weight)
    if not branches:
        raise error_at(Position(source), f"empty: expected a phrase a line (used at {at})")
    return branches[0] if len(branches) == 1 else Choice(tuple(branches), tuple(weights), at)


def _words(phrase: str, at: Position) -> list[Word]:
    return [
        Word(match[0], at._replace(column=at.column + match.start()))
        for match in re.finditer(r"\S+", phrase)
    ]


def _number(text: str, what: str, at: Position) -> float:
    try:
        if "_" in text:
            raise ValueError  # Python's own digit groups
        return float(text)
    except ValueError:
        raise error_at(at, f"expected a {what}, found {text.strip()!r}") from None


def _shown(token: _Token) -> str:
    return token.text if token.kind == "end" else f"'{token.text}'"
