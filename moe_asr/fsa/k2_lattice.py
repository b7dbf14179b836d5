"""What k2's intersection gives, as lattices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_asr.fsa.arcs import take_ragged
from moe_asr.fsa.k2_graph import K2Graph
from moe_asr.fsa.lattice import FINAL, Lattice


def lattices_of_batch(
    fsas: Any, graph: K2Graph, log_probs: Tensor, lengths: Sequence[int], is_partial: bool
) -> list[Lattice]:
    """The lattices of a batch, neither connected nor pruned; empty where there is no path.

    Args:
        fsas: a ``k2.FsaVec`` with attributes ``graph_arc`` and ``frame``, one FSA an utterance.
        log_probs: (N, T, C) what the acoustic scores are read from, not -inf on any arc.
        lengths: frames of each utterance.
        is_partial: what the lattices are marked as.
    """
    arcs = fsas.arcs.values()[:, :3].cpu().numpy()
    graph_arc, frame = fsas.graph_arc.cpu().numpy(), fsas.frame.cpu().numpy()
    state_splits = fsas.arcs.row_splits(1).cpu().numpy()  # [utt][state]
    arc_splits = fsas.arcs.row_splits(2).cpu().numpy()[state_splits]  # [utt][arc]
    utterance = np.repeat(np.arange(len(lengths)), np.diff(arc_splits))
    index = [utterance, np.minimum(frame, log_probs.shape[1] - 1), np.maximum(arcs[:, 2], 0)]
    places = [torch.from_numpy(column.astype(np.int64)) for column in index]
    picked = log_probs.detach()[tuple(place.to(log_probs.device) for place in places)]
    acoustic = np.where(arcs[:, 2] == FINAL, 0.0, picked.float().cpu().numpy())
    lattices = []
    for row, length in enumerate(lengths):
        part = slice(arc_splits[row], arc_splits[row + 1])
        src, dst, token = arcs[part].T
        if not (token == FINAL).any():
            lattices.append(Lattice.empty(length))
            continue
        num_states = int(state_splits[row + 1] - state_splits[row])
        frame_of_state = np.full(num_states, length, np.int32)
        frame_of_state[src] = frame[part]
        order, number = _order_of_states(graph, dst, graph_arc[part], frame_of_state)
        by_source = np.lexsort([graph_arc[part], number[src]])
        lattices.append(
            assemble(
                graph,
                number[src][by_source],
                number[dst][by_source],
                graph_arc[part][by_source],
                acoustic[part][by_source],
                frame_of_state[order],
                length,
                is_partial,
            )
        )
    return lattices


def _order_of_states(
    graph: K2Graph, dst: np.ndarray, graph_arc: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States (S,) by frame and then by the graph's state, and each one's place in that order.

    k2 numbers the states of a frame by chance where threads race for them.
    """
    state = np.zeros(len(frame), np.int32)  # the graph's
    state[dst] = graph.dst[graph_arc]
    state[-1] = graph.num_states  # the final one is the last of all
    order = np.lexsort([state, frame])
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order))
    return order, number


def assemble(
    graph: K2Graph,
    src: np.ndarray,
    dst: np.ndarray,
    graph_arc: np.ndarray,
    acoustic: np.ndarray,
    frame: np.ndarray,
    num_frames: int,
    is_partial: bool,
) -> Lattice:
    """A lattice of arcs (A,) that are known by their places in the graph's arrays."""
    row_splits, words = take_ragged(graph.row_splits, graph.words, graph_arc)
    return Lattice(
        src=np.ascontiguousarray(src, np.int32),
        dst=np.ascontiguousarray(dst, np.int32),
        token=graph.token[graph_arc],
        starts_token=graph.starts_token[graph_arc],
        acoustic=acoustic.astype(np.float32),
        graph=graph.score[graph_arc],
        word_row_splits=row_splits.astype(np.int32),
        words=words.astype(np.int32),
        frame=frame,
        num_frames=num_frames,
        is_partial=is_partial,
    )


def lattice_without_frames(graph: K2Graph, partial: bool, output_beam: float) -> Lattice:
    """That of an utterance of no frames: its paths are the final arcs of the graph's start."""
    arcs, _ = graph.final_arcs_of(np.zeros(1, np.int32))
    if len(arcs) == 0:
        return lattice_of_the_start(graph, 0) if partial else Lattice.empty(0)
    score = graph.score[arcs]
    return _without_labels(graph, arcs[score >= score.max() - output_beam], 0, False)


def lattice_of_the_start(graph: K2Graph, num_frames: int) -> Lattice:
    """The partial one of an utterance in whose first frame nothing is possible."""
    return _without_labels(graph, np.array([graph.num_arcs]), num_frames, True)


def _without_labels(
    graph: K2Graph, final_arcs: np.ndarray, num_frames: int, is_partial: bool
) -> Lattice:
    zeros = np.zeros(len(final_arcs), np.int32)
    frame = np.zeros(2, np.int32)
    return assemble(graph, zeros, zeros + 1, final_arcs, zeros, frame, num_frames, is_partial)
