"""A path through a graph that is too large to draw, with what else leaves its states."""

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.fsa.best_path import GraphPath
from moe_asr.fsa.draw import (
    BLUE,
    GREY,
    arc_text,
    cluster,
    dot_source,
    edge,
    is_minor,
    node,
    score_text,
    state_attributes,
)
from moe_asr.fsa.view import GraphView

ARCS_PER_ROW = 10
_SUMMARY = {
    "shape": "box", "style": "rounded,dashed", "color": GREY, "fontcolor": GREY, "fontsize": 10,
    "height": 0.25, "margin": 0.06,
}  # fmt: skip
_PATH = {"color": BLUE, "fontcolor": BLUE, "penwidth": 2, "weight": 100}
_OTHER = {"fontcolor": GREY, "color": GREY, "style": "dashed", "fontsize": 10}


def path_to_dot(
    view: GraphView,
    path: GraphPath,
    context: int = 1,
    title: str = "",
    arcs_per_row: int = ARCS_PER_ROW,
) -> str:
    """DOT source of a path, row by row, and the arcs beside it.

    A state that the path passes more than once is drawn as often; one at the end of a row is there again,
    dotted, at the beginning of the next.

    Args:
        view: the graph of the path.
        path: by `best_path` or `random_path`.
        context: 0: the path alone. n: for each of its states also the n - 1 best of the other arcs that
            leave it, and how many more there are. Arcs without output back to the same state (of an HLG:
            a token repeated, blank) are drawn as loops from n = 1.
        title: shown above, with the score of the path.
        arcs_per_row: of the path.

    Raises:
        ConfigError: if ``context`` is negative, or ``arcs_per_row`` not positive.
    """
    if context < 0:
        raise ConfigError(f"context must be at least 0, found {context}")
    if arcs_per_row < 1:
        raise ConfigError(f"arcs_per_row must be at least 1, found {arcs_per_row}")
    states, arcs = path.states.tolist(), path.arcs.tolist()
    rows = []
    for begin in range(0, max(len(arcs), 1), arcs_per_row):
        if begin:
            source = f"again{begin}"
            lines = [node(source, {"label": states[begin], "style": "dotted"})]
        else:
            source = "p0"
            lines = _place(view, 0, states[0], arcs[:1], context)
        for place in range(begin, min(begin + arcs_per_row, len(arcs))):
            lines.append(
                edge(source, f"p{place + 1}", {"label": arc_text(view, arcs[place]), **_PATH})
            )
            source, following = f"p{place + 1}", arcs[place + 1 : place + 2]
            lines += _place(view, place + 1, states[place + 1], following, context)
        rows.append(cluster(f"row{begin}", lines))
    total = f"score {score_text(path.score)}"
    # drawn from left to right, dot puts the last of the clusters on top
    return dot_source(rows[::-1], f"{title}\n{total}" if title else total)


def _place(view: GraphView, place: int, state: int, taken: list[int], context: int) -> list[str]:
    """A state of the path, and the arcs that leave it, without the one ``taken``, if any is."""
    lines = [node(f"p{place}", state_attributes(view, state))]
    return lines + (_surroundings(view, place, state, taken, context - 1) if context else [])


def _surroundings(
    view: GraphView, place: int, state: int, taken: list[int], shown: int
) -> list[str]:
    """The other arcs that leave a state, which is at ``place`` of the path."""
    others = np.arange(view.arc_splits[state], view.arc_splits[state + 1])
    others = others[~np.isin(others, taken)]
    is_silent = view.row_splits[others + 1] == view.row_splits[others]
    is_loop = is_silent & (view.dst[others] == state)
    loops, others = others[is_loop], others[~is_loop]
    others = others[np.argsort(-view.score[others], kind="stable")]
    lines = []
    if len(loops):
        texts = [arc_text(view, arc) for arc in loops[:3].tolist()]
        texts += [f"+ {len(loops) - 3}"] if len(loops) > 3 else []
        grey = {"color": GREY, "fontcolor": GREY if is_minor(view, loops[0]) else "black"}
        lines.append(edge(f"p{place}", f"p{place}", {"label": "\n".join(texts), **grey}))
    if len(others) == shown + 1:
        shown += 1  # one arc takes no more room than the note that there is one
    if len(others) > shown:
        more = f"p{place}more"
        lines.append(node(more, {**_SUMMARY, "label": f"+ {len(others) - shown:,} arcs"}))
        lines.append(edge(f"p{place}", more, _OTHER))
    # of the nodes of a cluster, too, dot puts the last on top
    for arc in others[:shown][::-1].tolist():
        target = f"p{place}a{arc}"
        lines.append(node(target, {**state_attributes(view, int(view.dst[arc])), **_OTHER}))
        lines.append(edge(f"p{place}", target, {"label": arc_text(view, arc), **_OTHER}))
    return lines
