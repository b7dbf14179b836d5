"""Who says what, how and where: the plan of a spoken corpus, before any audio is made.

Each utterance is a pure function of the sentences, the options and its own id, so that making them
(`spoken_audio`) can be split over processes, interrupted and taken up again with the same result.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from moe_asr.data.acoustics import Room
from moe_asr.data.noises import NOISE_KINDS
from moe_asr.data.speaking import Speaking
from moe_asr.data.voices import voices_of
from moe_asr.errors import ConfigError, DataError

SPLITS = ("train", "dev", "test")
BABBLE = "babble"  # other people talking; the other kinds are in `NOISE_KINDS`


@dataclass(frozen=True)
class SpokenCorpusOptions:
    """How a spoken corpus is made. Ranges are drawn from uniformly, for each utterance.

    Attributes:
        train_hours, dev_hours, test_hours: of audio.
        sample_rate: in Hz.
        unseen_accent_share: chance that an utterance of test has an accent that train has not.
        rate: words a minute, as espeak-ng counts them; short sentences without pauses come out a fifth
            faster, at some 135 to 220.
        pitch, pitch_range: espeak-ng's, 0 to 100, around the middle of the voice.
        volume: espeak-ng's; the voices of this range do not clip. The level is set afterwards.
        edge_seconds: range of the silence before the first and after the last word.
        level_dbfs: range of the root mean square of the speech, from full scale.
        noise_kinds: drawn from evenly.
        snr_db: range of the signal-to-noise ratio (mean squares of the whole utterance).
        clean_probability: chance of ``clean_snr_db`` and pink noise in place of these two.
        clean_snr_db: range. There is always a floor: a network would learn to rely on digital silence.
        babble_talkers: range of the number of talkers.
        reverb_probability: chance of a room.
        rt60_seconds: range of its reverberation time.
        direct_to_reverberant_db: range of the energy of the direct sound over that of the reflections.
        seed: of all random choices.
    """

    train_hours: float = 7.2
    dev_hours: float = 0.3
    test_hours: float = 0.5
    sample_rate: int = 16000
    unseen_accent_share: float = 0.2
    rate: tuple[int, int] = (110, 180)
    pitch: tuple[int, int] = (40, 60)
    pitch_range: tuple[int, int] = (20, 80)
    volume: tuple[int, int] = (15, 30)
    edge_seconds: tuple[float, float] = (0.1, 0.4)
    level_dbfs: tuple[float, float] = (-32.0, -20.0)
    noise_kinds: tuple[str, ...] = (*NOISE_KINDS, BABBLE)
    snr_db: tuple[float, float] = (10.0, 30.0)
    clean_probability: float = 0.2
    clean_snr_db: tuple[float, float] = (35.0, 50.0)
    babble_talkers: tuple[int, int] = (3, 6)
    reverb_probability: float = 0.25
    rt60_seconds: tuple[float, float] = (0.15, 0.5)
    direct_to_reverberant_db: tuple[float, float] = (2.0, 12.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for split in SPLITS:
            if not 0 < self.hours(split) < math.inf:
                raise ConfigError(f"{split}_hours: expected more than 0, found {self.hours(split)}")
        if self.sample_rate < 8000:
            raise ConfigError(f"sample_rate: expected at least 8000 Hz, found {self.sample_rate}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_probability", "_share")) and not 0 <= value <= 1:
                raise ConfigError(f"{field.name}: expected 0 to 1, found {value}")
            if not isinstance(value, tuple) or field.name == "noise_kinds":
                continue
            low, high = _LIMITS.get(field.name, (-200.0, 200.0))
            if len(value) != 2 or not low <= value[0] <= value[1] <= high:
                raise ConfigError(
                    f"{field.name}: expected a range within {low} to {high}, found {value}"
                )
        unknown = set(self.noise_kinds) - {*NOISE_KINDS, BABBLE}
        if unknown or not self.noise_kinds:
            raise ConfigError(
                f"noise_kinds: expected some of {', '.join([*NOISE_KINDS, BABBLE])}; "
                f"found {', '.join(sorted(unknown)) or 'none'}"
            )

    def hours(self, split: str) -> float:
        """The hours asked for of a split."""
        return float(getattr(self, f"{split}_hours"))


_LIMITS: Mapping[str, tuple[float, float]] = {
    "rate": (80, 450),
    "pitch": (0, 100),
    "pitch_range": (0, 100),
    "volume": (1, 200),
    "edge_seconds": (0.0, 10.0),
    "level_dbfs": (-80.0, 0.0),
    "babble_talkers": (1, 20),
    "rt60_seconds": (0.01, 10.0),
}


@dataclass(frozen=True)
class SpokenUtterance:
    """One utterance to be made.

    Attributes:
        id: of the cut; it and the options' seed decide everything below.
        split: where it belongs.
        speech: what is said, and how.
        lead_seconds, trail_seconds: silence before and after it.
        level_dbfs: of the speech.
        noise: its kind.
        talkers: what the talkers of babble say.
        snr_db: signal-to-noise ratio.
        room: None outdoors, so to speak.
        seed: of the samples of noise and room.
    """

    id: str
    split: str
    speech: Speaking
    lead_seconds: float
    trail_seconds: float
    level_dbfs: float
    noise: str
    talkers: tuple[Speaking, ...]
    snr_db: float
    room: Room | None
    seed: str


class SpokenPlan:
    """The utterances of a corpus: as many as one likes, each made when it is asked for.

    The sentences of a split are taken in random order, and again in another order, with other voices,
    when all have been used.

    Args:
        sentences: those of ``train``, ``dev`` and ``test``: words separated by white space.
        options: see `SpokenCorpusOptions`.

    Raises:
        DataError: if a split has no sentence, a sentence no word, or a sentence of one split is in
            another one too.
    """

    def __init__(
        self, sentences: Mapping[str, Sequence[str]], options: SpokenCorpusOptions
    ) -> None:
        self.options = options
        self.sentences = {split: _clean(sentences.get(split, ()), split) for split in SPLITS}
        self._orders: dict[tuple[str, int], list[int]] = {}
        owner: dict[str, str] = {}
        for split in SPLITS:
            for sentence in self.sentences[split]:
                if owner.setdefault(sentence, split) != split:
                    raise DataError(
                        f"'{sentence}' is a sentence of both {owner[sentence]} and {split}; "
                        "expected dev and test to be unseen in training, and in one another"
                    )

    def utterance(self, split: str, index: int) -> SpokenUtterance:
        """Number ``index`` (from 0, without end) of a split."""
        options = self.options
        utterance_id = f"{split}-{index:06d}"
        seed = f"{options.seed}/{utterance_id}"
        rng = random.Random(seed)
        unseen = split == "test" and rng.random() < options.unseen_accent_share
        speech = self._speaking(self._sentence(split, index), split, rng, unseen)
        clean = rng.random() < options.clean_probability
        noise = "pink" if clean else rng.choice(options.noise_kinds)
        talkers: tuple[Speaking, ...] = ()
        if noise == BABBLE:
            talkers = tuple(
                self._speaking(rng.choice(self.sentences[split]), split, rng)
                for _ in range(rng.randint(*options.babble_talkers))
            )
        room = None
        if rng.random() < options.reverb_probability:
            room = Room(
                round(rng.uniform(*options.rt60_seconds), 3),
                round(rng.uniform(*options.direct_to_reverberant_db), 2),
            )
        return SpokenUtterance(
            id=utterance_id,
            split=split,
            speech=speech,
            lead_seconds=round(rng.uniform(*options.edge_seconds), 3),
            trail_seconds=round(rng.uniform(*options.edge_seconds), 3),
            level_dbfs=round(rng.uniform(*options.level_dbfs), 2),
            noise=noise,
            talkers=talkers,
            snr_db=round(rng.uniform(*(options.clean_snr_db if clean else options.snr_db)), 2),
            room=room,
            seed=seed,
        )

    def _speaking(
        self, text: str, split: str, rng: random.Random, unseen_accent: bool = False
    ) -> Speaking:
        options = self.options
        return Speaking(
            text=text,
            voice=rng.choice(voices_of(split, unseen_accent)),
            rate=rng.randint(*options.rate),
            pitch=rng.randint(*options.pitch),
            pitch_range=rng.randint(*options.pitch_range),
            volume=rng.randint(*options.volume),
        )

    def _sentence(self, split: str, index: int) -> str:
        sentences = self.sentences[split]
        turn, position = divmod(index, len(sentences))
        if (split, turn) not in self._orders:
            order = list(range(len(sentences)))
            random.Random(f"{self.options.seed}/{split}/order/{turn}").shuffle(order)
            self._orders[split, turn] = order
        return sentences[self._orders[split, turn][position]]


def _clean(sentences: Sequence[str], split: str) -> list[str]:
    """Single spaces; every sentence once, in the order of the first time."""
    cleaned = [" ".join(sentence.split()) for sentence in sentences]
    if not cleaned:
        raise DataError(f"no sentences for {split}")
    for number, sentence in enumerate(cleaned, 1):
        if not sentence:
            raise DataError(f"sentence {number} of {split} is empty; expected words")
        if not sentence.isprintable():
            raise DataError(f"sentence {number} of {split} has control characters: {sentence!r}")
    return list(dict.fromkeys(cleaned))
