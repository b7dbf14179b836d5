"""What a forced alignment of many cuts comes to: ctm, TextGrids, pictures, figures."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.audio.fbank import FbankOptions
from moe_asr.config import to_dict
from moe_asr.decode.align_cuts import AlignedCut
from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import CtmWord, write_ctm
from moe_asr.evaluate.textgrid import Interval, write_textgrid
from moe_asr.evaluate.timing import words_of_cuts
from moe_asr.evaluate.timing_fit import TimedTokens
from moe_asr.evaluate.word_ctm import timed_words_ctm
from moe_asr.files import PathLike, write_json
from moe_asr.fsa.align import Alignment
from moe_asr.fsa.draw_alignment import alignment_figure
from moe_asr.fsa.lattice_canvas import write_figure
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord
from moe_asr.text.symbol_table import SymbolTable

CTM, SUMMARY, TEXTGRIDS, PICTURES = "alignments.ctm", "summary.json", "textgrids", "pictures"


@dataclass(frozen=True)
class FrameTimes:
    """How frames become seconds.

    Attributes:
        frame_shift_seconds: from one frame of the log-probabilities to the next.
        feature_shift_seconds: from one frame of the features to the next.
        correction: of word times.
    """

    frame_shift_seconds: float
    feature_shift_seconds: float
    correction: TimeCorrection = TimeCorrection()

    @classmethod
    def of_model(
        cls, features: FbankOptions, subsampling: int, correction: TimeCorrection | None = None
    ) -> "FrameTimes":
        """Those of a model with this subsampling; times are not corrected by default."""
        shift = features.frame_shift_ms / 1000.0
        return cls(shift * subsampling, shift, correction or TimeCorrection())

    def words(self, alignment: Alignment, duration_seconds: float) -> list[TimedWord[str]]:
        """The words of an alignment in seconds."""
        return self.correction.apply(
            [word.word for word in alignment.words],
            [word.tokens for word in alignment.words],
            [token.first_frame for token in alignment.tokens],
            [token.last_frame for token in alignment.tokens],
            self.frame_shift_seconds,
            duration_seconds,
        )


def write_alignments(
    found: Iterable[AlignedCut],
    names: Sequence[str],
    directory: PathLike,
    times: FrameTimes,
    token_table: SymbolTable,
    drawn: Collection[str] = (),
    settings: dict[str, Any] | None = None,
    failures: Mapping[str, str] | None = None,
) -> list[AlignedCut]:
    """Writes ``alignments.ctm``, ``textgrids/ID.TextGrid``, ``pictures/ID.png`` and ``summary.json``.

    A TextGrid has the tiers ``words`` and ``tokens``; tokens are as they were found, words are corrected.

    Args:
        found: of `align_cuts`, in any order.
        names: cut ids, in the order for the files.
        directory: where they go.
        times: how frames become seconds.
        token_table: of the model.
        drawn: cut ids of which pictures are drawn.
        settings: what else goes into the summary.
        failures: what `align_cuts` fills with cuts that are not aligned and why; goes into the summary.

    Returns:
        What was found, in the order of ``names``, without features and log-probabilities.

    Raises:
        DataError: if one of ``drawn`` is none of ``names``, or has no features to be drawn; if nothing was
            aligned.
    """
    directory = Path(directory)
    unknown = [name for name in drawn if name not in set(names)]
    if unknown:
        raise DataError(f"no cut '{unknown[0]}' to draw")
    kept: dict[str, AlignedCut] = {}
    lines: dict[str, list[CtmWord]] = {}
    for item in found:
        alignment, name = item.alignment, item.cut.id
        words = times.words(alignment, item.cut.duration)
        lines[name] = timed_words_ctm(name, words, [word.confidence for word in alignment.words])
        _write_textgrid(directory / TEXTGRIDS, item, words, times, token_table)
        if name in drawn:
            _draw(directory / PICTURES, item, words, times, token_table)
        empty = item.features.new_empty(0, 0)  # a slice would keep the whole batch
        kept[name] = AlignedCut(item.cut, alignment, empty, empty)
    failures = failures or {}
    if failures and not kept:
        raise DataError(f"nothing could be aligned: {next(iter(failures.values()))}")
    ordered = [kept[name] for name in names if name not in failures]
    write_ctm(directory / CTM, (word for item in ordered for word in lines[item.cut.id]))
    summary = _summary(ordered, times)
    summary["not_aligned"] = dict(failures)
    write_json(directory / SUMMARY, {**(settings or {}), **summary})
    return ordered


def timed_tokens(found: Sequence[AlignedCut]) -> list[TimedTokens]:
    """What `fit_correction` takes, the truth being the word times of the cuts' supervisions.

    Raises:
        DataError: naming a cut without word times, or whose words are others than those aligned.
    """
    references = words_of_cuts(item.cut for item in found)
    return [_timed(item, references[item.cut.id]) for item in found]


def _timed(item: AlignedCut, reference: Sequence[CtmWord]) -> TimedTokens:
    words, tokens = item.alignment.words, item.alignment.tokens
    expected = [word.word for word in reference]
    if [word.word for word in words] != expected:
        raise DataError(
            f"cut '{item.cut.id}': the words aligned are not those of its word times: "
            f"'{' '.join(word.word for word in words)}' and '{' '.join(expected)}'"
        )
    return TimedTokens(
        [word.tokens for word in words],
        [token.first_frame for token in tokens],
        [token.last_frame for token in tokens],
        item.cut.duration,
        [word.start_seconds for word in reference],
        [word.end_seconds for word in reference],
    )


def _write_textgrid(
    folder: Path,
    item: AlignedCut,
    words: Sequence[TimedWord[str]],
    times: FrameTimes,
    token_table: SymbolTable,
) -> None:
    duration, shift = item.cut.duration, times.frame_shift_seconds
    tiers = {
        "words": [Interval(word.start_seconds, word.end_seconds, word.word) for word in words],
        "tokens": [
            Interval(
                token.first_frame * shift,
                min((token.last_frame + 1) * shift, duration),
                token_table.symbol(token.token),
            )
            for token in item.alignment.tokens
        ],
    }
    write_textgrid(folder / f"{_file_name(item.cut.id)}.TextGrid", tiers, duration)


def _draw(
    folder: Path,
    item: AlignedCut,
    words: Sequence[TimedWord[str]],
    times: FrameTimes,
    token_table: SymbolTable,
) -> None:
    references: list[TimedWord[str]] = []
    if any((supervision.alignment or {}).get("word") for supervision in item.cut.supervisions):
        references = [
            TimedWord(word.word, word.start_seconds, word.end_seconds)
            for word in words_of_cuts([item.cut])[item.cut.id]
        ]
    figure = alignment_figure(
        item.alignment,
        words,
        item.log_probs.numpy(),
        times.frame_shift_seconds,
        token_table,
        item.features.numpy(),
        times.feature_shift_seconds,
        references,
    )
    write_figure(figure, folder / f"{_file_name(item.cut.id)}.png")


def _file_name(name: str) -> str:
    """An id as the name of a file: ids may be paths."""
    return name.replace("%", "%25").replace("/", "%2F")


def _summary(found: Sequence[AlignedCut], times: FrameTimes) -> dict[str, Any]:
    utterances = {}
    for item in found:
        alignment = item.alignment
        utterances[item.cut.id] = {
            "num_words": len(alignment.words),
            "score": alignment.score,
            "score_per_frame": alignment.score / max(alignment.num_frames, 1),
            "mean_confidence": _mean([word.confidence for word in alignment.words]),
        }
    frames = sum(item.alignment.num_frames for item in found)
    confidences = [word.confidence for item in found for word in item.alignment.words]
    return {
        "num_utterances": len(found),
        "num_words": len(confidences),
        "audio_seconds": sum(item.cut.duration for item in found),
        "score_per_frame": sum(item.alignment.score for item in found) / max(frames, 1),
        "mean_confidence": _mean(confidences),
        "frame_shift_seconds": times.frame_shift_seconds,
        "correction": to_dict(times.correction),
        "utterances": utterances,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
