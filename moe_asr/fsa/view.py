"""One view of every kind of graph: what inspection, pictures and path searches look at."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import BACKOFF
from moe_asr.text.symbol_table import SymbolTable

DISAMBIGUATION = re.compile(r"#\d+")
EPSILON_SIGN = "\N{GREEK SMALL LETTER EPSILON}"


@dataclass(frozen=True, eq=False)
class GraphView:
    """A arcs over states 0..S-1, of which 0 is the start; an `Fst` or a `DecodingGraph` underneath.

    Attributes:
        kind: what its maker calls it: ``G``, ``L``, ``HLG``...; ``FST`` if nothing is known.
        src, dst: (A,) int32 states, sorted by src.
        ilabel: (A,) int32; 0 is epsilon in an `Fst` and blank in an HLG, -1 enters the last state of a
            decoding graph.
        row_splits: (A + 1,) integers; the outputs of arc a are ``outputs[row_splits[a]:row_splits[a + 1]]``.
        outputs: (W,) int32 output labels, never 0.
        score: (A,) float32, natural log, larger is better.
        final_score: (S,) float32, -inf where a state is not final.
        epsilon_inputs: whether input 0 is epsilon, taken without reading anything.
        has_blank: whether input 0 is CTC's blank, the label of a frame.
        same_alphabet: whether inputs and outputs are the same symbols (an acceptor, or a G).
        isymbols, osymbols: names of the labels, where they are known.
        metadata: how the graph was built.
    """

    kind: str
    src: np.ndarray
    dst: np.ndarray
    ilabel: np.ndarray
    row_splits: np.ndarray
    outputs: np.ndarray
    score: np.ndarray
    final_score: np.ndarray
    epsilon_inputs: bool
    has_blank: bool
    same_alphabet: bool
    isymbols: SymbolTable | None = None
    osymbols: SymbolTable | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.final_score)

    @property
    def num_arcs(self) -> int:
        """A."""
        return len(self.src)

    @cached_property
    def arc_splits(self) -> np.ndarray:
        """(S + 1,) int64: the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``."""
        counts = np.bincount(self.src, minlength=self.num_states)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def outputs_of(self, arc: int) -> list[int]:
        """The output labels of one arc."""
        return self.outputs[self.row_splits[arc] : self.row_splits[arc + 1]].tolist()

    def input_name(self, label: int) -> str:
        """The symbol of an input label: epsilon as its letter, the number where no name is known."""
        if label == 0 and self.epsilon_inputs:
            return EPSILON_SIGN
        return _name(label, self.isymbols)

    def output_name(self, label: int) -> str:
        """The symbol of an output label, likewise."""
        return _name(label, self.osymbols) if label else EPSILON_SIGN

    def arc_name(self, arc: int) -> str:
        """The labels of an arc: ``input:outputs``, only one of the two if they are the same.

        Arcs of a decoding graph without outputs show their input alone.
        """
        label, outputs = int(self.ilabel[arc]), self.outputs_of(arc)
        read = self.input_name(label)
        if self.same_alphabet and outputs == [label] * (label != 0):
            return read
        if not outputs:
            return f"{read}:{EPSILON_SIGN}" if self.epsilon_inputs else read
        return f"{read}:{' '.join(map(self.output_name, outputs))}"

    def input_ids(self, symbols: Sequence[str]) -> list[int]:
        """The input labels of names, or of numbers where there is no table.

        Raises:
            GraphError: naming the first that is not in the table.
        """
        return [_find(symbol, self.isymbols, "input", self.kind) for symbol in symbols]

    def output_ids(self, symbols: Sequence[str]) -> list[int]:
        """The output labels of names, likewise."""
        return [_find(symbol, self.osymbols, "output", self.kind) for symbol in symbols]


def view_of(
    graph: "Fst | DecodingGraph",
    metadata: Mapping[str, Any] | None = None,
    isymbols: SymbolTable | None = None,
    osymbols: SymbolTable | None = None,
) -> GraphView:
    """The view of a graph.

    Args:
        graph: its arrays are shared, not copied, where their form is the same.
        metadata: of an `Fst` (`Fst.load` gives it); a decoding graph has its own.
        isymbols, osymbols: of an `Fst`; a decoding graph has its own. Input labels past the end of a table
            without disambiguation symbols are shown as ``#0``, ``#1``...
    """
    if isinstance(graph, DecodingGraph):
        final_score = np.full(graph.num_states, -np.inf, np.float32)
        final_score[-1] = 0.0
        return GraphView(
            graph.kind,
            graph.src,
            graph.dst,
            graph.token,
            graph.word_row_splits,
            graph.words,
            graph.score,
            final_score,
            epsilon_inputs=False,
            has_blank=not graph.topology_implied,
            same_alphabet=graph.token_table == graph.word_table,
            isymbols=graph.token_table,
            osymbols=graph.word_table,
            metadata=graph.metadata,
        )
    metadata = metadata or {}
    kind = str(metadata.get("kind", "FST"))
    has_output = graph.olabel != 0
    return GraphView(
        kind,
        graph.src,
        graph.dst,
        graph.ilabel,
        np.concatenate([[0], np.cumsum(has_output)]),
        graph.olabel[has_output],
        graph.score,
        graph.final_score,
        epsilon_inputs=True,
        has_blank=False,
        same_alphabet=kind == "G" or bool((graph.ilabel == graph.olabel).all()),
        isymbols=isymbols,
        osymbols=osymbols,
        metadata=metadata,
    )


def _name(label: int, table: SymbolTable | None) -> str:
    if table is None or label < 0:
        return str(label)
    if label < len(table):
        return table.symbol(label)
    return f"#{label - len(table)}" if BACKOFF not in table else str(label)


def _find(symbol: str, table: SymbolTable | None, side: str, kind: str) -> int:
    if table is None:
        if symbol.isascii() and symbol.isdigit() and int(symbol) < 1 << 31:
            return int(symbol)
        raise GraphError(f"no table of the {kind}'s {side} symbols is known: what is '{symbol}'?")
    label = table.get(symbol)
    if label is None and DISAMBIGUATION.fullmatch(symbol) and BACKOFF not in table:
        return len(table) + int(symbol[1:])
    if label is None:
        near = difflib.get_close_matches(symbol, table, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise GraphError(
            f"'{symbol}' is none of the {len(table)} {side} symbols of the {kind}{hint}"
        )
    return label
