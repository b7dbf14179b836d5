"""Latency of streamed results against true word times, and what each stage of the recogniser takes.

Of every reference word that the final results have right (by the alignment with the fewest errors), four
times are taken, from the word's true end:

- ``appearance``: it is first shown at its place, which is its number in the text of its segment;
- ``stability``: it is at its place for good (`appearance`, or the last time that it came back);
- ``stable_prefix``: from then on, the first time that it is among the stable words of a result;
- ``final``: the final result of its segment.

The first two are the "first occurrence" and the "final decision" of Baumann, Atterer and Schlangen,
"Assessing and Improving the Performance of Speech Recognition for Incremental Systems" (NAACL 2009). A word
that is guessed before it has been spoken to its end has negative ones.

Of final results that have words, ``finalisation`` is the time from the arrival of the audio that told of
the segment's end to the result. Of each utterance, ``endpoint`` is the delay from the end of its last word
to the arrival of the audio by which a rule ended the segment; where a rule did so before that, the endpoint
is early.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from moe_asr.data.dataset import load_waveform
from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import CtmWord
from moe_asr.evaluate.wer import ErrorCounts, align, count_errors, matched_places
from moe_asr.recognizer.revisions import Revisions, stream_revisions
from moe_asr.recognizer.virtual_stream import (
    ShownResult,
    StreamRun,
    VirtualClock,
    run_stream,
    with_tail,
)

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.recognizer.recognizer import Recognizer

WORD_TIMES = ("appearance", "stability", "stable_prefix", "final")
STAGES = ("features", "encoder", "search", "second_pass")
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class LatencyReport:
    """What was measured on a set of utterances. All times are in seconds.

    Attributes:
        words: of `WORD_TIMES`, each (M,) float64, of the M reference words that were recognised.
        finalisation: (F,) float64, of the final results with words.
        endpoint: (E,) float64, of the utterances of which a rule found the end.
        early_endpoints: utterances with a segment that a rule ended before their last word was over.
        endpoints: how many final results of each kind there were.
        revisions: see `moe_asr.recognizer.revisions`.
        errors: of the final results.
        num_utterances: in all.
        audio_seconds: that were recognised, tails included.
        work_seconds: that the recogniser took for it.
        stage_seconds: of `STAGES`, what each took of that.
    """

    words: dict[str, np.ndarray]
    finalisation: np.ndarray
    endpoint: np.ndarray
    early_endpoints: int
    endpoints: dict[str, int]
    revisions: Revisions
    errors: ErrorCounts
    num_utterances: int
    audio_seconds: float
    work_seconds: float
    stage_seconds: dict[str, float]

    def rtf(self) -> dict[str, float]:
        """Real-time factors: of `STAGES`, of what is none of these (``other``), and of all (``total``)."""
        found = {name: self.stage_seconds[name] / self.audio_seconds for name in STAGES}
        total = self.work_seconds / self.audio_seconds
        return {**found, "other": max(total - sum(found.values()), 0.0), "total": total}

    def figures(self) -> dict[str, Any]:
        """All of it as numbers: counts, distributions (see `distribution`), shares, real-time factors."""
        return {
            "num_utterances": self.num_utterances,
            "num_reference_words": self.errors.reference_length,
            "num_recognised_words": len(self.words["final"]),
            "wer": self.errors.wer if self.errors.reference_length else None,
            "words_ms": {name: distribution(self.words[name]) for name in WORD_TIMES},
            "finalisation_ms": distribution(self.finalisation),
            "endpoint_ms": distribution(self.endpoint),
            "endpoints": self.endpoints,
            "early_endpoints": self.early_endpoints,
            "revisions": self.revisions.figures(),
            "audio_seconds": self.audio_seconds,
            "rtf": self.rtf(),
        }


def distribution(seconds: np.ndarray) -> dict[str, float] | None:
    """Number, mean, percentiles (by linear interpolation) and largest of times, in ms; None of no times."""
    if len(seconds) == 0:
        return None
    milliseconds = 1000.0 * np.asarray(seconds, np.float64)
    found = {"count": len(seconds), "mean": float(milliseconds.mean())}
    for percent in PERCENTILES:
        found[f"p{percent}"] = float(np.percentile(milliseconds, percent))
    return {**found, "max": float(milliseconds.max())}


def measure_latency(
    recognizer: "Recognizer",
    cuts: Sequence["Cut"],
    references: Mapping[str, Sequence[CtmWord]],
    piece_seconds: float = 0.1,
    tail_seconds: float = 1.5,
    counts_work: bool = True,
    progress: str | None = None,
) -> LatencyReport:
    """Streams every cut by itself, each on a clock of its own, and measures.

    One cut is recognised beforehand, unmeasured: compiling and first allocations are not of a live stream.

    Args:
        cuts: with audio, at whatever rate.
        references: the words of each cut by its id, times from its beginning; a cut may have none.
        piece_seconds: how much audio arrives at a time.
        tail_seconds: of background noise after each cut, see `with_tail`.
        counts_work: False leaves out the time that the recogniser takes: latencies are then those of the
            algorithm, and the same every time.
        progress: a bar's name; None shows none.

    Raises:
        DataError: if no cut has reference words, or words of one go back in time.
        AudioError: naming a cut whose audio cannot be read.
    """
    if not any(references.get(cut.id) for cut in cuts):
        raise DataError("no cut has reference words: there is nothing to measure")
    runs = []
    for number, cut in enumerate(tqdm(cuts, progress, unit="utt", disable=progress is None)):
        rate = int(cut.sampling_rate)
        samples = with_tail(load_waveform(cut, rate), rate, tail_seconds)
        if number == 0:
            run_stream(recognizer, samples, rate, cut.id, piece_seconds)
            before = {name: recognizer.seconds[name] for name in STAGES}
        clock = VirtualClock(counts_work)
        runs.append(run_stream(recognizer, samples, rate, cut.id, piece_seconds, clock))
    stages = {name: recognizer.seconds[name] - before[name] for name in STAGES}
    return report_of(runs, references, stages)


def report_of(
    runs: Sequence[StreamRun],
    references: Mapping[str, Sequence[CtmWord]],
    stage_seconds: Mapping[str, float],
) -> LatencyReport:
    """The measures of runs that have been made.

    Args:
        references: by stream id; one without words may be absent.
        stage_seconds: that `STAGES` took in all of the runs.
    """
    words: dict[str, list[float]] = {name: [] for name in WORD_TIMES}
    endpoint: list[float] = []
    early = 0
    for run in runs:
        reference = references.get(run.stream_id, ())
        for times in word_times(run, reference):
            for name in WORD_TIMES:
                words[name].append(times[name])
        delay, is_early = endpoint_delay(run, reference)
        endpoint += [] if delay is None else [delay]
        early += is_early
    finals = [final for run in runs for final in run.finals]
    results = (one.result for run in runs for one in run.shown)
    return LatencyReport(
        {name: np.array(words[name]) for name in WORD_TIMES},
        np.array([one.shown_seconds - one.arrival_seconds for one in finals if one.result.words]),
        np.array(endpoint),
        early,
        dict(sorted(Counter(one.result.endpoint for one in finals).items())),
        stream_revisions(results),
        sum((_errors(run, references.get(run.stream_id, ())) for run in runs), ErrorCounts()),
        len(runs),
        sum(run.audio_seconds for run in runs),
        sum(run.work_seconds for run in runs),
        dict(stage_seconds),
    )


def word_times(run: StreamRun, reference: Sequence[CtmWord]) -> list[dict[str, float]]:
    """`WORD_TIMES` of each reference word that was recognised, in order; seconds from its end.

    Raises:
        DataError: if the words go back in time.
    """
    _check_order(run.stream_id, reference)
    places = [
        (final.result.segment, place, word.text)
        for final in run.finals
        for place, word in enumerate(final.result.words)
    ]
    histories: dict[int, list[ShownResult]] = {}
    for one in run.shown:
        histories.setdefault(one.result.segment, []).append(one)
    found = []
    for left, right in matched_places(
        [word.word for word in reference], [text for *_, text in places]
    ):
        segment, place, text = places[right]
        times = _times_at_place(histories[segment], place, text)
        end = reference[left].end_seconds
        found.append({name: time - end for name, time in times.items()})
    return found


def endpoint_delay(run: StreamRun, reference: Sequence[CtmWord]) -> tuple[float | None, bool]:
    """From the end of the last word to the endpoint that a rule found after it, and whether one came before.

    Returns:
        Seconds, None if the input ended first or there are no words; and whether a rule ended a segment with
        words while the last reference word was not over.
    """
    if not reference:
        return None, False
    spoken = max(word.end_seconds for word in reference)
    found = [one for one in run.finals if one.result.endpoint.startswith("rule")]
    early = any(one.result.words and one.arrival_seconds < spoken for one in found)
    later = [one.arrival_seconds - spoken for one in found if one.arrival_seconds >= spoken]
    return (later[0] if later else None), early


def _times_at_place(history: Iterable[ShownResult], place: int, text: str) -> dict[str, float]:
    """The clock's time of each event of a word of the final result."""
    appearance = stability = stable_prefix = None
    final = 0.0
    for one in history:
        words, final = one.result.words, one.shown_seconds
        if place >= len(words) or words[place].text != text:
            stability = stable_prefix = None
            continue
        appearance = final if appearance is None else appearance
        stability = final if stability is None else stability
        if stable_prefix is None and (place < one.result.num_stable or one.result.is_final):
            stable_prefix = final
    assert appearance is not None and stability is not None and stable_prefix is not None
    return dict(zip(WORD_TIMES, (appearance, stability, stable_prefix, final), strict=True))


def _errors(run: StreamRun, reference: Sequence[CtmWord]) -> ErrorCounts:
    found = [word.text for final in run.finals for word in final.result.words]
    return count_errors(align([word.word for word in reference], found))


def _check_order(name: str, reference: Sequence[CtmWord]) -> None:
    starts = [word.start_seconds for word in reference]
    if starts != sorted(starts):
        raise DataError(f"the words of utterance {name} go back in time")
