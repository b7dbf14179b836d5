from collections import Counter

import pytest

from moe_asr.data.spoken_plan import BABBLE, SPLITS, SpokenCorpusOptions, SpokenPlan
from moe_asr.data.voices import SEEN_ACCENTS, UNSEEN_ACCENTS, VARIANTS
from moe_asr.errors import ConfigError, DataError

SENTENCES = {
    "train": [f"train sentence {i}" for i in range(7)],
    "dev": ["a sentence of  dev", "one more"],
    "test": ["a sentence of test", "another one", "a sentence of test"],
}
NUM = 400


@pytest.fixture(scope="module")
def utterances():
    plan = SpokenPlan(SENTENCES, SpokenCorpusOptions())
    return {split: [plan.utterance(split, i) for i in range(NUM)] for split in SPLITS}


def test_an_utterance_depends_on_seed_and_id_alone(utterances):
    plan = SpokenPlan(SENTENCES, SpokenCorpusOptions())
    assert plan.utterance("test", 17) == utterances["test"][17]  # asked for first, not eighteenth
    longer = SpokenPlan(SENTENCES, SpokenCorpusOptions(train_hours=99.0))
    assert longer.utterance("train", 5) == utterances["train"][5]
    other = SpokenPlan(SENTENCES, SpokenCorpusOptions(seed=1))
    assert other.utterance("train", 5) != utterances["train"][5]
    assert len({u.seed for split in SPLITS for u in utterances[split]}) == 3 * NUM


def test_sentences_are_used_in_turn(utterances):
    assert {u.speech.text for u in utterances["dev"]} == {"a sentence of dev", "one more"}
    first, second = (
        [u.speech.text for u in utterances["train"][7 * k : 7 * k + 7]] for k in (0, 1)
    )
    assert sorted(first) == sorted(second) == SENTENCES["train"]
    assert first != second and first != SENTENCES["train"]
    counts = Counter(u.speech.text for u in utterances["test"])
    assert set(counts.values()) == {NUM // 2}  # a duplicate is one sentence


def test_speakers_are_those_of_the_split(utterances):
    for split in SPLITS:
        for u in utterances[split]:
            for speaking in (u.speech, *u.talkers):
                assert speaking.voice.variant in VARIANTS[split]
                assert speaking.text in {" ".join(s.split()) for s in SENTENCES[split]}
        assert {u.speech.voice.variant for u in utterances[split]} == set(VARIANTS[split])
        unseen = [u.speech.voice.accent in UNSEEN_ACCENTS for u in utterances[split]]
        assert 0.13 * NUM < sum(unseen) < 0.27 * NUM if split == "test" else not any(unseen)
        assert set(SEEN_ACCENTS) <= {u.speech.voice.accent for u in utterances[split]}


def test_what_is_drawn_fills_its_range(utterances):
    options = SpokenCorpusOptions()
    train = utterances["train"]
    noisy = [u for u in train if u.snr_db <= options.snr_db[1]]
    drawn = {
        "rate": [u.speech.rate for u in train],
        "pitch": [u.speech.pitch for u in train],
        "pitch_range": [u.speech.pitch_range for u in train],
        "volume": [u.speech.volume for u in train],
        "level_dbfs": [u.level_dbfs for u in train],
        "edge_seconds": [x for u in train for x in (u.lead_seconds, u.trail_seconds)],
        "snr_db": [u.snr_db for u in noisy],
        "clean_snr_db": [u.snr_db for u in train if u.snr_db > options.snr_db[1]],
        "rt60_seconds": [u.room.rt60_seconds for u in train if u.room],
        "direct_to_reverberant_db": [u.room.direct_to_reverberant_db for u in train if u.room],
        "babble_talkers": [len(u.talkers) for u in train if u.noise == BABBLE],
    }
    for name, values in drawn.items():
        low, high = getattr(options, name)
        assert low <= min(values) < low + 0.1 * (high - low) + 1e-9, name
        assert high >= max(values) > high - 0.1 * (high - low) - 1e-9, name
    assert len(noisy) / NUM == pytest.approx(1 - options.clean_probability, abs=0.05)
    assert sum(u.room is not None for u in train) / NUM == pytest.approx(0.25, abs=0.07)
    kinds = Counter(u.noise for u in noisy)
    assert set(kinds) == set(options.noise_kinds)
    assert min(kinds.values()) > 0.5 * len(noisy) / len(kinds)
    assert all(bool(u.talkers) == (u.noise == BABBLE) for u in train)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"dev": ["train  sentence 3"]}, "'train sentence 3' is a sentence of both train and dev"),
        ({"test": ["one more"]}, "'one more' is a sentence of both dev and test"),
        ({"test": []}, "no sentences for test"),
        ({"dev": ["one", " "]}, "sentence 2 of dev is empty"),
        ({"dev": ["one\x07two"]}, "sentence 1 of dev has control characters"),
    ],
)
def test_unusable_sentences_are_refused(changed, message):
    with pytest.raises(DataError, match=message):
        SpokenPlan({**SENTENCES, **changed}, SpokenCorpusOptions())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"dev_hours": 0.0}, "dev_hours: expected more than 0, found 0.0"),
        ({"train_hours": float("inf")}, "train_hours: expected more than 0, found inf"),
        ({"sample_rate": 4000}, "sample_rate"),
        ({"clean_probability": 1.5}, "clean_probability: expected 0 to 1, found 1.5"),
        ({"unseen_accent_share": -0.1}, "unseen_accent_share"),
        ({"rate": (60, 200)}, r"rate: expected a range within 80 to 450, found \(60, 200\)"),
        ({"snr_db": (20.0, 10.0)}, "snr_db: expected a range"),
        ({"edge_seconds": (-0.1, 0.1)}, "edge_seconds"),
        ({"noise_kinds": ("pink", "purple")}, "noise_kinds: expected some of .*; found purple"),
        ({"noise_kinds": ()}, "noise_kinds: .* found none"),
    ],
)
def test_unusable_options_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        SpokenCorpusOptions(**changed)
