"""Slow references for grammars: sentences are enumerated on the rules, or parsed by them."""

import functools
from collections import defaultdict
from collections.abc import Sequence as Words

import numpy as np
from hypothesis import strategies as st

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_ast import (
    Choice,
    Grammar,
    Maybe,
    Node,
    Reference,
    Repeat,
    Rule,
    Sequence,
    Word,
)

Language = dict[tuple[str, ...], float]  # probabilities of sentences
MANY = 3000


class TooManySentencesError(Exception):
    """The language is too large to be enumerated."""


def enumerate_language(grammar: Grammar) -> Language:
    """Every sentence with its probability; repetitions must be bounded."""
    return _enumerate(grammar.rules[grammar.start].body, grammar)


def _concatenate(first: Language, second: Language) -> Language:
    if len(first) * len(second) > MANY:
        raise TooManySentencesError
    result: Language = defaultdict(float)
    for a, p in first.items():
        for b, q in second.items():
            result[a + b] += p * q
    return result


def _mix(parts: list[tuple[float, Language]]) -> Language:
    result: Language = defaultdict(float)
    for weight, language in parts:
        if weight == 0.0:
            continue
        for sentence, probability in language.items():
            result[sentence] += weight * probability
    return result


def counts(node: Repeat, longest: int) -> list[float]:
    """The probability of 0, 1, ... repetitions, from the definition in docs/grammar.md."""
    if node.probability is None and node.most is not None:
        span = node.most - node.least + 1
        return [0.0] * node.least + [1.0 / span] * span
    more = 0.5 if node.probability is None else node.probability
    most = longest if node.most is None else node.most
    chances = [more ** (n - node.least) * (1 - more) for n in range(node.least, most + 1)]
    if node.most is not None:
        chances[-1] = more ** (most - node.least)
    return [0.0] * node.least + chances


def _enumerate(node: Node, grammar: Grammar) -> Language:
    if isinstance(node, Word):
        return {(node.text,): 1.0}
    if isinstance(node, Reference):
        return _enumerate(grammar.rules[node.name].body, grammar)
    if isinstance(node, Sequence):
        result: Language = {(): 1.0}
        for item in node.items:
            result = _concatenate(result, _enumerate(item, grammar))
        return result
    if isinstance(node, Choice):
        total = sum(node.weights)
        pairs = zip(node.weights, node.branches, strict=True)
        return _mix([(weight / total, _enumerate(item, grammar)) for weight, item in pairs])
    inner = _enumerate(node.item, grammar)
    if isinstance(node, Maybe):
        return _mix([(node.probability, inner), (1 - node.probability, {(): 1.0})])
    assert node.most is not None
    parts, power = [], {(): 1.0}
    for chance in counts(node, 0):
        parts.append((chance, power))
        power = _concatenate(power, inner)
    return _mix(parts)


def parse_probability(grammar: Grammar, words: Words[str]) -> float:
    """The probability of a sentence, summed over its derivations, by parsing it with the rules.

    Repetitions without bound are followed up to 80 times.
    """
    return Parse(grammar, words).ends(grammar.rules[grammar.start].body, 0).get(len(words), 0.0)


class Parse:
    """What each node can say of one sentence from each position on."""

    def __init__(self, grammar: Grammar, words: Words[str]) -> None:
        self.grammar = grammar
        self.words = tuple(words)
        self.memory: dict[tuple[int, int], dict[int, float]] = {}

    def ends(self, node: Node, begin: int) -> dict[int, float]:
        """Where ``node`` can end if it starts at ``begin``, with probabilities."""
        key = (id(node), begin)
        if key not in self.memory:
            self.memory[key] = self._ends(node, begin)
        return self.memory[key]

    def _after(self, node: Node, begins: dict[int, float]) -> dict[int, float]:
        result: dict[int, float] = defaultdict(float)
        for begin, probability in begins.items():
            for end, inner in self.ends(node, begin).items():
                result[end] += probability * inner
        return result

    def _ends(self, node: Node, begin: int) -> dict[int, float]:
        if isinstance(node, Word):
            return {begin + 1: 1.0} if self.words[begin : begin + 1] == (node.text,) else {}
        if isinstance(node, Reference):
            return self.ends(self.grammar.rules[node.name].body, begin)
        if isinstance(node, Sequence):
            ends = {begin: 1.0}
            for item in node.items:
                ends = self._after(item, ends)
            return ends
        result: dict[int, float] = defaultdict(float)
        if isinstance(node, Choice):
            for weight, item in zip(node.weights, node.branches, strict=True):
                for end, probability in self.ends(item, begin).items():
                    result[end] += weight / sum(node.weights) * probability
        elif isinstance(node, Maybe):
            result[begin] = 1 - node.probability
            for end, probability in self.ends(node.item, begin).items():
                result[end] += node.probability * probability
        else:
            ends = {begin: 1.0}
            for chance in counts(node, 80):
                for end, probability in ends.items():
                    result[end] += chance * probability
                ends = self._after(node.item, ends)
        return result


