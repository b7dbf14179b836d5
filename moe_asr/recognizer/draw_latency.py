"""The picture of latencies: how they are distributed for each chunk size, and what each stage takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe_asr.fsa.lattice_canvas import new_figure
from moe_asr.recognizer.latency import STAGES, LatencyReport

_WORDS = {
    "appearance": "a word is first shown",
    "stability": "a word is shown for good",
    "final": "a word is in a final result",
}
_STAGE_COLORS = {"features": "C7", "encoder": "C0", "search": "C2", "second_pass": "C1"}
_OTHER_COLOR = "0.85"


def latency_figure(
    reports: Mapping[int, LatencyReport], frame_seconds: float, title: str = ""
) -> Any:
    """A matplotlib figure: cumulative curves of latencies, bars of real-time factors.

    Args:
        reports: by chunk size, at least one.
        frame_seconds: of an encoder frame.

    Raises:
        MissingDependencyError: if there is no matplotlib.
    """
    figure = new_figure(12.0, 7.0)
    from matplotlib import colormaps

    grid = figure.add_gridspec(2, 3)
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(reports)))
    labels = {size: f"{size} frames, {1000 * size * frame_seconds:.0f} ms" for size in reports}
    shared = None  # the first two are of one scale
    for column, (name, heading) in enumerate(_WORDS.items()):
        axes = figure.add_subplot(grid[0, column], sharex=shared if name == "stability" else None)
        shared = shared or axes
        times = [report.words[name] for report in reports.values()]
        _curves(axes, times, shades, list(labels.values()))
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("ms after its end")
        axes.set_ylabel("words in %" if column == 0 else "")
        if column == 0:
            axes.legend(title="chunk", fontsize=8, title_fontsize=8, loc="lower right")
    axes = figure.add_subplot(grid[1, 0])
    times = [report.finalisation for report in reports.values()]
    _curves(axes, times, shades, list(labels.values()))
    axes.set_title("a final result is there", fontsize=10)
    axes.set_xlabel("ms after the audio that ended its segment")
    axes.set_ylabel("segments in %")
    _bars(figure.add_subplot(grid[1, 1:]), reports, list(labels.values()))
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def _curves(
    axes: Any, times: Sequence[np.ndarray], colors: Sequence[Any], labels: Sequence[str]
) -> None:
    """The share of times that are not longer than so many ms; the axis leaves out the longest hundredth."""
    low, high = 0.0, 0.0
    for seconds, color, label in zip(times, colors, labels, strict=True):
        milliseconds = np.sort(1000.0 * seconds)
        share = 100.0 * np.arange(len(milliseconds) + 1) / max(len(milliseconds), 1)
        first = milliseconds[:1]  # from 0 % up
        axes.step(
            np.concatenate([first, milliseconds]), share[: len(milliseconds) + len(first)],
            where="post", color=color, linewidth=1.5, label=label,
        )  # fmt: skip
        if len(milliseconds) == 0:
            continue
        low = min(low, float(np.percentile(milliseconds, 1)))
        high = max(high, float(np.percentile(milliseconds, 99)))
    margin = 0.03 * (high - low) + 1e-3
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(0.0, 101.0)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def _bars(axes: Any, reports: Mapping[int, LatencyReport], labels: Sequence[str]) -> None:
    """Real-time factors, one bar a chunk size, the smallest on top."""
    colors = {**_STAGE_COLORS, "other": _OTHER_COLOR}
    assert tuple(colors) == (*STAGES, "other"), colors
    factors = [report.rtf() for report in reports.values()]
    places = np.arange(len(factors))
    left = np.zeros(len(factors))
    for name, color in colors.items():
        widths = np.array([found[name] for found in factors])
        axes.barh(places, widths, left=left, color=color, label=name.replace("_", " "), height=0.6)
        left += widths
    for place, end in zip(places, left, strict=True):
        axes.text(end, place, f" {end:.3f}", va="center", fontsize=8)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.12 * float(left.max()) + 1e-6)
    axes.set_title("work for a second of audio", fontsize=10)
    axes.set_xlabel("seconds (RTF)")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, ncols=len(colors), loc="upper center", bbox_to_anchor=(0.5, -0.2))
