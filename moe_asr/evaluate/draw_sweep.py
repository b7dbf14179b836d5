"""Pictures of sweeps: the error rate over each scale, and over two of them together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_asr.evaluate.tune import Sweep
from moe_asr.evaluate.wer import UNITS
from moe_asr.files import PathLike, atomic_path
from moe_asr.fsa.lattice_canvas import new_figure


def draw_sweep(sweep: Sweep, path: PathLike) -> None:
    """Draws a sweep: for each scale a curve, for each pair of scales a map of error rates.

    At every point the scales that are not shown have the values that are best there. A cross is at the best
    point.

    Raises:
        MissingDependencyError: if there is no matplotlib.
    """
    names = [name for name, values in sweep.grid.items() if len(values) > 1]
    names = names or list(sweep.grid)
    pairs = [(names[i], names[j]) for i in range(len(names)) for j in range(i)]
    columns = len(names)
    rows = 1 + -(-len(pairs) // columns)
    figure = new_figure(4.2 * columns, 3.4 * rows)
    for place, name in enumerate(names):
        _curve(figure.add_subplot(rows, columns, place + 1), sweep, name)
    for place, (first, second) in enumerate(pairs):
        _map(figure, figure.add_subplot(rows, columns, columns + place + 1), sweep, first, second)
    figure.suptitle(
        f"{sweep.method}: {UNITS[sweep.unit]} on the dev set, {sweep.num_units} units, best "
        f"{sweep.rate(sweep.best_errors):.2f} %"
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _curve(axes: Any, sweep: Sweep, name: str) -> None:
    rates = [sweep.rate(int(errors)) for errors in sweep.curve(name)]
    axes.plot(sweep.grid[name], rates, marker="o", markersize=4)
    axes.plot([sweep.best[name]], [sweep.rate(sweep.best_errors)], "rx", markersize=9)
    axes.axhline(sweep.rate(sweep.default_errors), color="gray", linestyle=":", linewidth=1)
    axes.set_xlabel(name)
    axes.set_ylabel(f"{UNITS[sweep.unit]} %")


def _map(figure: Any, axes: Any, sweep: Sweep, first: str, second: str) -> None:
    names = list(sweep.grid)
    kept = names.index(first), names.index(second)
    others = tuple(i for i in range(len(names)) if i not in kept)
    errors = sweep.errors.min(axis=others) if others else sweep.errors
    if kept[0] > kept[1]:
        errors = errors.T  # now (first, second)
    rates = 100.0 * errors / max(sweep.num_units, 1)
    image = axes.imshow(rates, origin="lower", aspect="auto", cmap="viridis_r")
    _ticks(axes.set_yticks, sweep.grid[first])
    _ticks(axes.set_xticks, sweep.grid[second])
    axes.set_ylabel(first)
    axes.set_xlabel(second)
    row = sweep.grid[first].index(sweep.best[first])
    column = sweep.grid[second].index(sweep.best[second])
    axes.plot([column], [row], "rx", markersize=9)
    figure.colorbar(image, ax=axes)


def _ticks(set_ticks: Any, values: Sequence[float]) -> None:
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), 8)).round().astype(int))
    set_ticks(places, [f"{values[place]:g}" for place in places])
