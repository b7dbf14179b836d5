"""Kaldi's log-mel filter-bank features, offline and online, behind one interface.

Waveforms are in [-1, 1], as lhotse feeds them, not in Kaldi's 16-bit scale. Energies are floored at
the float32 epsilon before the logarithm, so silence is log(1.19e-7) = -15.94 in every bin.

A waveform has ``FbankOptions.num_frames`` frames. One too short for a frame (with the default
options, shorter than 5 ms) has zero frames, which is no error: a stream may well end like that.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_asr.audio.io import as_waveform
from moe_asr.config import from_dict, to_dict
from moe_asr.errors import AudioError, ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import torch

    from moe_asr.audio.lhotse_fbank import LhotseFbank

# name -> (module, class with the constructor (options, device)); imported only when it is asked for
_BACKENDS = {
    "kaldi-native-fbank": ("moe_asr.audio.fbank", "NativeFbank"),
    "kaldifeat": ("moe_asr.audio.kaldifeat_fbank", "KaldifeatFbank"),
}


def fbank_backends() -> list[str]:
    """The names that ``FbankOptions.backend`` may have."""
    return list(_BACKENDS)


@dataclass(frozen=True)
class FbankOptions:
    """What is computed; the defaults are those of lhotse and icefall.

    Attributes:
        sample_rate: of the waveform, in Hz.
        num_bins: F, mel bins.
        frame_length_ms, frame_shift_ms: window and step.
        dither: standard deviation of noise added to the samples; above 0, features are random.
        low_freq: lower edge of the first bin, in Hz.
        high_freq: upper edge of the last bin, in Hz; <= 0 counts from the Nyquist frequency.
        snip_edges: False centres frame t at (t + 0.5) * shift and mirrors the signal at its ends;
            True takes only frames that lie wholly inside.
        backend: one of `fbank_backends`.
    """

    sample_rate: int = 16000
    num_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    dither: float = 0.0
    low_freq: float = 20.0
    high_freq: float = -400.0
    snip_edges: bool = False
    backend: str = "kaldi-native-fbank"

    def __post_init__(self) -> None:
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate is {self.sample_rate}; expected more than 0 Hz")
        if self.num_bins < 3:
            raise ValueError(f"num_bins is {self.num_bins}; expected at least 3")
        if not 0 < self.frame_shift_ms <= self.frame_length_ms < float("inf"):
            raise ValueError(
                f"frame_shift_ms is {self.frame_shift_ms} and frame_length_ms "
                f"{self.frame_length_ms}; expected 0 < shift <= length"
            )
        if self.frame_shift_samples < 1 or self.frame_length_samples < 2:
            raise ValueError(
                f"frame_length_ms is {self.frame_length_ms} and frame_shift_ms "
                f"{self.frame_shift_ms}; expected at least two samples and one at this sample_rate"
            )
        if not 0 <= self.dither < float("inf"):
            raise ValueError(f"dither is {self.dither}; expected 0 or more")
        nyquist = self.sample_rate / 2
        high = self.high_freq if self.high_freq > 0 else nyquist + self.high_freq
        if not 0 <= self.low_freq < high <= nyquist:
            raise ValueError(
                f"low_freq is {self.low_freq} and high_freq {self.high_freq} (that is {high} Hz); "
                f"expected 0 <= low < high <= {nyquist} Hz"
            )
        if self.backend not in _BACKENDS:
            raise ValueError(f"backend is '{self.backend}'; expected one of {', '.join(_BACKENDS)}")

    @property
    def frame_length_samples(self) -> int:
        """The window in samples, rounded down in float32, as Kaldi does."""
        return int(
            np.float32(self.sample_rate) * np.float32(0.001) * np.float32(self.frame_length_ms)
        )

    @property
    def frame_shift_samples(self) -> int:
        """The step in samples, rounded down in float32, as Kaldi does."""
        return int(
            np.float32(self.sample_rate) * np.float32(0.001) * np.float32(self.frame_shift_ms)
        )

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform of ``num_samples`` samples; 0 if it is too short for one."""
        length, shift = self.frame_length_samples, self.frame_shift_samples
        if self.snip_edges:
            return 0 if num_samples < length else 1 + (num_samples - length) // shift
        return (num_samples + shift // 2) // shift

    # lhotse asks these two of every feature configuration.
    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FbankOptions":
        """The inverse of `to_dict`; raises ConfigError as `moe_asr.config.from_dict`."""
        return from_dict(cls, data, "fbank options")


class Fbank(ABC):
    """Computes features of whole waveforms.

    Args:
        options: what to compute.
        device: where, as torch names it; only some backends know more than "cpu".
    """

    def __init__(self, options: FbankOptions, device: str = "cpu") -> None:
        self.options = options
        self.device = device

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """(num_samples,) floats in [-1, 1] -> (T, num_bins) float32.

        Raises:
            AudioError: if the samples are not mono, not floats or not finite.
        """
        return self.batch([samples])[0]

    @abstractmethod
    def batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The features of each waveform, as `__call__` would give them."""

    def batch_tensors(self, waveforms: Sequence[np.ndarray]) -> "list[torch.Tensor]":
        """`batch` as torch tensors, on the device where they were computed."""
        import torch

        return [torch.from_numpy(matrix) for matrix in self.batch(waveforms)]


def make_fbank(options: FbankOptions, device: str = "cpu") -> Fbank:
    """The extractor of ``options.backend``.

    Raises:
        ConfigError: if the backend cannot compute what is asked for (too many bins, say), or not on
            this device.
        MissingDependencyError: if the backend is not installed.
    """
    module_name, class_name = _BACKENDS[options.backend]
    return getattr(importlib.import_module(module_name), class_name)(options, device)


def make_batch_fbank(options: FbankOptions, device: str = "cpu") -> Fbank:
    """The extractor for batches that a model on ``device`` takes: kaldifeat there, if it can be had.

    On a CPU, and where kaldifeat is not installed, that of ``options.backend`` (kaldifeat on the CPU
    if it was asked for by name). Both backends give the same numbers.
    """
    if device != "cpu" and importlib.util.find_spec("kaldifeat") is not None:
        try:
            return make_fbank(replace(options, backend="kaldifeat"), device)
        except MissingDependencyError:  # installed, but built for another torch
            if options.backend == "kaldifeat":
                raise
    return make_fbank(options)


def fbank_extractor(options: FbankOptions) -> "LhotseFbank":
    """A lhotse feature extractor, for ``cut.compute_features`` and lhotse's own pipelines."""
    from moe_asr.audio.lhotse_fbank import LhotseFbank

    return LhotseFbank(options)


class NativeFbank(Fbank):
    """kaldi-native-fbank: C++ on the CPU."""

    def __init__(self, options: FbankOptions, device: str = "cpu") -> None:
        super().__init__(options, device)
        if device != "cpu":
            raise ConfigError(
                f"backend 'kaldi-native-fbank' runs on the CPU, not on '{device}'; "
                "for that, take backend 'kaldifeat'"
            )
        OnlineFbank(options)  # options that the library refuses should fail here

    def batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._compute(samples) for samples in waveforms]

    def _compute(self, samples: np.ndarray) -> np.ndarray:
        online = OnlineFbank(self.options)
        online.accept_waveform(samples)
        online.input_finished()
        return online.pop()


