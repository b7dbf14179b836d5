"""Searches of small graphs in the slow way, and what search engines' tests compare with them."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch

from moe_asr.fsa.build import BuiltGraphs, build_graphs
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.search_k2 import K2Engine
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import paths_of
from tests.fsa.references import Scores, graph_paths

TOKENS = ["<blk>", "x", "y"]
WIDE = SearchOptions(search_beam=100.0, output_beam=50.0, min_active=1000, max_active=100000)
TIGHT = SearchOptions(search_beam=5.0, output_beam=3.0, min_active=3, max_active=6)
TWO_WORDS = Lexicon([Pronunciation("XY", ("x", "y")), Pronunciation("X", ("x",), -0.5)])
INF = float("inf")


def graphs_of(lexicon: Lexicon, topology: str = "standard") -> BuiltGraphs:
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, SymbolTable(TOKENS), topology)


def engine_for(lexicon: Lexicon, options: SearchOptions = WIDE, **settings: Any) -> K2Engine:
    return K2Engine(graphs_of(lexicon).hlg, options, **settings)


def log_probs_of(*shape: int, scale: float = 2.0) -> torch.Tensor:
    return (scale * torch.randn(*shape, len(TOKENS))).log_softmax(-1)


def scored_paths(graph: DecodingGraph, log_probs: torch.Tensor, scale: float = 1.0) -> Scores:
    """Every (labels, words) of a graph with its best score, all frames of (T, C) being read."""
    rows = log_probs.double().numpy()
    return {
        (labels, words): scale * score + float(rows[np.arange(len(rows)), list(labels)].sum())
        for (labels, words), score in graph_paths(graph, len(rows)).items()
    }


def lattice_paths(lattice: Lattice, graph: DecodingGraph) -> Scores:
    """The same of a lattice."""
    best: Scores = {}
    for path in paths_of(lattice):
        key = path.labels, tuple(graph.word_symbols(path.words))
        best[key] = max(path.acoustic + path.graph, best.get(key, -INF))
    return best


def same(one: Lattice, other: Lattice) -> bool:
    """To the bit."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Lattice)]
    return all(
        a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b for a, b in pairs
    )


def every_state_final(graph: DecodingGraph) -> DecodingGraph:
    """With a final arc of score 0 from every state, instead of its own ones."""
    arcs = graph.arcs()
    rows = [(i, int(arcs.src[i])) for i in range(len(arcs)) if arcs.label[i] != -1]
    rows += [(-1, state) for state in range(graph.num_states - 1)]
    rows.sort(key=lambda row: row[1])
    old = np.array([row[0] for row in rows])
    taken = arcs.take(np.maximum(old, 0))
    counts = np.where(old < 0, 0, taken.num_words)
    words = np.concatenate([graph.words_of(i) for i in old if i >= 0] + [np.zeros(0, np.int32)])
    return DecodingGraph(
        np.array([row[1] for row in rows], np.int32),
        np.where(old < 0, graph.num_states - 1, taken.dst).astype(np.int32),
        np.where(old < 0, -1, taken.label).astype(np.int32),
        np.where(old < 0, 0.0, taken.score).astype(np.float32),
        np.cumsum([0, *counts]).astype(np.int32),
        words.astype(np.int32),
        graph.token_table,
        graph.word_table,
        graph.metadata,
    )


def viterbi(engine: K2Engine, log_probs: torch.Tensor) -> float:
    """The best score over (T, C), in float64."""
    graph = engine.graph
    inner, ends = np.flatnonzero(graph.token >= 0), np.flatnonzero(graph.token == -1)
    src, dst, token = graph.src[inner], graph.dst[inner], graph.token[inner]
    best = np.full(graph.num_states, -np.inf)
    best[0] = 0.0
    for row in log_probs.double().numpy():
        reached = best[src] + graph.score[inner] + row[token]
        best = np.full(graph.num_states, -np.inf)
        np.maximum.at(best, dst, reached)
    return float((best[graph.src[ends]] + graph.score[ends]).max())
