"""Streams that come, talk, wait and go at random, so that batches are of all sizes and ages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result


@dataclass
class StreamedRun:
    """What `stream_randomly` found.

    Attributes:
        results: by stream, partial and final ones, in order.
        batch_sizes: of the calls of `Recognizer.decode`.
    """

    results: dict[str, list[Result]] = field(default_factory=dict)
    batch_sizes: list[int] = field(default_factory=list)

    def finals(self, name: str) -> list[Result]:
        """The final results of one stream."""
        return [result for result in self.results[name] if result.is_final]


def stream_randomly(
    recognizer: Recognizer,
    waveforms: Mapping[str, np.ndarray],
    sample_rate: int,
    rng: np.random.Generator,
    most_streams: int = 8,
    most_seconds: float = 1.0,
) -> StreamedRun:
    """Decodes each waveform as a stream of its own.

    In every round some streams join, each open one is given a piece of its audio (at times an empty one) or
    none, and some of those that are ready are decoded in one batch, in random order.

    Args:
        waveforms: by the name of the stream, (num_samples,) float32.
        sample_rate: in Hz, of all of them.
        most_streams: open at a time.
        most_seconds: of a piece.
    """
    run = StreamedRun({name: [] for name in waveforms})
    waiting = list(waveforms)[::-1]
    streams: dict[str, tuple] = {}  # name -> the stream, its audio that is left
    while waiting or streams:
        while waiting and len(streams) < most_streams and (not streams or rng.random() < 0.6):
            name = waiting.pop()
            streams[name] = (recognizer.create_stream(stream_id=name), waveforms[name])
        for name, (stream, rest) in streams.items():
            if rest is None or rng.random() < 0.3:
                continue
            size = int(rng.integers(0, most_seconds * sample_rate, endpoint=True))
            stream.accept_waveform(rest[:size], sample_rate)
            left = rest[size:]
            if len(left) == 0:
                stream.input_finished()
            streams[name] = (stream, left if len(left) else None)
        ready = [
            name
            for name, (stream, _) in streams.items()
            if recognizer.is_ready(stream) and rng.random() < 0.8
        ]
        rng.shuffle(ready)
        if ready:
            run.batch_sizes.append(len(ready))
            found = recognizer.decode([streams[name][0] for name in ready])
            for name, results in zip(ready, found, strict=True):
                run.results[name] += results
        for name in [name for name, (stream, _) in streams.items() if stream.is_finished]:
            streams.pop(name)[0].close()
    return run
