"""Figures of a lattice: how large it is, how many paths there are, which is the best."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_scores import best_path, log_num_paths, total_score
from moe_asr.text.symbol_table import SymbolTable


def lattice_info(
    lattice: Lattice, acoustic_scale: float = 1.0, graph_scale: float = 1.0
) -> dict[str, Any]:
    """Figures of a lattice, as plain JSON values.

    Returns:
        - ``states``, ``arcs``, ``final_arcs``: numbers; ``frames`` of the utterance, ``first_frame`` and
          ``last_frame``: those that the paths begin and end at; ``is_partial``.
        - ``density``: arcs per frame that the paths read; ``depth`` and ``max_depth``: how many arcs lie over
          a frame, in the mean and at most (an arc lies over the frames between those of its states).
        - ``log10_paths``: the number of paths.
        - ``word_arcs``: arcs that carry words; ``distinct_words``.
        - ``best``: ``score``, ``acoustic`` and ``graph`` (sums of the best path, see `LatticePath`), its
          ``words`` and ``tokens``.
        - ``log_score``: of all paths together, in the log semiring.

        What does not exist (of a lattice without a path, or without frames) is None.

    Raises:
        ConfigError: if a scale is negative or not finite.
    """
    best = best_path(lattice, acoustic_scale, graph_scale)
    first, last = (int(lattice.frame[i]) for i in (0, -1)) if lattice.num_states else (None, None)
    depth, spans = _depth(lattice)
    num_read = int(spans.sum())
    log_score = total_score(lattice, "log", acoustic_scale, graph_scale)
    return {
        "states": lattice.num_states,
        "arcs": lattice.num_arcs,
        "final_arcs": int((lattice.token == FINAL).sum()),
        "frames": int(lattice.num_frames),
        "first_frame": first,
        "last_frame": last,
        "is_partial": bool(lattice.is_partial),
        "density": lattice.num_arcs / num_read if num_read else None,
        "depth": float((depth * spans).sum() / num_read) if num_read else None,
        "max_depth": int(depth.max()) if num_read else None,
        "log10_paths": None if best is None else log_num_paths(lattice) / math.log(10),
        "word_arcs": int((np.diff(lattice.word_row_splits) > 0).sum()),
        "distinct_words": len(np.unique(lattice.words)),
        "best": None
        if best is None
        else {
            "score": best.score,
            "acoustic": best.acoustic,
            "graph": best.graph,
            "words": list(best.words),
            "tokens": list(best.tokens),
        },
        "log_score": None if best is None else log_score,
    }


def _depth(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """The number of arcs over the frames between those that states are at, and how many frames these are."""
    frames, place = np.unique(lattice.frame, return_inverse=True)
    begin, end = (np.bincount(place[s], minlength=len(frames)) for s in (lattice.src, lattice.dst))
    return np.cumsum(begin - end)[:-1], np.diff(frames.astype(np.int64))


def format_lattice_info(
    info: Mapping[str, Any],
    about: Sequence[tuple[str, str]] = (),
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
) -> str:
    """Lines of a name and its figures.

    Args:
        info: of `lattice_info`.
        about: lines to begin with (the file, say).
        token_table, word_table: names of the ids.
    """
    best = info["best"]
    partial = ", partial: no path had come to an end" if info["is_partial"] else ""
    rows = [
        *about,
        ("frames", f"{info['frames']:,}"),
        ("states", f"{info['states']:,}"),
        ("arcs", f"{info['arcs']:,}, of these {info['final_arcs']:,} final, "
         f"{info['word_arcs']:,} with words"),
    ]  # fmt: skip
    if best is None:
        rows.append(("paths", "none" + partial))
    else:
        rows += [
            ("paths", f"{_count(info['log10_paths'])}, of frames {info['first_frame']:,} to "
             f"{info['last_frame']:,}{partial}"),
            ("density", f"{_number(info['density'])} arcs per frame"),
            ("depth", f"{_number(info['depth'])} arcs over a frame, at most {_number(info['max_depth'])}"),
            ("words", f"{info['distinct_words']:,} distinct"),
            ("all paths", f"score {info['log_score']:.4f}"),
            ("best path", f"score {best['score']:.4f}; acoustic {best['acoustic']:.4f}, "
             f"graph {best['graph']:.4f}"),
            ("  words", names_of(best["words"], word_table)),
            ("  tokens", names_of(best["tokens"], token_table)),
        ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows)


def format_lattice_table(
    infos: Iterable[tuple[str, Mapping[str, Any]]], word_table: SymbolTable | None = None
) -> str:
    """A line for each lattice, given its name and what `lattice_info` returns, then their sums and means."""
    named = list(infos)
    columns = ("frames", "states", "arcs", "density", "depth", "log10_paths", "distinct_words")
    titles = ["utterance", "frames", "states", "arcs", "density", "depth", "log10 paths", "words",
              "score", "best path"]  # fmt: skip
    rows = [titles]
    for name, info in named:
        best = info["best"]
        rows.append(
            [
                name + (" (partial)" if info["is_partial"] else ""),
                *(_number(info[column]) for column in columns),
                "none" if best is None else f"{best['score']:.2f}",
                "(no path)" if best is None else names_of(best["words"], word_table),
            ]
        )
    if len(named) > 1:
        frames, states, arcs = (sum(info[key] for _, info in named) for key in columns[:3])
        means = []
        for key in columns[3:6]:
            values = [info[key] for _, info in named if info[key] is not None]
            means.append(_number(float(np.mean(values))) if values else "none")
        total = [f"{frames:,}", f"{states:,}", f"{arcs:,}"]
        rows.append([f"sum, mean of {len(named):,}", *total, *means, "", "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place in (0, len(titles) - 1) else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def names_of(ids: Sequence[int], table: SymbolTable | None) -> str:
    """Symbols, or ids where there is no table, with blanks between; ``(none)`` if there are none."""
    names = [str(index) if table is None else table.symbol(index) for index in ids]
    return " ".join(names) or "(none)"


def _count(log10: float) -> str:
    return f"{round(10**log10):,}" if log10 < 6 else f"10 ** {log10:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"
