"""Contextual phrases: what makes a search listen for some words; `docs/context.md` has the semantics.

Phrases become an automaton (`moe_asr.fsa.aho_corasick`) over the words or the tokens of a decoding graph. A
path through graph and automaton together gains the boost of each phrase that occurs in it, step by step while
the phrase is read; what was given to a match that fails is taken back. Over a whole path the gains sum up to
the boosts of all occurrences, exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.aho_corasick import Automaton, build_automaton
from moe_asr.fsa.context_phrases import DEFAULT_BOOST, Phrase, distinct_phrases, read_phrases
from moe_asr.fsa.context_spelling import (
    MARK,
    Letters,
    Spelling,
    spell_by_characters,
    spell_by_pronunciations,
    spell_by_words,
)
from moe_asr.fsa.context_tables import (
    Symbols,
    Tables,
    compose_tables,
    max_entries,
    too_large,
    with_sequences,
)
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.normalize import SPACE
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer

__all__ = [
    "DEFAULT_BOOST",
    "LEVELS",
    "ContextGraph",
    "Match",
    "Phrase",
    "compile_context",
    "read_phrases",
]
AUTO = "auto"
LEVELS = (AUTO, "word", "token")


@dataclass(frozen=True)
class Match:
    """An occurrence of a phrase in a sequence.

    Attributes:
        phrase: its number in `ContextGraph.phrases`.
        begin, end: the units ``begin`` to ``end - 1``, the first and the last perhaps in part.
    """

    phrase: int
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class ContextGraph:
    """K states (beginnings of phrases) over the units of a graph, which are in C classes that lead alike.

    Attributes:
        level: ``word`` or ``token``: what the units are.
        phrases: all different.
        units: the graph's words or tokens.
        tables: class of each unit, next[K, C] and gain[K, C]; unit 0 (no word, blank) changes nothing.
        start: the state before the first unit.
        end_gain: (K,) float32: what the end of the utterance brings: the potential is taken back, and a
            phrase that waits for the end of its word gets its boost.
    """

    level: str
    phrases: tuple[Phrase, ...]
    units: SymbolTable
    tables: Tables
    start: int
    end_gain: np.ndarray
    _automaton: Automaton
    _spelling: Spelling
    _phrase_of: np.ndarray  # of each pattern

    @property
    def num_states(self) -> int:
        """K."""
        return len(self.tables.next)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        tables = self.tables.next.nbytes + self.tables.gain.nbytes
        return tables + self._automaton.next.nbytes

    @property
    def is_empty(self) -> bool:
        """Whether there are no phrases: nothing gains anything."""
        return not self.phrases

    def check_graph(self, graph: DecodingGraph) -> None:
        """Raises `GraphError` unless the units are those of ``graph``."""
        units = graph.word_table if self.level == "word" else graph.token_table
        if units is not self.units and units != self.units:
            raise GraphError(
                f"the phrases were compiled for {len(self.units)} {self.level}s of another graph; this one "
                f"has {len(units)}: compile them for it"
            )

    def tables_for(self, symbols: Symbols) -> Tables:
        """The tables with a class for every symbol that arcs have."""
        return with_sequences(self.tables, self._automaton, symbols.sequences)

    def score(self, units: Sequence[int], is_complete: bool = True) -> float:
        """The sum of the boosts of all phrases in a sequence, and so of a path's gains.

        Args:
            units: word or token ids, as ``level`` says; of tokens, those that begin one.
            is_complete: nothing comes after them: a word that stands at the end ends there.

        Raises:
            GraphError: if there is no such unit.
        """
        return sum(self.phrases[match.phrase].boost for match in self.matches(units, is_complete))

    def matches(self, units: Sequence[int], is_complete: bool = True) -> list[Match]:
        """All occurrences of phrases, also overlapping ones, in the order of their ends; see `score`."""
        letters, unit_of = self._read(units, is_complete)
        state, found = 0, []
        for position, letter in enumerate(letters):
            state = int(self._automaton.next[self._automaton.row[state], letter])
            for pattern in self._automaton.found[state]:
                first = position + 1 - int(self._automaton.length[pattern])
                last = position
                if self._spelling.has_marks:  # patterns begin and end with a mark
                    first, last = first + 1, last - 1
                phrase = int(self._phrase_of[pattern])
                found.append(Match(phrase, unit_of[first], unit_of[last] + 1))
        return found

    def _read(self, units: Sequence[int], is_complete: bool) -> tuple[list[int], list[int]]:
        """The letters of a sequence, no two marks in a row, and the unit of each."""
        letters: list[int] = []
        unit_of: list[int] = []
        marks = self._spelling.has_marks
        spelled: list[tuple[int, Letters]] = [(-1, (MARK,))] if marks else []
        for position, unit in enumerate(units):
            if not 0 <= unit < len(self._spelling.units):
                raise GraphError(f"{self.level} {unit} is none of {len(self._spelling.units)}")
            spelled.append((position, self._spelling.units[unit]))
        if marks and is_complete:
            spelled.append((len(units), (MARK,)))
        for position, some in spelled:
            for letter in some:
                if not (marks and letter == MARK and letters and letters[-1] == MARK):
                    letters.append(letter)
                    unit_of.append(position)
        return letters, unit_of

    @cached_property
    def most_gain(self) -> np.ndarray:
        """(K,) float32: the most that one unit, or none, brings in each state."""
        return self.tables.gain.max(axis=1)


def compile_context(
    phrases: Iterable[Phrase],
    graph: DecodingGraph,
    level: str = AUTO,
    lexicon: Lexicon | None = None,
    tokenizer: Tokenizer | None = None,
) -> ContextGraph:
    """Compiles phrases for the search of a graph, and for what comes after it.

    Args:
        phrases: none is allowed.
        level: ``word``: a phrase is matched by the words on the graph's arcs; not for token graphs (HT, T).
            ``token``: by tokens: of byte-pair encodings and characters it counts however it is cut, but only
            as whole words; of phones, by any of its pronunciations. ``auto``: ``token`` for token graphs,
            else ``word``.
        lexicon: that of the graph; on the token level needed where tokens do not spell words (phones).
        tokenizer: in its place: the model's, whose tokens do not spell words.

    Raises:
        TextError: naming the phrase (and its file and line) that the graph cannot recognise: a word that it
            does not know, characters that no tokens spell; or that is there twice with different boosts.
        ConfigError: if there is no such level, or the phrases need too much memory.
    """
    if level not in LEVELS:
        raise ConfigError(f"level must be one of {', '.join(LEVELS)}, found {level!r}")
    has_words = graph.kind in ("HLG", "LG")
    if level == AUTO:
        level = "word" if has_words else "token"
    if level == "word" and not has_words:
        raise ConfigError(f"a graph of kind {graph.kind} has no words: use the level 'token'")
    kept = distinct_phrases(phrases)
    if level == "word":
        units = graph.word_table
        in_graph = _present(graph.words, len(units))
        spelling = spell_by_words(kept, units, in_graph, lexicon)
    else:
        units = graph.token_table
        in_graph = _present(graph.token, len(units))
        spelling = _spell_tokens(kept, units, in_graph, lexicon, tokenizer)
    phrase_of = [number for number, ways in enumerate(spelling.patterns) for _ in ways]
    automaton = build_automaton(
        [pattern for ways in spelling.patterns for pattern in ways],
        [kept[number].boost for number in phrase_of],
        spelling.num_letters,
        MARK if spelling.has_marks else -1,
        max_entries(),
    )
    if automaton is None:
        raise too_large()
    tables = compose_tables(automaton, spelling.units)
    end_gain, start = -automaton.potential[automaton.state], 0
    if spelling.has_marks:  # there is one at the beginning, and one at the end
        start, ended = int(automaton.row[automaton.next[0, MARK]]), automaton.next[:, MARK]
        gain = automaton.gain(np.arange(automaton.num_rows), MARK)
        end_gain = gain - automaton.potential[ended]
    return ContextGraph(
        level,
        tuple(kept),
        units,
        tables,
        start,
        end_gain.astype(np.float32),
        automaton,
        spelling,
        np.array(phrase_of, np.int64),
    )


def _spell_tokens(
    phrases: Sequence[Phrase],
    tokens: SymbolTable,
    in_graph: np.ndarray,
    lexicon: Lexicon | None,
    tokenizer: Tokenizer | None,
) -> Spelling:
    """By characters, unless pronunciations are given and no token tells where words begin."""
    by_tokenizer = lexicon is None and tokenizer is not None and not tokenizer.spells_words
    if (lexicon is None and not by_tokenizer) or any(SPACE in token for token in tokens):
        return spell_by_characters(phrases, tokens, in_graph)

    def spellings(word: str) -> list[Letters]:
        if lexicon is None:
            assert tokenizer is not None
            ways = [ids for ids, _ in tokenizer.spellings(word)]
        else:
            entries = lexicon[word] if word in lexicon else []
            ways = [tuple(tokens[token] for token in entry.tokens) for entry in entries]
        return [way for way in ways if in_graph[list(way)].all()]

    return spell_by_pronunciations(phrases, tokens, spellings, lexicon.words if lexicon else ())


def _present(ids: np.ndarray, size: int) -> np.ndarray:
    present = np.zeros(size + 1, np.bool_)
    present[ids] = True  # -1, that of final arcs, is the last
    return present[:size]
