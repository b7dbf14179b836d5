import dataclasses
import importlib.util
import io
import pickle
import sys
import types

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.audio import fbank
from moe_asr.audio.fbank import (
    FbankOptions,
    NativeFbank,
    OnlineFbank,
    fbank_backends,
    fbank_extractor,
    make_fbank,
    set_kaldi_options,
)
from moe_asr.config import from_dict, to_dict
from moe_asr.errors import AudioError, ConfigError, MissingDependencyError
from tests.audio.references import slow_fbank

LOG_FLOOR = np.log(np.finfo(np.float32).eps)
NEEDS_KALDIFEAT = pytest.mark.skipif(
    importlib.util.find_spec("kaldifeat") is None,
    reason="kaldifeat is not installed (no wheel; `pip install moe-asr[kaldifeat]` compiles it)",
)
OPTIONS = [
    FbankOptions(),
    FbankOptions(snip_edges=True),
    FbankOptions(sample_rate=8000, num_bins=40, high_freq=3800.0),
    FbankOptions(
        num_bins=23, frame_length_ms=32.0, frame_shift_ms=16.0, low_freq=0.0, high_freq=0.0
    ),
]


def noise(num_samples: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal(num_samples)).astype(np.float32)


def speech_like(num_samples: int) -> np.ndarray:
    """Harmonics with a slow envelope, a constant offset, and a stretch of digital silence."""
    t = np.arange(num_samples) / 16000
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 30))
    samples = 0.1 * tone * (1 + np.sin(2 * np.pi * 3 * t)) + 0.02 + noise(num_samples, 5, 1e-3)
    samples[num_samples // 3 : num_samples // 2] = 0.0
    return samples.astype(np.float32)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("make_samples", [noise, speech_like])
def test_equals_kaldi_written_out(options, make_samples):
    samples = make_samples(4003)
    expected = slow_fbank(samples, options)
    features = make_fbank(options)(samples)
    assert features.dtype == np.float32 and features.shape == expected.shape
    # float32 beside float64: weak bins beside strong ones are cancelled from larger numbers
    np.testing.assert_allclose(features, expected, atol=5e-3, rtol=0)
    assert np.abs(features - expected).mean() < 1e-4


@pytest.mark.parametrize("num_samples", [80, 159, 399])
def test_equals_kaldi_written_out_where_the_signal_is_mirrored_more_than_once(num_samples):
    samples = noise(num_samples)
    np.testing.assert_allclose(
        make_fbank(FbankOptions())(samples), slow_fbank(samples, FbankOptions()), atol=5e-3
    )


@pytest.mark.parametrize("make_samples", [noise, speech_like])
def test_equals_lhotse(make_samples):
    from lhotse.features.kaldi.extractors import Fbank

    samples = make_samples(16000 * 3 + 77)
    theirs = Fbank().extract(samples, 16000)
    ours = make_fbank(FbankOptions())(samples)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=5e-3)
    assert np.abs(ours - theirs).mean() < 1e-4


def test_defaults_are_those_of_lhotse():
    from lhotse.features.kaldi.extractors import FbankConfig

    ours, theirs = FbankOptions(), FbankConfig()
    assert ours.sample_rate == theirs.sampling_rate
    assert ours.num_bins == theirs.num_filters
    assert ours.frame_length_ms == pytest.approx(theirs.frame_length * 1000)
    assert ours.frame_shift_ms == pytest.approx(theirs.frame_shift * 1000)
    for name in ("dither", "low_freq", "high_freq", "snip_edges"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_silence_is_the_floor_in_every_bin():
    features = make_fbank(FbankOptions())(np.zeros(1600, np.float32))
    np.testing.assert_allclose(features, np.full((10, 80), LOG_FLOOR), atol=1e-5)


def test_twice_the_amplitude_adds_log_four():
    samples = noise(8000)
    fbank = make_fbank(FbankOptions())
    np.testing.assert_allclose(fbank(2 * samples) - fbank(samples), np.log(4), atol=1e-4)


def online_features(
    options: FbankOptions, pieces: list[np.ndarray], pop_always: bool
) -> np.ndarray:
    online = OnlineFbank(options)
    popped = []
    for piece in pieces:
        online.accept_waveform(piece)
        if pop_always:
            popped.append(online.pop())
    online.input_finished()
    popped.append(online.pop())
    assert online.pop().shape == (0, options.num_bins)
    return np.concatenate(popped)


@given(
    options=st.sampled_from(OPTIONS),
    num_samples=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=12),
    pop_always=st.booleans(),
    seed=st.integers(0, 3),
)
def test_online_equals_offline_bit_for_bit(options, num_samples, cuts, pop_always, seed):
    samples = noise(num_samples, seed)
    pieces = np.split(samples, sorted(min(cut, num_samples) for cut in cuts))
    offline = make_fbank(options)(samples)
    online = online_features(options, pieces, pop_always)
    assert offline.shape == (options.num_frames(num_samples), options.num_bins)
    assert online.dtype == offline.dtype == np.float32
    np.testing.assert_array_equal(online, offline)


