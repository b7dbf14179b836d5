"""T: an n-gram of tokens as a decoding graph, for search over a token FSA without a lexicon."""

from typing import Any, Literal, get_args

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs, arcs_of_fst, concatenate, follow
from moe_asr.fsa.check import check_grammar
from moe_asr.fsa.epsilon import remove_epsilons
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import BACKOFF
from moe_asr.text.symbol_table import SymbolTable

Backoff = Literal["epsilon", "exact"]
BACKOFFS: tuple[str, ...] = get_args(Backoff)


def token_graph(
    g: Fst, tokens: SymbolTable, backoff: str = "epsilon", metadata: dict[str, Any] | None = None
) -> DecodingGraph:
    """The graph of a token-level G, of kind ``T``: the words are the tokens themselves.

    `moe_asr.fsa.build.build_hlg` composes it with either topology, which gives an ``HT``.

    Args:
        g: a deterministic acceptor over the ids of ``tokens``, but for backoff arcs ``#0:<eps>``, where
            ``#0`` is ``len(tokens)``.
        tokens: all outputs of the model, blank (0) included.
        backoff: ``epsilon``: backoff arcs are epsilons of the tropical semiring, as in LG. A sequence gets
            the best score over all ways to back off, also those that pass over an n-gram that is there; that
            is never less than what the n-gram model says. ``exact``: a state backs off only for the tokens
            (and the end) that it has no arc for: the model's own probability. There are fewer arcs, and one
            path for every sequence.
        metadata: kept in the graph beside what is known here.

    Raises:
        GraphError: if G is not as described, or its backoff arcs make a cycle.
    """
    if backoff not in BACKOFFS:
        raise GraphError(f"backoff must be one of {', '.join(BACKOFFS)}, found {backoff!r}")
    check_grammar(g, SymbolTable([*tokens, BACKOFF], tokens.source))
    arcs = arcs_of_fst(g)
    label = np.where(arcs.label == len(tokens), 0, arcs.label).astype(np.int32)
    arcs = Arcs(arcs.src, arcs.dst, label, arcs.score, arcs.row_splits, arcs.words)
    arcs = remove_epsilons(arcs) if backoff == "epsilon" else _exact(arcs)
    about = {"kind": "T", "backoff": backoff, **(metadata or {})}
    return DecodingGraph.from_arcs(arcs.connect(), tokens, tokens, about)


def _exact(arcs: Arcs) -> Arcs:
    """Of all arcs of a state with a label, -1 included, the one after the fewest backoffs."""
    epsilons = arcs.take(np.flatnonzero(arcs.label == 0))
    others = arcs.take(np.flatnonzero(arcs.label != 0))
    paths, pieces = epsilons, [others]
    while len(paths):  # of one backoff, two, ...
        pieces.append(follow(paths, others))
        paths = follow(paths, epsilons)
    merged = concatenate(pieces)
    keys = (merged.src.astype(np.int64) << 32) + merged.label
    return merged.take(np.unique(keys, return_index=True)[1])  # the first of each
