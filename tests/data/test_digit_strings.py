import dataclasses
import hashlib
import os
import shutil

import numpy as np
import pytest
import soundfile
import soxr

from moe_asr.data.digit_mixing import MAX_PEAK, render_digit_string
from moe_asr.data.digit_plan import DigitStringOptions, plan_digit_strings
from moe_asr.data.digit_strings import (
    STAMP_NAME,
    make_digit_strings,
    manifest_path,
)
from moe_asr.data.manifests import read_cuts, write_cuts
from moe_asr.errors import DataError
from moe_asr.files import read_json

OPTIONS = DigitStringOptions(num_train=120, num_dev=10, num_test=20)


def rms_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def digests(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.wav")
    }


@pytest.fixture(scope="module")
def made(tiny_recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strings")
    stamp = make_digit_strings(tiny_recordings, folder, OPTIONS, num_processes=2, progress=False)
    return folder, stamp


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_string_is_its_digits_and_a_noise_floor(tiny_recordings):
    """Against a mix made by hand: what is left after taking the digits out is the noise."""
    colours = set()
    for string in plan_digit_strings(tiny_recordings, OPTIONS)["train"][:30]:
        samples = render_digit_string(string)
        assert samples.shape == (string.num_samples,) and samples.dtype == np.float32
        digits = [
            soxr.resample(soundfile.read(str(r.path), dtype="float32")[0], 8000, 16000)
            for r in string.recordings
        ]
        peak = max(np.abs(d).max() for d in digits)
        gain = min(10 ** (string.gain_db / 20), MAX_PEAK / peak)
        expected = np.zeros(string.num_samples)
        for start, digit in zip(string.starts, digits, strict=True):
            expected[start : start + len(digit)] += gain * digit
        noise = samples - expected
        assert rms_db(noise) == pytest.approx(string.noise_dbfs, abs=2.0)  # of a short stretch
        assert np.abs(noise[: string.starts[0]]).max() > 0
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        low, high = np.array_split(spectrum, 2)
        assert (low.sum() / high.sum() > 2) == string.pink
        colours.add(string.pink)
    assert colours == {False, True}


def test_loud_strings_do_not_clip(tiny_recordings):
    options = dataclasses.replace(OPTIONS, gain_db=(40.0, 40.0))
    for string in plan_digit_strings(tiny_recordings, options)["test"]:
        assert 0.85 < np.abs(render_digit_string(string)).max() < 0.95


def test_a_string_too_long_for_the_noise_is_refused(tiny_recordings):
    options = dataclasses.replace(OPTIONS, edge_seconds=(30.0, 30.0))
    with pytest.raises(DataError, match="at most 40 s"):
        render_digit_string(plan_digit_strings(tiny_recordings, options)["test"][0])


def test_manifests_describe_the_files(made, tiny_recordings):
    folder, stamp = made
    plans = plan_digit_strings(tiny_recordings, OPTIONS)
    for split, strings in plans.items():
        cuts = read_cuts(manifest_path(folder, split))
        assert [cut.id for cut in cuts] == [string.id for string in strings]
        assert stamp["splits"][split]["num_strings"] == len(strings)
        seconds = sum(cut.duration for cut in cuts)
        assert stamp["splits"][split]["duration_seconds"] == pytest.approx(seconds, abs=0.01)
        for cut, string in list(zip(cuts, strings, strict=True))[::9]:
            info = soundfile.info(cut.recording.sources[0].source)
            assert (info.samplerate, info.subtype, info.channels) == (16000, "PCM_16", 1)
            assert info.frames == cut.num_samples == string.num_samples
            samples = cut.load_audio()[0]
            assert np.abs(samples - render_digit_string(string)).max() < 1.01 / 32768
            (supervision,) = cut.supervisions
            assert supervision.text == string.text and supervision.speaker == string.speaker
            words = supervision.alignment["word"]
            assert [w.symbol for w in words] == supervision.text.split()
            for word in words:  # the digits are far louder than the floor
                first, last = round(word.start * 16000), round(word.end * 16000)
                assert rms_db(samples[first:last]) > string.noise_dbfs + 10


def test_paths_are_relative(copy):
    shutil.move(copy, copy.with_name("moved"))
    for cut in read_cuts(manifest_path(copy.with_name("moved"), "test")):
        assert cut.load_audio().shape == (1, cut.num_samples)


def test_one_process_makes_the_same(made, tiny_recordings, tmp_path):
    make_digit_strings(tiny_recordings, tmp_path, OPTIONS, num_processes=1, progress=False)
    assert digests(tmp_path) == digests(made[0])


def test_a_second_call_does_nothing(copy, tiny_recordings):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    stamp = make_digit_strings(tiny_recordings, copy, OPTIONS, progress=False)
    assert stamp == read_json(copy / STAMP_NAME)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_an_interrupted_call_is_taken_up(copy, made, tiny_recordings):
    wavs = sorted(copy.rglob("*.wav"))
    kept = {path: path.stat().st_mtime_ns for path in wavs[2:]}
    wavs[0].unlink()
    wavs[1].write_bytes(wavs[1].read_bytes()[:-100])
    (copy / STAMP_NAME).unlink()
    manifest_path(copy, "test").unlink()
    make_digit_strings(tiny_recordings, copy, OPTIONS, progress=False)
    assert digests(copy) == digests(made[0])
    assert {path: path.stat().st_mtime_ns for path in wavs[2:]} == kept
    assert len(read_cuts(manifest_path(copy, "test"))) == 20


def test_other_options_replace_the_strings(copy, tiny_recordings):
    before = digests(copy)
    options = dataclasses.replace(OPTIONS, seed=5, num_test=12)
    stamp = make_digit_strings(tiny_recordings, copy, options, progress=False)
    after = digests(copy)
    assert stamp["splits"]["test"]["num_strings"] == 12
    assert len(after) == 120 + 10 + 12 and not set(before) & set(after)
    assert len(read_cuts(manifest_path(copy, "test"))) == 12


def test_other_recordings_replace_the_strings(copy, tiny_folder, tiny_recordings, tmp_path):
    shutil.copytree(tiny_folder / "recordings", tmp_path / "recordings")
    changed = [
        dataclasses.replace(r, path=tmp_path / "recordings" / r.path.name) for r in tiny_recordings
    ]
    same = make_digit_strings(changed, copy, OPTIONS, progress=False)
    samples, rate = soundfile.read(str(changed[0].path))
    soundfile.write(str(changed[0].path), samples / 2, rate)
    other = make_digit_strings(changed, copy, OPTIONS, progress=False)
    assert same["key"] != other["key"]
    assert os.listdir(copy / "audio") == [other["key"]]


def test_bad_manifests_are_named(tmp_path, made):
    with pytest.raises(DataError, match=r"absent\.jsonl\.gz: cannot be read"):
        read_cuts(tmp_path / "absent.jsonl.gz")
    (tmp_path / "bad.jsonl").write_text('{"id": 3\n')
    with pytest.raises(DataError, match=r"bad\.jsonl: cannot be read"):
        read_cuts(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        read_cuts(tmp_path / "empty.jsonl")
    cuts = read_cuts(manifest_path(made[0], "dev"))
    with pytest.raises(DataError, match="expected a name ending in"):
        write_cuts(cuts, tmp_path / "cuts.json")
    for name in ("cuts.jsonl", "cuts.jsonl.gz"):
        write_cuts(cuts, tmp_path / name)
        assert [c.id for c in read_cuts(tmp_path / name)] == [c.id for c in cuts]
    assert sorted(p.name for p in tmp_path.glob("*cuts*")) == ["cuts.jsonl", "cuts.jsonl.gz"]


@pytest.mark.skipif(not os.environ.get("FSDD_DIR"), reason="FSDD_DIR is not set")
def test_real_fsdd_strings(tmp_path):
    from moe_asr.data.fsdd import scan_recordings

    recordings = scan_recordings(os.environ["FSDD_DIR"])
    plans = plan_digit_strings(recordings, DigitStringOptions())
    assert len(plans["test"]) == 400
    assert {r.id for s in plans["test"] for r in s.recordings} == {
        r.id for r in recordings if r.take < 5
    }
    for string in plans["test"][::40]:
        samples = render_digit_string(string)
        assert np.abs(samples).max() > 3 * 10 ** (string.noise_dbfs / 20)
