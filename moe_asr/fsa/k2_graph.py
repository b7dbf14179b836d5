"""A decoding graph as the k2 engine searches it: an FSA whose arcs know their place in the graph."""

from functools import cached_property
from typing import Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs, concatenate, without_words
from moe_asr.fsa.build import build_hlg
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import import_k2
from moe_asr.fsa.starts_token import starts_token


class K2Graph:
    """The arcs of an HLG (or HT), those of them on paths, in k2 and as arrays.

    In k2 an arc is only its place in these arrays, ``graph_arc``, which k2 copies to the arcs of lattices:
    words and scores of a lattice are looked up, not computed back from k2's.

    Args:
        graph: an HLG or HT; or an LG or T, which is composed with ``topology``.
        graph_scale: multiplies the scores.

    Attributes:
        num_arcs: A.
        dst, token: (A + 1,) int32.
        score: (A + 1,) float32, scaled.
        starts_token: (A + 1,) bool.
        row_splits, words: (A + 2,) and ragged int32: the words of each arc.

        The last entry of each, of token -1, stands for the arcs that `all_final` adds.

    Raises:
        GraphError: if no path leads from the start to the final state, or the graph's states do not tell
            where tokens begin.
        MissingDependencyError: if there is no k2.
    """

    def __init__(
        self, graph: DecodingGraph, topology: str, graph_scale: float, device: str
    ) -> None:
        import_k2()
        arcs = graph.arcs().connect()
        if len(arcs) == 0:
            raise GraphError("the graph has no path from its start to its final state")
        graph = DecodingGraph.from_arcs(arcs, graph.token_table, graph.word_table, graph.metadata)
        if graph.topology_implied:
            graph = build_hlg(graph, topology, "openfst")  # k2 1.23.4 fails on one arc
        self._device = device
        self._src = graph.src
        self.num_arcs, self.num_states = graph.num_arcs, graph.num_states
        ended = concatenate([graph.arcs(), _final_arcs(np.zeros(1), self.num_states - 1)])
        self.dst, self.token = ended.dst, ended.label
        self.score = (ended.score * np.float32(graph_scale)).astype(np.float32)
        self.starts_token = np.append(starts_token(graph), False)
        self.row_splits, self.words = ended.row_splits, ended.words

    @cached_property
    def as_is(self) -> Any:
        """A ``k2.FsaVec`` of the one graph."""
        return self._fsa_vec(np.arange(self.num_arcs), self._src)

    @cached_property
    def all_final(self) -> Any:
        """The same, but every state ends with score 0, and with no other."""
        inner = np.flatnonzero(self.token[:-1] >= 0)
        states = np.arange(self.num_states - 1)
        src = np.concatenate([self._src[inner], states]).astype(np.int32)
        place = np.append(inner, np.full(len(states), self.num_arcs))
        order = np.argsort(src, kind="stable")
        return self._fsa_vec(place[order], src[order])

    def final_arcs_of(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The final arcs that leave ``states`` of the graph: the arc, and the place in ``states``."""
        finals = np.flatnonzero(self.token[:-1] == -1)
        first = np.searchsorted(self._src[finals], states, side="left")
        counts = np.searchsorted(self._src[finals], states, side="right") - first
        place = np.repeat(np.arange(len(states)), counts)
        offset = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        return finals[first[place] + offset], place

    def _fsa_vec(self, place: np.ndarray, src: np.ndarray) -> Any:
        import torch

        k2 = import_k2()
        columns = [src, self.dst[place], self.token[place], self.score[place].view(np.int32)]
        arcs = torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
        fsa = k2.Fsa(arcs.to(self._device))
        fsa.graph_arc = torch.from_numpy(place.astype(np.int32)).to(self._device)
        return k2.create_fsa_vec([fsa])


def _final_arcs(src: np.ndarray, final: int) -> Arcs:
    size = len(src)
    return without_words(src, np.full(size, final), np.full(size, -1), np.zeros(size))
