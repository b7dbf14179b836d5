"""Drawings of small FSAs with graphviz."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe_asr.errors import MissingDependencyError
from moe_asr.files import PathLike, write_text
from moe_asr.text.symbol_table import SymbolTable


def k2_to_dot(
    fsa: Any, labels: SymbolTable, aux_labels: SymbolTable | None = None, title: str = ""
) -> str:
    """Graphviz source of a single ``k2.Fsa``: ``label:word/score`` on every arc.

    Args:
        fsa: an acceptor, or a transducer whose ``aux_labels`` are a tensor.
        labels: of its labels; ``#i`` is shown for the labels past its end (disambiguation symbols).
        aux_labels: of its output labels; None for an acceptor.
        title: shown below.
    """
    graphviz = _graphviz()
    dot = graphviz.Digraph(graph_attr={"rankdir": "LR", "label": title})
    final = fsa.shape[0] - 1
    for state in range(fsa.shape[0]):
        shape = "doublecircle" if state == final else "circle"
        dot.node(str(state), shape=shape, style="bold" if state == 0 else "")
    outputs = fsa.aux_labels.tolist() if aux_labels is not None else None
    scores = fsa.scores.tolist()
    for arc, (src, dst, label, _) in enumerate(fsa.arcs.values().tolist()):
        text = _name(label, labels)
        if aux_labels is not None and outputs is not None:
            text += ":" + _name(outputs[arc], aux_labels)
        if scores[arc] != 0.0:
            text += f"/{scores[arc]:.3g}"
        dot.edge(str(src), str(dst), label=graphviz.escape(text))
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


def _name(label: int, table: SymbolTable) -> str:
    if label == -1:
        return "-1"
    return table.symbol(label) if label < len(table) else f"#{label - len(table)}"


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise MissingDependencyError(
            "drawing needs the Python package graphviz: pip install graphviz"
        ) from error
    return graphviz
