"""Which utterances come together, in which order, and what chance they meet: one epoch's batches.

Everything here is a pure function of the cuts, the config and the epoch, so that a training that
is taken up again in the middle of an epoch sees what it would have seen.
"""

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset.sampling import DynamicBucketingSampler
from lhotse.dataset.sampling.base import TimeConstraint
from torch.utils.data import Sampler

from moe_asr.data.config import DataConfig
from moe_asr.errors import DataError


def random_for(seed: int, epoch: int, utterance_id: str) -> random.Random:
    """The generator of all chance one utterance meets in one epoch."""
    return random.Random(f"{seed}/{epoch}/{utterance_id}")


def draw_speed_factor(rng: random.Random, config: DataConfig) -> float:
    """The speed factor; the first thing drawn from `random_for`'s generator."""
    return rng.choice(config.speed_factors)


class EpochSampler(Sampler):
    """The batches of one epoch, as lhotse CutSets, from lhotse's DynamicBucketingSampler.

    Durations are those after speed perturbation. All batches are drawn at once, on first use (a few
    tenths of a second for ten thousand cuts, no audio is read), and in training put in random
    order: lhotse takes its buckets in the same order in every epoch, and incomplete batches last.

    Args:
        cuts: what to draw from, in memory.
        config: see `DataConfig`.
        epoch: its number, from 0.
        training: draw at random, if the config says so; otherwise a fixed order.
        skip_batches: leave out this many batches at the beginning.
        world_size, rank: share each epoch among processes; all get the same number of batches.
    """

    def __init__(
        self,
        cuts: Sequence[Cut],
        config: DataConfig,
        epoch: int,
        training: bool,
        skip_batches: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        assert skip_batches >= 0 and epoch >= 0, (skip_batches, epoch)
        if not cuts:
            raise DataError("no cuts to make batches of")
        self.cuts = list(cuts)
        self.config = config
        self.epoch = epoch
        self.training = training
        self.skip_batches = skip_batches
        self.world_size, self.rank = world_size, rank
        self._batches: list[CutSet] | None = None

    def __iter__(self) -> Iterator[CutSet]:
        return iter(self._all_batches()[self.skip_batches :])

    def __len__(self) -> int:
        """Batches after ``skip_batches``."""
        return max(0, len(self._all_batches()) - self.skip_batches)

    def _all_batches(self) -> list[CutSet]:
        if self._batches is None:
            shuffle = self.training and self.config.shuffle
            rng = random.Random(f"{self.config.seed}/{self.epoch}")
            self._batches = list(self._sampler(shuffle, seed=rng.getrandbits(32)))
            if shuffle:
                rng.shuffle(self._batches)
        return self._batches

    def _sampler(self, shuffle: bool, seed: int) -> DynamicBucketingSampler:
        config = self.config
        constraint = _PerturbedDuration(
            max_duration=config.max_duration_seconds, max_cuts=config.max_utterances
        )
        if self.training and set(config.speed_factors) != {1.0}:
            constraint.speed_factors = {
                cut.id: draw_speed_factor(random_for(config.seed, self.epoch, cut.id), config)
                for cut in self.cuts
            }
        num_buckets = min(config.num_buckets, len(self.cuts))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a small set may not fill its buffer
            return DynamicBucketingSampler(
                self.cuts,
                constraint=constraint,
                # lhotse estimates bounds for two buckets or more
                duration_bins=None if num_buckets > 1 else [],
                num_buckets=num_buckets,
                shuffle=shuffle,
                drop_last=self.training and config.drop_last,
                seed=seed,
                # the other way of choosing buckets takes empty ones for filled, and ends too early
                sync_buckets=True,
                num_cuts_for_bins_estimate=len(self.cuts),
                world_size=self.world_size,
                rank=self.rank,
            )


class _PerturbedDuration(TimeConstraint):
    """lhotse's limit on padded duration, with durations after the speed change."""

    speed_factors: Mapping[str, float] = {}

    def measure_length(self, example: Cut) -> float:
        return example.duration / self.speed_factors.get(example.id, 1.0)

    def add(self, example: Cut) -> None:
        duration = self.measure_length(example)
        self.current += duration
        self.longest_seen: float = max(self.longest_seen, duration)
        self.num_cuts += 1
