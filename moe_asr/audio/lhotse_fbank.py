"""Our features as a lhotse feature extractor."""

from typing import Any

import numpy as np
from lhotse.features.base import FeatureExtractor, register_extractor

from moe_asr.audio.fbank import Fbank, FbankOptions, make_fbank
from moe_asr.errors import AudioError

_ENERGY_FLOOR = float(np.finfo(np.float32).eps)


@register_extractor
class LhotseFbank(FeatureExtractor):
    """`make_fbank` for lhotse: ``cut.compute_features(fbank_extractor(options))``.

    Can be pickled, for lhotse's parallel extraction.
    """

    name = "moe-asr-fbank"
    config_type = FbankOptions

    def __init__(self, config: FbankOptions | None = None) -> None:
        super().__init__(config)
        self._fbank: Fbank | None = None

    @property
    def frame_shift(self) -> float:
        """In seconds."""
        return self.config.frame_shift_ms / 1000

    def feature_dim(self, sampling_rate: int) -> int:
        return self.config.num_bins

    def extract(self, samples: Any, sampling_rate: int) -> np.ndarray:
        """(num_samples,) or (1, num_samples), numpy or torch -> (T, num_bins) float32.

        Raises:
            AudioError: on another sampling rate than the options', several channels, or samples
                that are not finite.
        """
        if sampling_rate != self.config.sample_rate:
            raise AudioError(
                f"audio at {sampling_rate} Hz; expected {self.config.sample_rate} Hz: "
                "use cut.resample()"
            )
        array = np.asarray(samples)
        if array.ndim == 2 and array.shape[0] == 1:
            array = array[0]
        if self._fbank is None:
            self._fbank = make_fbank(self.config)
        return self._fbank(array)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fbank": None}

    @staticmethod
    def mix(
        features_a: np.ndarray, features_b: np.ndarray, energy_scaling_factor_b: float
    ) -> np.ndarray:
        """Log energies of the sum of two signals, taken as uncorrelated."""
        energies = np.exp(features_a) + energy_scaling_factor_b * np.exp(features_b)
        return np.log(np.maximum(energies, _ENERGY_FLOOR))

    @staticmethod
    def compute_energy(features: np.ndarray) -> float:
        """The sum of all energies."""
        return float(np.sum(np.exp(features)))
