"""Contextual phrases as the kernels read them: for one graph, and for one list of phrases."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_asr.fsa.context import ContextGraph
from moe_asr.fsa.context_tables import Symbols, Tables, symbols_of_tokens, symbols_of_words
from moe_asr.fsa.native.search_graph import SearchGraph
from moe_asr.fsa.starts_token import starts_token


@dataclass(frozen=True, eq=False)
class GraphSymbols:
    """What the arcs of a search graph spell, words or tokens, see `Symbols`.

    Attributes:
        symbols: of the graph's arcs.
        of_arc: (A,) uint32, of the search graph's.
        of_final: (F,) uint32, of its final arcs.
    """

    symbols: Symbols
    of_arc: np.ndarray
    of_final: np.ndarray


def graph_symbols(graph: SearchGraph, level: str) -> GraphSymbols:
    """The symbols of a level, ``word`` or ``token``."""
    source = graph.source
    if level == "word":
        symbols = symbols_of_words(source.word_row_splits, source.words, len(source.word_table))
    else:
        symbols = symbols_of_tokens(source.token, starts_token(source))
    return GraphSymbols(symbols, symbols.of_arc[graph.origin], symbols.of_arc[graph.final_origin])


@dataclass(frozen=True, eq=False)
class SearchContext:
    """K context states for the arcs of a search graph, in C classes.

    Attributes:
        source: what it was made of.
        symbol: (A,) uint32, of each arc.
        class_of: (symbols,) uint32.
        following: (K, C) uint32.
        gain: (K, C) float32.
        most_gain: (K,) float32, the most that an arc brings; 0 or more.
        final_symbol: (F,) uint32, of each final arc.
    """

    source: ContextGraph
    symbol: np.ndarray
    class_of: np.ndarray
    following: np.ndarray
    gain: np.ndarray
    most_gain: np.ndarray
    final_symbol: np.ndarray

    @cached_property
    def best_gain(self) -> np.float32:
        """The most that an arc brings in any state."""
        return np.float32(self.most_gain.max())

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernels take."""
        return self.symbol, self.class_of, self.following, self.gain, self.most_gain

    def ends(self, states: np.ndarray, finals: np.ndarray | None = None) -> np.ndarray:
        """(N,) float32: what ending brings in context states (N,), over final arcs (N,) or without."""
        gain = np.zeros(len(states), np.float32)
        if finals is not None:
            column = self.class_of[self.final_symbol[finals]]
            gain = self.gain[states, column]
            states = self.following[states, column]
        return gain + self.source.end_gain[states]


def search_context(context: ContextGraph, symbols: GraphSymbols) -> SearchContext:
    """Prepares a context graph for the search of the graph that the symbols are of."""
    tables: Tables = context.tables_for(symbols.symbols)
    return SearchContext(
        source=context,
        symbol=symbols.of_arc,
        class_of=tables.class_of.astype(np.uint32),
        following=np.ascontiguousarray(tables.next, np.uint32),
        gain=np.ascontiguousarray(tables.gain),
        most_gain=tables.gain.max(axis=1),
        final_symbol=symbols.of_final,
    )
