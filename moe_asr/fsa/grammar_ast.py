"""What a grammar is once it is read: rules made of words, sequences, choices and repetitions.

The nodes carry the probability model (docs/grammar.md): every choice is made independently, with
the probabilities that its node gives, so the probabilities of all derivations sum to one.
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from moe_asr.errors import TextError

MAX_DEPTH = 200  # of nodes inside nodes, references followed: Python's stack holds about 1000 calls
MIN_PROBABILITY = 1e-12  # of a choice
DEFAULT_PROBABILITY = 0.5  # of an optional part, and of going on with a repetition without bound
_RESERVED = re.compile(r"<[^\s]*>|#\d+")
RULE_NAME = re.compile(r"\w[\w.-]*")


class Position(NamedTuple):
    """Where something stands: a file (or another name), line and column from 1."""

    source: str = "grammar"
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


def error_at(at: Position, message: str) -> TextError:
    """A `TextError` that begins with ``file:line:column``."""
    return TextError(f"{at}: {message}")


def nearest(name: str, names: Iterator[str] | list[str]) -> str:
    """A hint at the name that was probably meant, or ''."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


@dataclass(frozen=True)
class Word:
    """One word, in any script."""

    text: str
    at: Position = field(default=Position(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.text or any(char.isspace() or char in '\ufeff"' for char in self.text):
            raise error_at(
                self.at,
                f"a word cannot be empty or hold whitespace, quotes or a BOM: {self.text!r}",
            )
        if _RESERVED.fullmatch(self.text):
            raise error_at(self.at, f"'{self.text}' is reserved and cannot be a word of a grammar")


@dataclass(frozen=True)
class Reference:
    """The expansion of another rule."""

    name: str
    at: Position = field(default=Position(), compare=False, repr=False)


@dataclass(frozen=True)
class Sequence:
    """Two or more nodes, one after the other."""

    items: tuple["Node", ...]
    at: Position = field(default=Position(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.items) < 2:
            raise error_at(self.at, f"a sequence needs two items or more, found {len(self.items)}")


@dataclass(frozen=True)
class Choice:
    """One of two or more nodes, with probability proportional to its weight.

    Attributes:
        weights: as many as there are branches, each above 0.
    """

    branches: tuple["Node", ...]
    weights: tuple[float, ...]
    at: Position = field(default=Position(), compare=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.branches)
        if count < 2 or len(self.weights) != count:
            raise error_at(
                self.at, f"a choice of {count} branches with {len(self.weights)} weights"
            )
        for weight in self.weights:
            check_weight(weight, self.at)
        if not min(self.weights) / sum(self.weights) >= MIN_PROBABILITY:
            raise error_at(
                self.at,
                f"the weight {min(self.weights):g} is too small beside the others, which sum to "
                f"{sum(self.weights):g}: a probability is {MIN_PROBABILITY:g} or more",
            )

    @cached_property
    def probabilities(self) -> tuple[float, ...]:
        """The weights over their sum."""
        total = math.fsum(self.weights)
        return tuple(weight / total for weight in self.weights)

    @cached_property
    def cumulative(self) -> list[float]:
        """Sums of the first 1, 2, ... weights, for sampling."""
        return list(itertools.accumulate(self.weights))


@dataclass(frozen=True)
class Maybe:
    """A node that is said with ``probability``, in (0, 1), or left out."""

    item: "Node"
    probability: float = DEFAULT_PROBABILITY
    at: Position = field(default=Position(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_probability(self.probability, self.at)


@dataclass(frozen=True)
class Repeat:
    """A node said ``least`` to ``most`` times, independently each time.

    Attributes:
        most: None is without bound.
        probability: of once more, after ``least`` times, in (0, 1). None: all numbers of times are
            equally likely; without bound it is 0.5.
    """

    item: "Node"
    least: int
    most: int | None
    probability: float | None = None
    at: Position = field(default=Position(), compare=False, repr=False)

    def __post_init__(self) -> None:
        bounds = f"{{{self.least},{'' if self.most is None else self.most}}}"
        if self.least < 0 or self.most is not None and self.most < max(1, self.least):
            raise error_at(
                self.at, f"repetition {bounds}: expected {{m,n}} with 0 <= m <= n and n >= 1"
            )
        if self.probability is not None:
            check_probability(self.probability, self.at)
            if self.most == self.least:
                raise error_at(
                    self.at, f"repetition {bounds} leaves no choice to give a probability to"
                )

    def probability_of_more(self, count: int) -> float:
        """The probability of once more when ``count`` have been said."""
        if count < self.least:
            return 1.0
        if count == self.most:
            return 0.0
        if self.probability is not None:
            return self.probability
        if self.most is None:
            return DEFAULT_PROBABILITY
        return (self.most - count) / (self.most - count + 1)


Node = Word | Reference | Sequence | Choice | Maybe | Repeat


def check_weight(weight: float, at: Position) -> None:
    """Raises unless it can be the weight of an alternative."""
    if not (math.isfinite(weight) and weight > 0.0):
        raise error_at(at, f"a weight must be a finite number above 0, found {weight:g}")


def check_probability(probability: float, at: Position) -> None:
    """Raises unless it leaves both ways open."""
    if not MIN_PROBABILITY <= probability <= 1.0 - MIN_PROBABILITY:
        raise error_at(
            at, f"a probability must lie between 0 and 1, both excluded, found {probability:g}"
        )


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right inside ``node``; of a reference, none."""
    if isinstance(node, Sequence):
        return node.items
    if isinstance(node, Choice):
        return node.branches
    if isinstance(node, (Maybe, Repeat)):
        return (node.item,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """``node`` and every node inside it, in the order of the text; references are not followed."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


@dataclass(frozen=True)
class Rule:
    """A name for a node, so that it can be used in several places."""

    name: str
    body: Node
    at: Position = field(default=Position(), compare=False, repr=False)


@dataclass(frozen=True)
class Grammar:
    """Rules without recursion, one of which is where a sentence starts.

    Attributes:
        start: the name of a rule.
        rules: by name.
        warnings: what is probably a mistake (rules that nothing refers to), with file, line and column.
        files: every file that was read, the main one first.

    Raises:
        TextError: on a reference to no rule, recursion, or nesting deeper than `MAX_DEPTH`.
    """

    start: str
    rules: Mapping[str, Rule]
    warnings: tuple[str, ...] = field(default=(), compare=False)
    files: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.start not in self.rules:
            raise TextError(f"no start rule <{self.start}>{self._hint(self.start)}")
        for rule in self.rules.values():
            for node in walk(rule.body):
                if isinstance(node, Reference) and node.name not in self.rules:
                    raise error_at(node.at, f"no rule <{node.name}>{self._hint(node.name)}")
        depth: dict[str, int] = {}
        for name in self.order:
            depth[name] = _depth(self.rules[name].body, depth)
            if depth[name] > MAX_DEPTH:
                raise error_at(
                    self.rules[name].at, f"<{name}> is nested more than {MAX_DEPTH} levels deep"
                )

    def _hint(self, name: str) -> str:
        return nearest(f"<{name}>", [f"<{rule}>" for rule in self.rules])

    @cached_property
    def order(self) -> list[str]:
        """Every rule's name, after those of the rules that it refers to."""
        finished: dict[str, None] = {}
        for root in self.rules:
            path: dict[str, Iterator[Reference]] = {}
            stack = [] if root in finished else [root]
            while stack:
                name = stack[-1]
                if name not in path:
                    path[name] = (
                        node
                        for node in walk(self.rules[name].body)
                        if isinstance(node, Reference) and node.name not in finished
                    )
                reference = next(path[name], None)
                if reference is None:
                    finished[name] = None
                    del path[stack.pop()]
                elif reference.name in path:
                    cycle = [*itertools.dropwhile(reference.name.__ne__, stack), reference.name]
                    names = " -> ".join(f"<{each}>" for each in cycle)
                    raise error_at(reference.at, f"recursion is not allowed: {names}")
                elif reference.name not in finished:
                    stack.append(reference.name)
        return list(finished)

    def reachable(self) -> list[str]:
        """The rules that a sentence can use, the start first."""
        found, stack = {self.start: None}, [self.start]
        while stack:
            for node in walk(self.rules[stack.pop()].body):
                if isinstance(node, Reference) and node.name not in found:
                    found[node.name] = None
                    stack.append(node.name)
        return list(found)

    def words(self) -> dict[str, Position]:
        """Every word that a sentence can have, sorted, and where it stands first."""
        found: dict[str, Position] = {}
        for name in self.reachable():
            for node in walk(self.rules[name].body):
                if isinstance(node, Word):
                    found.setdefault(node.text, node.at)
        return dict(sorted(found.items()))


def _depth(body: Node, of_rule: Mapping[str, int]) -> int:
    deepest, level = 1, [body]
    for depth in itertools.count(1):
        if not level:
            return deepest
        deepest = max(
            deepest, depth, *(depth + of_rule[n.name] for n in level if isinstance(n, Reference))
        )
        level = [child for node in level for child in children(node)]
    raise AssertionError


def format_grammar(grammar: Grammar) -> str:
    """Text that `grammar_parser.parse_grammar` reads as the same grammar; list files are written out."""
    lines = [f"@start <{grammar.start}>;\n"]
    for rule in grammar.rules.values():
        lines.append(f"<{rule.name}> = {_format(rule.body, 'rule')};\n")
    return "".join(lines)


def _format(node: Node, inside: str) -> str:
    """``inside``: what holds the node decides about parentheses: a rule, choice, sequence or operator."""
    if isinstance(node, Word):
        return f'"{node.text}"' if re.search(r'[()\[\]{}<>|;=*+"@/:]', node.text) else node.text
    if isinstance(node, Reference):
        return f"<{node.name}>"
    if isinstance(node, Sequence):
        text = " ".join(_format(item, "sequence") for item in node.items)
        return text if inside in ("rule", "choice") else f"({text})"
    if isinstance(node, Choice):
        branches = zip(node.weights, node.branches, strict=True)
        text = " | ".join(f"/{weight!r}/ {_format(item, 'choice')}" for weight, item in branches)
        return text if inside == "rule" else f"({text})"
    if isinstance(node, Maybe):
        return f"[{_format(node.item, 'rule')}]:{node.probability!r}"
    operator = f"{{{node.least},{'' if node.most is None else node.most}}}"
    if node.probability is not None:
        operator += f":{node.probability!r}"
    text = f"{_format(node.item, 'operator')}{operator}"
    return f"({text})" if inside == "operator" else text
