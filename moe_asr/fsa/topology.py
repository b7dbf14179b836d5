"""H: which frame labels spell which tokens, by CTC's rules; and its composition with a graph of tokens.

Standard topology (Graves et al., 2006): a token is one or more frames of its label, frames of blank (0) may
stand before, between and after tokens, and must stand between equal neighbours. Modified topology (k2's): as
above, but no blank is needed between equal neighbours, so that a run of a label may be one token or several.
"""

from typing import Any, Literal, get_args

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs, concatenate, without_words
from moe_asr.fsa.fst import Fst

Topology = Literal["standard", "modified"]
TOPOLOGIES: tuple[str, ...] = get_args(Topology)


def check_topology(topology: str) -> None:
    """Raises `GraphError` unless it is one of `TOPOLOGIES`."""
    if topology not in TOPOLOGIES:
        raise GraphError(f"topology must be one of {', '.join(TOPOLOGIES)}, found {topology!r}")


def ctc_topology(num_tokens: int, topology: str = "standard") -> Fst:
    """H as an FST: frames in, tokens out, the language of ``k2.ctc_topo(num_tokens - 1)``.

    An `Fst` reads 0 as epsilon, and blank is none: the input label of a frame is its label plus one. State t
    is where the last label was t, 0 that of blank (and of the start).

    Args:
        num_tokens: V, blank included; the standard topology has V * V arcs, the modified one 4 V - 3.
        topology: one of `TOPOLOGIES`.
    """
    check_topology(topology)
    if num_tokens < 1:
        raise GraphError(f"a topology needs at least blank, found {num_tokens} tokens")
    if topology == "standard":
        src, dst = np.divmod(np.arange(num_tokens**2), num_tokens)
        olabel = np.where(src == dst, 0, dst)
        final_score = np.zeros(num_tokens)
        return Fst.from_arcs(src, dst, dst + 1, olabel, np.zeros(len(src)), final_score)
    token = np.arange(1, num_tokens)
    zero = np.zeros_like(token)
    src = np.concatenate([[0], zero, zero, token, token])
    dst = np.concatenate([[0], zero, token, token, zero])
    ilabel = np.concatenate([[0], token, token, token, token]) + 1
    olabel = np.concatenate([[0], token, token, zero, zero])
    final_score = np.full(num_tokens, -np.inf)
    final_score[0] = 0.0
    return Fst.from_arcs(src, dst, ilabel, olabel, np.zeros(len(src)), final_score)


def compose_topology(graph: Arcs, topology: str = "standard") -> Arcs:
    """H composed with an epsilon-free graph of tokens, connected; H itself is never made.

    A state of the result is a state of the graph and the last frame's label: blank, or the token of an arc
    that enters the state. So there are as many states as distinct (token, destination) pairs, plus one for
    each state of the graph, and one final state.

    Args:
        graph: connected, sorted by src, labels from 1 (tokens) or -1; its final state is the highest.
        topology: one of `TOPOLOGIES`.

    Returns:
        Arcs sorted by (src, label), whose labels are those of frames: 0 is blank.
    """
    check_topology(topology)
    arc = np.arange(len(graph))
    inner = arc[graph.label != -1]
    num_states = int(graph.dst.max(initial=0))  # without the final one
    width = int(graph.label.max(initial=0)) + 1
    # the states of the result, in the order of the graph's: blank, then the tokens that enter
    blank_codes = np.arange(num_states, dtype=np.int64) * width
    arrival_codes = graph.dst[inner].astype(np.int64) * width + graph.label[inner]
    codes = np.unique(np.concatenate([blank_codes, arrival_codes]))
    state, last = np.divmod(codes, width)
    pair = np.arange(len(codes))
    blank_of = np.searchsorted(codes, blank_codes)  # (state,)
    arrival = np.full(len(graph), len(codes))  # (arc,)
    arrival[inner] = np.searchsorted(codes, arrival_codes)
    token_pair = pair[last > 0]

    none = len(graph)  # in place of an arc of the graph: no score, no words
    pieces: list[_Piece] = [(pair, pair, last, none)]
    if topology == "standard":
        pieces.append((token_pair, blank_of[state[token_pair]], 0, none))
        moved, source = _leaving(graph, state)
        allowed = graph.label[moved] != np.where(last > 0, last, -2)[source]
        moved, source = moved[allowed], source[allowed]
        pieces.append((source, arrival[moved], graph.label[moved], moved))
    else:
        pieces.append((token_pair, blank_of[state[token_pair]], last[token_pair], none))
        source = blank_of[graph.src]
        pieces.append((source, arrival, graph.label, arc))
        pieces.append((source[inner], blank_of[graph.dst[inner]], graph.label[inner], inner))
    return _assemble(graph, pieces)


_Piece = tuple[
    np.ndarray, np.ndarray, Any, Any
]  # src, dst, label, and the arc of the graph it takes


def _leaving(graph: Arcs, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For all arcs that leave each of ``states`` in turn: the arc, and the position of the state."""
    counts = np.bincount(graph.src)
    starts = np.cumsum(counts) - counts
    repeats = counts[states]
    position = np.repeat(np.arange(len(states)), repeats)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return starts[states][position] + offset, position


def _assemble(graph: Arcs, pieces: list[_Piece]) -> Arcs:
    """The arcs of all pieces, sorted by src and label, with the scores and words of the graph's arcs."""
    sizes = [len(piece[0]) for piece in pieces]
    src, dst, label, arc = (
        np.concatenate(
            [np.broadcast_to(piece[i], size) for piece, size in zip(pieces, sizes, strict=True)]
        ).astype(np.int32)
        for i in range(4)
    )
    # each piece is sorted: the stable sort has only to merge them
    order = np.argsort((src.astype(np.int64) << 32) + label, kind="stable")
    taken = concatenate([graph, without_words(*np.zeros((4, 1)))]).take(arc[order])
    return Arcs(src[order], dst[order], label[order], taken.score, taken.row_splits, taken.words)
