"""Grammars into G: the smallest deterministic acceptor that gives every sentence its probability."""

import math
import time
from dataclasses import dataclass

from moe_asr.files import PathLike
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_ast import (
    Choice,
    Grammar,
    Maybe,
    Node,
    Position,
    Reference,
    Repeat,
    Sequence,
    Word,
    children,
    error_at,
    nearest,
)
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.fsa.grammar_statistics import LanguageStatistics, language_statistics
from moe_asr.fsa.probabilistic import (
    EpsilonClosure,
    ProbabilisticAutomaton,
    TooLargeError,
    determinize,
    minimize,
)
from moe_asr.fsa.twins import find_unequal_twins
from moe_asr.text.symbol_table import SymbolTable

MAX_ARCS = 1_000_000  # about 0.7 GB while compiling


@dataclass(frozen=True)
class CompileReport:
    """How a grammar was compiled.

    Attributes:
        num_rules: that a sentence can use.
        expanded_arcs: of the automaton with every rule written out.
        num_states, num_arcs: of G.
        statistics: of its language.
        warnings: with file, line and column.
        seconds: wall time.
    """

    num_rules: int
    expanded_arcs: int
    num_states: int
    num_arcs: int
    statistics: LanguageStatistics
    warnings: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.num_rules} rules, {self.expanded_arcs:,} arcs written out; G: "
            f"{self.num_states:,} states, {self.num_arcs:,} arcs, {self.seconds:.1f} s\n"
            f"{self.statistics}"
        )


def grammar_words(grammar: Grammar) -> list[str]:
    """Every word that a sentence can have, sorted."""
    return list(grammar.words())


def compile_grammar(
    grammar: Grammar | PathLike, words: SymbolTable, max_arcs: int = MAX_ARCS
) -> tuple[Fst, CompileReport]:
    """The acceptor G of a grammar.

    G is deterministic and without epsilons, arcs are sorted by label, and every state is normalised: its
    arcs' probabilities and that of ending sum to one. A sentence that can be derived in several ways has
    the sum of their probabilities.

    Args:
        grammar: or the file to read it from.
        words: a ``words.txt``; labels are its ids.
        max_arcs: of the automaton with all rules written out, and of the deterministic one.

    Raises:
        TextError: with file, line and column: a word that is not in ``words``; a grammar that is larger
            than ``max_arcs``, or that cannot be made deterministic; and all that `read_grammar` raises.
    """
    begin = time.perf_counter()
    if not isinstance(grammar, Grammar):
        grammar = read_grammar(grammar)
    _check_words(grammar, words)
    _check_size(grammar, max_arcs)
    expansion = _Expansion(grammar, words)
    deterministic = _determinize(grammar, expansion, max_arcs)
    fst = minimize(deterministic)
    statistics = language_statistics(fst)
    warnings = list(grammar.warnings)
    if statistics.shortest == 0:
        at = grammar.rules[grammar.start].at
        warnings.append(f"{at}: <{grammar.start}> can be empty: G accepts a sentence without words")
    report = CompileReport(
        len(grammar.reachable()),
        expansion.automaton.num_arcs,
        fst.num_states,
        fst.num_arcs,
        statistics,
        tuple(warnings),
        time.perf_counter() - begin,
    )
    return fst, report


def _check_words(grammar: Grammar, words: SymbolTable) -> None:
    missing = {word: at for word, at in grammar.words().items() if not words.get(word)}
    if missing:
        word, at = min(missing.items(), key=lambda item: item[1])
        more = f" ({len(missing) - 1} more words are missing)" if len(missing) > 1 else ""
        raise error_at(at, f"'{word}' is not in {words.source}{nearest(word, list(words))}{more}")


def _check_size(grammar: Grammar, max_arcs: int) -> None:
    """Counts the arcs of every rule written out, before any is."""
    sizes: dict[str, int] = {}
    used = set(grammar.reachable())
    order = [name for name in grammar.order if name in used]
    for name in order:
        sizes[name] = _size(grammar.rules[name].body, sizes)
    if sizes[grammar.start] <= max_arcs:
        return
    name = next(name for name in order if sizes[name] > max_arcs)
    node: Node = grammar.rules[name].body
    while True:  # the innermost part that is too large by itself
        inner = [child for child in children(node) if _size(child, sizes) > max_arcs]
        if not inner:
            break
        node = inner[0]
    size = _size(node, sizes)
    count = f"{size:,}" if size < 10**15 else f"about 10^{size.bit_length() * 0.30103:.0f}"
    raise error_at(
        node.at,
        f"rule <{name}> is too large: this part alone has {count} arcs when written out, the limit is "
        f"{max_arcs:,}; lower the bounds of repetitions, or leave them open as in {{1,}}",
    )


