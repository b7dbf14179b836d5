"""Drawings of small FSAs with graphviz."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe_asr.errors import MissingDependencyError
from moe_asr.files import PathLike, write_text
from moe_asr.fsa.fst import Fst
from moe_asr.text.symbol_table import SymbolTable


def fst_to_dot(
    fst: Fst, isymbols: SymbolTable, osymbols: SymbolTable | None = None, title: str = ""
) -> str:
    """Graphviz source of an `Fst`: ``input:output/score`` on every arc.

    Args:
        fst: drawn as it is; final states are double circles with their scores.
        isymbols: of its input labels; ``#i`` is shown for labels past its end (disambiguation symbols).
        osymbols: of its output labels; None for an acceptor.
        title: shown below.
    """
    graphviz = _graphviz()
    dot = graphviz.Digraph(graph_attr={"rankdir": "LR", "label": title})
    for state, score in enumerate(fst.final_score.tolist()):
        shape = "doublecircle" if score > -math.inf else "circle"
        text = f"{state}{_shown(score)}" if score > -math.inf else str(state)
        dot.node(str(state), label=text, shape=shape, style="bold" if state == 0 else "")
    columns = (fst.src, fst.dst, fst.ilabel, fst.olabel, fst.score)
    for src, dst, ilabel, olabel, score in zip(*(c.tolist() for c in columns), strict=True):
        text = _name(ilabel, isymbols)
        if osymbols is not None:
            text += ":" + _name(olabel, osymbols)
        dot.edge(str(src), str(dst), label=graphviz.escape(text + _shown(score)))
    return str(dot.source)


def write_drawing(source: str, stem: PathLike, report: Callable[[str], None] = print) -> Path:
    """Writes ``stem.dot``, and ``stem.svg`` where graphviz's ``dot`` program exists.

    Returns:
        The file to look at: the SVG, or the source if there is no ``dot``.
    """
    stem = Path(stem)
    path = stem.with_name(stem.name + ".dot")
    write_text(path, source)
    graphviz = _graphviz()
    try:
        svg = graphviz.Source(source).pipe(format="svg", encoding="utf-8")
    except graphviz.ExecutableNotFound:
        report(f"graphviz's `dot` is not installed: {path} was not rendered")
        return path
    picture = stem.with_name(stem.name + ".svg")
    write_text(picture, svg)
    return picture


def _shown(score: float) -> str:
    return f"/{score:.3g}" if score != 0.0 else ""


def _name(label: int, table: SymbolTable) -> str:
    return table.symbol(label) if label < len(table) else f"#{label - len(table)}"


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise MissingDependencyError(
            "drawing needs the Python package graphviz: pip install graphviz"
        ) from error
    return graphviz
