"""Kaldi's fbank written out in float64 numpy, one frame at a time, from its definition."""

import numpy as np

from moe_asr.audio.fbank import FbankOptions


def mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log(1.0 + hertz / 700.0)


def kaldi_frame(samples: np.ndarray, start: int, length: int) -> np.ndarray:
    """`length` samples from `start`, mirrored (edge sample repeated) wherever they lie outside."""
    frame = np.empty(length)
    for i in range(length):
        position = start + i
        while not 0 <= position < len(samples):
            position = -position - 1 if position < 0 else 2 * len(samples) - 1 - position
        frame[i] = samples[position]
    return frame


def slow_fbank(samples: np.ndarray, options: FbankOptions) -> np.ndarray:
    """(num_samples,) -> (T, num_bins) float64."""
    rate = options.sample_rate
    length = rate * int(options.frame_length_ms) // 1000
    shift = rate * int(options.frame_shift_ms) // 1000
    if options.snip_edges:
        starts = [t * shift for t in range(len(samples)) if t * shift + length <= len(samples)]
    else:
        num_frames = (len(samples) + shift // 2) // shift
        starts = [t * shift + shift // 2 - length // 2 for t in range(num_frames)]
    fft_size = 1
    while fft_size < length:
        fft_size *= 2
    n = np.arange(length)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * n / (length - 1))) ** 0.85  # povey
    high = options.high_freq if options.high_freq > 0 else rate / 2 + options.high_freq
    edges = np.linspace(mel(options.low_freq), mel(high), options.num_bins + 2)
    bin_mels = mel(np.arange(fft_size // 2) * rate / fft_size)  # Kaldi leaves out the Nyquist bin
    rows = []
    for start in starts:
        frame = kaldi_frame(samples, start, length)
        frame = frame - frame.mean()
        emphasised = frame.copy()
        for i in range(length):
            emphasised[i] = frame[i] - 0.97 * frame[max(i - 1, 0)]
        power = np.abs(np.fft.rfft(emphasised * window, fft_size)) ** 2
        row = []
        for b in range(options.num_bins):
            left, centre, right = edges[b : b + 3]
            rising = (bin_mels - left) / (centre - left)
            falling = (right - bin_mels) / (right - centre)
            weights = np.clip(np.minimum(rising, falling), 0.0, None)
            row.append(np.log(max(weights @ power[: fft_size // 2], np.finfo(np.float32).eps)))
        rows.append(row)
    return np.array(rows).reshape(len(rows), options.num_bins)
