"""A lattice seen from far: its words, each once a time, with posteriors, and which follow which."""

from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_scores import arc_posteriors, arc_scores, best_path, forward_scores

START, END = 0, 1  # positions in `WordGraph.words`
_FORGOTTEN = 1e-9  # shares of paths that are too small to be followed


@dataclass(frozen=True)
class SpokenWord:
    """A word at a time; the same word said at about the same time on many paths is one.

    Attributes:
        word: the id; 0 for the start and the end.
        frame: that of the arcs that carry it, weighted by posteriors: where the graph has the word's label,
            often on its first token, which is not where the word begins to the ear.
        posterior: the share of all paths, 0..1.
        is_best: whether it is on the best path.
    """

    word: int
    frame: float
    posterior: float
    is_best: bool


@dataclass(frozen=True)
class WordGraph:
    """The words of a lattice and their order.

    Attributes:
        words: the start, the end, then all others.
        links: for pairs of positions in ``words``, the share of all paths that have the second right after
            the first. Those into a word sum to its posterior, and so do those out of it.
    """

    words: tuple[SpokenWord, ...]
    links: dict[tuple[int, int], float]


def word_graph(
    lattice: Lattice,
    merged_frames: int = 8,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
) -> WordGraph:
    """What a lattice says, and how sure it is: exact sums over all paths, in one pass.

    Occurrences of a word on different arcs are one if they are at most ``merged_frames`` after the first of
    them and none follows another on a path, as a repeated word does: a path has each word once at most.

    Args:
        lattice: connected; of an empty one the start and the end are left, without a link. Every arc takes
            a few microseconds, in Python: prune large ones first.
        merged_frames: 0 or more.
        acoustic_scale, graph_scale: of the scores that posteriors are computed from.

    Raises:
        ConfigError: if a scale is negative or not finite.
    """
    merged = _Merged(merged_frames)
    best = best_path(lattice, acoustic_scale, graph_scale)
    if best is None:
        ends = (SpokenWord(0, 0.0, 0.0, True), SpokenWord(0, float(lattice.num_frames), 0.0, True))
        return WordGraph(ends, {})
    posterior = arc_posteriors(lattice, acoustic_scale, graph_scale)
    forward = forward_scores(lattice, "log", acoustic_scale, graph_scale)
    scores = arc_scores(lattice, acoustic_scale, graph_scale)
    # of the paths into an arc's destination, the share that comes over the arc
    share = np.exp(forward[lattice.src] + scores - forward[lattice.dst]).tolist()
    # the words that the paths into a state end with: a share of these paths for each
    ending: list[dict[int, float]] = [{} for _ in range(lattice.num_states)]
    ending[0] = {START: 1.0}
    passed = [0] * lattice.num_states  # bit i: some path into the state has word i
    on_best = set(best.arcs)
    splits, words = lattice.word_row_splits.tolist(), lattice.words.tolist()
    src, dst, frame = lattice.src.tolist(), lattice.dst.tolist(), lattice.frame.tolist()
    for arc, weight in enumerate(posterior.tolist()):
        before, seen = ending[src[arc]], passed[src[arc]]
        for word in words[splits[arc] : splits[arc + 1]]:
            time = max(frame[dst[arc]] - 1, 0)
            position = merged.find(word, time, seen)
            seen |= 1 << position
            merged.add(position, time, weight, arc in on_best)
            merged.link(before, position, weight)
            before = {position: 1.0}
        passed[dst[arc]] |= seen
        after = ending[dst[arc]]
        for position, part in before.items():
            if part * share[arc] > _FORGOTTEN:
                after[position] = after.get(position, 0.0) + part * share[arc]
        if dst[arc] == lattice.num_states - 1:
            merged.link(before, END, weight)
    start, end = float(frame[0]), float(frame[-1])
    ends = (SpokenWord(0, start, 1.0, True), SpokenWord(0, end, 1.0, True))
    return WordGraph((*ends, *merged.spoken()), merged.links)


class _Merged:
    """Words, while their occurrences are found."""

    def __init__(self, merged_frames: int) -> None:
        self.merged_frames = merged_frames
        self.positions: dict[int, list[int]] = {}  # of each word
        self.rows: list[
            list[float]
        ] = []  # word, first frame, posterior, posterior * frame, is best
        self.links: dict[tuple[int, int], float] = {}

    def find(self, word: int, frame: int, seen: int) -> int:
        """The position of the word that an occurrence belongs to: not one that paths have passed.

        A new one if there is none.
        """
        known = self.positions.setdefault(word, [])
        for position in reversed(known):
            first = self.rows[position - 2][1]
            if abs(frame - first) <= self.merged_frames and not seen >> position & 1:
                return position
        self.rows.append([word, frame, 0.0, 0.0, 0.0])
        known.append(len(self.rows) + 1)
        return known[-1]

    def add(self, position: int, frame: int, posterior: float, is_best: bool) -> None:
        row = self.rows[position - 2]
        row[2] += posterior
        row[3] += posterior * frame
        row[4] = max(row[4], float(is_best))

    def link(self, before: dict[int, float], position: int, posterior: float) -> None:
        for first, part in before.items():
            key = first, position
            self.links[key] = self.links.get(key, 0.0) + part * posterior

    def spoken(self) -> list[SpokenWord]:
        return [
            SpokenWord(int(word), total / posterior if posterior else first, posterior, bool(best))
            for word, first, posterior, total, best in self.rows
        ]