@pytest.mark.parametrize("size", [1, 7, 160, 161, 400])
def test_online_equals_offline_in_pieces_of_one_size(size):
    samples = speech_like(3001)
    pieces = [samples[i : i + size] for i in range(0, len(samples), size)]
    online = online_features(FbankOptions(), pieces, pop_always=True)
    np.testing.assert_array_equal(online, make_fbank(FbankOptions())(samples))


def test_online_frames_come_as_soon_as_their_samples_are_in():
    online = OnlineFbank(FbankOptions())
    online.accept_waveform(noise(279))  # frame 0 is centred at sample 80 and 400 long
    assert len(online.pop()) == 0
    online.accept_waveform(noise(1))
    assert len(online.pop()) == 1
    online.accept_waveform(noise(16000))
    assert len(online.pop()) == 100
    online.input_finished()
    assert len(online.pop()) == FbankOptions().num_frames(16280) - 101


def test_online_frees_what_was_popped():
    online = OnlineFbank(FbankOptions())
    for _ in range(5):
        online.accept_waveform(noise(1600))
        online.pop()
    with pytest.raises(RuntimeError, match="already removed"):
        online._fbank.get_frame(online._num_popped - 1)


def test_online_refuses_samples_after_the_end():
    online = OnlineFbank(FbankOptions())
    online.accept_waveform(noise(1600))
    online.input_finished()
    online.input_finished()
    with pytest.raises(AudioError, match="after input_finished"):
        online.accept_waveform(noise(10))
    assert len(online.pop()) == 10


@pytest.mark.parametrize("num_samples", [0, 1, 79])
def test_too_short_for_a_frame_is_zero_frames(num_samples):
    assert make_fbank(FbankOptions())(noise(num_samples)).shape == (0, 80)
    assert FbankOptions().num_frames(num_samples) == 0
    assert FbankOptions().num_frames(80) == 1
    assert FbankOptions(snip_edges=True).num_frames(399) == 0


@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    length=st.floats(10, 40),
    shift=st.floats(2, 10),
    snip_edges=st.booleans(),
    num_samples=st.integers(0, 5000),
)
def test_num_frames_is_what_comes_out(rate, length, shift, snip_edges, num_samples):
    options = FbankOptions(
        sample_rate=rate,
        num_bins=3,
        frame_length_ms=length,
        frame_shift_ms=shift,
        snip_edges=snip_edges,
    )
    assert len(make_fbank(options)(noise(num_samples))) == options.num_frames(num_samples)


def test_a_batch_is_each_of_its_waveforms():
    fbank = make_fbank(FbankOptions())
    waveforms = [noise(n, n) for n in (3000, 0, 400, 1601)]
    batch = fbank.batch(waveforms)
    assert len(batch) == 4
    for features, samples in zip(batch, waveforms, strict=True):
        np.testing.assert_array_equal(features, fbank(samples))


def test_dither_is_noise_of_its_scale():
    fbank = make_fbank(FbankOptions(dither=1e-3))
    silence = np.zeros(16000, np.float32)
    expected = make_fbank(FbankOptions())(noise(16000, scale=1e-3))
    assert abs(fbank(silence).mean() - expected.mean()) < 0.2


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros((1, 400), np.float32), r"shape \(1, 400\); expected mono"),
        (np.zeros(400, np.int16), "type int16; expected floats"),
        (np.array([0, 0, np.nan, 0], np.float32), "sample 2 is nan"),
        (np.array([0, np.inf], np.float64), "sample 1 is inf"),
    ],
)
def test_samples_that_are_refused(samples, message):
    with pytest.raises(AudioError, match=message):
        make_fbank(FbankOptions())(samples)
    with pytest.raises(AudioError, match=message):
        OnlineFbank(FbankOptions()).accept_waveform(samples)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"num_bins": 2}, "num_bins is 2"),
        ({"frame_shift_ms": 0.0}, "expected 0 < shift <= length"),
        ({"frame_shift_ms": 30.0}, "expected 0 < shift <= length"),
        ({"frame_length_ms": float("nan")}, "expected 0 < shift <= length"),
        ({"frame_shift_ms": 0.01}, "at least two samples and one"),
        ({"dither": -1.0}, "dither is -1.0"),
        ({"low_freq": -1.0}, "low_freq is -1.0"),
        ({"low_freq": 7600.0}, "low_freq is 7600.0"),
        ({"high_freq": 8001.0}, "high_freq 8001.0"),
        ({"high_freq": -8000.0}, "high_freq -8000.0"),
        ({"backend": "torchaudio"}, "expected one of kaldi-native-fbank, kaldifeat"),
        ({"num_bin": 80}, "did you mean 'num_bins'"),
    ],
)
def test_options_that_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(FbankOptions, values)


