"""A path through a graph as text."""

import unicodedata

from moe_asr.fsa.best_path import GraphPath
from moe_asr.fsa.view import GraphView


def path_words(view: GraphView, path: GraphPath) -> list[str]:
    """The output symbols along a path."""
    return [view.output_name(label) for arc in path.arcs.tolist() for label in view.outputs_of(arc)]


def path_table(view: GraphView, path: GraphPath) -> str:
    """The path as a table: state, input, words, score and the sum so far; then the final score if any."""
    rows = [("state", "input", "words", "score", "total")]
    total = 0.0
    for state, arc in zip(path.states.tolist(), path.arcs.tolist(), strict=False):
        total += float(view.score[arc])
        words = " ".join(map(view.output_name, view.outputs_of(arc)))
        label = view.input_name(int(view.ilabel[arc]))
        rows.append((str(state), label, words, f"{view.score[arc]:.4f}", f"{total:.4f}"))
    final = float(view.final_score[path.states[-1]])
    rows.append((str(path.states[-1]), "", "", f"{final:.4f}", f"{total + final:.4f}"))
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append(
            "  ".join(
                cell + space if column in (1, 2) else space + cell
                for column, (cell, space) in enumerate(zip(row, cells, strict=True))
            ).rstrip()
        )
    return "\n".join(lines)


def _width(text: str) -> int:
    """The columns of a terminal that a text takes: Chinese characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
