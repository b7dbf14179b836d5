"""Decoding graphs in OpenFst's form: one word an arc, final scores instead of final arcs, 0 is epsilon.

Input labels are the tokens where the topology is implied (LG, T). Where it is in the graph (HLG, HT) they are
the labels of frames plus one, as blank is 0 there and no epsilon. An arc of several words is a chain of arcs
whose inputs, but for the first, are epsilons; the words of a final arc are on epsilons before a final state.
States but the final one keep their numbers.
"""

from dataclasses import replace

import numpy as np

from moe_asr.fsa.arcs import Arcs, arcs_of_fst, contract_chains, fst_of_arcs
from moe_asr.fsa.epsilon import remove_epsilons
from moe_asr.fsa.fst import Fst
from moe_asr.text.lexicon import EPSILON
from moe_asr.text.symbol_table import SymbolTable


def fst_of_graph(arcs: Arcs, num_states: int, topology_implied: bool) -> Fst:
    """The `Fst` of a decoding graph's arcs."""
    if not topology_implied:
        arcs = replace(arcs, label=(arcs.label + (arcs.label >= 0)).astype(np.int32))
    return fst_of_arcs(arcs, num_states)


def arcs_of_graph_fst(fst: Fst, topology_implied: bool) -> Arcs:
    """The arcs of the decoding graph of an `Fst`: connected, without epsilons, sorted.

    Raises:
        GraphError: if there is a cycle of epsilons.
    """
    arcs = contract_chains(arcs_of_fst(fst))
    if (arcs.label == 0).any():
        arcs = remove_epsilons(arcs)
    arcs = arcs.connect().sort()
    if not topology_implied:
        arcs = replace(arcs, label=(arcs.label - (arcs.label > 0)).astype(np.int32))
    return arcs


def fst_tables(
    tokens: SymbolTable, words: SymbolTable, topology_implied: bool
) -> tuple[SymbolTable, SymbolTable]:
    """The symbols of the input and output labels."""
    inputs = [EPSILON, *list(tokens)[1 if topology_implied else 0 :]]
    return (
        SymbolTable(inputs, tokens.source),
        SymbolTable([EPSILON, *list(words)[1:]], words.source),
    )