def sentences_of(fst: Fst, words: list[str], longest: int) -> Language:
    """Every path's words with exp of its score, summed over paths, of up to ``longest`` arcs."""
    result: Language = defaultdict(float)
    level: dict[tuple[int, tuple[str, ...]], float] = {(0, ()): 1.0}
    for _ in range(longest + 1):
        following: dict[tuple[int, tuple[str, ...]], float] = defaultdict(float)
        for (state, sentence), probability in level.items():
            if fst.final_score[state] > -np.inf:
                result[sentence] += probability * float(np.exp(np.float64(fst.final_score[state])))
            for arc in range(fst.arc_splits[state], fst.arc_splits[state + 1]):
                label = int(fst.olabel[arc])
                extended = (*sentence, words[label]) if label else sentence
                score = float(np.exp(np.float64(fst.score[arc])))
                following[int(fst.dst[arc]), extended] += probability * score
        level = following
    return dict(result)


def same_language(found: Language, expected: Language) -> None:
    """Asserts that both have the same sentences with the same probabilities (logs to 1e-4)."""
    assert found.keys() == expected.keys()
    for sentence, probability in expected.items():
        difference = abs(np.log(found[sentence]) - np.log(probability))
        assert difference < 1e-4, (sentence, found[sentence], probability)


WORDS = ("a", "b", "c")
PROBABILITIES = st.sampled_from([0.1, 0.25, 0.5, 0.7])


def _extend(inner: st.SearchStrategy[Node], bounded: bool) -> st.SearchStrategy[Node]:
    def choice(branches: list[Node], weights: list[float]) -> Node:
        return Choice(tuple(branches), tuple(weights[: len(branches)]))

    def repeat(item: Node, least: int, more: int | None, probability: float | None) -> Node:
        most = None if more is None else max(1, least + more)
        return Repeat(item, least, most, None if most == least else probability)

    several = st.lists(inner, min_size=2, max_size=3)
    weights = st.lists(st.sampled_from([1.0, 2.0, 0.5, 7.0]), min_size=3, max_size=3)
    more = st.integers(0, 2)
    return st.one_of(
        several.map(lambda items: Sequence(tuple(items))),
        st.builds(choice, several, weights),
        st.builds(Maybe, inner, PROBABILITIES),
        st.builds(
            repeat,
            inner,
            st.integers(0, 2),
            more if bounded else st.none() | more,
            st.none() | PROBABILITIES,
        ),
    )


@functools.cache  # hypothesis checks each strategy anew, which takes longer than to draw from it
def _bodies(rules: tuple[str, ...], bounded: bool, max_leaves: int) -> st.SearchStrategy[Node]:
    leaf = st.sampled_from([Word(word) for word in WORDS] + [Reference(rule) for rule in rules])
    return st.recursive(leaf, lambda x: _extend(x, bounded), max_leaves=max_leaves)


@st.composite
def grammars(draw: st.DrawFn, bounded: bool = True, max_leaves: int = 6) -> Grammar:
    """Up to three rules, each of which may refer to those after it."""
    rules: dict[str, Rule] = {}
    for name in ("third", "second", "first"):
        body = draw(_bodies(tuple(rules), bounded, max_leaves))
        rules[name] = Rule(name, body)
    return Grammar("first", rules)
