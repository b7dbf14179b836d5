"""From cuts to batches: audio, perturbation, features, masks, padding."""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import soundfile
from lhotse import CutSet
from lhotse.augmentation import Speed
from lhotse.cut import Cut
from torch.utils.data import DataLoader, Dataset

from moe_asr.audio.fbank import Fbank, FbankOptions, make_fbank
from moe_asr.audio.io import as_waveform, read_audio, resample
from moe_asr.data.batch import Batch, collate
from moe_asr.data.config import DataConfig
from moe_asr.data.sampling import EpochSampler, draw_speed_factor, random_for
from moe_asr.data.specaugment import SpecAugmenter
from moe_asr.data.validation import check_tokens, frames_after_conv4, transcript_of
from moe_asr.errors import AudioError, ConfigError, DataError
from moe_asr.text.tokenizer import Tokenizer


class AsrDataset(Dataset):
    """lhotse's map-style protocol: ``dataset[CutSet] -> Batch``.

    In training an utterance is speed-perturbed, scaled and masked at random; the chance is that of
    (seed, epoch, cut id), whatever process computes the batch and whatever came before.

    Args:
        tokenizer: makes the targets.
        fbank_options: the features; audio of another rate is resampled.
        config: see `DataConfig`.
        epoch: its number, from 0.
        training: whether to perturb.
        manifest: where the cuts come from, for messages.
        frames_after_subsampling: the encoder's output length, to check that CTC has a path.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        fbank_options: FbankOptions,
        config: DataConfig,
        epoch: int = 0,
        training: bool = False,
        manifest: str | None = None,
        frames_after_subsampling: Callable[[int], int] = frames_after_conv4,
    ) -> None:
        if training and fbank_options.dither:
            raise ConfigError(
                f"dither: found {fbank_options.dither}; expected 0 in training: its noise has no "
                "seed, so batches would not come again on resuming"
            )
        self.tokenizer = tokenizer
        self.fbank_options = fbank_options
        self.config = config
        self.epoch = epoch
        self.training = training
        self.manifest = manifest
        self.frames_after_subsampling = frames_after_subsampling
        self._spec_augment = SpecAugmenter(config.spec_augment)

    def __getitem__(self, cuts: CutSet) -> Batch:
        fbank = _fbank(self.fbank_options)
        texts: list[str] = []
        waveforms: list[np.ndarray] = []
        mask_seeds: list[int] = []
        for cut in cuts:
            texts.append(self._named(transcript_of, cut))
            samples = self._named(load_waveform, cut, self.fbank_options.sample_rate)
            if self.training:
                samples, mask_seed = self._perturb(cut.id, samples)
                mask_seeds.append(mask_seed)
            waveforms.append(samples)
        features = fbank.batch(waveforms)
        if self.training:
            features = self._spec_augment(features, mask_seeds)
        targets = [self.tokenizer.encode(text) for text in texts]
        ids = [cut.id for cut in cuts]
        for cut_id, text, tokens, matrix in zip(ids, texts, targets, features, strict=True):
            self._named(
                check_tokens, cut_id, text, tokens, len(matrix), self.frames_after_subsampling
            )
        num_samples = sum(len(samples) for samples in waveforms)
        return collate(features, targets, ids, texts, num_samples / self.fbank_options.sample_rate)

    def _perturb(self, cut_id: str, samples: np.ndarray) -> tuple[np.ndarray, int]:
        rng = random_for(self.config.seed, self.epoch, cut_id)
        samples = change_speed(
            samples, draw_speed_factor(rng, self.config), self.fbank_options.sample_rate
        )
        gain_db = rng.uniform(*self.config.gain_db)
        if gain_db:
            # not clipped: features are taken from floats, and clipping is another distortion
            samples = samples * np.float32(math.pow(10.0, gain_db / 20))
        return samples, rng.getrandbits(63)

    def _named(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls ``function``; its errors are prefixed with the manifest's name."""
        try:
            return function(*arguments)
        except (DataError, AudioError) as error:
            if not self.manifest:
                raise
            raise type(error)(f"{self.manifest}: {error}") from error


