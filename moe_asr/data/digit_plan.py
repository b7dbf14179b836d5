"""What each connected digit string is made of: the plan, before any audio is touched.

A plan is a pure function of the recordings and the options, so that rendering it (`digit_mixing`)
can be split over processes, interrupted and taken up again without changing the result.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from moe_asr.data.fsdd import SPLITS, DigitRecording
from moe_asr.errors import ConfigError, DataError


@dataclass(frozen=True)
class DigitStringOptions:
    """How connected digit strings are made.

    Attributes:
        num_train, num_dev, num_test: strings of each split, shared evenly by the speakers.
        min_digits, max_digits: range of the uniformly drawn string length.
        sample_rate: of the strings, in Hz.
        pause_seconds: range of the pause between two digits.
        no_pause_probability: chance of a pause of zero (the digits touch).
        edge_seconds: range of the silence before the first and after the last digit.
        gain_db: range of the gain of a whole string (lowered where it would clip).
        noise_dbfs: range of the RMS level of the noise floor under the whole string. Without it
            the pauses would be digital silence, which a network learns to rely on.
        pink_probability: chance that the floor is pink (1/f power) instead of white noise.
        exclude_speaker: leave-one-out: train and dev without this speaker, test on them alone.
        seed: of all random choices.
    """

    num_train: int = 6000
    num_dev: int = 240
    num_test: int = 400
    min_digits: int = 1
    max_digits: int = 7
    sample_rate: int = 16000
    pause_seconds: tuple[float, float] = (0.05, 0.35)
    no_pause_probability: float = 0.15
    edge_seconds: tuple[float, float] = (0.05, 0.30)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise_dbfs: tuple[float, float] = (-75.0, -50.0)
    pink_probability: float = 0.5
    exclude_speaker: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_train", "num_dev", "num_test"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 1 <= self.min_digits <= self.max_digits:
            raise ConfigError(
                f"min_digits, max_digits: not a range from 1: {self.min_digits}, {self.max_digits}"
            )
        if self.sample_rate < 8000:
            raise ConfigError(f"sample_rate: expected at least 8000 Hz, found {self.sample_rate}")
        for name in ("pause_seconds", "edge_seconds", "gain_db", "noise_dbfs"):
            low, high = getattr(self, name)
            if low > high or (name.endswith("_seconds") and low < 0):
                raise ConfigError(f"{name}: not a range: {(low, high)}")
        for name in ("no_pause_probability", "pink_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class DigitString:
    """One string to be mixed.

    Attributes:
        id: of the cut.
        split, speaker: where it belongs.
        recordings: the digits, in order.
        starts: first sample of each digit, at ``sample_rate``.
        lengths: samples of each digit, at ``sample_rate``.
        num_samples: length of the string, at ``sample_rate``.
        sample_rate: in Hz.
        gain_db: wanted gain of the digits.
        noise_dbfs, pink: level and colour of the noise floor.
        noise_position: in [0, 1), where in the noise source the floor is cut from.
    """

    id: str
    split: str
    speaker: str
    recordings: tuple[DigitRecording, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    num_samples: int
    sample_rate: int
    gain_db: float
    noise_dbfs: float
    pink: bool
    noise_position: float

    @property
    def text(self) -> str:
        """The transcript: lower-case English words."""
        return " ".join(recording.word for recording in self.recordings)


def resampled_length(recording: DigitRecording, sample_rate: int) -> int:
    """Samples of ``recording`` at ``sample_rate``."""
    return round(recording.num_samples * sample_rate / recording.sample_rate)


def plan_digit_strings(
    recordings: Sequence[DigitRecording], options: DigitStringOptions
) -> dict[str, list[DigitString]]:
    """Draws the strings of all splits.

    Within a split and speaker the recordings are dealt like cards, so that each is used equally
    often: the drawn lengths are nudged until they add up to a multiple of the number of recordings
    (where there are enough of them), and a recording comes again only after all others.

    Returns:
        {"train" | "dev" | "test": strings}.

    Raises:
        DataError: if ``exclude_speaker`` is unknown, or no recording is left for a split.
    """
    speakers = sorted({recording.speaker for recording in recordings})
    excluded = options.exclude_speaker
    if excluded is not None and excluded not in speakers:
        raise DataError(f"unknown speaker '{excluded}' to exclude; known: {', '.join(speakers)}")
    totals = {"train": options.num_train, "dev": options.num_dev, "test": options.num_test}
    plans: dict[str, list[DigitString]] = {}
    for split in SPLITS:
        if excluded is None:
            chosen = speakers
        else:
            chosen = [name for name in speakers if (name == excluded) == (split == "test")]
        total = totals[split]
        plans[split] = []
        for index, speaker in enumerate(chosen):
            pool = [r for r in recordings if r.speaker == speaker and r.split == split]
            if not pool:
                raise DataError(f"speaker '{speaker}' has no recording in split '{split}'")
            num_strings = total // len(chosen) + (index < total % len(chosen))
            rng = random.Random(f"{options.seed}/{split}/{speaker}")
            plans[split].extend(_plan_speaker(pool, num_strings, split, options, rng))
        if not plans[split]:
            raise DataError(f"no speaker is left for split '{split}'")
    return plans


def _plan_speaker(
    pool: Sequence[DigitRecording],
    num_strings: int,
    split: str,
    options: DigitStringOptions,
    rng: random.Random,
) -> list[DigitString]:
    sizes = _draw_sizes(num_strings, len(pool), options, rng)
    deck: list[DigitRecording] = []
    strings = []
    for index, size in enumerate(sizes):
        while len(deck) < size:
            deck = rng.sample(list(pool), len(pool)) + deck  # dealt from the end
        digits = [deck.pop() for _ in range(size)]
        string_id = f"{split}-{pool[0].speaker}-{index:05d}"
        strings.append(_plan_string(string_id, digits, split, options, rng))
    return strings


def _draw_sizes(
    num_strings: int, num_recordings: int, options: DigitStringOptions, rng: random.Random
) -> list[int]:
    """Numbers of digits, adding up to the nearest multiple of ``num_recordings``, if feasible."""
    low, high = options.min_digits, options.max_digits
    sizes = [rng.randint(low, high) for _ in range(num_strings)]
    target = max(1, round(sum(sizes) / num_recordings)) * num_recordings
    if not low * num_strings <= target <= high * num_strings:
        return sizes
    while sum(sizes) != target:
        step = 1 if sum(sizes) < target else -1
        index = rng.randrange(num_strings)
        if low <= sizes[index] + step <= high:
            sizes[index] += step
    return sizes


def _plan_string(
    string_id: str,
    digits: Sequence[DigitRecording],
    split: str,
    options: DigitStringOptions,
    rng: random.Random,
) -> DigitString:
    rate = options.sample_rate
    position = round(rng.uniform(*options.edge_seconds) * rate)
    starts, lengths = [], []
    for index, recording in enumerate(digits):
        if index > 0 and rng.random() >= options.no_pause_probability:
            position += round(rng.uniform(*options.pause_seconds) * rate)
        starts.append(position)
        lengths.append(resampled_length(recording, rate))
        position += lengths[-1]
    return DigitString(
        id=string_id,
        split=split,
        speaker=digits[0].speaker,
        recordings=tuple(digits),
        starts=tuple(starts),
        lengths=tuple(lengths),
        num_samples=position + round(rng.uniform(*options.edge_seconds) * rate),
        sample_rate=rate,
        gain_db=rng.uniform(*options.gain_db),
        noise_dbfs=rng.uniform(*options.noise_dbfs),
        pink=rng.random() < options.pink_probability,
        noise_position=rng.random(),
    )
