"""Contextual phrases as the kernels read them: for one graph, and for one list of phrases."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_asr.fsa.context import ContextGraph
from moe_asr.fsa.context_tables import ANY, Symbols, Tables, symbols_of_tokens, symbols_of_words
from moe_asr.fsa.native.search_graph import SearchGraph
from moe_asr.fsa.starts_token import starts_token


@dataclass(frozen=True, eq=False)
class GraphSymbols:
    """What the arcs of a search graph spell, words or tokens, see `Symbols`.

    Attributes:
        symbols: of the graph's arcs.
        of_arc: (A,) uint32, of the search graph's.
        of_final: (F,) uint32, of its final arcs.
        graph: that they are of.
    """

    symbols: Symbols
    of_arc: np.ndarray
    of_final: np.ndarray
    graph: SearchGraph

    def states_with(self, symbols: np.ndarray) -> np.ndarray:
        """(Q,) uint8: 1 for the states with an arc that has one of ``symbols`` (sorted, without 0)."""
        known, group, group_of = self._groups
        begin = np.searchsorted(known, symbols)
        counts = np.searchsorted(known, symbols, "right") - begin
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        flagged = np.zeros(int(group_of.max(initial=0)) + 1, np.uint8)
        flagged[group[np.repeat(begin, counts) + within]] = 1
        return flagged[group_of]

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States that share their arcs are a group: pairs of symbol and group, sorted; the group of each."""
        first, group_of = np.unique(self.graph.records[:, 0], return_inverse=True)
        counts = np.diff(first.astype(np.int64), append=len(self.of_arc))
        spells = np.flatnonzero(self.of_arc)
        groups = np.repeat(np.arange(len(first)), counts)[spells]
        pairs = np.unique((self.of_arc[spells].astype(np.int64) << 32) | groups)
        return pairs >> 32, pairs & (2**32 - 1), group_of.reshape(-1)


def graph_symbols(graph: SearchGraph, level: str) -> GraphSymbols:
    """The symbols of a level, ``word`` or ``token``."""
    source = graph.source
    if level == "word":
        symbols = symbols_of_words(source.word_row_splits, source.words, len(source.word_table))
    else:
        symbols = symbols_of_tokens(source.token, starts_token(source))
    of_arc, of_final = symbols.of_arc[graph.origin], symbols.of_arc[graph.final_origin]
    return GraphSymbols(symbols, of_arc, of_final, graph)


@dataclass(frozen=True, eq=False)
class SearchContext:
    """K context states for the arcs of a search graph, in C classes.

    It does not refer to the `ContextGraph` that it was made of: engines keep it for as long as that lives.

    Attributes:
        start: the state before the first frame.
        end_gain: (K,) float32, what the end of the utterance brings.
        symbol: (A,) uint32, of each arc.
        class_of: (symbols,) uint32.
        following: (K, C) uint32.
        gain: (K, C) float32.
        most_gain: (K,) float32, the most that an arc brings; 0 or more.
        can_gain: (Q,) uint8, whether an arc of a search state can bring more than 0; 1 where it is not known.
        final_symbol: (F,) uint32, of each final arc.
    """

    start: int
    end_gain: np.ndarray
    symbol: np.ndarray
    class_of: np.ndarray
    following: np.ndarray
    gain: np.ndarray
    most_gain: np.ndarray
    can_gain: np.ndarray
    final_symbol: np.ndarray

    @cached_property
    def best_gain(self) -> np.float32:
        """The most that an arc brings in any state."""
        return np.float32(self.most_gain.max())

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernels take."""
        return self.symbol, self.class_of, self.following, self.gain, self.most_gain, self.can_gain

    def ends(self, states: np.ndarray, finals: np.ndarray | None = None) -> np.ndarray:
        """(N,) float32: what ending brings in context states (N,), over final arcs (N,) or without."""
        gain = np.zeros(len(states), np.float32)
        if finals is not None:
            column = self.class_of[self.final_symbol[finals]]
            gain = self.gain[states, column]
            states = self.following[states, column]
        return gain + self.end_gain[states]


def search_context(context: ContextGraph, symbols: GraphSymbols) -> SearchContext:
    """Prepares a context graph for the search of the graph that the symbols are of."""
    tables: Tables = context.tables_for(symbols.symbols)
    if context.level == "word":
        can_gain = symbols.states_with(np.flatnonzero(tables.class_of > ANY))
    else:  # almost every state has tokens of some phrase
        can_gain = np.ones(symbols.graph.num_states, np.uint8)
    return SearchContext(
        start=context.start,
        end_gain=context.end_gain,
        symbol=symbols.of_arc,
        class_of=tables.class_of.astype(np.uint32),
        following=np.ascontiguousarray(tables.next).view(np.uint32),  # none is negative
        gain=np.ascontiguousarray(tables.gain),
        most_gain=tables.gain.max(axis=1),
        can_gain=can_gain,
        final_symbol=symbols.of_final,
    )
