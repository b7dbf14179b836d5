"""The picture of time errors: how they are distributed, and how many are below a limit."""

from typing import Any

import numpy as np

from moe_asr.evaluate.timing import TimingReport
from moe_asr.fsa.lattice_canvas import new_figure

_WIDTH_MS, _BIN_MS = 250, 10
_COLORS = {"start": "C0", "end": "C1"}


def timing_figure(report: TimingReport, title: str = "") -> Any:
    """A matplotlib figure: histogram of the errors, and the share of words within an absolute error.

    Raises:
        MissingDependencyError: if there is no matplotlib.
    """
    figure = new_figure(10.0, 4.0)
    histogram, shares = figure.subplots(1, 2)
    edges = np.arange(-_WIDTH_MS, _WIDTH_MS + _BIN_MS, _BIN_MS)
    limits = np.arange(0, _WIDTH_MS + 1)
    for side, errors in (("start", report.start_errors), ("end", report.end_errors)):
        milliseconds = 1000.0 * errors
        # what is beyond the picture is in its outermost bars
        shown = np.clip(milliseconds, -_WIDTH_MS, _WIDTH_MS - 1e-9)
        histogram.hist(
            shown, edges, histtype="step", color=_COLORS[side], linewidth=1.5, label=side
        )
        size = np.sort(np.abs(milliseconds))
        share = 100.0 * np.searchsorted(size, limits, side="right") / len(size)
        shares.plot(limits, share, color=_COLORS[side], linewidth=1.5, label=side)
    histogram.axvline(0.0, color="0.6", linewidth=0.8)
    histogram.set_xlabel("error in ms (hypothesis - reference)")
    histogram.set_ylabel("words")
    shares.set_xlabel("absolute error in ms, at most")
    shares.set_ylabel("words in %")
    shares.set_ylim(0.0, 101.0)
    shares.set_xlim(0.0, _WIDTH_MS)
    for axes in (histogram, shares):
        axes.grid(color="0.92")
        axes.legend()
    if title:
        figure.suptitle(title, parse_math=False)
    return figure
