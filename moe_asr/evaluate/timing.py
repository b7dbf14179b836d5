"""How well words are placed in time: errors of their starts and ends against known ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import CtmWord, files_of_several_channels, read_ctm
from moe_asr.evaluate.wer import matched_places
from moe_asr.files import PathLike

if TYPE_CHECKING:
    from lhotse.cut import Cut

THRESHOLDS_MS = (20, 50, 100, 200)
PERCENTILES = (50, 90, 95)


@dataclass(frozen=True)
class TimingReport:
    """The time errors of the words that were recognised correctly.

    Attributes:
        start_errors, end_errors: (M,) float64 seconds, hypothesis minus reference: positive is late.
        num_reference, num_hypothesis: words in all.
        num_utterances: of the reference.
        num_silent_utterances: those of which the hypotheses have no word.
    """

    start_errors: np.ndarray
    end_errors: np.ndarray
    num_reference: int
    num_hypothesis: int
    num_utterances: int
    num_silent_utterances: int

    @property
    def num_matched(self) -> int:
        """M, the words whose times are compared."""
        return len(self.start_errors)

    def figures(self) -> dict[str, Any]:
        """Counts, and the figures of `error_figures` for starts, ends, and both together."""
        both = np.concatenate([self.start_errors, self.end_errors])
        return {
            "num_utterances": self.num_utterances,
            "num_silent_utterances": self.num_silent_utterances,
            "num_reference_words": self.num_reference,
            "num_hypothesis_words": self.num_hypothesis,
            "num_matched_words": self.num_matched,
            "start": error_figures(self.start_errors),
            "end": error_figures(self.end_errors),
            "both": error_figures(both),
        }


def error_figures(errors: np.ndarray) -> dict[str, float]:
    """Figures of time errors in seconds, all in milliseconds but the shares.

    ``bias_ms`` is the mean of the errors; all others are of their absolute values: ``mean_ms``, ``p50_ms``
    (the median) and further percentiles (by linear interpolation), ``max_ms``, and ``within_20_ms``, ...: the
    share that is at most so large, 0..1.

    Args:
        errors: (M,), M at least 1.
    """
    milliseconds = 1000.0 * np.asarray(errors, np.float64)
    size = np.abs(milliseconds)
    figures = {"bias_ms": milliseconds.mean(), "mean_ms": size.mean()}
    for percent in PERCENTILES:
        figures[f"p{percent}_ms"] = np.percentile(size, percent)
    figures["max_ms"] = size.max()
    for threshold in THRESHOLDS_MS:
        # 20 ms as a difference of two decimals may be a little more
        figures[f"within_{threshold}_ms"] = (size <= threshold + 1e-6).mean()
    return {name: float(value) for name, value in figures.items()}


def score_times(
    references: Mapping[str, Sequence[CtmWord]], hypotheses: Mapping[str, Sequence[CtmWord]]
) -> TimingReport:
    """Compares the times of the words that both have, by the alignment with the fewest errors.

    Args:
        references: by utterance id, of one channel each.
        hypotheses: likewise; an utterance in which nothing was found may be absent, as it is in a ctm file.

    Raises:
        DataError: naming an utterance that has no reference, or several channels; if an utterance's words go
            back in time; or if there is nothing to compare.
    """
    for source in (references, hypotheses):
        several = files_of_several_channels(source)
        if several:
            raise DataError(f"utterance {min(several)} has words in several channels; expected one")
    unknown = [name for name in hypotheses if name not in references]
    if unknown:
        more = f" (and {len(unknown) - 3} more)" if len(unknown) > 3 else ""
        raise DataError(
            f"{len(unknown)} utterance(s) have no reference: {', '.join(unknown[:3])}{more}"
        )
    for source in (references, hypotheses):
        for name, words in source.items():
            times = [word.start_seconds for word in words]
            if times != sorted(times):
                raise DataError(f"the words of utterance {name} go back in time")
    starts: list[float] = []
    ends: list[float] = []
    for name, reference in references.items():
        hypothesis = hypotheses.get(name, ())
        for left, right in matched_places(
            [word.word for word in reference], [word.word for word in hypothesis]
        ):
            starts.append(hypothesis[right].start_seconds - reference[left].start_seconds)
            ends.append(hypothesis[right].end_seconds - reference[left].end_seconds)
    if not starts:
        raise DataError("no word of the hypotheses is right: there are no times to compare")
    return TimingReport(
        np.array(starts),
        np.array(ends),
        sum(map(len, references.values())),
        sum(map(len, hypotheses.values())),
        len(references),
        sum(not hypotheses.get(name) for name in references),
    )


def words_of_cuts(cuts: Iterable["Cut"], source: str = "manifest") -> dict[str, list[CtmWord]]:
    """The word times that a manifest's supervisions have (``alignment["word"]``), by cut id.

    Raises:
        DataError: naming the cut whose supervision has none, or has impossible ones.
    """
    words: dict[str, list[CtmWord]] = {}
    for cut in cuts:
        items = [
            item
            for supervision in cut.supervisions
            for item in (supervision.alignment or {}).get("word", ())
        ]
        if not items:
            raise DataError(f"{source}: cut '{cut.id}' has no word times (alignment 'word')")
        if cut.id in words:
            raise DataError(f"{source}: two cuts have the id '{cut.id}'")
        try:
            words[cut.id] = [
                CtmWord(cut.id, "1", item.start, item.duration, item.symbol) for item in items
            ]
        except DataError as error:
            raise DataError(f"{source}: cut '{cut.id}': {error}") from error
    return words


def read_word_times(path: PathLike) -> dict[str, list[CtmWord]]:
    """Word times of a manifest (its name ends in ``.jsonl`` or ``.jsonl.gz``), or else of a ctm file.

    Raises:
        DataError: see `words_of_cuts` and `moe_asr.evaluate.ctm.read_ctm`.
    """
    if Path(path).name.endswith((".jsonl", ".jsonl.gz")):
        from moe_asr.data.manifests import read_cuts

        return words_of_cuts(read_cuts(path), str(path))
    return read_ctm(path)


def format_timing(figures: Mapping[str, Any]) -> str:
    """`TimingReport.figures` as a table."""
    lines = [
        f"{figures['num_matched_words']} of {figures['num_reference_words']} words compared "
        f"({figures['num_hypothesis_words']} in the hypotheses, {figures['num_utterances']} utterances)",
        f"{'ms':<6}{'mean':>8}" + "".join(f"{f'{percent} %':>8}" for percent in PERCENTILES)
        + f"{'bias':>8}" + "".join(f"{f'<= {limit}':>9}" for limit in THRESHOLDS_MS),
    ]  # fmt: skip
    for side in ("start", "end", "both"):
        row = figures[side]
        lines.append(
            f"{side:<6}{row['mean_ms']:>8.1f}"
            + "".join(f"{row[f'p{percent}_ms']:>8.1f}" for percent in PERCENTILES)
            + f"{row['bias_ms']:>+8.1f}"
            + "".join(f"{100 * row[f'within_{limit}_ms']:>7.1f} %" for limit in THRESHOLDS_MS)
        )
    return "\n".join(lines)
