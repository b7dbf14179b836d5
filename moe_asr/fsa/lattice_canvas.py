"""What pictures of lattices are drawn on: one axes over time, with matplotlib, and its files."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.errors import ConfigError, MissingDependencyError
from moe_asr.files import PathLike, atomic_path

SUFFIXES = (".png", ".svg", ".pdf")
MOST_INCHES = 100.0  # of a side of a picture
# The first is for Latin letters; the others are there for what it lacks.
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans")
CHARACTER = 0.085  # width in inches of a Latin letter of 9 points
LANE = 0.42  # inches between lanes

Position = tuple[float, float]  # frame, lane


class Canvas:
    """One axes over time, and the few shapes that are drawn on it; a position is a frame and a lane.

    Args:
        span, first_frame: the time that is shown, in frames.
        inches_per_frame: the scale of time.
        lanes: all that something is on, the middle one being 0.
        title: shown above.
        seconds_per_frame: time is in frames without it.

    Raises:
        MissingDependencyError: if there is no matplotlib.
    """

    def __init__(
        self,
        span: float,
        first_frame: int,
        inches_per_frame: float,
        lanes: Iterable[float],
        title: str,
        seconds_per_frame: float | None,
    ) -> None:
        lanes = list(lanes)
        low, high = min(lanes), max(lanes)
        width = min(max(inches_per_frame * span + 1.6, 5.0), MOST_INCHES)
        height = min(LANE * (high - low + 1) + 1.5, MOST_INCHES)
        self.figure = new_figure(width, height)
        from matplotlib import colormaps

        self.fonts = font_families()
        self.colors = colormaps["Blues"]
        self.inches_per_frame = inches_per_frame
        self._labels: list[tuple[float, float, float, float]] = []  # on lines: place, width, height
        self.axes = self.figure.add_subplot()
        margin = 0.5 / max(inches_per_frame, 1e-6)
        self.axes.set_xlim(first_frame - margin, first_frame + span + margin)
        self.axes.set_ylim(low - 1.0, high + 1.0)
        self.axes.set_yticks([])
        for side in ("left", "right", "top"):
            self.axes.spines[side].set_visible(False)
        self.axes.grid(axis="x", color="0.92", linewidth=0.8)
        self.axes.set_axisbelow(True)
        if seconds_per_frame is None:
            self.axes.locator_params(axis="x", integer=True)
            self.axes.set_xlabel("frame")
        else:
            from matplotlib.ticker import FuncFormatter, MultipleLocator

            step = _tick_step(span * seconds_per_frame)
            self.axes.xaxis.set_major_locator(MultipleLocator(step / seconds_per_frame))
            self.axes.xaxis.set_major_formatter(
                FuncFormatter(lambda frame, _: f"{frame * seconds_per_frame:.4g}")
            )
            self.axes.set_xlabel("seconds")
        if title:
            self.axes.set_title(printable(title), parse_math=False, family=self.fonts, fontsize=11)

    def color(self, posterior: float) -> Any:
        """From light to dark; never so light that it cannot be seen."""
        return self.colors(0.25 + 0.7 * min(max(posterior, 0.0), 1.0))

    def line(
        self, first: Position, second: Position, posterior: float, between: Sequence[Position]
    ) -> list[Position]:
        """A curve, with a bump if something is in its way; returns points of it, the middle first."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Curve

        (x1, y1), (x2, y2) = first, second
        half = (x2 - x1) / 2
        bump = 0.75 if y1 == y2 and any(y == y1 for _, y in between) else 0.0
        points = [(x1, y1), (x1 + half, y1 + bump), (x2 - half, y2 + bump), (x2, y2)]
        codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
        self.axes.add_patch(
            PathPatch(
                Curve(points, codes),
                facecolor="none",
                edgecolor=self.color(posterior),
                linewidth=0.6 + 3.4 * min(posterior, 1.0),
                capstyle="round",
                zorder=2 + posterior,
            )
        )
        curve = np.array(points)
        steps = np.array([0.5, 0.35, 0.65, 0.22, 0.78])[:, None]
        weights = np.concatenate(
            [(1 - steps) ** 3, 3 * steps * (1 - steps) ** 2, 3 * steps**2 * (1 - steps), steps**3],
            1,
        )
        return [(float(x), float(y)) for x, y in weights @ curve]

    def box(self, place: Position, label: str, posterior: float, grey: bool) -> None:
        """A label in a box."""
        fill = "0.9" if grey else self.color(posterior)
        dark = not grey and posterior > 0.55
        self.axes.text(
            *place, printable(label), ha="center", va="center", fontsize=9, family=self.fonts, zorder=5,
            color="white" if dark else "black", parse_math=False,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": fill, "edgecolor": "0.5"},
        )  # fmt: skip

    def text(self, places: Sequence[Position], label: str, grey: bool, bold: bool) -> None:
        """A label on a line, at the first of the places that is free."""
        if not label:
            return
        width = text_inches(label) / self.inches_per_frame
        height = 0.45 * (label.count("\n") + 1)
        free = (
            place for place in places
            if all(
                abs(place[0] - x) > (width + w) / 2 or abs(place[1] - y) > (height + h) / 2
                for x, y, w, h in self._labels
            )
        )  # fmt: skip
        place = next(free, places[0])
        self._labels.append((*place, width, height))
        self.axes.text(
            *place, printable(label), ha="center", va="center", fontsize=8, family=self.fonts, zorder=5,
            color="0.45" if grey else "black", weight="bold" if bold else "normal",
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip

    def state(self, place: Position, is_end: bool) -> None:
        """A dot; a ring around the last."""
        self.axes.plot(*place, "o", color="black", markersize=4, zorder=6)
        if is_end:
            self.axes.plot(*place, "o", color="black", fillstyle="none", markersize=8, zorder=6)

    def scale(self) -> None:
        """What the colours mean."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap

        shades = ListedColormap([self.color(i / 20) for i in range(21)])
        bar = self.figure.colorbar(
            ScalarMappable(cmap=shades),
            ax=self.axes,
            pad=0.01,
            aspect=5 * float(self.figure.get_figheight()),  # a fifth of an inch wide
        )
        bar.set_label("posterior", fontsize=8)
        bar.ax.tick_params(labelsize=7)


def new_figure(width: float, height: float) -> Any:
    """An empty ``matplotlib.figure.Figure`` of so many inches, on a canvas of its own.

    Raises:
        MissingDependencyError: if there is no matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"pictures need matplotlib ({error}): pip install matplotlib"
        ) from error
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def font_families() -> list[str]:
    """Those of `FONTS` that are installed; a generic one if none is."""
    from matplotlib import font_manager

    installed = set(font_manager.fontManager.get_font_names())
    return [name for name in FONTS if name in installed] or ["sans-serif"]


def check_picture_name(path: PathLike) -> str:
    """The suffix of a file name, one of `SUFFIXES`; `ConfigError` if it is another."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    return suffix


def write_figure(figure: Any, path: PathLike) -> None:
    """Writes a figure, atomically, in the format of its name's ending, one of `SUFFIXES`.

    The same figure is the same bytes.

    Raises:
        ConfigError: for another suffix.
    """
    import matplotlib

    suffix = check_picture_name(path)
    no_date = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "lattice"}):
        figure.savefig(str(temporary), format=suffix[1:], metadata=no_date)


def _tick_step(seconds: float) -> float:
    """0.1, 0.2, 0.5, 1 and so on: the least with which there are at most 20 steps."""
    steps = (float(f"{digit}e{power}") for power in count(-1) for digit in (1, 2, 5))
    return next(step for step in steps if seconds / step <= 20)


def printable(text: str) -> str:
    """Control characters replaced: an SVG file with one in it is no XML."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c != "\n" else c for c in text)


def text_inches(text: str) -> float:
    """About the width of the longest line; letters outside Latin scripts are taken to be wide."""
    lines = text.split("\n")
    return max(sum(CHARACTER * (1.0 if c < "\u0500" else 1.7) for c in line) for line in lines)
