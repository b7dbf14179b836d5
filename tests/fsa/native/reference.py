"""The search of the native engine, in plain Python over an explicit graph, and lattices as sets of paths."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.topology import compose_topology
from tests.fsa.random_graphs import TOKENS, WORDS

Label = tuple[int, bool, tuple[int, ...]]  # token, whether it begins one, words


@dataclass(frozen=True)
class RefArc:
    src: int
    dst: int
    token: int
    words: tuple[int, ...]
    score: float


def explicit_arcs(graph: DecodingGraph, topology: str, graph_scale: float = 1.0) -> list[RefArc]:
    """The arcs of the HLG of a graph."""
    arcs = graph.arcs().connect()
    if graph.topology_implied and len(arcs):
        arcs = compose_topology(arcs, topology)
    return [
        RefArc(
            int(arcs.src[arc]),
            int(arcs.dst[arc]),
            int(arcs.label[arc]),
            tuple(arcs.words[arcs.row_splits[arc] : arcs.row_splits[arc + 1]].tolist()),
            float(np.float32(arcs.score[arc]) * np.float32(graph_scale)),
        )
        for arc in range(len(arcs))
    ]


def graph_of(arcs: list[tuple[int, int, int, int]], kind: str = "LG") -> DecodingGraph:
    """Of arcs (src, dst, token, word or 0)."""
    arcs = sorted(arcs, key=lambda arc: arc[0])
    src, dst, token, words = (np.array(column, np.int32) for column in zip(*arcs, strict=True))
    return DecodingGraph(
        src, dst, token, np.zeros(len(arcs), np.float32),
        np.cumsum([0, *(words > 0)]).astype(np.int32), words[words > 0], TOKENS, WORDS, {"kind": kind},
    )  # fmt: skip


def connected(graph: DecodingGraph) -> DecodingGraph | None:
    """Without what is on no path; None if nothing is left."""
    arcs = graph.arcs().connect()
    if len(arcs) == 0:
        return None
    return DecodingGraph.from_arcs(arcs, graph.token_table, graph.word_table, graph.metadata)


def search(
    arcs: list[RefArc], log_probs: np.ndarray, options: SearchOptions
) -> tuple[list[list[tuple[RefArc, float]]], bool]:
    """Arcs (with their acoustic scores) by frame that are on a path within the output beam; final ones last.

    Beams work as the documents say they do. Also returns whether a path reached the final state.
    """
    scores: dict[int, float] = {0: 0.0}
    beam = options.search_beam
    taken: list[list[tuple[RefArc, float]]] = []
    for row in log_probs:
        count = len(scores)
        if count > options.max_active:
            beam = min(beam, options.search_beam) * 0.8
        elif count >= options.min_active:
            beam = 0.8 * beam + 0.2 * options.search_beam
        else:
            beam = max(beam, options.search_beam) * 1.25
        found = [
            (arc, float(row[arc.token]), scores[arc.src] + float(row[arc.token]) + arc.score)
            for arc in arcs
            if arc.src in scores and arc.token != FINAL and row[arc.token] > -np.inf
        ]
        cutoff = max((end for _, _, end in found), default=-np.inf) - beam
        following: dict[int, float] = {}
        frame = []
        for arc, acoustic, end in found:
            if end > cutoff:
                following[arc.dst] = max(following.get(arc.dst, -np.inf), end)
                frame.append((arc, acoustic))
        taken.append(frame)
        scores = following
    taken.append([(arc, 0.0) for arc in arcs if arc.src in scores and arc.token == FINAL])
    return prune(taken, options.output_beam), bool(taken[-1])


def prune(
    taken: list[list[tuple[RefArc, float]]], output_beam: float
) -> list[list[tuple[RefArc, float]]]:
    """Keeps the arcs whose best path is within the beam of the best."""
    forward: list[dict[int, float]] = [{0: 0.0}]
    for frame in taken:
        ends: dict[int, float] = {}
        for arc, acoustic in frame:
            end = forward[-1][arc.src] + acoustic + arc.score
            ends[arc.dst] = max(ends.get(arc.dst, -np.inf), end)
        forward.append(ends)
    backward: list[dict[int, float]] = [dict.fromkeys(forward[-1], 0.0)]
    best = max(forward[-1].values(), default=-np.inf)
    kept: list[list[tuple[RefArc, float]]] = []
    for frame, before in zip(reversed(taken), reversed(forward[:-1]), strict=True):
        left: dict[int, float] = {}
        alive = []
        for arc, acoustic in frame:
            rest = acoustic + arc.score + backward[-1].get(arc.dst, -np.inf)
            left[arc.src] = max(left.get(arc.src, -np.inf), rest)
            if before[arc.src] + rest >= best - output_beam:
                alive.append((arc, acoustic))
        backward.append(left)
        kept.append(alive)
    return kept[::-1]


def paths(lattice: Lattice) -> Iterator[tuple[tuple[Label, ...], float, float]]:
    """Every path: its labels, acoustic score, graph score."""
    leaving: dict[int, list[int]] = {}
    for arc in range(lattice.num_arcs):
        leaving.setdefault(int(lattice.src[arc]), []).append(arc)

    def from_state(state: int) -> Iterator[tuple[tuple[Label, ...], float, float]]:
        if state == lattice.num_states - 1:
            yield (), 0.0, 0.0
            return
        for arc in leaving.get(state, []):
            label = (
                int(lattice.token[arc]),
                bool(lattice.starts_token[arc]),
                tuple(lattice.words_of(arc).tolist()),
            )
            for labels, acoustic, graph in from_state(int(lattice.dst[arc])):
                yield (
                    (label, *labels),
                    acoustic + float(lattice.acoustic[arc]),
                    graph + float(lattice.graph[arc]),
                )

    if not lattice.is_empty:
        yield from from_state(0)


def brute_force(
    arcs: list[RefArc], log_probs: np.ndarray
) -> Iterator[tuple[tuple[tuple[int, tuple[int, ...]], ...], float, float]]:
    """Every path of the graph over the frames: labels (token, words), acoustic score, graph score."""

    def from_state(
        state: int, frame: int
    ) -> Iterator[tuple[tuple[tuple[int, tuple[int, ...]], ...], float, float]]:
        for arc in arcs:
            if arc.src != state:
                continue
            if arc.token == FINAL:
                if frame == len(log_probs):
                    yield ((FINAL, arc.words),), 0.0, arc.score
            elif frame < len(log_probs) and log_probs[frame, arc.token] > -np.inf:
                acoustic = float(log_probs[frame, arc.token])
                for labels, more, graph in from_state(arc.dst, frame + 1):
                    yield ((arc.token, arc.words), *labels), acoustic + more, arc.score + graph

    yield from from_state(0, 0)


def random_log_probs(
    rng: random.Random, num_frames: int, num_tokens: int, scale: float = 2.0
) -> torch.Tensor:
    """(T, C) eighths, so that sums are exact; some -inf."""
    values = torch.tensor(
        [
            [
                -float("inf") if rng.random() < 0.1 else -rng.randint(0, int(16 * scale)) / 8
                for _ in range(num_tokens)
            ]
            for _ in range(num_frames)
        ]
    )
    return values.reshape(num_frames, num_tokens)


def fields(lattice: Lattice) -> dict[str, object]:
    """All of a lattice, in a form that compares to the bit."""
    return {
        name: (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in vars(lattice).items()
    }
