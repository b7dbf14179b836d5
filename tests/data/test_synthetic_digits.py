import hashlib

import numpy as np
import pytest
import soundfile

from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.fsdd import scan_recordings
from moe_asr.data.synthetic_digits import SPEAKERS, synthesize_digits, trim_silence
from moe_asr.errors import DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
NAMES = [speaker.name for speaker in SPEAKERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthesize_digits(tmp_path_factory.mktemp("espeak"), num_takes=3, progress=False)


def digest(folder):
    paths = sorted((folder / "recordings").iterdir())
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def test_synthetic_digits_look_like_fsdd(folder):
    recordings = scan_recordings(folder, NAMES, num_takes=3)
    assert len(recordings) == 6 * 10 * 3
    seconds = np.array([r.num_samples / r.sample_rate for r in recordings])
    assert seconds.min() > 0.1 and seconds.max() < 1.5 and 0.3 < seconds.mean() < 0.6
    contents = set()
    for recording in recordings:
        samples, rate = soundfile.read(str(recording.path))
        assert rate == 8000
        contents.add(samples.tobytes())
        assert 0.05 < np.abs(samples).max() <= 1.0
        # trimmed: speech starts within the first tenth of a second, and fills most of the file
        frames = samples[: len(samples) // 80 * 80].reshape(-1, 80)
        loud = np.sqrt((frames**2).mean(axis=1)) > 0.01 * np.abs(samples).max()
        assert loud[:10].any() and loud[-10:].any() and loud.mean() > 0.4
    assert len(contents) == len(recordings)  # every take differs


def test_speakers_differ_in_pitch(folder):
    """By autocorrelation of 'nine': the voices are not one voice."""
    pitch = {}
    for name in NAMES:
        values = []
        for take in range(3):
            samples, rate = soundfile.read(str(folder / "recordings" / f"9_{name}_{take}.wav"))
            middle = samples[len(samples) // 4 : len(samples) // 4 + 800]
            correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
            lag = 20 + int(np.argmax(correlation[20:134]))  # 60 to 400 Hz
            values.append(rate / lag)
        pitch[name] = np.median(values)
    assert max(pitch.values()) > 1.4 * min(pitch.values())


def test_synthesis_is_the_same_in_every_call(folder, tmp_path):
    assert digest(synthesize_digits(tmp_path, num_takes=3, num_processes=1, progress=False)) == (
        digest(folder)
    )


def test_a_complete_corpus_is_kept_and_a_spoiled_one_refused(folder, tmp_path):
    before = digest(folder)
    synthesize_digits(folder, num_takes=3, progress=False)
    assert digest(folder) == before
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "0_ada_0.wav").write_bytes(
        (folder / "recordings" / "0_ada_0.wav").read_bytes()
    )
    with pytest.raises(DataError, match="179 of 180 recordings missing"):
        synthesize_digits(tmp_path, num_takes=3, progress=False)


def test_engine_parameters_and_errors():
    synthesizer = EspeakSynthesizer()
    slow, fast = (synthesizer.synthesize("seven", rate=rate) for rate in (100, 300))
    assert len(slow) > 1.5 * len(fast) > 0.1 * synthesizer.sample_rate
    quiet = synthesizer.synthesize("seven", rate=100, volume=40)
    assert np.abs(quiet).max() < 0.8 * np.abs(slow).max()
    with pytest.raises(DataError, match="no voice 'xx-nowhere'"):
        synthesizer.synthesize("seven", voice="xx-nowhere")
    with pytest.raises(DataError, match=r"no voice 'en-us\+nobody'"):
        synthesizer.synthesize("seven", voice="en-us+nobody")
    for call in (synthesizer.synthesize, synthesizer.phonemes):
        with pytest.raises(DataError, match=r"null character of 'se\\x00ven'"):
            call("se\0ven")


def test_trim_silence():
    samples = np.concatenate([np.zeros(100), np.ones(50), np.zeros(7), [-0.5], 0.001 * np.ones(9)])
    assert np.array_equal(trim_silence(samples), samples[100:158])
    assert len(trim_silence(np.zeros(10))) == 0
