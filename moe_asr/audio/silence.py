"""Long audio, cut where nobody speaks.

The level of a frame is its power without its mean, so that a DC offset is none. What is speech is decided
against the levels of five seconds before and after it: it must be clearly louder than the quietest tenth of
them, which follows recordings whose gain changes. Digital silence does not count among these: beside it every
noise would be speech.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from moe_asr.audio.io import as_waveform
from moe_asr.errors import AudioError

_FRAMES_PER_SECOND = 100
_UNIT = _FRAMES_PER_SECOND  # frames that are judged by the same threshold
_CONTEXT = 5 * _FRAMES_PER_SECOND  # before and after them, from which it comes
_MEDIAN = 5  # frames; shorter clicks are not heard
_DIGITAL_SILENCE = -90.0  # dB, 0 is full scale
_FLOOR, _TOP = 10, 95  # percentiles of levels: noise, speech
_SHARE, _LEAST, _MOST = 0.3, 6.0, 12.0  # of the range between them, in dB: where speech begins
_MIN_SPEECH = _FRAMES_PER_SECOND // 10  # less of it is no speech
_PAD = _FRAMES_PER_SECOND // 2  # silence that is left beside speech, where there is more
_PIECE = 1 << 18  # samples that are looked at together
_QUIET = 3 * _FRAMES_PER_SECOND // 10  # length of the stretch that a forced cut looks for


@dataclass(frozen=True)
class SilenceOptions:
    """Where long audio is cut.

    Attributes:
        max_segment_seconds: no segment is longer; one that would be is cut in the quietest stretch of its
            second half.
        min_silence_seconds: a pause as long as this ends a segment that has speech.
    """

    max_segment_seconds: float = 30.0
    min_silence_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not 1.0 <= self.max_segment_seconds < float("inf"):
            raise ValueError(
                f"max_segment_seconds must be at least 1, found {self.max_segment_seconds}"
            )
        if not 0.1 <= self.min_silence_seconds <= self.max_segment_seconds:
            raise ValueError(
                "min_silence_seconds must be between 0.1 and max_segment_seconds, found "
                f"{self.min_silence_seconds}"
            )


def cut_at_silence(
    blocks: Iterable[np.ndarray], sample_rate: int, options: SilenceOptions | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts a waveform of any length into segments, reading no more of it than it must.

    A pause is cut in its middle, one of two seconds or more half a second from the speech on both sides: then
    the silence between is a segment too. Every sample is in just one segment. Where the cuts are does not
    depend on the blocks. At most a segment, the seconds behind it that decide, and a block are in memory.

    Args:
        blocks: (num_samples,) floats each, in [-1, 1]; empty ones do no harm.
        sample_rate: in Hz, at least 1000.
        options: None: the defaults.

    Yields:
        The number of its first sample, and the segment: (num_samples,) float32.

    Raises:
        AudioError: on a rate that is too low, or samples that `as_waveform` refuses.
    """
    if not sample_rate >= 1000:
        raise AudioError(f"a sample rate of {sample_rate} Hz; expected at least 1000")
    cutter = _Cutter(int(sample_rate // _FRAMES_PER_SECOND), options or SilenceOptions())
    for block in blocks:
        samples = as_waveform(block)
        for begin in range(0, len(samples), _PIECE):
            cutter.add(samples[begin : begin + _PIECE])
            yield from cutter.segments(is_last=False)
    cutter.end()
    yield from cutter.segments(is_last=True)


class _Cutter:
    """Frames are numbered from the start of the audio; every segment begins with one."""

    def __init__(self, frame_samples: int, options: SilenceOptions) -> None:
        self._frame_samples = frame_samples
        self._max_frames = int(options.max_segment_seconds * _FRAMES_PER_SECOND)
        self._min_silence = round(options.min_silence_seconds * _FRAMES_PER_SECOND)
        self._blocks: list[np.ndarray] = []  # samples from the start of the segment
        self._unfinished = np.zeros(0, np.float32)  # of a frame
        self._levels: list[float] = []  # dB, from frame `_first_level`
        self._first_level = 0
        self._is_speech: list[bool] = []  # from the start of the segment
        self._begin(0)

    def _begin(self, frame: int) -> None:
        self._start = self._position = frame  # of the segment; the frame to look at
        self._silence_start = frame  # of the silence before that one
        self._num_speech = 0

    def add(self, samples: np.ndarray) -> None:
        """Takes the next samples."""
        self._blocks.append(samples)
        waiting = np.concatenate([self._unfinished, samples])
        whole = len(waiting) // self._frame_samples * self._frame_samples
        self._levels += _levels(waiting[:whole].reshape(-1, self._frame_samples))
        self._unfinished = waiting[whole:].copy()

    def end(self) -> None:
        """Says that no samples follow: those left are the last frame."""
        if len(self._unfinished):
            self._levels += _levels(self._unfinished[None])

    def segments(self, is_last: bool) -> Iterator[tuple[int, np.ndarray]]:
        """The segments that are ready."""
        while self._judge(is_last):
            judged = self._start + len(self._is_speech)
            while self._position < judged:
                cut = self._look()
                if cut is not None:
                    yield self._take(cut)
        if is_last and any(len(block) for block in self._blocks):
            yield self._start * self._frame_samples, np.concatenate(self._blocks)

    def _judge(self, is_last: bool) -> bool:
        """Tells speech in the next second, if what is around it is there."""
        begin = self._start + len(self._is_speech)
        known = self._first_level + len(self._levels)
        end = min(begin - begin % _UNIT + _UNIT, known)
        if end == begin or (not is_last and known < end + _CONTEXT + _MEDIAN):
            return False
        first = max(self._first_level, begin - begin % _UNIT - _CONTEXT)
        around = np.array(
            self._levels[first - self._first_level : end + _CONTEXT - self._first_level]
        )
        around = np.pad(around, _MEDIAN // 2, mode="edge")
        smooth = np.sort(sliding_window_view(around, _MEDIAN), axis=1)[:, _MEDIAN // 2]
        active = smooth[smooth > _DIGITAL_SILENCE]
        threshold = 0.0
        if len(active):
            floor, top = np.percentile(active, (_FLOOR, _TOP))
            threshold = floor + float(np.clip(_SHARE * (top - floor), _LEAST, _MOST))
        speech = smooth[begin - first : end - first] > max(threshold, _DIGITAL_SILENCE)
        self._is_speech += speech.tolist()
        return True

    def _look(self) -> int | None:
        """Looks at the next frame; returns the frame that the next segment begins with, if this one ends."""
        frame = self._position
        if self._is_speech[frame - self._start]:
            silence = frame - self._silence_start
            if self._num_speech < _MIN_SPEECH and silence >= 3 * _PAD:
                return frame - _PAD
            if self._num_speech >= _MIN_SPEECH and silence >= self._min_silence:
                return self._silence_start + (silence // 2 if silence < 4 * _PAD else _PAD)
        if frame - self._start >= self._max_frames:
            return self._quietest()
        if self._is_speech[frame - self._start]:
            self._num_speech += 1
            self._silence_start = frame + 1
        self._position += 1
        return None

    def _quietest(self) -> int:
        """The middle of the quietest stretch in the second half of a segment of full length."""
        half, end = self._start + self._max_frames // 2, self._start + self._max_frames
        levels = np.array(self._levels[half - self._first_level : end - self._first_level])
        width = min(_QUIET, len(levels))
        power = sliding_window_view(10.0 ** (levels / 10.0), width).mean(axis=1)
        quietest = np.flatnonzero(power == power.min())
        run = quietest[
            np.flatnonzero(np.diff(quietest, prepend=-2) > 1)[-1] :
        ]  # the last of several
        return half + int(run[len(run) // 2]) + width // 2

    def _take(self, cut: int) -> tuple[int, np.ndarray]:
        """Ends the segment before frame ``cut``."""
        samples = np.concatenate(self._blocks)
        start, count = self._start, (cut - self._start) * self._frame_samples
        assert 0 < count < len(samples), (cut, start, len(samples))
        self._blocks = [samples[count:].copy()]
        del self._is_speech[: cut - start]
        self._begin(cut)
        useless = max(0, cut - _CONTEXT - _UNIT - self._first_level)
        del self._levels[:useless]
        self._first_level += useless
        return start * self._frame_samples, samples[:count].copy()  # without what is behind


def _levels(frames: np.ndarray) -> list[float]:
    """dB of (n, num_samples) frames; -100 is the least."""
    power = frames.var(axis=1, dtype=np.float64)
    return (10.0 * np.log10(power + 1e-10)).tolist()
