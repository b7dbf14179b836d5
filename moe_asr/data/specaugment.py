"""SpecAugment (https://arxiv.org/abs/1904.08779) on single utterances, from a seed of their own.

The masking is lhotse's; it draws from the global generators, which are seeded for each utterance
and then restored, so that masks depend on nothing but the seed and nothing else on the masks.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from moe_asr.errors import ConfigError


@dataclass(frozen=True)
class SpecAugmentOptions:
    """Masks of one utterance. Masked values become the utterance's mean.

    The defaults suit utterances of a few words: two bands of up to 15 of 80 bins, and time masks
    of up to 20 frames (half a spoken digit: a word loses a part, and is not deleted from under its
    label) that together cover at most 15 % of the frames. LibriSpeech recipes use 10 x 100 frames.

    Attributes:
        enabled: whether there are any masks.
        probability: of an utterance being masked at all.
        num_frequency_masks, max_frequency_bins: number and greatest width of the bands.
        num_time_masks, max_time_frames: greatest number and width of the stretches; lhotse takes
            no more masks than ``max_time_fraction`` has room for.
        max_time_fraction: greatest share of the frames that all time masks may cover.
        time_warp_frames: greatest warp; 0 leaves it out (speed perturbation does as much).
    """

    enabled: bool = True
    probability: float = 0.9
    num_frequency_masks: int = 2
    max_frequency_bins: int = 15
    num_time_masks: int = 10
    max_time_frames: int = 20
    max_time_fraction: float = 0.15
    time_warp_frames: int = 0

    def __post_init__(self) -> None:
        for name in ("probability", "max_time_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, found {getattr(self, name)}")
        for name in ("num_frequency_masks", "num_time_masks", "time_warp_frames"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected at least 0, found {getattr(self, name)}")
        for name in ("max_frequency_bins", "max_time_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")


class SpecAugmenter:
    """Masks feature matrices, each from a seed of its own."""

    def __init__(self, options: SpecAugmentOptions):
        from lhotse.dataset.signal_transforms import SpecAugment

        self.options = options
        self._transform = SpecAugment(
            time_warp_factor=options.time_warp_frames or None,
            num_feature_masks=options.num_frequency_masks,
            features_mask_size=options.max_frequency_bins + 1,  # lhotse's bounds are exclusive
            num_frame_masks=max(1, options.num_time_masks),
            frames_mask_size=options.max_time_frames + 1,
            max_frames_mask_fraction=options.max_time_fraction,
            p=1.0,
        )

    def __call__(self, features: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        """Masks (T_n, F) float32 matrices into new ones, functions of matrix and seed alone."""
        if not self.options.enabled:
            return list(features)
        with _generators_kept():
            return [self._mask(matrix, seed) for matrix, seed in zip(features, seeds, strict=True)]

    def _mask(self, features: np.ndarray, seed: int) -> np.ndarray:
        from lhotse.dataset.signal_transforms import mask_along_axis_optimized

        options = self.options
        random.seed(seed)
        if random.random() >= options.probability:
            return features
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA as well
        if options.time_warp_frames:
            np.random.seed(seed % (1 << 32))
        tensor = torch.from_numpy(features)
        if options.num_time_masks and options.max_time_fraction * len(features) >= 1:
            return self._transform(tensor[None])[0].numpy()
        # lhotse's SpecAugment fails where there is no room for a time mask
        return mask_along_axis_optimized(
            tensor.clone(),
            mask_size=options.max_frequency_bins + 1,
            mask_times=options.num_frequency_masks,
            mask_value=float(tensor.mean()),
            axis=2,
        ).numpy()


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restores the global generators that lhotse's transforms draw from."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.default_generator.set_state(torch_state)
