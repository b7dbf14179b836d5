"""The picture of a forced alignment: log-mel features with word boundaries, and the posteriors under them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.fsa.align import Alignment
from moe_asr.fsa.lattice_canvas import MOST_INCHES, font_families, new_figure, printable
from moe_asr.fsa.time_correction import TimedWord
from moe_asr.text.symbol_table import SymbolTable

MOST_SECONDS = 60.0
_INCHES_PER_SECOND = 3.0


def alignment_figure(
    alignment: Alignment,
    words: Sequence[TimedWord[str]],
    log_probs: np.ndarray,
    frame_shift_seconds: float,
    token_table: SymbolTable,
    features: np.ndarray,
    feature_shift_seconds: float,
    references: Sequence[TimedWord[str]] = (),
    title: str | None = None,
) -> Any:
    """A ``matplotlib.figure.Figure``.

    Above, the features with the words and their boundaries, and those of the references as dashed lines;
    below, the posteriors of blank (grey) and of the tokens of the text, each named where it was found.

    Args:
        alignment: of `moe_asr.fsa.align.TextAligner`.
        words: its words, and when they were said.
        log_probs: (S, C), what was aligned.
        frame_shift_seconds: from one of these to the next.
        token_table: of C tokens.
        features: (T, F) log-mel.
        feature_shift_seconds: from one of these to the next.
        references: true times of words.
        title: shown above; by default the utterance's id.

    Raises:
        ConfigError: if the utterance is longer than a minute: it would not be readable.
        MissingDependencyError: if there is no matplotlib.
    """
    duration = len(features) * feature_shift_seconds
    if duration > MOST_SECONDS:
        raise ConfigError(
            f"utterance {alignment.utterance_id}: {duration:.1f} s are too long for a picture; expected at "
            f"most {MOST_SECONDS:.0f} s"
        )
    figure = new_figure(min(max(_INCHES_PER_SECOND * duration, 6.0), MOST_INCHES), 6.0)
    fonts = font_families()
    mel, posteriors = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    mel.imshow(
        features.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
        extent=(0.0, duration, 0, features.shape[1]),
    )  # fmt: skip
    mel.set_ylabel("mel bin")
    top = features.shape[1]
    for word in words:
        for place in (word.start_seconds, word.end_seconds):
            mel.axvline(place, color="white", linewidth=1.0)
            posteriors.axvline(place, color="0.85", linewidth=0.8, zorder=0)
        mel.text(
            (word.start_seconds + word.end_seconds) / 2, top * 1.02, printable(word.word), ha="center",
            va="bottom", fontsize=10, family=fonts, parse_math=False,
        )  # fmt: skip
    for reference in references:
        for place in (reference.start_seconds, reference.end_seconds):
            mel.axvline(place, color="cyan", linewidth=1.0, linestyle=(0, (4, 3)))
    # a frame is drawn in the middle of its time
    times = (np.arange(len(log_probs)) + 0.5) * frame_shift_seconds
    probabilities = np.exp(log_probs)
    posteriors.fill_between(times, probabilities[:, 0], color="0.9", step="mid", label="blank")
    for number, label in enumerate(dict.fromkeys(token.token for token in alignment.tokens)):
        posteriors.plot(times, probabilities[:, label], color=f"C{number % 10}", linewidth=1.2)
    for token in alignment.tokens:
        posteriors.text(
            times[token.first_frame], 1.03, printable(token_table.symbol(token.token)), ha="center",
            va="bottom", fontsize=8, family=fonts, parse_math=False,
        )  # fmt: skip
    posteriors.set_ylim(0.0, 1.15)
    posteriors.set_xlim(0.0, duration)
    posteriors.set_ylabel("posterior")
    posteriors.set_xlabel("seconds")
    name = alignment.utterance_id if title is None else title
    figure.suptitle(printable(name), parse_math=False, family=fonts, fontsize=11)
    return figure
