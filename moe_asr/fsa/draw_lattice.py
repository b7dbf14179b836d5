"""Pictures of lattices over time, with matplotlib: the words of large ones, every arc of small ones.

Time runs to the right. What the best path has is in the middle line; other words and states are above and
below it. The wider and darker a line or a box, the larger the share of all paths that takes it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_canvas import MOST_INCHES, Canvas, text_inches
from moe_asr.fsa.lattice_scores import arc_posteriors, best_path
from moe_asr.fsa.lattice_words import END, START, WordGraph, word_graph
from moe_asr.text.symbol_table import SymbolTable

MAX_WORDS, MAX_ARCS = 150, 400
_MOST_SECONDS = 3600.0  # a frame
_PAD = 0.12  # inches between a label and the border of its box


def words_figure(
    lattice: Lattice,
    word_table: SymbolTable | None = None,
    title: str = "",
    seconds_per_frame: float | None = None,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    min_posterior: float = 0.01,
    max_words: int = MAX_WORDS,
) -> Any:
    """A ``matplotlib.figure.Figure`` of a lattice's words, as `word_graph` finds them.

    A line from one word to another stands for the paths that have the one right after the other.

    Args:
        lattice: not empty, connected.
        word_table: names of the ids.
        title: shown above.
        seconds_per_frame: of the encoder's output; time is in frames without it.
        acoustic_scale, graph_scale: of the scores that posteriors are computed from.
        min_posterior: words below are left out, unless the best path has them, and so are lines.
        max_words: a lattice that has more words left is refused.

    Raises:
        GraphError: if the lattice is empty or has too many words, saying what can be done.
        ConfigError: if a number is out of range.
        MissingDependencyError: if there is no matplotlib.
    """
    _check_positive("seconds_per_frame", seconds_per_frame)
    if not 0.0 <= min_posterior <= 1.0:
        raise ConfigError(f"min_posterior must be in 0..1, found {min_posterior}")
    _refuse_empty(lattice)
    graph = word_graph(lattice, acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    shown = [i for i, w in enumerate(graph.words) if w.is_best or w.posterior >= min_posterior]
    if len(shown) > max_words:
        raise GraphError(
            f"{len(shown)} words are too many for a picture (the limit is {max_words}): prune the "
            f"lattice, raise min_posterior ({min_posterior}) or the limit"
        )
    labels = {}
    for index in shown:
        word = graph.words[index]
        labels[index] = _name(word.word, word_table) if word.word else ("start", "end")[index]
        if word.posterior < 0.995:
            labels[index] += f"  {word.posterior:.2f}".replace("0.", ".")
    frames = {index: graph.words[index].frame for index in shown}
    wide = {index: text_inches(label) + 2 * _PAD for index, label in labels.items()}
    middle = sorted((i for i in shown if graph.words[i].is_best), key=lambda i: (frames[i], i != 0))
    span = float(lattice.frame[-1] - lattice.frame[0])
    inches = _inches_per_frame(frames, wide, middle, span)
    others = [i for i in shown if i not in middle]
    others.sort(key=lambda i: (-graph.words[i].posterior, i))
    lanes = _place(middle, others, frames, {i: wide[i] / inches for i in shown})
    canvas = Canvas(span, int(lattice.frame[0]), inches, lanes.values(), title, seconds_per_frame)
    places = {index: (frames[index], float(lanes[index])) for index in shown}
    for (first, second), posterior in _shown_links(graph, set(shown), min_posterior):
        between = [p for p in places.values() if frames[first] < p[0] < frames[second]]
        canvas.line(places[first], places[second], posterior, between)
    for index, place in places.items():
        grey = index in (START, END)
        canvas.box(place, labels[index], graph.words[index].posterior, grey)
    canvas.scale()
    return canvas.figure


def tokens_figure(
    lattice: Lattice,
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
    title: str = "",
    seconds_per_frame: float | None = None,
    acoustic_scale: float = 1.0,
    graph_scale: float = 1.0,
    max_arcs: int = MAX_ARCS,
    frames: tuple[int, int] | None = None,
) -> Any:
    """A ``matplotlib.figure.Figure`` of every state and arc of a small lattice, or of a few frames.

    An arc shows its token and, after a colon, its words. Tokens that begin are bold; blank and repeated
    frames are grey. Arcs between the same two states share a line, their labels one below another.

    Args:
        max_arcs: more are refused.
        frames: the first frame to be drawn, and the first that is not; all by default.

    The other arguments and errors are those of `words_figure`.
    """
    _check_positive("seconds_per_frame", seconds_per_frame)
    _refuse_empty(lattice)
    time = lattice.frame.copy()
    time[-1] += 1  # the final arcs take no time, and need room
    first, end = (int(time[0]), int(time[-1])) if frames is None else frames
    shown = np.flatnonzero((time[lattice.dst] > first) & (time[lattice.src] < end))
    if len(shown) == 0:
        raise GraphError(
            f"no arc reads a frame from {first} to {end - 1}: the lattice has those from "
            f"{time[0]} to {time[-1] - 2}"
        )
    if len(shown) > max_arcs:
        raise GraphError(
            f"{len(shown)} arcs are too many for a picture (the limit is {max_arcs}): prune the "
            "lattice, draw fewer frames, or its words, or raise the limit"
        )
    labels = {arc: _arc_label(lattice, arc, token_table, word_table) for arc in shown.tolist()}
    inches = max(0.7, max(map(text_inches, labels.values())) + 0.35)
    if inches * (end - first) > MOST_INCHES:
        raise GraphError(
            f"{end - first} frames are too many for a picture of every arc: draw fewer, or the words"
        )
    posterior = arc_posteriors(lattice, acoustic_scale, graph_scale)
    groups: dict[tuple[int, int], list[int]] = {}
    for arc in labels:
        groups.setdefault((int(lattice.src[arc]), int(lattice.dst[arc])), []).append(arc)
    lanes = _lanes_of_states(lattice, time, acoustic_scale, graph_scale)
    places = {
        state: (float(time[state]), float(lanes[state]))
        for state in sorted({state for ends in groups for state in ends})
    }
    canvas = Canvas(
        end - first, first, inches, [lane for _, lane in places.values()], title, seconds_per_frame
    )
    for (src, dst), arcs in groups.items():
        between = [p for p in places.values() if places[src][0] < p[0] < places[dst][0]]
        points = canvas.line(places[src], places[dst], float(posterior[arcs].sum()), between)
        bold = bool(lattice.starts_token[arcs].any())
        minor = not bold and dst != lattice.num_states - 1
        canvas.text(points, "\n".join(filter(None, (labels[arc] for arc in arcs))), minor, bold)
    for state, place in places.items():
        canvas.state(place, is_end=state == lattice.num_states - 1)
    canvas.scale()
    return canvas.figure


def _inches_per_frame(
    frames: dict[int, float], wide: dict[int, float], middle: Sequence[int], span: float
) -> float:
    """Wide enough for the words of the best path to stand side by side, within reason."""
    least = 0.03
    for first, second in zip(middle[:-1], middle[1:], strict=True):
        distance = frames[second] - frames[first]
        if distance > 0:
            least = max(least, (wide[first] + wide[second] + 0.3) / 2 / distance)
    return min(least, 0.3, MOST_INCHES / max(span, 1.0))


def _place(
    middle: Sequence[int],
    others: Sequence[int],
    frames: dict[int, float],
    widths: dict[int, float],
) -> dict[int, int]:
    """The lane of each label: the nearest to 0 that is free where it stands; only ``middle`` is on 0."""
    lanes: dict[int, int] = {}
    taken: dict[int, list[tuple[float, float]]] = {}
    for index in [*middle, *others]:
        left, right = frames[index] - widths[index] / 2, frames[index] + widths[index] / 2
        lane = 0 if len(lanes) < len(middle) else 1
        while any(left < end and start < right for start, end in taken.get(lane, [])):
            lane = 1 - lane if lane <= 0 else -lane  # 0, 1, -1, 2, -2...
        taken.setdefault(lane, []).append((left, right))
        lanes[index] = lane
    return lanes


def _shown_links(
    graph: WordGraph, shown: set[int], min_posterior: float
) -> list[tuple[tuple[int, int], float]]:
    """Those of enough paths, and of each word that is shown the best from and to another; best ones last."""
    links = {ends: p for ends, p in graph.links.items() if shown.issuperset(ends)}
    best: dict[tuple[int, int], tuple[int, int]] = {}  # (word, side) -> link
    for ends, posterior in links.items():
        for side, index in enumerate(ends):
            if posterior > links.get(best.get((index, side), (-1, -1)), 0.0):
                best[index, side] = ends
    kept = {ends for ends, posterior in links.items() if posterior >= min_posterior}
    kept.update(best.values())
    return sorted(((ends, links[ends]) for ends in kept), key=lambda link: (link[1], link[0]))


def _lanes_of_states(
    lattice: Lattice, time: np.ndarray, acoustic_scale: float, graph_scale: float
) -> np.ndarray:
    """(S,): of the states of a frame in the order of the lanes before them, the best path's on 0."""
    best = best_path(lattice, acoustic_scale, graph_scale)
    assert best is not None
    on_best = {0, *lattice.dst[list(best.arcs)].tolist()}
    lanes = np.zeros(lattice.num_states)
    entering = np.split(
        lattice.src[np.argsort(lattice.dst, kind="stable")],
        np.cumsum(np.bincount(lattice.dst, minlength=lattice.num_states))[:-1],
    )
    for frame in np.unique(time).tolist():
        states = np.flatnonzero(time == frame).tolist()
        before = {s: float(lanes[entering[s]].mean()) if len(entering[s]) else 0.0 for s in states}
        states.sort(key=lambda state: (before[state], state))
        middle = next((i for i, state in enumerate(states) if state in on_best), len(states) // 2)
        lanes[states] = np.arange(len(states)) - middle
    return lanes


def _arc_label(
    lattice: Lattice, arc: int, token_table: SymbolTable | None, word_table: SymbolTable | None
) -> str:
    token = int(lattice.token[arc])
    text = "" if token == FINAL else _name(token, token_table)
    words = " ".join(_name(word, word_table) for word in lattice.words_of(arc).tolist())
    return f"{text}:{words}" if words else text


def _name(index: int, table: SymbolTable | None) -> str:
    return str(index) if table is None or index >= len(table) else table.symbol(index)


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not 0.0 < value <= _MOST_SECONDS:
        raise ConfigError(f"{name} must be positive, at most {_MOST_SECONDS:g}, found {value}")


def _refuse_empty(lattice: Lattice) -> None:
    if lattice.is_empty or not lattice.is_connected:
        what = "has no path" if lattice.is_empty else "has states that are on no path"
        raise GraphError(f"the lattice {what}: there is nothing to draw")
