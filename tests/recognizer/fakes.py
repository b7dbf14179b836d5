"""A recogniser and a sound system that say what they are told to say, for what is built around real ones."""

import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moe_asr.decode.registry import Alternative
from moe_asr.recognizer.results import Result, Word

STAGES = ("features", "encoder", "search", "second_pass")


def result(
    text: str,
    num_stable: int = 0,
    final: bool = False,
    segment: int = 0,
    endpoint: str = "",
    first_pass: str | None = None,
) -> Result:
    """A result; words last 0.1 s each. ``first_pass``: what the n-best list says the first pass found."""
    words = tuple(Word(w, 0.1 * i, 0.1 * i + 0.1, 0.5) for i, w in enumerate(text.split()))
    alternatives: tuple[Alternative, ...] = ()
    if first_pass is not None:  # the scores of the lattice favour it, the total the text
        alternatives = (
            Alternative(tuple(text.split()), (), -1.0, {"acoustic": -5.0, "graph": -2.0}),
            Alternative(tuple(first_pass.split()), (), -2.0, {"acoustic": -3.0, "graph": -2.5}),
        )
    return Result(
        "fake", segment, final, text, words, len(words) if final else num_stable, 0.0, 1.0, endpoint,
        -1.0 if final else None, alternatives,
    )  # fmt: skip


@dataclass
class FakeStream:
    """Counts the samples that it is given, and keeps them."""

    stream_id: str
    rates: list[int] = field(default_factory=list)
    pieces: list[np.ndarray] = field(default_factory=list)
    has_ended: bool = False
    is_closed: bool = False
    decoded: int = 0
    failure: Exception | None = None

    def accept_waveform(self, samples: np.ndarray, sample_rate: int) -> None:
        assert samples.dtype == np.float32 and samples.ndim == 1 and not self.has_ended
        self.pieces.append(samples)
        self.rates.append(sample_rate)

    def input_finished(self) -> None:
        self.has_ended = True

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.float32)

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> "FakeStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class FakeRecognizer:
    """Gives ``script[k]`` for the k-th chunk of ``chunk`` samples; what is left of it after the input's end.

    Attributes:
        takes: seconds of each stage that a chunk takes, on ``now``, a clock of the test's own; features are
            those of a piece.
    """

    script: Sequence[Sequence[Result]]
    chunk: int
    takes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    now: float = 0.0
    streams: list[FakeStream] = field(default_factory=list)
    phrases: object = None

    def create_stream(self, stream_id: str | None = None, phrases: object = None) -> FakeStream:
        stream, self.phrases = FakeStream(stream_id or "fake"), phrases
        self.streams.append(stream)
        accept = stream.accept_waveform

        def timed(samples: np.ndarray, sample_rate: int) -> None:
            self._spend("features")
            accept(samples, sample_rate)

        stream.accept_waveform = timed  # type: ignore[method-assign]
        return stream

    def is_ready(self, stream: FakeStream) -> bool:
        left = stream.decoded < len(self.script)
        return left and (
            stream.has_ended or len(stream.samples) >= (stream.decoded + 1) * self.chunk
        )

    def decode(self, streams: Sequence[FakeStream]) -> list[list[Result]]:
        (stream,) = streams
        assert self.is_ready(stream)
        for name in STAGES[1:]:
            self._spend(name)
        stream.decoded += 1
        return [list(self.script[stream.decoded - 1])]

    def _spend(self, name: str) -> None:
        self.now += self.takes[name]
        self.seconds[name] += self.takes[name]


class FakeSound(types.ModuleType):
    """As much of sounddevice as is used, with two inputs; a thread gives blocks (and overflows), ``then``."""

    class PortAudioError(Exception):
        pass

    def __init__(
        self,
        blocks: Sequence[tuple[np.ndarray, bool]] = (),
        fails: bool = False,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__("sounddevice")
        self.blocks, self.fails, self.then = blocks, fails, then
        self.opened: dict[str, Any] = {}
        self.is_closed = False
        self.given = threading.Event()
        self.default = types.SimpleNamespace(device=(2, 0))
        common = {"default_samplerate": 44100.0}
        self.devices = [
            {"index": 0, "name": "speaker", "max_input_channels": 0, **common},
            {"index": 1, "name": "line", "max_input_channels": 1, **common},
            {"index": 2, "name": "desk", "max_input_channels": 2, **common},
        ]

    def query_devices(self, device: Any = None, kind: str | None = None) -> Any:
        if device is None and kind is None:
            return tuple(self.devices)
        found = [d for d in self.devices if device in (None, d["index"], d["name"])]
        if not found:
            raise ValueError(f"No input device matching {device!r}")
        return found[0]

    def check_input_settings(self, device: Any, channels: int, dtype: str, samplerate: int) -> None:
        if device == "line" and samplerate != 44100:
            raise self.PortAudioError("Invalid sample rate")

    def InputStream(self, **settings: Any) -> Any:
        if self.fails:
            raise self.PortAudioError("Device unavailable")
        self.opened = settings
        thread = threading.Thread(target=self._give, daemon=True)

        def close() -> None:
            thread.join()
            self.is_closed = True
            settings["finished_callback"]()

        return types.SimpleNamespace(start=thread.start, close=close)

    def _give(self) -> None:
        buffer = np.zeros((4096, 1), np.float32)  # used again for every block, as PortAudio's is
        for block, overflow in self.blocks:
            buffer[: len(block), 0] = block
            status = types.SimpleNamespace(input_overflow=overflow)
            self.opened["callback"](buffer[: len(block)], len(block), None, status)
        buffer[:] = np.nan
        self.given.set()
        self.then()