def _size(node: Node, sizes: dict[str, int]) -> int:
    if isinstance(node, Word):
        return 1
    if isinstance(node, Reference):
        return sizes[node.name]
    total = sum(_size(child, sizes) for child in children(node))
    if isinstance(node, Maybe):
        return total + 1
    if isinstance(node, Repeat):
        times = node.least + 1 if node.most is None else node.most
        return (total + 1) * times
    return total


class _Expansion:
    """The automaton of a grammar with every reference replaced by what the rule says.

    Attributes:
        automaton: state 0 is the start, 1 the end.
        loops: the innermost repetition without bound that a state lies in.
    """

    def __init__(self, grammar: Grammar, words: SymbolTable) -> None:
        self.grammar = grammar
        self.words = words
        self.automaton = ProbabilisticAutomaton()
        self.loops: dict[int, Position] = {}
        self._loop: Position | None = None
        start, end = self._state(), self.automaton.add_state(final=0.0)
        self._build(grammar.rules[grammar.start].body, start, end, 0.0)

    def _state(self) -> int:
        state = self.automaton.add_state()
        if self._loop is not None:
            self.loops[state] = self._loop
        return state

    def _build(self, node: Node, src: int, dst: int, log_probability: float) -> None:
        """Adds the paths of ``node`` from ``src`` to ``dst``; inner states of it are its own."""
        if isinstance(node, Word):
            self.automaton.arcs[src].append((self.words[node.text], dst, log_probability))
        elif isinstance(node, Reference):
            self._build(self.grammar.rules[node.name].body, src, dst, log_probability)
        elif isinstance(node, Sequence):
            for item in node.items[:-1]:
                following = self._state()
                self._build(item, src, following, log_probability)
                src, log_probability = following, 0.0
            self._build(node.items[-1], src, dst, log_probability)
        elif isinstance(node, Choice):
            for branch, share in zip(node.branches, node.probabilities, strict=True):
                self._build(branch, src, dst, log_probability + math.log(share))
        elif isinstance(node, Maybe):
            self._build(node.item, src, dst, log_probability + math.log(node.probability))
            self._skip(src, dst, log_probability + math.log1p(-node.probability))
        else:
            self._repeat(node, src, dst, log_probability)

    def _skip(self, src: int, dst: int, log_probability: float) -> None:
        self.automaton.epsilons[src].append((dst, log_probability))

    def _repeat(self, node: Repeat, src: int, dst: int, log_probability: float) -> None:
        times = node.least if node.most is None else node.most
        for count in range(times):
            more = node.probability_of_more(count)
            following = dst if count + 1 == node.most else self._state()
            self._build(node.item, src, following, log_probability + math.log(more))
            if more < 1.0:
                self._skip(src, dst, log_probability + math.log1p(-more))
            src, log_probability = following, 0.0
        if node.most is None:
            outer, self._loop = self._loop, node.at
            loop = self._state()
            more = node.probability_of_more(times)
            self._skip(src, loop, log_probability)
            self._build(node.item, loop, loop, math.log(more))
            self._skip(loop, dst, math.log1p(-more))
            self._loop = outer


def _determinize(grammar: Grammar, expansion: _Expansion, max_arcs: int) -> ProbabilisticAutomaton:
    automaton, at = expansion.automaton, grammar.rules[grammar.start].at
    try:
        closure = EpsilonClosure(automaton, max_arcs)
        if not expansion.loops:
            return determinize(automaton, closure, max_arcs)
        try:
            return determinize(automaton, closure, min(max_arcs, 10 * automaton.num_arcs + 10_000))
        except TooLargeError:
            twins = find_unequal_twins(automaton, closure)
            if twins is None:
                return determinize(automaton, closure, max_arcs)
    except TooLargeError as error:
        hint = ""
        if expansion.loops:
            hint = (
                "; repetitions without bound that meet on the same words, as in a+ a+, need bounds"
            )
        raise error_at(at, f"<{grammar.start}> is too large: {error}{hint}") from error
    one, other = (expansion.loops.get(state, at) for state in twins)
    what = f"this repetition and that at {other}"
    if one == other:
        what = "two passes through this repetition"
    raise error_at(
        one,
        f"{what} can take the same words, with different probabilities, and no bounded memory can tell "
        "which of the two goes on: bound them as in {1,9}, or let them begin with different words",
    ) from None
