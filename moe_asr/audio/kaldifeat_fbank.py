"""Features by kaldifeat: the same numbers as kaldi-native-fbank, in torch, for batches on a GPU."""

from collections.abc import Sequence

import numpy as np
import torch

from moe_asr.audio.fbank import Fbank, FbankOptions, NativeFbank, set_kaldi_options
from moe_asr.audio.io import as_waveform
from moe_asr.errors import ConfigError, MissingDependencyError


class KaldifeatFbank(Fbank):
    """kaldifeat, optional: ``pip install moe-asr[kaldifeat]`` compiles it for the torch there is.

    Args:
        options: what to compute.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        MissingDependencyError: if kaldifeat cannot be imported.
        ConfigError: if it refuses the options or the device.
    """

    def __init__(self, options: FbankOptions, device: str = "cpu") -> None:
        super().__init__(options, device)
        try:
            import kaldifeat
        except ImportError as error:
            raise MissingDependencyError(
                f"backend 'kaldifeat' needs kaldifeat, which cannot be imported ({error}); install "
                "it with `pip install moe-asr[kaldifeat]`, or take backend 'kaldi-native-fbank'"
            ) from error
        native = kaldifeat.FbankOptions()
        set_kaldi_options(native, options)
        try:
            native.device = torch.device(device)
            self._fbank = kaldifeat.Fbank(native)
            self._short = NativeFbank(options)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"{options} on '{device}': refused by kaldifeat: {error}") from error

    def batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [features.cpu().numpy() for features in self.batch_tensors(waveforms)]

    def batch_tensors(self, waveforms: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """The features of each waveform on the device: tensors (T_n, num_bins) float32.

        Raises:
            AudioError: if samples are not mono, not floats or not finite.
        """
        arrays = [as_waveform(samples) for samples in waveforms]
        # kaldifeat mirrors the signal only once, too little for one shorter than a window.
        is_long = [len(samples) >= self.options.frame_length_samples for samples in arrays]
        long = [
            torch.from_numpy(samples.copy()).to(self.device)
            for samples, fits in zip(arrays, is_long, strict=True)
            if fits
        ]
        computed = iter(self._fbank(long) if long else [])
        return [
            next(computed) if fits else torch.from_numpy(self._short(samples)).to(self.device)
            for samples, fits in zip(arrays, is_long, strict=True)
        ]
