"""Small random FSTs and decoding graphs, and slow searches over them in plain Python."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.view import GraphView, view_of
from moe_asr.text.symbol_table import SymbolTable

TOKENS = SymbolTable(["<blk>", "<sos/eos>", "<unk>", "a", "b"])
WORDS = SymbolTable(["<eps>", "A", "B", "C", "#0"])


class Arc(NamedTuple):
    src: int
    dst: int
    label: int
    outputs: tuple[int, ...]
    score: float


def score(rng: random.Random, gains: bool) -> float:
    """Eighths, whose sums are exact."""
    return rng.choice([0.0, -0.5, rng.randint(-40, 16 if gains else 0) / 8])


def random_fst(
    rng: random.Random, num_states: int = 5, num_arcs: int = 12, gains: bool = True
) -> Fst:
    """Loops, parallel arcs, epsilons, dead ends and unreachable states may be in it."""
    states = range(rng.randint(1, num_states))
    arcs = [
        (rng.choice(states), rng.choice(states), rng.randint(0, 3), rng.randint(0, 3),
         score(rng, gains))
        for _ in range(rng.randint(0, num_arcs))
    ]  # fmt: skip
    finals = {state: score(rng, gains) for state in states if rng.random() < 0.4}
    return Fst.from_list([*arcs], {states[-1]: -float("inf"), **finals})


def random_graph(
    rng: random.Random,
    kind: str = "HLG",
    num_states: int = 4,
    num_arcs: int = 10,
    gains: bool = False,
) -> DecodingGraph:
    """Words are on any arcs, also several on one, and on final arcs."""
    final = rng.randint(1, num_states)
    lowest = 0 if kind in ("HLG", "HT") else 1
    arcs = [
        Arc(rng.randrange(final), rng.randrange(final), rng.randint(lowest, 4),
            _some_words(rng), score(rng, gains))
        for _ in range(rng.randint(final, num_arcs))
    ]  # fmt: skip
    arcs += [
        Arc(rng.randrange(final), final, -1, _some_words(rng), score(rng, gains))
        for _ in range(rng.randint(1, 2))
    ]
    arcs.sort(key=lambda arc: arc.src)
    return DecodingGraph(
        np.array([arc.src for arc in arcs], np.int32),
        np.array([arc.dst for arc in arcs], np.int32),
        np.array([arc.label for arc in arcs], np.int32),
        np.array([arc.score for arc in arcs], np.float32),
        np.cumsum([0] + [len(arc.outputs) for arc in arcs]).astype(np.int32),
        np.array([word for arc in arcs for word in arc.outputs], np.int32),
        TOKENS,
        WORDS,
        {"kind": kind},
    )


def _some_words(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randint(1, 3) for _ in range(rng.choice([0, 0, 0, 1, 1, 2])))


def random_view(rng: random.Random, gains: bool = False) -> GraphView:
    """Of an FST or a decoding graph."""
    if rng.random() < 0.5:
        return view_of(random_fst(rng, gains=gains))
    return view_of(random_graph(rng, rng.choice(["HLG", "LG"]), gains=gains))


def arcs_of(view: GraphView) -> list[Arc]:
    """The arcs in plain Python."""
    return [
        Arc(
            int(view.src[arc]),
            int(view.dst[arc]),
            int(view.ilabel[arc]),
            tuple(view.outputs[view.row_splits[arc] : view.row_splits[arc + 1]].tolist()),
            float(view.score[arc]),
        )
        for arc in range(len(view.src))
    ]


Node = tuple[int, tuple[int, ...], tuple[int, ...]]  # state, words and inputs still wanted


def follow(
    view: GraphView, node: Node, words: Sequence[int] | None, inputs: Sequence[int] | None
) -> Iterator[tuple[Node, float]]:
    """Where one arc leads."""
    state, words_left, inputs_left = node
    for arc in arcs_of(view):
        if arc.src != state:
            continue
        new_words, new_inputs = words_left, inputs_left
        if words is not None:
            if words_left[: len(arc.outputs)] != arc.outputs:
                continue
            new_words = words_left[len(arc.outputs) :]
        if inputs is not None and arc.label != (0 if view.epsilon_inputs else -1):
            if inputs_left[:1] != (arc.label,):
                continue
            new_inputs = inputs_left[1:]
        yield (arc.dst, new_words, new_inputs), arc.score


def best_by_length(
    view: GraphView, words: Sequence[int] | None, inputs: Sequence[int] | None, longest: int
) -> list[float]:
    """For each number of arcs from 0 to ``longest``: the best score of a whole path of that many."""
    layer: dict[Node, float] = {(0, tuple(words or ()), tuple(inputs or ())): 0.0}
    found = []
    for _ in range(longest + 1):
        found.append(
            max(
                (total + float(view.final_score[state]) for (state, *left), total in layer.items()
                 if not any(left)),
                default=-float("inf"),
            )
        )  # fmt: skip
        following: dict[Node, float] = defaultdict(lambda: -float("inf"))
        for node, total in layer.items():
            for target, gain in follow(view, node, words, inputs):
                following[target] = max(following[target], total + gain)
        layer = dict(following)
    return found


def gains_for_ever(view: GraphView, words: Sequence[int] | None) -> bool:
    """Whether a cycle within reach has a score above 0 (the classic test of Bellman and Ford)."""
    start: Node = (0, tuple(words or ()), ())
    best, edges, waiting = {start: 0.0}, [], [start]
    while waiting:
        node = waiting.pop()
        for target, gain in follow(view, node, words, None):
            edges.append((node, target, gain))
            if target not in best:
                best[target] = -float("inf")
                waiting.append(target)
    improved = True
    for _ in range(len(best) + 1):
        improved = False
        for source, target, gain in edges:
            if best[source] + gain > best[target]:
                best[target], improved = best[source] + gain, True
        if not improved:
            return False
    return improved


def reachable_states(arcs: Sequence[Arc], starts: set[int], backwards: bool = False) -> set[int]:
    """Those that arcs lead to from ``starts``, or that lead there."""
    found, waiting = set(starts), list(starts)
    while waiting:
        state = waiting.pop()
        for arc in arcs:
            source, target = (arc.dst, arc.src) if backwards else (arc.src, arc.dst)
            if source == state and target not in found:
                found.add(target)
                waiting.append(target)
    return found
