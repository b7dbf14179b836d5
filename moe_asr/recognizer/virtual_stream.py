"""Audio fed to a recogniser as a microphone would, on a clock that need not be waited for.

A piece of audio is there when its last sample would have been spoken. The recogniser's work is timed and
takes that time on the clock too: it begins when the audio is there and earlier work is done. So what is
measured is what a live stream on this machine would see, in the time that the work alone takes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_asr.recognizer.results import Result

if TYPE_CHECKING:
    from moe_asr.fsa.context_phrases import Phrase
    from moe_asr.recognizer.recognizer import Recognizer
    from moe_asr.recognizer.stream import Stream


class VirtualClock:
    """Seconds since the audio began; it goes on by waiting and by work.

    Args:
        counts_work: False: work takes no time.
        timer: what work is timed with; seconds from any origin.
    """

    def __init__(
        self, counts_work: bool = True, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds = 0.0
        self.work_seconds = 0.0
        self._counts_work = counts_work
        self._timer = timer

    def wait_until(self, seconds: float) -> None:
        """Goes on to ``seconds``, if it is not later already."""
        self.seconds = max(self.seconds, seconds)

    @contextmanager
    def working(self) -> Iterator[None]:
        """What the block takes passes on the clock."""
        since = self._timer()
        yield
        spent = self._timer() - since
        self.work_seconds += spent
        if self._counts_work:
            self.seconds += spent


@dataclass(frozen=True)
class ShownResult:
    """A result, and when it was there.

    Attributes:
        result: partial or final.
        shown_seconds: on the clock, when the recogniser had it.
        arrival_seconds: on the clock, when the audio that it was waiting for had come; a recogniser that
            took no time would have shown it then.
    """

    result: Result
    shown_seconds: float
    arrival_seconds: float


@dataclass(frozen=True)
class StreamRun:
    """All that one stream showed.

    Attributes:
        stream_id: its name.
        audio_seconds: of its audio.
        shown: in the order of time.
        work_seconds: that the recogniser worked, on whatever clock.
    """

    stream_id: str
    audio_seconds: float
    shown: tuple[ShownResult, ...]
    work_seconds: float

    @property
    def finals(self) -> list[ShownResult]:
        """The final result of each segment."""
        return [one for one in self.shown if one.result.is_final]


def run_stream(
    recognizer: "Recognizer",
    samples: np.ndarray,
    sample_rate: int,
    stream_id: str,
    piece_seconds: float = 0.1,
    clock: VirtualClock | None = None,
    phrases: "Sequence[Phrase] | None" = None,
) -> StreamRun:
    """Feeds one stream piece by piece, and decodes whenever it is ready.

    The end of the input is known with the last piece.

    Args:
        samples: (num_samples,) float32.
        sample_rate: in Hz.
        piece_seconds: of audio in a piece (the last may be shorter), at least one sample.
        clock: a new one by default, on which work counts.

    Raises:
        ValueError: if pieces have no samples.
        AudioError: if the recogniser does not take the audio.
        MoeAsrError: if the stream fails.
    """
    step = round(piece_seconds * sample_rate)
    if step < 1:
        raise ValueError(f"a piece must have at least one sample, found {piece_seconds} seconds")
    clock = VirtualClock() if clock is None else clock
    shown: list[ShownResult] = []
    with recognizer.create_stream(stream_id, phrases=phrases) as stream:
        for begin in range(0, max(len(samples), 1), step):
            piece = samples[begin : begin + step]
            arrival = (begin + len(piece)) / sample_rate
            clock.wait_until(arrival)
            with clock.working():
                stream.accept_waveform(piece, sample_rate)
                if begin + step >= len(samples):
                    stream.input_finished()
            shown += _decode(recognizer, stream, clock, arrival)
    return StreamRun(stream_id, len(samples) / sample_rate, tuple(shown), clock.work_seconds)


def _decode(
    recognizer: "Recognizer", stream: "Stream", clock: VirtualClock, arrival: float
) -> Iterator[ShownResult]:
    """What there is to decode, now that the audio up to ``arrival`` is there."""
    while recognizer.is_ready(stream):
        with clock.working():
            (results,) = recognizer.decode([stream])
        for result in results:
            yield ShownResult(result, clock.seconds, arrival)
    if stream.failure is not None:
        raise stream.failure


def with_tail(samples: np.ndarray, sample_rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Audio, and after it so many seconds of its own background noise.

    The noise is white noise filtered by the quietest tenth of a second, and so has the spectrum and the
    level of it. For recordings that stop with the last word: an endpoint needs silence to be found in.

    Args:
        samples: (num_samples,) float32, not empty.
        seed: of the noise.
    """
    count = round(seconds * sample_rate)
    if count == 0:
        return samples
    width = min(max(round(0.1 * sample_rate), 1), len(samples))
    energies = np.convolve(samples.astype(np.float64) ** 2, np.ones(width), "valid")
    first = int(np.argmin(energies))
    quietest = samples[first : first + width].astype(np.float64)
    white = np.random.default_rng(seed).standard_normal(count + width - 1)
    noise = np.convolve(white, quietest, "valid") / np.sqrt(width)
    return np.concatenate([samples, noise.astype(np.float32)])
