"""The linear FSA of a known text: its words one after the other, each with all its spellings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_asr.fsa.topology import check_topology
from moe_asr.text.normalize import SPACE
from moe_asr.text.spelling import Spelling
from moe_asr.text.symbol_table import SymbolTable


@dataclass(frozen=True)
class TextGraph:
    """An acyclic FSA over tokens; the CTC topology is left to the aligner.

    Node 0 is the start and the last node the only final one; between two words there is one node, which all
    spellings share. A arcs, V nodes, W words.

    Attributes:
        src, dst: (A,) int32 nodes, dst > src; sorted by src.
        token: (A,) int32, from 1.
        score: (A,) float64, natural log probabilities of spellings.
        word: (A,) int32, the place of the word in the text.
        is_separator: (A,) bool, a mark of a word boundary before the word's own tokens (``▁`` alone).
        word_nodes: (W + 1,) int32, the node before each word, and the last.
        words: the text.
    """

    src: np.ndarray
    dst: np.ndarray
    token: np.ndarray
    score: np.ndarray
    word: np.ndarray
    is_separator: np.ndarray
    word_nodes: np.ndarray
    words: tuple[str, ...]

    @property
    def num_nodes(self) -> int:
        return int(self.word_nodes[-1]) + 1

    @property
    def num_arcs(self) -> int:
        return len(self.src)

    @cached_property
    def leaving(self) -> np.ndarray:
        """(V + 1,) int64: the arcs that leave node v are ``leaving[v]`` to ``leaving[v + 1] - 1``."""
        return np.searchsorted(self.src, np.arange(self.num_nodes + 1)).astype(np.int64)

    @cached_property
    def entering(self) -> tuple[np.ndarray, np.ndarray]:
        """(V + 1,) int64 and (A,) int64: the arcs that enter node v are
        ``arcs[splits[v]:splits[v + 1]]``."""
        order = np.argsort(self.dst, kind="stable").astype(np.int64)
        splits = np.searchsorted(self.dst[order], np.arange(self.num_nodes + 1)).astype(np.int64)
        return splits, order

    def min_frames(self, topology: str = "standard") -> int:
        """The fewest frames that the text fits into."""
        check_topology(topology)
        needed: list[int] = []  # up to and including each arc
        splits, order = (array.tolist() for array in self.entering)
        token = self.token.tolist()
        for arc, src in enumerate(self.src.tolist()):
            before = [
                needed[other] + (topology == "standard" and token[other] == token[arc])
                for other in order[splits[src] : splits[src + 1]]
            ]
            needed.append(1 + (0 if src == 0 else min(before)))
        last = self.num_nodes - 1
        return min((needed[arc] for arc in order[splits[last] :]), default=0)


def text_graph(spellings: Sequence[Spelling], tokens: SymbolTable) -> TextGraph:
    """The words of a text in their order.

    Args:
        spellings: of a `moe_asr.text.spelling.Speller`.
        tokens: the table of their tokens.
    """
    separator = tokens.get(SPACE, -1)
    arcs: list[tuple[int, int, int, float, int, bool]] = []
    nodes = [0]
    for place, spelling in enumerate(spellings):
        first, last = nodes[-1], spelling.num_nodes - 1
        for src, dst, token, score in spelling.arcs:
            is_separator = token == separator and src == 0 and dst != last
            arcs.append((first + src, first + dst, token, score, place, is_separator))
        nodes.append(first + last)
    arcs.sort(key=lambda arc: arc[0])
    sources, ends, labels, places = (
        np.array([arc[column] for arc in arcs], np.int32) for column in (0, 1, 2, 4)
    )
    return TextGraph(
        sources,
        ends,
        labels,
        np.array([arc[3] for arc in arcs], np.float64),
        places,
        np.array([arc[5] for arc in arcs], np.bool_),
        np.array(nodes, np.int32),
        tuple(spelling.word for spelling in spellings),
    )