def test_more_bins_than_the_window_can_resolve_are_refused():
    with pytest.raises(ConfigError, match="num_mel_bins too large"):
        make_fbank(FbankOptions(num_bins=200))


def test_options_survive_plain_values():
    options = FbankOptions(sample_rate=8000, high_freq=3700.0, snip_edges=True)
    assert from_dict(FbankOptions, to_dict(options)) == options
    assert FbankOptions.from_dict(options.to_dict()) == options
    assert fbank_backends() == ["kaldi-native-fbank", "kaldifeat"]


def test_the_native_backend_has_no_gpu():
    with pytest.raises(ConfigError, match="runs on the CPU, not on 'cuda'"):
        make_fbank(FbankOptions(), device="cuda")


def test_an_extractor_can_be_pickled():
    fbank = pickle.loads(pickle.dumps(make_fbank(FbankOptions())))
    assert fbank(noise(400)).shape == (3, 80)


# lhotse


def memory_cut(samples: np.ndarray, rate: int):
    from lhotse import Recording

    stream = io.BytesIO()
    soundfile.write(stream, samples.T, rate, format="WAV", subtype="FLOAT")
    recording = Recording.from_bytes(stream.getvalue(), recording_id="r")
    return recording.to_cut()


def test_lhotse_cuts_compute_our_features():
    samples = noise(16000 + 37)
    cut = memory_cut(samples, 16000)
    extractor = fbank_extractor(FbankOptions())
    expected = make_fbank(FbankOptions())(samples)
    np.testing.assert_array_equal(cut.compute_features(extractor), expected)
    part = cut.truncate(offset=0.25, duration=0.5)
    np.testing.assert_array_equal(
        part.compute_features(extractor), make_fbank(FbankOptions())(samples[4000:12000])
    )


def test_lhotse_stores_and_reloads_our_features(tmp_path):
    from lhotse import CutSet
    from lhotse.features.io import NumpyFilesWriter

    cut = memory_cut(noise(16000), 16000)
    extractor = fbank_extractor(FbankOptions(num_bins=40))
    with NumpyFilesWriter(tmp_path) as storage:
        stored = cut.compute_and_store_features(extractor, storage)
    assert stored.num_features == 40 and stored.num_frames == 100
    assert stored.features.type == "moe-asr-fbank"
    np.testing.assert_array_equal(stored.load_features(), cut.compute_features(extractor))
    assert len(CutSet.from_cuts([stored])) == 1


def test_the_lhotse_extractor_survives_pickle_and_yaml(tmp_path):
    from lhotse.features.base import FeatureExtractor

    extractor = fbank_extractor(FbankOptions(num_bins=40, snip_edges=True))
    samples = torch.from_numpy(noise(4000))[None]
    expected = extractor.extract(samples, 16000)
    copies = [pickle.loads(pickle.dumps(extractor))]
    extractor.to_yaml(tmp_path / "extractor.yaml")
    copies.append(FeatureExtractor.from_yaml(tmp_path / "extractor.yaml"))
    for copy in copies:
        assert copy.config == extractor.config
        np.testing.assert_array_equal(copy.extract(samples, 16000), expected)


def test_the_lhotse_extractor_mixes_energies():
    a, b = noise(16000, 1), noise(16000, 2)
    extractor = fbank_extractor(FbankOptions())
    mixed = extractor.mix(extractor.extract(a, 16000), extractor.extract(b, 16000), 0.25)
    both = extractor.compute_energy(extractor.extract(a + 0.5 * b, 16000))
    energies = extractor.compute_energy(extractor.extract(a, 16000))
    assert extractor.compute_energy(mixed) == pytest.approx(both, rel=0.03)
    assert both > 1.2 * energies
    assert extractor.compute_energy(extractor.extract(2 * a, 16000)) == pytest.approx(4 * energies)


@pytest.mark.parametrize(
    "shape, rate, message",
    [((400,), 8000, "at 8000 Hz; expected 16000"), ((2, 400), 16000, "mono")],
)
def test_the_lhotse_extractor_refuses(shape, rate, message):
    with pytest.raises(AudioError, match=message):
        fbank_extractor(FbankOptions()).extract(np.zeros(shape, np.float32), rate)


