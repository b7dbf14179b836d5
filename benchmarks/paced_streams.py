"""Streams paced as live audio: a thread gives what has been heard, one loop decodes all that are ready."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.search_streaming import resident_mb
from moe_asr.model.directory import LoadedModel
from moe_asr.nn.subsampling import receptive_field
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.stream import Stream

PIECE_SECONDS = 0.1


@dataclass(frozen=True)
class Final:
    """A final result with words.

    Attributes:
        heard: when the last sample arrived without which it could not be known: the last that the encoder
            needs for the chunk after which the segment ended, or the end of the input.
        given: when it was there.

    Both are wall time in seconds, from the start of the cell.
    """

    heard: float
    given: float

    @property
    def latency_ms(self) -> float:
        return 1e3 * (self.given - self.heard)


@dataclass
class PacedRun:
    """What a cell was like.

    Attributes:
        finals: of all streams, in order.
        busy_seconds: wall time in which a batch was decoded.
        feature_seconds: wall time in which the feeding thread was at work, mostly at the same time.
        audio_seconds: of all streams together.
        paced_seconds: from the first sample to when the last one arrived.
        wall_seconds: from the first sample to the last result.
        peak_mb: the most memory of the process that was seen.
        batch_sizes: of the calls of `Recognizer.decode`.
    """

    finals: list[Final] = field(default_factory=list)
    busy_seconds: float = 0.0
    feature_seconds: float = 0.0
    audio_seconds: float = 0.0
    paced_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_mb: float = 0.0
    batch_sizes: list[int] = field(default_factory=list)

    @property
    def rtf(self) -> float:
        """Seconds of work, of both threads, for a second of audio."""
        return (self.busy_seconds + self.feature_seconds) / self.audio_seconds

    @property
    def load(self) -> float:
        """Share of the audio's time that the decoding loop works: above 1 it does not keep up."""
        return self.busy_seconds / self.paced_seconds


@dataclass(frozen=True)
class _Paced:
    """A stream, its audio, and when that begins to arrive (seconds from the start of the cell)."""

    stream: Stream
    audio: np.ndarray
    start: float

    def due(self, num_samples: int, sample_rate: int) -> float:
        """When the first ``num_samples`` of its samples have arrived, in whole pieces."""
        piece = round(PIECE_SECONDS * sample_rate)
        pieces = -(-min(num_samples, len(self.audio)) // piece)
        return self.start + min(pieces * piece, len(self.audio)) / sample_rate


def needed_samples(loaded: LoadedModel, num_frames: int) -> int:
    """Samples without which a stream cannot have so many encoder frames: the last one looks ahead."""
    options, factor = loaded.fbank_options, loaded.model.config.subsampling
    if num_frames < 1:
        return 0
    last = (num_frames - 1) * factor + receptive_field(factor) - 1
    shift, length = options.frame_shift_samples, options.frame_length_samples
    return last * shift + (length if options.snip_edges else (shift + length) // 2)


def run_paced(
    recognizer: Recognizer,
    loaded: LoadedModel,
    audio: Sequence[np.ndarray],
    starts: Sequence[float],
) -> PacedRun:
    """Decodes all streams as their audio arrives, in real time.

    Args:
        loaded: the model of the recogniser.
        audio: of each stream, (num_samples,) float32 at the model's sample rate.
        starts: seconds after which each stream begins to speak.
    """
    rate = loaded.fbank_options.sample_rate
    paced = [
        _Paced(recognizer.create_stream(stream_id=str(number)), samples, start)
        for number, (samples, start) in enumerate(zip(audio, starts, strict=True))
    ]
    by_stream = {id(one.stream): one for one in paced}
    run = PacedRun(audio_seconds=sum(map(len, audio)) / rate, peak_mb=resident_mb())
    run.paced_seconds = max(one.due(len(one.audio), rate) for one in paced)
    arrived = threading.Event()
    since = time.perf_counter()
    feeder = threading.Thread(target=_feed, args=(paced, rate, since, arrived, run), daemon=True)
    feeder.start()
    open_streams = [one.stream for one in paced]
    while open_streams:
        arrived.clear()
        ready = [stream for stream in open_streams if recognizer.is_ready(stream)]
        if not ready:
            if not arrived.wait(10.0) and not feeder.is_alive():
                raise AssertionError(f"{len(open_streams)} streams wait, and nothing comes")
            continue
        before = time.perf_counter()
        found = recognizer.decode(ready)
        after = time.perf_counter()
        run.busy_seconds += after - before
        run.batch_sizes.append(len(ready))
        for stream, results in zip(ready, found, strict=True):
            for result in results:
                if result.is_final and result.words:
                    one = by_stream[id(stream)]
                    needed = needed_samples(loaded, stream.num_frames)
                    at_end = result.endpoint == "input_finished"
                    heard = one.due(len(one.audio) if at_end else needed, rate)
                    run.finals.append(Final(heard, after - since))
        for stream in [stream for stream in ready if stream.is_finished]:
            open_streams.remove(stream)
            stream.close()
    feeder.join()
    run.wall_seconds = time.perf_counter() - since
    return run


def _feed(
    paced: Sequence[_Paced], rate: int, since: float, arrived: threading.Event, run: PacedRun
) -> None:
    """Gives every piece at its time, and looks at the memory ten times a second."""
    piece = round(PIECE_SECONDS * rate)
    schedule = sorted(
        (one.due(begin + piece, rate), number, begin)
        for number, one in enumerate(paced)
        for begin in range(0, len(one.audio), piece)
    )
    looked = since
    for due, number, begin in schedule:
        now = time.perf_counter()
        if now < since + due:
            time.sleep(since + due - now)
            now = time.perf_counter()
        one = paced[number]
        one.stream.accept_waveform(one.audio[begin : begin + piece], rate)
        if begin + piece >= len(one.audio):
            one.stream.input_finished()
        run.feature_seconds += time.perf_counter() - now
        arrived.set()
        if now - looked > 0.1:
            looked = now
            run.peak_mb = max(run.peak_mb, resident_mb())
