"""Options of the input pipeline."""

from dataclasses import dataclass, field

from moe_asr.data.specaugment import SpecAugmentOptions
from moe_asr.errors import ConfigError


@dataclass(frozen=True)
class DataConfig:
    """How batches are made.

    Attributes:
        max_duration_seconds: audio of one batch, padding included (a bucket is nearly uniform, so
            it can be passed by a few percent).
        max_utterances: of one batch; None: as many as fit.
        num_buckets: of similar duration; fewer are used for a small set.
        num_workers: loader processes; 0 works in the calling process. Changes nothing else.
        prefetch_batches: batches each worker keeps ready.
        shuffle: whether training draws batches at random; evaluation never does.
        drop_last: whether training leaves out incomplete batches.
        speed_factors: one is drawn for each utterance and epoch; resamples, so pitch changes too.
        gain_db: range of the volume perturbation.
        spec_augment: masks on the features.
        seed: of all of these.
    """

    max_duration_seconds: float = 60.0
    max_utterances: int | None = None
    num_buckets: int = 16
    num_workers: int = 1
    prefetch_batches: int = 4
    shuffle: bool = True
    drop_last: bool = False
    speed_factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    gain_db: tuple[float, float] = (-6.0, 6.0)
    spec_augment: SpecAugmentOptions = field(default_factory=SpecAugmentOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.max_duration_seconds > 0:
            raise ConfigError(
                f"max_duration_seconds: expected more than 0, found {self.max_duration_seconds}"
            )
        for name, low in (("num_buckets", 1), ("num_workers", 0), ("prefetch_batches", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}: expected at least {low}, found {getattr(self, name)}")
        if self.max_utterances is not None and self.max_utterances < 1:
            raise ConfigError(f"max_utterances: expected at least 1, found {self.max_utterances}")
        if not self.speed_factors or not all(0.5 <= f <= 2.0 for f in self.speed_factors):
            raise ConfigError(
                f"speed_factors: expected factors from 0.5 to 2, found {self.speed_factors}"
            )
        if self.gain_db[0] > self.gain_db[1]:
            raise ConfigError(f"gain_db: not a range: {self.gain_db}")