# kaldifeat


@NEEDS_KALDIFEAT
def test_kaldifeat_gives_the_same_numbers():
    options = FbankOptions(backend="kaldifeat")
    waveforms = [noise(n, n) for n in (16000, 100, 401, 8123, 0)]
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        theirs = make_fbank(options, device).batch(waveforms)
        for features, samples in zip(theirs, waveforms, strict=True):
            expected = make_fbank(FbankOptions())(samples)
            assert features.shape == expected.shape
            np.testing.assert_allclose(features, expected, atol=5e-3)


@pytest.mark.skipif(
    importlib.util.find_spec("kaldifeat") is not None, reason="kaldifeat is installed"
)
def test_without_kaldifeat_the_error_says_how_to_get_it():
    with pytest.raises(MissingDependencyError, match=r"pip install moe-asr\[kaldifeat\]"):
        make_fbank(FbankOptions(backend="kaldifeat"))


class StandInOptions:
    """The fields of kaldifeat's options, as plain attributes."""

    def __init__(self) -> None:
        self.frame_opts, self.mel_opts = types.SimpleNamespace(), types.SimpleNamespace()


class StandInFbank:
    """kaldifeat.Fbank as documented: a list of tensors in and out, none below a window."""

    calls: list[list[int]] = []

    def __init__(self, opts: StandInOptions) -> None:
        assert isinstance(opts.device, torch.device)
        frame, mel = opts.frame_opts, opts.mel_opts
        assert (frame.preemph_coeff, frame.window_type, frame.remove_dc_offset) == (
            0.97,
            "povey",
            True,
        )
        assert opts.use_energy is False and opts.use_log_fbank is True and opts.use_power is True
        self.options = FbankOptions(
            sample_rate=frame.samp_freq,
            num_bins=mel.num_bins,
            frame_length_ms=frame.frame_length_ms,
            frame_shift_ms=frame.frame_shift_ms,
            dither=frame.dither,
            low_freq=mel.low_freq,
            high_freq=mel.high_freq,
            snip_edges=frame.snip_edges,
        )

    def __call__(self, waves: list[torch.Tensor]) -> list[torch.Tensor]:
        assert isinstance(waves, list) and waves
        assert all(wave.dtype == torch.float32 and len(wave) >= 400 for wave in waves)
        self.calls.append([len(wave) for wave in waves])
        return [torch.from_numpy(NativeFbank(self.options)(wave.numpy())) for wave in waves]


def test_the_kaldifeat_backend_speaks_its_interface(monkeypatch):
    stand_in = types.SimpleNamespace(FbankOptions=StandInOptions, Fbank=StandInFbank)
    monkeypatch.setitem(sys.modules, "kaldifeat", stand_in)
    monkeypatch.setattr(StandInFbank, "calls", [])
    options = FbankOptions(num_bins=40, low_freq=30.0, high_freq=-300.0, backend="kaldifeat")
    fbank = make_fbank(options)
    waveforms = [noise(n, n) for n in (16000, 100, 401, 0, 8123)]
    native = make_fbank(dataclasses.replace(options, backend="kaldi-native-fbank"))
    for features, samples in zip(fbank.batch(waveforms), waveforms, strict=True):
        np.testing.assert_array_equal(features, native(samples))
    assert StandInFbank.calls == [[16000, 401, 8123]]
    assert fbank.batch([]) == [] and fbank(noise(10)).shape == (0, 40)


def test_both_libraries_take_the_same_option_names():
    import kaldi_native_fbank

    ours, theirs = StandInOptions(), kaldi_native_fbank.FbankOptions()
    set_kaldi_options(ours, FbankOptions())
    for part in ("frame_opts", "mel_opts"):
        for name in vars(getattr(ours, part)):
            assert hasattr(getattr(theirs, part), name)


def test_batches_are_computed_where_the_model_is(monkeypatch):
    made = []
    monkeypatch.setattr(
        fbank, "make_fbank", lambda options, device="cpu": made.append((options.backend, device))
    )
    monkeypatch.setattr(fbank.importlib.util, "find_spec", lambda name: object())
    fbank.make_batch_fbank(FbankOptions(), "cuda:0")
    fbank.make_batch_fbank(FbankOptions(), "cpu")
    monkeypatch.setattr(fbank.importlib.util, "find_spec", lambda name: None)
    fbank.make_batch_fbank(FbankOptions(), "cuda:0")
    assert made == [
        ("kaldifeat", "cuda:0"),
        ("kaldi-native-fbank", "cpu"),
        ("kaldi-native-fbank", "cpu"),
    ]
