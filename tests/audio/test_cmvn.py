import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.audio.cmvn import DEFAULT_VARIANCE_FLOOR, CmvnStats, accumulate_cmvn
from moe_asr.errors import ConfigError, DataError


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    offset=st.sampled_from([0.0, -16.0, 1e4]),
    scale=st.sampled_from([0.5, 3.0]),
    seed=st.integers(0, 100),
)
def test_equals_numpy_on_the_concatenation(lengths, offset, scale, seed):
    rng = np.random.default_rng(seed)
    lengths = [*lengths, 2]
    matrices = [(offset + scale * rng.standard_normal((n, 5))).astype(np.float32) for n in lengths]
    stats = accumulate_cmvn(matrices, floor=1e-8)
    together = np.concatenate(matrices).astype(np.float64)
    assert stats.num_frames == len(together)
    np.testing.assert_allclose(stats.mean, together.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stats.inv_std, 1 / together.std(axis=0), rtol=1e-5)


def test_normalised_features_have_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((500, 3)) * [1, 5, 0.2] + [0, -8, 4]).astype(np.float32)
    normalised = accumulate_cmvn([features]).apply(features)
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(axis=0), 1, atol=1e-4)


def test_a_large_mean_does_not_drown_the_variance():
    features = 1e6 + np.array([[0.0], [0.5], [1.0]] * 1000)
    stats = accumulate_cmvn(np.split(features, 30), floor=1e-8)
    assert stats.inv_std[0] == pytest.approx(1 / features.std(), rel=1e-6)


def test_a_constant_bin_gets_the_floor():
    features = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    features[:, 1] = -15.942385
    stats = accumulate_cmvn([features[:40], features[40:]])
    assert stats.inv_std[1] == pytest.approx(DEFAULT_VARIANCE_FLOOR**-0.5)
    assert accumulate_cmvn([features], floor=0.25).inv_std[1] == pytest.approx(2.0)
    assert stats.inv_std[0] == pytest.approx(1 / features[:, 0].std(), rel=1e-5)


def test_one_frame_is_enough():
    stats = accumulate_cmvn(iter([np.zeros((0, 2)), np.array([[1.0, 2.0]])]))
    assert stats.num_frames == 1
    np.testing.assert_array_equal(stats.mean, [1, 2])


@pytest.mark.parametrize(
    "matrices, message",
    [
        ([], "no frames"),
        ([np.zeros((0, 4))], "no frames"),
        ([np.zeros((3, 4)), np.zeros((3, 5))], r"features 1: shape \(3, 5\); expected \(T, 4\)"),
        ([np.zeros(4)], r"features 0: shape \(4,\)"),
        ([np.zeros((2, 2)), np.array([[0, np.nan]])], "features 1: NaN"),
        ([np.array([[0, np.inf]])], "features 0: NaN or infinity"),
    ],
)
def test_features_that_are_refused(matrices, message):
    with pytest.raises(DataError, match=message):
        accumulate_cmvn(matrices)


def test_a_floor_of_zero_is_refused():
    with pytest.raises(ValueError, match="floor is 0"):
        accumulate_cmvn([np.zeros((2, 2))], floor=0.0)


def test_load_gives_back_what_was_saved_exactly(tmp_path):
    rng = np.random.default_rng(0)
    stats = accumulate_cmvn([rng.standard_normal((50, 80)) * rng.uniform(0.1, 9, 80)])
    stats.save(tmp_path / "cmvn.json")
    loaded = CmvnStats.load(tmp_path / "cmvn.json")
    assert loaded.num_frames == stats.num_frames == 50
    assert loaded.mean.dtype == loaded.inv_std.dtype == np.float32
    np.testing.assert_array_equal(loaded.mean, stats.mean)
    np.testing.assert_array_equal(loaded.inv_std, stats.inv_std)
    assert list(tmp_path.iterdir()) == [tmp_path / "cmvn.json"]


GOOD = {"num_frames": 5, "mean": [0.0, 1.0], "inv_std": [1.0, 2.0]}


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON"),
        ("[]", "expected the keys"),
        (json.dumps({**GOOD, "extra": 1}), "found .*extra"),
        (json.dumps({"num_frames": 5, "mean": [0.0]}), "expected the keys"),
        (json.dumps({**GOOD, "num_frames": 0}), "num_frames is 0"),
        (json.dumps({**GOOD, "num_frames": 5.0}), "num_frames is 5.0"),
        (json.dumps({**GOOD, "num_frames": True}), "num_frames is True"),
        (json.dumps({**GOOD, "mean": [0.0]}), "1 values in mean, 2 in inv_std"),
        (json.dumps({**GOOD, "mean": "0 1"}), "mean: expected a list of numbers"),
        (json.dumps({**GOOD, "mean": [0.0, None]}), "mean: expected a list of numbers"),
        (json.dumps({**GOOD, "mean": [[0.0], [1.0]]}), "mean: expected a list of numbers"),
        (json.dumps({**GOOD, "mean": [], "inv_std": []}), "mean: expected finite values"),
        (json.dumps({**GOOD, "mean": [float("nan"), 0.0]}), "mean: expected finite values"),
        (json.dumps({**GOOD, "inv_std": [1.0, 0.0]}), "inv_std has 0.0"),
        (json.dumps({**GOOD, "inv_std": [1.0, -1.0]}), "inv_std has -1.0"),
        (json.dumps({**GOOD, "inv_std": [1.0, 1e300]}), "inv_std: expected finite values"),
        (json.dumps({**GOOD, "inv_std": [1.0, 10**400]}), "too large"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "cmvn.json"
    path.write_text(json.dumps(GOOD))
    assert CmvnStats.load(path).num_frames == 5
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as raised:
        CmvnStats.load(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.json: cannot be read"):
        CmvnStats.load(tmp_path / "nowhere.json")