def load_waveform(cut: Cut, sample_rate: int) -> np.ndarray:
    """The audio of a cut at ``sample_rate``: (num_samples,) float32.

    Raises:
        AudioError: naming the cut and its file, if it is unreadable, truncated, not mono, empty or
            not finite, or of another rate than the manifest says.
    """
    path = _plain_file(cut)
    name = f"cut '{cut.id}'" + ("" if path is None else f" ({path})")
    try:
        if path is not None and cut.num_samples == cut.recording.num_samples:
            samples, rate = read_audio(path)
        else:
            samples, rate = _load_with_lhotse(cut, path), cut.sampling_rate
    except AudioError as error:
        raise AudioError(f"{name}: {str(error).removeprefix(f'{path}: ')}") from error
    if rate != cut.sampling_rate:
        raise AudioError(f"{name}: found {rate} Hz; expected {cut.sampling_rate} Hz")
    if len(samples) == 0 or abs(len(samples) - cut.num_samples) > 1:
        raise AudioError(f"{name}: found {len(samples)} samples; expected {cut.num_samples}")
    return resample(samples, rate, sample_rate)


def _plain_file(cut: Cut) -> str | None:
    """The file of a cut of a single-channel recording without transforms, else None."""
    recording = getattr(cut, "recording", None)
    if recording is None or recording.transforms or len(recording.sources) != 1:
        return None
    source = recording.sources[0]
    return source.source if source.type == "file" and len(source.channels) == 1 else None


def _load_with_lhotse(cut: Cut, path: str | None) -> np.ndarray:
    """Parts of files, and mixed, perturbed, multi-channel and other cuts."""
    try:
        if path is not None:
            # lhotse fills up to half a second that a file is short of by mirroring
            found = soundfile.info(path).frames
            if found < cut.recording.num_samples - 1:
                raise AudioError(f"found {found} samples; expected {cut.recording.num_samples}")
        samples = cut.load_audio()
    except AudioError:
        raise
    except Exception as error:  # lhotse's backends raise whatever they meet
        raise AudioError(f"cannot be read: {str(error) or repr(error)}") from error
    if samples is None or samples.ndim != 2 or samples.shape[0] != 1:
        shape = None if samples is None else samples.shape
        raise AudioError(f"found audio of shape {shape}; expected one channel")
    return as_waveform(samples[0])


def change_speed(samples: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """Plays ``samples`` ``factor`` times as fast (tempo and pitch), with lhotse's resampler."""
    if factor == 1.0:
        return samples
    return Speed(factor)(samples[None], sample_rate)[0]


def make_dataloader(
    cuts: CutSet,
    tokenizer: Tokenizer,
    fbank_options: FbankOptions,
    config: DataConfig,
    epoch: int = 0,
    training: bool = False,
    skip_batches: int = 0,
    manifest: str | None = None,
    frames_after_subsampling: Callable[[int], int] = frames_after_conv4,
    world_size: int = 1,
    rank: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """The batches of one epoch.

    They are a pure function of the cuts, the config (but for ``num_workers``) and the epoch;
    ``skip_batches`` leaves out the first ones without computing them. ``len()`` of the loader
    counts the batches that it will give.
    """
    sampler = EpochSampler(
        list(cuts), config, epoch, training, skip_batches, world_size=world_size, rank=rank
    )
    dataset = AsrDataset(
        tokenizer, fbank_options, config, epoch, training, manifest, frames_after_subsampling
    )
    # without workers torch takes no prefetch factor
    prefetch: dict[str, Any] = (
        {"prefetch_factor": config.prefetch_batches} if config.num_workers else {}
    )
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=config.num_workers,
        pin_memory=pin_memory,
        worker_init_fn=own_process_group,
        **prefetch,
    )


def own_process_group(worker_id: int) -> None:
    """Puts a loader process into a process group of its own.

    Ctrl-C and ``timeout`` signal the trainer's whole group. A worker that dies of it would take the
    trainer with it before the trainer has saved. It still ends when the trainer ends it, or ends.
    """
    os.setpgid(0, 0)


@lru_cache(maxsize=2)
def _fbank(options: FbankOptions) -> Fbank:
    """One extractor a process: it is not sent to workers, which may not be able to copy it."""
    return make_fbank(options)
