"""Pictures of lattices' quality: the n-best oracle's curve, and the reliability of confidences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from moe_asr.evaluate.calibration import Calibration
from moe_asr.fsa.lattice_canvas import new_figure

_COLORS = ("#1f5f9e", "#d1662b", "#3a7d44", "#7a4b9a")


def oracle_figure(figures: Mapping[str, Any]) -> Any:
    """The error rate of the best of n sequences over n, above that of the best path of the lattice.

    Args:
        figures: of `QualitySummary.figures`.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    names = list(figures["nbest_oracle"])
    rates = [figures["nbest_oracle"][n]["wer"] for n in names]
    oracle = figures["lattice_oracle"]["wer"]
    counts = [int(n) for n in names]
    if oracle is not None:
        axes.plot(counts, rates, "o-", color=_COLORS[0], label="best of the n best")
        axes.axhline(oracle, color=_COLORS[1], linestyle="--", label="lattice oracle")
        for count, rate in zip(counts, rates, strict=True):
            axes.annotate(
                f"{rate:.2f}", (count, rate), xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
        axes.annotate(
            f"{oracle:.2f}", (counts[0], oracle), xytext=(0, 4), textcoords="offset points",
            ha="center", fontsize=8, color=_COLORS[1],
        )  # fmt: skip
        axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.set_xlim(counts[0] / 1.2, counts[-1] * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FixedFormatter(names))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0.0, 1.15 * max([rate for rate in rates if rate], default=1.0))
    axes.set_xlabel("n")
    axes.set_ylabel("error rate, %")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    _clean(axes)
    return figure


def calibration_figure(curves: Mapping[str, Calibration]) -> Any:
    """The share of correct words by confidence, with intervals of 95 %, above how many words there are.

    Args:
        curves: by name, four at most.
    """
    figure = new_figure(6.0, 6.4)
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )  # a diagram, and a histogram
    above.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    width = 1.0 / max(len(c.bins) for c in curves.values()) / (len(curves) + 0.5)
    for number, (name, calibration) in enumerate(curves.items()):
        color = _COLORS[number % len(_COLORS)]
        filled = [b for b in calibration.bins if b.words]
        counts = np.array([b.words for b in filled], np.float64)
        x = np.array([b.confidence for b in filled], np.float64)
        y = np.array([b.correct for b in filled], np.float64)
        low, high = wilson_interval(y, counts)
        spread = np.maximum(np.stack([y - low, high - y]), 0.0)
        error, gain = calibration.expected_calibration_error, calibration.normalised_cross_entropy
        label = f"{name}: ECE {_number(error)}, NCE {_number(gain)}"
        above.errorbar(
            x,
            y,
            spread,
            fmt="o-",
            color=color,
            label=label,
            capsize=3,
            linewidth=1.2,
            markersize=5,
            clip_on=False,
        )
        centers = np.array([0.5 * (b.low + b.high) for b in calibration.bins])
        shift = (number - 0.5 * (len(curves) - 1)) * width
        below.bar(centers + shift, [b.words for b in calibration.bins], width, color=color)
    above.set_xlim(0.0, 1.0)
    above.set_ylim(0.0, 1.03)
    above.set_ylabel("share of correct words")
    above.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.02), fontsize=9)
    below.set_xlabel("confidence")
    below.set_ylabel("words")
    if any(c.words for c in curves.values()):
        below.set_yscale("log")
    for axes in (above, below):
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        _clean(axes)
    return figure


def wilson_interval(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a binomial's probability with 95 %, of shares (B,) of counts (B,) (Wilson, 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return middle - half, middle + half


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _clean(axes: Any) -> None:
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
