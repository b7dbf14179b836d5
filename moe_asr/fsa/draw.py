"""Drawings of small graphs with graphviz: its DOT language, and pictures made by its program ``dot``."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.errors import ConfigError, GraphError, MissingDependencyError
from moe_asr.files import PathLike, atomic_path, write_text
from moe_asr.fsa.view import DISAMBIGUATION, GraphView

MAX_ARCS = 500
SUFFIXES = (".dot", ".gv", ".svg", ".png", ".pdf")
LABELS_PER_EDGE = 12  # of parallel arcs, which share an edge
GREY, BLUE = "#8c8c8c", "#1f5fa8"
# The first is for Latin letters; the others are there for what it lacks.
FONT = "Helvetica,Arial,Noto Sans CJK SC,Noto Sans,sans-serif"

Attributes = Mapping[str, Any]


def graph_to_dot(view: GraphView, title: str = "", max_arcs: int = MAX_ARCS) -> str:
    """DOT source of a whole graph: ``input:outputs/score`` on its arcs, 0 as a score left out.

    Arcs between the same two states share an edge, their labels one below another. The start is bold,
    final states have double circles (and their score, if it is not 0); arcs without output of blank,
    epsilon or disambiguation symbols are grey.

    Args:
        view: with its symbols, where names are wanted.
        title: shown above.
        max_arcs: a graph of more is refused.

    Raises:
        GraphError: if it has too many arcs, saying how many and what can be done.
    """
    if view.num_arcs > max_arcs:
        raise GraphError(
            f"{view.num_arcs} arcs are too many for a picture (the limit is {max_arcs}): draw one path "
            "of the graph and what surrounds it, or raise the limit"
        )
    nodes = [node(str(state), state_attributes(view, state)) for state in range(view.num_states)]
    return dot_source([*nodes, *_edges(view)], title)


def state_attributes(view: GraphView, state: int) -> dict[str, Any]:
    """How a state looks: its number, and whether it is the first or a final one."""
    attributes: dict[str, Any] = {"label": str(state)}
    final_score = float(view.final_score[state])
    if np.isfinite(final_score):
        attributes["shape"] = "doublecircle"
        if final_score != 0.0:
            attributes["label"] += f"\n{score_text(final_score)}"
    if state == 0:
        attributes["style"] = "bold"
    return attributes


def arc_text(view: GraphView, arc: int) -> str:
    """``input:outputs/score``."""
    score = float(view.score[arc])
    return view.arc_name(arc) + (f"/{score_text(score)}" if score != 0.0 else "")


def is_minor(view: GraphView, arc: int) -> bool:
    """Whether an arc has no output and reads blank, epsilon or a disambiguation symbol (backoff, in a G)."""
    label = int(view.ilabel[arc])
    reads_none = label == 0 and (view.epsilon_inputs or view.has_blank)
    reads_none = reads_none or bool(DISAMBIGUATION.fullmatch(view.input_name(label)))
    return reads_none and not view.outputs_of(arc)


def score_text(score: float) -> str:
    """Four significant digits."""
    return f"{score:.4g}"


def _edges(view: GraphView) -> list[str]:
    parallel: dict[tuple[int, int, bool], list[int]] = {}
    ends = zip(view.src.tolist(), view.dst.tolist(), strict=True)
    for arc, (src, dst) in enumerate(ends):
        parallel.setdefault((src, dst, is_minor(view, arc)), []).append(arc)
    lines = []
    for (src, dst, minor), arcs in parallel.items():
        look = {"color": GREY, "fontcolor": GREY} if minor else {}
        if src == dst == 0:  # to the left of the start nothing is in the way
            look = {**look, "tailport": "w", "headport": "w"}
        for first in range(0, len(arcs), LABELS_PER_EDGE):
            texts = [arc_text(view, arc) for arc in arcs[first : first + LABELS_PER_EDGE]]
            lines.append(edge(str(src), str(dst), {"label": "\n".join(texts), **look}))
    return lines


def dot_source(statements: Iterable[str], title: str = "", **graph_attributes: Any) -> str:
    """A left-to-right drawing of nodes and edges."""
    general = {
        "rankdir": "LR", "ranksep": 0.35, "nodesep": 0.2, "fontname": FONT, "fontsize": 13,
        "label": title, "labelloc": "t", **graph_attributes,
    }  # fmt: skip
    nodes = {
        "shape": "circle", "width": 0.4, "height": 0.4, "margin": 0.03, "fontname": FONT,
        "fontsize": 11,
    }  # fmt: skip
    edges = {"arrowsize": 0.6, "fontname": FONT, "fontsize": 11}
    defaults = [
        f"{what} {_attributes(values)};\n"
        for what, values in (("graph", general), ("node", nodes), ("edge", edges))
    ]
    return "digraph {\n" + "".join("  " + line for line in [*defaults, *statements]) + "}\n"


def node(name: str, attributes: Attributes) -> str:
    """A DOT statement; a newline in the label starts a new line."""
    return f"{quote(name)} {_attributes(attributes)};\n"


def edge(src: str, dst: str, attributes: Attributes) -> str:
    """A DOT statement, likewise."""
    return f"{quote(src)} -> {quote(dst)} {_attributes(attributes)};\n"


def cluster(name: str, statements: Iterable[str]) -> str:
    """Statements that are laid out together, without a frame around them."""
    inside = "".join("    " + line for line in ['graph [peripheries=0, label=""];\n', *statements])
    return f"subgraph {quote('cluster_' + name)} {{\n{inside}  }}\n"


def _attributes(values: Attributes) -> str:
    return "[" + ", ".join(f"{key}={quote(value)}" for key, value in values.items()) + "]"


def quote(value: Any) -> str:
    """A DOT string that shows ``value`` as it is: its backslashes, quotes and ampersands mean nothing.

    Newlines are kept as line breaks; other control characters are shown as ``?``.
    """
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", "?", text).replace("\n", "\\n")
    return f'"{text}"'


def check_picture_name(path: PathLike) -> str:
    """The suffix of a file name, one of `SUFFIXES`; `ConfigError` if it is another."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    return suffix


def write_picture(source: str, path: PathLike) -> None:
    """Writes DOT source, or the picture that ``dot`` makes of it: by the suffix, one of `SUFFIXES`.

    Raises:
        ConfigError: for another suffix.
        MissingDependencyError: if a picture is wanted and graphviz is not installed.
        GraphError: if ``dot`` fails.
    """
    suffix = check_picture_name(path)
    if suffix in (".dot", ".gv"):
        write_text(path, source)
        return
    program = shutil.which("dot")
    if program is None:
        raise MissingDependencyError(
            f"{path}: pictures need graphviz's program `dot` (apt install graphviz, brew install "
            "graphviz); a name that ends in .dot writes its input"
        )
    with atomic_path(path) as temporary:
        command = [program, f"-T{suffix[1:]}", "-Gdpi=96", "-o", str(temporary)]
        done = subprocess.run(command, input=source, encoding="utf-8", stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise GraphError(f"{path}: dot failed: {done.stderr.strip()}")


def write_drawing(source: str, stem: PathLike, report: Callable[[str], None] = print) -> Path:
    """Writes ``stem.dot``, and ``stem.svg`` where graphviz's ``dot`` program exists.

    Returns:
        The file to look at: the SVG, or the source if there is no ``dot``.
    """
    stem = Path(stem)
    path, picture = (stem.with_name(stem.name + suffix) for suffix in (".dot", ".svg"))
    write_picture(source, path)
    try:
        write_picture(source, picture)
    except MissingDependencyError:
        report(f"graphviz's `dot` is not installed: {path} was not rendered")
        return path
    return picture