class OnlineFbank:
    """Features of a waveform that arrives in pieces, by kaldi-native-fbank.

    All frames popped are, bit for bit, the offline features of the whole waveform (without dither).
    A frame comes once all its samples are in: with the default options the frame centred at t is
    ready at t + 12.5 ms, and those that mirror the end of the signal after `input_finished`.
    Frames that were popped, and samples no longer needed, are freed.

    Raises:
        ConfigError: if the library refuses the options (too many bins for the window, say).
    """

    def __init__(self, options: FbankOptions) -> None:
        import kaldi_native_fbank

        self.options = options
        native = kaldi_native_fbank.FbankOptions()
        set_kaldi_options(native, options)
        try:
            self._fbank = kaldi_native_fbank.OnlineFbank(native)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"{options}: refused by kaldi-native-fbank: {error}") from error
        self._num_popped = 0
        self._num_samples = 0
        self._finished = False

    def accept_waveform(self, samples: np.ndarray) -> None:
        """Takes the next piece: (num_samples,) floats in [-1, 1], possibly empty.

        Raises:
            AudioError: after `input_finished`, or if the samples are not mono, not floats or not
                finite.
        """
        if self._finished:
            raise AudioError("samples after input_finished(); a new stream needs a new OnlineFbank")
        samples = as_waveform(samples)
        if len(samples) == 0:
            return
        self._num_samples += len(samples)
        self._fbank.accept_waveform(self.options.sample_rate, samples)

    def input_finished(self) -> None:
        """Says that no samples follow, which makes the last frames ready. May be called again."""
        if not self._finished and self._num_samples > 0:
            self._fbank.input_finished()
        self._finished = True

    def pop(self) -> np.ndarray:
        """The frames that became ready since the last call: (n, num_bins) float32, n >= 0."""
        end = self._fbank.num_frames_ready
        features = np.empty((end - self._num_popped, self.options.num_bins), dtype=np.float32)
        for row, frame in enumerate(range(self._num_popped, end)):
            features[row] = self._fbank.get_frame(frame)
        self._fbank.pop(end - self._num_popped)
        self._num_popped = end
        return features


def set_kaldi_options(target: Any, options: FbankOptions) -> None:
    """Sets ``options`` on the FbankOptions of kaldi-native-fbank or kaldifeat (same fields)."""
    frame, mel = target.frame_opts, target.mel_opts
    frame.samp_freq = options.sample_rate
    frame.frame_length_ms = options.frame_length_ms
    frame.frame_shift_ms = options.frame_shift_ms
    frame.dither = options.dither
    frame.snip_edges = options.snip_edges
    frame.preemph_coeff = 0.97
    frame.remove_dc_offset = True
    frame.window_type = "povey"
    frame.round_to_power_of_two = True
    mel.num_bins = options.num_bins
    mel.low_freq = options.low_freq
    mel.high_freq = options.high_freq
    target.use_energy = False
    target.use_log_fbank = True
    target.use_power = True
