"""Boosts of phrases put on a lattice, and taken off again; for lattices of any search."""

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.context import ContextGraph
from moe_asr.fsa.context_tables import Symbols, symbols_of_tokens, symbols_of_words
from moe_asr.fsa.lattice import Lattice


def apply_context(lattice: Lattice, context: ContextGraph, scale: float = 1.0) -> Lattice:
    """The same paths, with the boosts of the phrases in them added to their graph scores.

    It is the composition of both: a state of the lattice becomes one for each context state that its paths
    are in, so nothing is approximated. A search with the phrases finds the same and more: what their boosts
    would have kept within its beams.

    Args:
        lattice: of whole utterances (a stream's pieces are to be joined before); over the words or tokens
            that ``context`` was compiled for.
        scale: multiplies the boosts; -1 takes them out.

    Raises:
        GraphError: if it has words or tokens that the context does not know.
    """
    if lattice.is_empty or context.is_empty:
        return lattice
    from moe_asr.fsa.context_kernels import compose

    symbols = _symbols(lattice, context)
    tables = context.tables_for(symbols)
    in_arc = np.argsort(lattice.dst, kind="stable").astype(np.int32)
    entering = np.bincount(lattice.dst, minlength=lattice.num_states)
    in_splits = np.concatenate([[0], np.cumsum(entering)]).astype(np.int64)
    splits, src, dst, arc, gain = compose(
        in_splits,
        in_arc,
        lattice.src,
        tables.class_of[symbols.of_arc],
        tables.next,
        tables.gain,
        context.end_gain,
        context.start,
    )
    order = np.argsort(src, kind="stable")
    src, dst, arc, gain = src[order], dst[order], arc[order], gain[order]
    row_splits, words = take_ragged(lattice.word_row_splits, lattice.words, arc)
    return Lattice(
        src=src,
        dst=dst,
        token=lattice.token[arc],
        starts_token=lattice.starts_token[arc],
        acoustic=lattice.acoustic[arc],
        graph=lattice.graph[arc] + np.float32(scale) * gain,
        word_row_splits=row_splits.astype(np.int32),
        words=words,
        frame=np.repeat(lattice.frame, np.diff(splits)),
        num_frames=lattice.num_frames,
        is_partial=lattice.is_partial,
    )


def remove_context(lattice: Lattice, context: ContextGraph) -> Lattice:
    """The lattice without the boosts that a search with ``context``, or `apply_context`, put on it.

    Scores are those of before up to the rounding of float32. What the boosts kept within the beams stays.
    A lattice of such a search keeps its states: each is in one context state.
    """
    return apply_context(lattice, context, -1.0)


def _symbols(lattice: Lattice, context: ContextGraph) -> Symbols:
    ids = lattice.words if context.level == "word" else lattice.token
    if len(ids) and ids.max() >= len(context.units):
        raise GraphError(
            f"the lattice has {context.level} {ids.max()}, the phrases were compiled for "
            f"{len(context.units)}"
        )
    if context.level == "word":
        return symbols_of_words(lattice.word_row_splits, lattice.words, len(context.units))
    return symbols_of_tokens(lattice.token, lattice.starts_token)
