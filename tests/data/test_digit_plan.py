import dataclasses
from collections import Counter

import pytest

from moe_asr.config import from_dict, to_dict
from moe_asr.data.digit_plan import DigitStringOptions, plan_digit_strings
from moe_asr.data.fsdd import split_of_take
from moe_asr.errors import ConfigError, DataError

OPTIONS = DigitStringOptions(num_train=101, num_dev=40, num_test=80)


def test_splits_use_their_own_takes_and_one_speaker_a_string(tiny_recordings):
    plans = plan_digit_strings(tiny_recordings, OPTIONS)
    assert {split: len(strings) for split, strings in plans.items()} == {
        "train": 101,
        "dev": 40,
        "test": 80,
    }
    for split, strings in plans.items():
        assert len({string.id for string in strings}) == len(strings)
        for string in strings:
            assert {split_of_take(r.take) for r in string.recordings} == {split}
            assert {r.speaker for r in string.recordings} == {string.speaker}
            assert 1 <= len(string.recordings) <= 7
    assert {len(s.recordings) for s in plans["train"]} == set(range(1, 8))


@pytest.mark.parametrize("seed", range(5))
def test_every_recording_is_used_equally_often(tiny_recordings, seed):
    options = dataclasses.replace(OPTIONS, seed=seed)
    for split, strings in plan_digit_strings(tiny_recordings, options).items():
        for speaker in ("anna", "bob"):
            pool = {r.id for r in tiny_recordings if r.speaker == speaker and r.split == split}
            used = Counter(r.id for s in strings if s.speaker == speaker for r in s.recordings)
            assert set(used) == pool
            assert len(set(used.values())) == 1


def test_leave_one_out(tiny_recordings):
    options = dataclasses.replace(OPTIONS, exclude_speaker="bob")
    plans = plan_digit_strings(tiny_recordings, options)
    speakers = {split: {s.speaker for s in strings} for split, strings in plans.items()}
    assert speakers == {"train": {"anna"}, "dev": {"anna"}, "test": {"bob"}}
    assert len(plans["test"]) == 80 and len(plans["train"]) == 101
    used = {r.id for s in plans["test"] for r in s.recordings}
    assert used == {r.id for r in tiny_recordings if r.speaker == "bob" and r.take < 5}


def test_plan_depends_on_the_seed_alone(tiny_recordings):
    plans = plan_digit_strings(tiny_recordings, OPTIONS)
    assert plan_digit_strings(tiny_recordings, OPTIONS) == plans
    other = plan_digit_strings(tiny_recordings, dataclasses.replace(OPTIONS, seed=1))
    assert [s.text for s in other["test"]] != [s.text for s in plans["test"]]


def test_places_follow_the_ranges(tiny_recordings):
    options = DigitStringOptions(num_train=400, pause_seconds=(0.1, 0.2), edge_seconds=(0.03, 0.06))
    pauses = []
    for string in plan_digit_strings(tiny_recordings, options)["train"]:
        ends = [start + n for start, n in zip(string.starts, string.lengths, strict=True)]
        edges = [string.starts[0], string.num_samples - ends[-1]]
        assert all(0.03 * 16000 - 1 <= edge <= 0.06 * 16000 + 1 for edge in edges)
        lengths = [2 * r.num_samples for r in string.recordings]  # 8 to 16 kHz
        assert list(string.lengths) == lengths
        pauses += [b - a for a, b in zip(ends[:-1], string.starts[1:], strict=True)]
        assert -12 <= string.gain_db <= 6 and -75 <= string.noise_dbfs <= -50
    assert all(p == 0 or 1600 - 1 <= p <= 3200 + 1 for p in pauses)
    assert sum(p == 0 for p in pauses) / len(pauses) == pytest.approx(0.15, abs=0.04)


def test_unknown_speaker_and_bad_options(tiny_recordings):
    with pytest.raises(DataError, match="unknown speaker 'carl' to exclude; known: anna, bob"):
        plan_digit_strings(tiny_recordings, dataclasses.replace(OPTIONS, exclude_speaker="carl"))
    with pytest.raises(DataError, match="no speaker is left for split 'train'"):
        only = [r for r in tiny_recordings if r.speaker == "bob"]
        plan_digit_strings(only, dataclasses.replace(OPTIONS, exclude_speaker="bob"))
    for change, message in [
        ({"num_test": 0}, "num_test"),
        ({"min_digits": 3, "max_digits": 2}, "min_digits"),
        ({"pause_seconds": (-0.1, 0.2)}, "pause_seconds"),
        ({"noise_dbfs": (-50.0, -75.0)}, "noise_dbfs"),
        ({"no_pause_probability": 1.5}, "no_pause_probability"),
    ]:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(OPTIONS, **change)
    assert from_dict(DigitStringOptions, to_dict(OPTIONS)) == OPTIONS
