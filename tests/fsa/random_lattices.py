"""Random lattices, and slow looks at them in plain Python: every path is enumerated."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from moe_asr.fsa.lattice import Lattice

NUM_TOKENS, NUM_WORDS = 4, 4  # blank and <eps> included: tokens 1 to 3, words 1 to 3


class LatticeArc(NamedTuple):
    src: int
    dst: int
    token: int
    starts_token: bool
    acoustic: float
    graph: float
    words: tuple[int, ...]


def random_lattice(
    rng: random.Random,
    num_frames: int = 4,
    width: int = 3,
    exact: bool = True,
    skips: bool = True,
    modified: bool = False,
    wordless: float = 0.5,
    num_tokens: int = NUM_TOKENS,
    num_words: int = NUM_WORDS,
) -> Lattice:
    """A lattice of at least one path: parallel arcs, ties, words anywhere, several on one arc.

    Every state is entered by one label, as in a search with the CTC topology.

    Args:
        num_frames: at most; from 0.
        width: states of a frame, at most.
        exact: scores are eighths, whose sums are exact in float32 and often equal; else any numbers.
        skips: whether arcs may leave out frames, and the last frames be missing.
        modified: another frame of a token may begin it again.
        wordless: the probability that an arc has no word.
        num_tokens, num_words: blank and <eps> included.
    """
    num_frames = rng.randint(0, num_frames)
    last = rng.randint(0, num_frames) if skips and rng.random() < 0.3 else num_frames
    frames = [t for t in range(last + 1) if t in (0, last) or not skips or rng.random() < 0.8]
    # (frame, label of the frame before) of every state, the start first, the final one left out
    states = [(0, 0)]
    for frame in frames[1:]:
        states += [(frame, rng.randrange(num_tokens)) for _ in range(rng.randint(1, width))]
    final = len(states)

    def arc(src: int, dst: int) -> LatticeArc:
        words = ()
        if rng.random() >= wordless:
            words = tuple(rng.randrange(1, num_words) for _ in range(rng.choice([1, 1, 1, 2, 3])))
        if dst == final:
            return LatticeArc(src, dst, -1, False, 0.0, _score(rng, exact), words)
        token = states[dst][1]
        starts = token > 0 and (token != states[src][1] or (modified and rng.random() < 0.5))
        acoustic, graph = _score(rng, exact), rng.choice([0.0, _score(rng, exact)])
        return LatticeArc(src, dst, token, starts, acoustic, graph, words)

    arcs = []
    for src, (frame, _) in enumerate(states):
        if frame == last:
            arcs += [arc(src, final) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
            continue
        following = frames[frames.index(frame) + 1]
        later = [
            dst for dst in range(src + 1, final)
            if states[dst][0] == following or (skips and states[dst][0] > frame and rng.random() < 0.2)
        ]  # fmt: skip
        arcs += [arc(src, rng.choice(later)) for _ in range(rng.randint(1, 2 * width))]
    for src in (final - 1, next(s for s in range(final) if states[s][0] == last)):
        if all(a.dst != final for a in arcs):
            arcs.append(arc(src, final))
    return _lattice(arcs, states, final, num_frames) or random_lattice(
        rng, num_frames, width, exact, skips, modified, wordless, num_tokens, num_words
    )


def _score(rng: random.Random, exact: bool) -> float:
    if exact:
        return rng.choice([-0.5, -1.0, rng.randint(-32, 8) / 8])
    return float(np.float32(rng.gauss(-1.0, 2.0)))


def _lattice(
    arcs: list[LatticeArc], states: list[tuple[int, int]], final: int, num_frames: int
) -> Lattice | None:
    """The connected part, renumbered; None if nothing is left."""
    forward, backward = {0}, {final}
    for a in sorted(arcs, key=lambda a: a.src):
        if a.src in forward:
            forward.add(a.dst)
    for a in sorted(arcs, key=lambda a: -a.src):
        if a.dst in backward:
            backward.add(a.src)
    kept = sorted(forward & backward)
    if len(kept) < 2:
        return None
    number = {state: i for i, state in enumerate(kept)}
    rows = sorted((a for a in arcs if a.src in number and a.dst in number), key=lambda a: a.src)
    frame = [max(frame for frame, _ in states) if s == final else states[s][0] for s in kept]
    return lattice_of(
        [a._replace(src=number[a.src], dst=number[a.dst]) for a in rows], frame, num_frames
    )


def lattice_of(
    arcs: list[LatticeArc], frame: list[int], num_frames: int, is_partial: bool = False
) -> Lattice:
    """A lattice of arcs that are sorted by src, and the frames of its states."""
    return Lattice(
        src=np.array([a.src for a in arcs], np.int32),
        dst=np.array([a.dst for a in arcs], np.int32),
        token=np.array([a.token for a in arcs], np.int32),
        starts_token=np.array([a.starts_token for a in arcs], np.bool_),
        acoustic=np.array([a.acoustic for a in arcs], np.float32),
        graph=np.array([a.graph for a in arcs], np.float32),
        word_row_splits=np.cumsum([0] + [len(a.words) for a in arcs]).astype(np.int32),
        words=np.array([word for a in arcs for word in a.words], np.int32),
        frame=np.array(frame, np.int32),
        num_frames=num_frames,
        is_partial=is_partial,
    )


def arcs_of_lattice(lattice: Lattice) -> list[LatticeArc]:
    """The arcs in plain Python."""
    splits, words = lattice.word_row_splits.tolist(), lattice.words.tolist()
    return [
        LatticeArc(*values, tuple(words[splits[i] : splits[i + 1]]))
        for i, values in enumerate(
            zip(
                lattice.src.tolist(), lattice.dst.tolist(), lattice.token.tolist(),
                lattice.starts_token.tolist(), lattice.acoustic.tolist(), lattice.graph.tolist(),
                strict=True,
            )
        )
    ]  # fmt: skip


class ListedPath(NamedTuple):
    """One path: the arcs' numbers and what is on them. Scores are float64 sums, not scaled."""

    arcs: tuple[int, ...]
    labels: tuple[int, ...]
    tokens: tuple[int, ...]
    words: tuple[int, ...]
    acoustic: float
    graph: float


def paths_of(lattice: Lattice, most: int = 200_000) -> list[ListedPath]:
    """All paths, in the order of their arcs' numbers."""
    arcs = arcs_of_lattice(lattice)
    leaving: dict[int, list[int]] = {}
    for index, arc in enumerate(arcs):
        leaving.setdefault(arc.src, []).append(index)

    def walk(state: int, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if state == lattice.num_states - 1:
            yield path
        for index in leaving.get(state, []):
            yield from walk(arcs[index].dst, (*path, index))

    found = []
    for path in walk(0, ()) if arcs else ():
        taken = [arcs[index] for index in path]
        found.append(
            ListedPath(
                arcs=path,
                labels=tuple(a.token for a in taken if a.token >= 0),
                tokens=tuple(a.token for a in taken if a.starts_token),
                words=tuple(word for a in taken for word in a.words),
                acoustic=sum(a.acoustic for a in taken),
                graph=sum(a.graph for a in taken),
            )
        )
        assert len(found) <= most, "too many paths to enumerate"
    return found
