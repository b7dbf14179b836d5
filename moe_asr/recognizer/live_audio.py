"""Audio as it is captured: from a microphone, or raw samples from a pipe, by a thread of its own.

Between that thread and the one that recognises is a queue of bounded length. A microphone cannot be made to
wait: what does not fit is dropped, and counted. A pipe can.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np

from moe_asr.errors import AudioError, ConfigError

BLOCK_SECONDS = 0.05
POLL_SECONDS = 0.1  # how long a wish to stop may go unnoticed
NOTE_SECONDS = 1.0  # what is dropped is told no more often
PIPE_SECONDS = 2.0  # that are read ahead of a pipe
READ_BYTES = 1 << 20  # at most at a time, whatever the rate
FORMATS = {"s16le": ("<i2", 1.0 / 32768.0), "f32le": ("<f4", 1.0)}


class BlockQueue:
    """Blocks of samples from one thread to another, in order; bounded.

    Args:
        max_samples: that may wait. An empty queue takes any block.
    """

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._blocks: deque[np.ndarray] = deque()
        self._waiting = 0
        self._dropped = 0
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def put(self, block: np.ndarray) -> bool:
        """Takes a block, or drops it because there is no room; whether it was taken."""
        with self._changed:
            if self._closed or not self._has_room(block):
                self._dropped += 0 if self._closed else len(block)
                return False
            self._append(block)
            return True

    def put_waiting(self, block: np.ndarray) -> bool:
        """Takes a block as soon as there is room; False if the queue was closed before."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(block))
            if not self._closed:
                self._append(block)
            return not self._closed

    def close(self, error: Exception | None = None) -> None:
        """No more blocks: those that wait can still be had, then the first ``error`` is raised, if any."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def get(self, timeout: float) -> np.ndarray | None:
        """The next block; None if there is none after so many seconds.

        Raises:
            EOFError: if the queue is closed and empty.
            Exception: the error that it was closed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._blocks), timeout)
            if self._blocks:
                block = self._blocks.popleft()
                self._waiting -= len(block)
                self._changed.notify_all()
                return block
            if not self._closed:
                return None
            raise self._error or EOFError

    def take_dropped(self) -> int:
        """Samples that were dropped since the last call."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _has_room(self, block: np.ndarray) -> bool:
        return not self._blocks or self._waiting + len(block) <= self._max_samples

    def _append(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._waiting += len(block)
        self._changed.notify_all()


class LiveAudio(ABC):
    """A source of mono audio, open while its ``with`` block runs.

    Attributes:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int, max_seconds: float) -> None:
        if sample_rate < 1:
            raise ConfigError(f"the sample rate must be at least 1 Hz, found {sample_rate}")
        self.sample_rate = sample_rate
        self._queue = BlockQueue(round(max_seconds * sample_rate))
        self._noted = -math.inf

    @abstractmethod
    def start(self) -> None:
        """Begins to capture."""

    def stop(self) -> None:
        """Captures no more; what waits is still given."""
        self._queue.close()

    def blocks(self, is_stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        """(num_samples,) float32 after another, until the source ends or ``is_stopped``.

        Raises:
            AudioError: if the source fails, after all that it gave before.
        """
        try:
            while True:
                if is_stopped():
                    self.stop()
                block = self._queue.get(POLL_SECONDS)
                if block is not None:
                    yield block
        except EOFError:
            return

    def notes(self, at_the_end: bool = False) -> list[str]:
        """What went wrong since the last call, in words; nothing if that was a moment ago."""
        now = time.monotonic()
        if now - self._noted < NOTE_SECONDS and not at_the_end:
            return []
        found = self._take_notes()
        if found:
            self._noted = now
        return found

    def _take_notes(self) -> list[str]:
        seconds = self._queue.take_dropped() / self.sample_rate
        if not seconds:
            return []
        return [f"recognition is too slow: {seconds:.2f} s of audio were dropped"]

    def __enter__(self) -> "LiveAudio":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class PcmInput(LiveAudio):
    """Raw samples, without a header, mono.

    Args:
        read: gives at most so many bytes as soon as there are some, b"" at the end; ``os.read`` of a file
            does.
        sample_rate: in Hz.
        format: one of `FORMATS`: 16-bit integers or 32-bit floats, little-endian.
        name: for messages.

    Raises:
        ConfigError: if there is no such format, or the rate is not positive.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        sample_rate: int,
        format: str = "s16le",
        name: str = "standard input",
    ) -> None:
        if format not in FORMATS:
            raise ConfigError(f"format must be one of {', '.join(FORMATS)}, found '{format}'")
        super().__init__(sample_rate, PIPE_SECONDS)
        self._read = read
        self._dtype, self._scale = np.dtype(FORMATS[format][0]), np.float32(FORMATS[format][1])
        self._name = name
        self._left_over = b""
        self._end_note = ""
        # A daemon: it may be waiting for input when the program is told to end.
        self._thread = threading.Thread(target=self._read_all, name="pcm-input", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read_all(self) -> None:
        size = max(round(BLOCK_SECONDS * self.sample_rate), 1) * self._dtype.itemsize
        size = min(size, READ_BYTES)
        try:
            while data := self._read(size):
                block = self._samples(data)
                if len(block) and not self._queue.put_waiting(block):
                    return
            if self._left_over:
                self._end_note = (
                    f"{self._name} ends within a sample: {len(self._left_over)} byte(s) left over"
                )
            self._queue.close()
        except OSError as error:
            self._queue.close(AudioError(f"{self._name}: cannot be read: {error.strerror}"))
        except Exception as error:  # for the thread that waits for blocks to raise
            self._queue.close(error)

    def _samples(self, data: bytes) -> np.ndarray:
        """float32 of the whole samples; the bytes of a part of one wait for the rest."""
        data = self._left_over + data
        whole = len(data) - len(data) % self._dtype.itemsize
        self._left_over = data[whole:]
        with np.errstate(invalid="ignore"):  # what is not finite, the stream refuses
            return np.frombuffer(data[:whole], self._dtype).astype(np.float32) * self._scale

    def _take_notes(self) -> list[str]:
        note, self._end_note = self._end_note, ""
        return super()._take_notes() + [note] * bool(note)
