"""Features of a waveform that arrives in pieces, waiting to be taken chunk by chunk."""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from moe_asr.audio.fbank import FbankOptions, OnlineFbank
from moe_asr.audio.io import StreamingResampler, as_waveform
from moe_asr.errors import AudioError

_BLOCK = 64  # frames that wait in one array: what has been taken of it is not kept for long
LOUDEST = 2.0**31  # the magnitude of a sample; energies of far louder ones are too large for floats


class FeatureQueue:
    """Features of a waveform that arrives in pieces, at any rate; each frame waits until it is taken.

    Thread-safe: pieces may come from one thread while another takes frames.

    Args:
        options: of the features.
        max_seconds: audio that may wait.
        spent: is called with the seconds that the features of a piece took.
    """

    def __init__(
        self, options: FbankOptions, max_seconds: float, spent: Callable[[float], None]
    ) -> None:
        self._options, self._max_seconds, self._spent = options, max_seconds, spent
        self._fbank = OnlineFbank(options)
        self._resampler: StreamingResampler | None = None
        self._rate = 0
        self._pieces: deque[np.ndarray] = deque()  # (n, F) each
        self._num_waiting = 0
        self._finished = False
        self._producing = threading.Lock()  # what makes features, while others may be taken
        self._lock = threading.Lock()  # the features that wait

    def accept_waveform(self, samples: np.ndarray, sample_rate: int) -> None:
        """Takes (num_samples,) floats in [-1, 1]; nothing of a piece that is refused.

        Raises:
            AudioError: if they are not mono, floats and finite, or are far beyond full scale (`LOUDEST`); on
                a rate that is not positive; after `input_finished`; or if too much would wait.
        """
        samples = as_waveform(samples)
        loudest = float(np.abs(samples).max(initial=0.0))
        if loudest > LOUDEST:
            raise AudioError(f"a sample of {loudest:g}; expected floats in [-1, 1]")
        with self._producing:
            if self._finished:
                raise AudioError("samples after input_finished()")
            if not 0 < sample_rate < float("inf"):
                raise AudioError(f"a sample rate of {sample_rate} Hz; expected more than 0")
            shift = self._options.frame_shift_ms / 1000.0
            waits = self._num_waiting * shift + len(samples) / sample_rate
            if waits > self._max_seconds:
                raise AudioError(
                    f"{waits:.1f} s of audio would wait to be decoded; at most {self._max_seconds:g} s may"
                )
            since = time.perf_counter()
            if sample_rate != self._rate:
                resampler = None
                if sample_rate != self._options.sample_rate:
                    resampler = StreamingResampler(sample_rate, self._options.sample_rate)
                self._flush_resampler()
                self._rate, self._resampler = sample_rate, resampler
            if self._resampler is not None:
                samples = self._resampler.process(samples)
            self._fbank.accept_waveform(samples)
            self._append(self._fbank.pop())
        self._spent(time.perf_counter() - since)

    def input_finished(self) -> None:
        """Says that no samples follow. May be called again."""
        with self._producing:
            if not self._finished:
                self._flush_resampler()
                self._fbank.input_finished()
                self._append(self._fbank.pop(), last=True)

    @property
    def waiting(self) -> tuple[int, bool]:
        """Frames that wait, and whether no others follow."""
        with self._lock:
            return self._num_waiting, self._finished

    @property
    def num_bytes(self) -> int:
        """Of the frames that wait."""
        with self._lock:
            return sum(piece.nbytes for piece in self._pieces)

    def take(self, num_used: int, num_seen: int) -> np.ndarray:
        """The first ``num_seen`` frames that wait, or all if there are fewer; ``num_used`` of them go.

        Returns:
            (at most num_seen, F) float32.
        """
        with self._lock:
            seen, count = [], 0
            for piece in self._pieces:
                if count >= num_seen:
                    break
                seen.append(piece[: num_seen - count])
                count += len(seen[-1])
            self._drop(num_used)
        nothing = np.empty((0, self._options.num_bins), np.float32)
        return np.concatenate(seen) if seen else nothing

    def clear(self) -> None:
        """Forgets the frames that wait."""
        with self._lock:
            self._pieces.clear()
            self._num_waiting = 0

    def _drop(self, count: int) -> None:
        self._num_waiting -= count
        assert self._num_waiting >= 0, count
        while count:
            piece = self._pieces.popleft()
            if len(piece) > count:
                self._pieces.appendleft(piece[count:].copy())
                return
            count -= len(piece)

    def _flush_resampler(self) -> None:
        if self._resampler is not None:
            nothing = np.empty(0, np.float32)
            self._fbank.accept_waveform(self._resampler.process(nothing, last=True))
            self._resampler = None

    def _append(self, features: np.ndarray, last: bool = False) -> None:
        with self._lock:
            for begin in range(0, len(features), _BLOCK):
                block = features[begin : begin + _BLOCK]
                self._pieces.append(block if len(features) <= _BLOCK else block.copy())
            self._num_waiting += len(features)
            self._finished = self._finished or last
