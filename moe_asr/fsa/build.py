"""L and G to LG, and LG to HLG: HLG = H o rmeps(rmdisambig(det(L_disambig o G))).

The recipe of Mohri, Pereira and Riley (2002) and of icefall's ``compile_hlg``, without C (tokens have no
context) and without minimisation: on the benchmark's bigram it takes two of 196 thousand states away.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.builder import AUTO, GraphBuilder, make_builder
from moe_asr.fsa.check import check_grammar, check_lexicon, words_missing
from moe_asr.fsa.epsilon import remove_epsilons
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import drop_words
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.steps import BuildStep, StepRecorder
from moe_asr.fsa.topology import check_topology
from moe_asr.text.lexicon import BACKOFF, Lexicon
from moe_asr.text.symbol_table import SymbolTable


def build_lg(
    l_disambig: Fst,
    g: Fst,
    tokens: SymbolTable,
    words: SymbolTable,
    builder: str = AUTO,
    metadata: dict[str, Any] | None = None,
    recorder: StepRecorder | None = None,
) -> DecodingGraph:
    """Composes lexicon and grammar, determinises, removes disambiguation symbols and epsilons.

    Args:
        l_disambig: as `lexicon_fst` makes it, from ``tokens`` (and ``#i``) to ``words``.
        g: a deterministic acceptor over ``words``, but for backoff arcs ``#0:<eps>``; words of L that it has
            not are not in the graph.
        tokens: all outputs of the model, blank (0) included.
        words: epsilon as 0, ``#0`` included.
        builder: one of `builder_names`.
        metadata: kept in the graph beside what is known here.
        recorder: gets the steps.

    Raises:
        GraphError: if L has no disambiguation symbols where it needs them, G is not deterministic, empty or
            has a word that L lacks, or one of them is not what it should be.
        MissingDependencyError: if the builder's library is not installed.
    """
    recorder = recorder or StepRecorder()
    library = make_builder(builder)
    check_lexicon(l_disambig, tokens, words)
    check_grammar(g, words)
    words_missing(l_disambig, g, words)
    with recorder.step("L o G") as made:
        lg = library.compose(l_disambig, g)
        made.size = library.size(lg)
    assert made.size[1], "L accepts every word of G, and G is not empty"
    with recorder.step("det(L o G)") as made:
        lg = library.determinize(lg)
        made.size = library.size(lg)
    with recorder.step("LG") as made:
        arcs = library.to_arcs(lg)
        del lg
        arcs = _without_symbols(arcs, len(tokens), words[BACKOFF])
        arcs = remove_epsilons(arcs).connect()
        about = {"kind": "LG", "builder": library.name, **(metadata or {})}
        graph = DecodingGraph.from_arcs(arcs, tokens, words, about)
        made.size = graph.num_states, graph.num_arcs
    return graph


def build_hlg(
    lg: DecodingGraph,
    topology: str = "standard",
    builder: str = AUTO,
    recorder: StepRecorder | None = None,
) -> DecodingGraph:
    """Composes the CTC topology with an LG (or a token graph T): the HLG (or HT).

    Args:
        lg: a graph whose topology is implied; its metadata is kept.
        topology: one of `TOPOLOGIES`.
        builder: one of `builder_names`.
        recorder: gets the step.

    Raises:
        GraphError: if the graph has a topology already.
        MissingDependencyError: if the builder's library is not installed.
    """
    check_topology(topology)
    if not lg.topology_implied:
        raise GraphError(f"a graph of kind {lg.kind} has its topology already")
    recorder = recorder or StepRecorder()
    library: GraphBuilder = make_builder(builder)
    kind = f"H{lg.kind}"
    with recorder.step(kind) as made:
        arcs = library.compose_topology(lg.arcs(), len(lg.token_table), topology)
        about = {
            **lg.metadata,
            "kind": kind,
            "topology": topology,
            "topology_builder": library.name,
        }
        graph = DecodingGraph.from_arcs(arcs, lg.token_table, lg.word_table, about)
        made.size = graph.num_states, graph.num_arcs
    return graph


@dataclass(frozen=True)
class BuiltGraphs:
    """Everything that `build_graphs` made."""

    l_disambig: Fst
    g: Fst
    lg: DecodingGraph
    hlg: DecodingGraph
    steps: list[BuildStep]


def build_graphs(
    lexicon: Lexicon,
    g: Fst,
    tokens: SymbolTable,
    topology: str = "standard",
    builder: str = AUTO,
    metadata: dict[str, Any] | None = None,
) -> BuiltGraphs:
    """All graphs of a lexicon and a grammar over its ``word_table()``, in this process.

    Raises:
        TextError: if a pronunciation has a token that is not in ``tokens``.
        GraphError: see `build_lg`.
    """
    recorder = StepRecorder()
    words = lexicon.word_table()
    with recorder.step("L_disambig") as made:
        l_disambig = lexicon_fst(lexicon, tokens, words)
        made.size = l_disambig.num_states, l_disambig.num_arcs
    lg = build_lg(l_disambig, g, tokens, words, builder, metadata, recorder)
    hlg = build_hlg(lg, topology, builder, recorder)
    return BuiltGraphs(l_disambig, g, lg, hlg, recorder.steps)


def _without_symbols(arcs: Arcs, first_token: int, backoff: int) -> Arcs:
    """Disambiguation symbols become epsilons, and the word ``#0`` goes."""
    row_splits, words = drop_words(arcs.row_splits, arcs.words, arcs.words == backoff)
    label = np.where(arcs.label >= first_token, 0, arcs.label).astype(np.int32)
    return Arcs(arcs.src, arcs.dst, label, arcs.score, row_splits, words)
