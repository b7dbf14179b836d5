"""Lattices of many arcs as CTC decoding makes them: what the lattice benchmarks share. Deterministic.

A bigram HLG over the words of `benchmarks.big_graph` is searched without pruning, frame by frame, on
posteriors simulated for a text of that bigram; the arcs that lie on the best paths make the lattice.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.big_graph import BigInputs, make_inputs
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice

_WIDEST = 20.0  # arcs whose best path is this much below the best of all are not even looked at


@dataclass(frozen=True, eq=False)
class CtcLattice:
    """A lattice, the words that were said (ids), and the beam that its arcs are within."""

    lattice: Lattice
    reference: list[int]
    beam: float


def make_ctc_lattices(
    sizes: Sequence[int], num_frames: int = 600, num_words: int = 800, seed: int = 0
) -> list[CtcLattice]:
    """For each size the lattice of that many best arcs (more where several are equally good).

    By default the best path has 5 errors in 25 words, and 100,000 arcs are those within a beam of 10: a hard
    utterance.
    """
    with tempfile.TemporaryDirectory() as directory:
        inputs = make_inputs(Path(directory), num_words, 10 * num_words, vocab_size=120)
    graphs = build_graphs(inputs.lexicon, inputs.g, inputs.tokenizer.tokens)
    rng = np.random.RandomState(seed)  # its stream is the same in every version of numpy
    log_probs, reference = simulate_posteriors(inputs, num_frames, rng)
    frame, arc, slack = _search(graphs.hlg, log_probs)
    lattices = []
    for size in sizes:
        if len(slack) < size:
            raise ValueError(f"only {len(slack)} arcs within {_WIDEST} of the best path")
        beam = float(np.sort(slack)[size - 1])
        kept = slack <= beam + 1e-9  # what is on one path has one slack, up to rounding
        lattice = _lattice(graphs.hlg, log_probs, frame[kept], arc[kept])
        lattices.append(CtcLattice(lattice, reference, beam))
    return lattices


def simulate_posteriors(
    inputs: BigInputs, num_frames: int, rng: np.random.RandomState, peak: float = 3.0
) -> tuple[np.ndarray, list[int]]:
    """(T, C) log-probabilities of an utterance of sentences of the text, and its words (ids).

    A token wins 1 or 2 frames, 2 to 5 frames of blank follow; the logits of all labels are normal with
    deviation 1.5, that of the winner has ``peak`` more.
    """
    words: list[str] = []
    labels: list[int] = []
    for word in (word for number in count() for word in inputs.text.sentence(number)):
        spelled: list[int] = []
        for token in inputs.tokenizer.encode(word):
            spelled += [token] * rng.randint(1, 3) + [0] * rng.randint(2, 6)
        if len(labels) + len(spelled) > num_frames:
            break
        words.append(word)
        labels += spelled
    labels += [0] * (num_frames - len(labels))
    logits = 1.5 * rng.standard_normal((num_frames, len(inputs.tokenizer.tokens)))
    logits[np.arange(num_frames), labels] += peak
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32), [inputs.words[word] for word in words]


def _search(
    graph: DecodingGraph, log_probs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, arcs of the graph, and by how much the best path there is worse than the best of all."""
    num_frames = len(log_probs)
    inner = np.flatnonzero(graph.token >= 0)
    final = np.flatnonzero(graph.token < 0)
    src, dst, token = graph.src[inner], graph.dst[inner], graph.token[inner]
    by_dst = np.argsort(dst, kind="stable")
    ends, first = np.unique(dst[by_dst], return_index=True)
    score = graph.score[inner].astype(np.float64)

    forward = np.full((num_frames + 1, graph.num_states), -np.inf)
    forward[0, 0] = 0.0
    for t in range(num_frames):
        value = forward[t, src] + score + log_probs[t, token]
        forward[t + 1, ends] = np.maximum.reduceat(value[by_dst], first)
    rest = np.full(graph.num_states, -np.inf)
    np.maximum.at(rest, graph.src[final], graph.score[final].astype(np.float64))
    final_value = forward[num_frames, graph.src[final]] + graph.score[final]
    best = float(final_value.max())
    near = best - final_value < _WIDEST
    rows = [(np.full(near.sum(), num_frames), final[near], (best - final_value)[near])]
    states, starts = np.unique(src, return_index=True)
    for t in range(num_frames - 1, -1, -1):
        value = score + log_probs[t, token] + rest[dst]
        slack = best - (forward[t, src] + value)
        kept = np.flatnonzero(slack < _WIDEST)
        rows.append((np.full(len(kept), t), inner[kept], slack[kept]))
        rest = np.full(graph.num_states, -np.inf)
        rest[states] = np.maximum.reduceat(value, starts)
    frame, arc, slack = (np.concatenate([row[i] for row in rows]) for i in range(3))
    return frame, arc, slack


def _lattice(
    graph: DecodingGraph, log_probs: np.ndarray, frame: np.ndarray, arc: np.ndarray
) -> Lattice:
    """The lattice of arcs of the graph, each with the frame that it reads."""
    num_frames, width = len(log_probs), graph.num_states
    token = graph.token[arc]
    src_code = frame * width + graph.src[arc]
    dst_code = np.where(token < 0, num_frames + 1, frame + 1) * width + graph.dst[arc]
    order = np.argsort(src_code, kind="stable")
    frame, arc, token = frame[order], arc[order], token[order]
    src_code, dst_code = src_code[order], dst_code[order]
    codes = np.unique(np.concatenate([src_code, dst_code]))
    src, dst = (np.searchsorted(codes, code).astype(np.int32) for code in (src_code, dst_code))
    # in an HLG the arcs into a state have one label, so that a repetition can be told by its source
    entered = np.zeros(len(codes), np.int32)
    entered[dst] = token
    acoustic = np.where(token < 0, 0.0, log_probs[np.minimum(frame, num_frames - 1), token])
    splits = graph.word_row_splits
    counts = (splits[arc + 1] - splits[arc]).astype(np.int64)
    row_splits = np.concatenate([[0], np.cumsum(counts)])
    offset = np.arange(row_splits[-1]) - np.repeat(row_splits[:-1] - splits[arc], counts)
    return Lattice(
        src=src,
        dst=dst,
        token=token,
        starts_token=(token > 0) & (token != entered[src]),
        acoustic=acoustic.astype(np.float32),
        graph=graph.score[arc],
        word_row_splits=row_splits.astype(np.int32),
        words=graph.words[offset],
        frame=np.minimum(codes // width, num_frames).astype(np.int32),
        num_frames=num_frames,
    )
