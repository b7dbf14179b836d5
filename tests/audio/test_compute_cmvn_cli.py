import dataclasses

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording

from moe_asr.audio.cmvn import CmvnStats
from moe_asr.audio.fbank import FbankOptions, make_fbank
from moe_asr.audio.io import resample
from moe_asr.cli.main import main


def noise(num_samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


def recording(folder, name: str, samples: np.ndarray, rate: int) -> Recording:
    path = folder / f"{name}.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return Recording.from_file(path)


@pytest.fixture
def corpus(tmp_path):
    """A manifest of three cuts at two rates, and their waveforms."""
    audio = [(noise(16000, 0), 16000), (noise(8000, 1), 8000), (noise(24001, 2), 16000)]
    recordings = [recording(tmp_path, f"r{i}", *pair) for i, pair in enumerate(audio)]
    path = tmp_path / "cuts.jsonl.gz"
    CutSet.from_cuts(r.to_cut() for r in recordings).to_file(path)
    return path, audio


def expected_features(audio, options: FbankOptions) -> np.ndarray:
    fbank = make_fbank(options)
    return np.concatenate([fbank(resample(x, rate, options.sample_rate)) for x, rate in audio])


def run(manifest, output, *more: str) -> int:
    return main(["compute-cmvn", "--manifest", str(manifest), "--output", str(output), *more])


@pytest.mark.parametrize("max_cuts", [None, 2])
def test_equals_numpy_on_all_frames(corpus, tmp_path, capsys, max_cuts):
    manifest, audio = corpus
    output = tmp_path / "cmvn.json"
    assert run(manifest, output, *(["--max-cuts", str(max_cuts)] if max_cuts else [])) == 0
    stats = CmvnStats.load(output)
    taken = [audio[i * len(audio) // max_cuts] for i in range(max_cuts)] if max_cuts else audio
    features = expected_features(taken, FbankOptions()).astype(np.float64)
    assert stats.num_frames == len(features)
    np.testing.assert_allclose(stats.mean, features.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats.inv_std, 1 / features.std(axis=0), rtol=1e-4)
    assert f"80 bins, from {len(features)} frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    "yaml, options",
    [
        ("sample_rate: 8000\nnum_bins: 40\n", FbankOptions(sample_rate=8000, num_bins=40)),
        ("features:\n  num_bins: 40\nmodel:\n  preset: tiny\n", FbankOptions(num_bins=40)),
        ("model:\n  preset: tiny\n", FbankOptions()),
        ("", FbankOptions()),
    ],
)
def test_feature_options_from_a_file(corpus, tmp_path, yaml, options):
    manifest, audio = corpus
    (tmp_path / "conf.yaml").write_text(yaml)
    output = tmp_path / "cmvn.json"
    assert run(manifest, output, "--features", str(tmp_path / "conf.yaml")) == 0
    stats = CmvnStats.load(output)
    features = expected_features(audio, options)
    assert stats.mean.shape == (options.num_bins,)
    np.testing.assert_allclose(stats.mean, features.mean(axis=0), atol=1e-3)


@pytest.mark.parametrize(
    "yaml, message",
    [("num_bin: 40", "did you mean 'num_bins'"), ("features: {num_bins: 2}", "is 2")],
)
def test_feature_options_that_are_refused(corpus, tmp_path, capsys, yaml, message):
    (tmp_path / "conf.yaml").write_text(yaml)
    output = tmp_path / "cmvn.json"
    assert run(corpus[0], output, "--features", str(tmp_path / "conf.yaml")) == 2
    error = capsys.readouterr().err
    assert "conf.yaml" in error and message in error and not output.exists()


def missing_audio(tmp_path):
    cut = recording(tmp_path, "gone", noise(1600, 0), 16000).to_cut()
    (tmp_path / "gone.wav").unlink()
    return cut


def stereo(tmp_path):
    return recording(tmp_path, "stereo", np.zeros((1600, 2)), 16000).to_cut()


def no_recording(tmp_path):
    return dataclasses.replace(missing_audio(tmp_path), recording=None)


def not_finite(tmp_path):
    return recording(tmp_path, "nan", np.full(1600, np.nan), 16000).to_cut()


def truncated(tmp_path):
    cut = recording(tmp_path, "short", noise(16000, 0), 16000).to_cut()
    path = tmp_path / "short.wav"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return cut


@pytest.mark.parametrize(
    "make_cut, message",
    [
        (missing_audio, "gone.wav"),
        (stereo, "expected one channel"),
        (no_recording, "expected one channel"),
        (not_finite, "sample 0 is nan"),
        (truncated, "short.wav"),
    ],
)
def test_a_bad_cut_is_named(tmp_path, capsys, make_cut, message):
    good = recording(tmp_path, "good", noise(1600, 0), 16000).to_cut()
    cut = make_cut(tmp_path).with_id("the-culprit")
    manifest = tmp_path / "cuts.jsonl"
    CutSet.from_cuts([good, cut]).to_file(manifest)
    assert run(manifest, tmp_path / "cmvn.json") == 2
    error = capsys.readouterr().err
    assert "cut 'the-culprit'" in error and message in error
    assert not (tmp_path / "cmvn.json").exists()


def test_manifests_that_are_refused(tmp_path, capsys):
    (tmp_path / "text.jsonl").write_text("no manifest\n")
    good = recording(tmp_path, "good", noise(1600, 0), 16000)
    for name in ("nowhere.jsonl.gz", "text.jsonl"):
        assert run(tmp_path / name, tmp_path / "cmvn.json") == 2, name
        assert name in capsys.readouterr().err
    CutSet.from_cuts([good.to_cut()]).to_file(tmp_path / "cuts.jsonl")
    assert run(tmp_path / "cuts.jsonl", tmp_path / "cmvn.json", "--max-cuts", "0") == 2
    assert "--max-cuts is 0" in capsys.readouterr().err
