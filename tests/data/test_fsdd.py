import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import validate_recordings_and_supervisions

from moe_asr.data.fsdd import (
    FSDD_SPEAKERS,
    corpus_fingerprint,
    fsdd_manifests,
    scan_recordings,
    split_of_take,
)
from moe_asr.errors import DataError

SPEAKERS = ("anna", "bob")


@pytest.fixture
def corpus(tiny_folder, tmp_path) -> Path:
    """A copy to spoil; returns the recordings folder."""
    shutil.copytree(tiny_folder / "recordings", tmp_path / "recordings")
    return tmp_path / "recordings"


def test_scan_lists_every_recording_in_order(tiny_folder, tiny_recordings):
    keys = [(r.speaker, r.digit, r.take) for r in tiny_recordings]
    assert keys == [(s, d, t) for s in SPEAKERS for d in range(10) for t in range(9)]
    for recording in tiny_recordings[::37]:
        samples, rate = soundfile.read(str(recording.path))
        assert (recording.num_samples, recording.sample_rate) == (len(samples), rate)
        name = f"{recording.digit}_{recording.speaker}_{recording.take}"
        assert recording.path.stem == recording.id == name
    assert scan_recordings(tiny_folder / "recordings", SPEAKERS, 9) == tiny_recordings
    assert scan_recordings(tiny_folder, None, 9) == tiny_recordings


def test_official_split():
    assert [t for t in range(50) if split_of_take(t) == "test"] == [0, 1, 2, 3, 4]
    assert [t for t in range(50) if split_of_take(t) == "dev"] == [5, 6]
    assert [t for t in range(50) if split_of_take(t) == "train"] == list(range(7, 50))


def test_missing_takes_are_named(corpus):
    (corpus / "3_bob_4.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 180 recordings missing: 3_bob_4\.wav"):
        scan_recordings(corpus, SPEAKERS, 9)
    for path in corpus.glob("*_bob_*"):
        path.unlink()
    with pytest.raises(DataError, match="90 of 180 recordings missing"):
        scan_recordings(corpus, SPEAKERS, 9)


@pytest.mark.parametrize(
    "name, message",
    [
        ("hello.wav", "hello.wav: unknown name"),
        ("10_bob_1.wav", "unknown name"),
        ("03_bob_2.wav", "the same recording as 3_bob_2.wav"),
        ("3_bob_02.wav", "the same recording as 3_bob_2.wav"),
        ("3_carl_2.wav", "unknown speaker; expected one of anna, bob"),
        ("3_bob_9.wav", "unknown take; expected 0 to 8"),
    ],
)
def test_files_that_do_not_belong_are_refused(corpus, name, message):
    shutil.copy(corpus / "3_bob_2.wav", corpus / name)
    with pytest.raises(DataError, match=message):
        scan_recordings(corpus, SPEAKERS, 9)


def test_files_that_are_no_speech_are_refused(corpus):
    path = corpus / "3_bob_2.wav"
    path.write_bytes(b"RIFF, but no more")
    with pytest.raises(DataError, match=r"3_bob_2\.wav: not readable audio"):
        scan_recordings(corpus, SPEAKERS, 9)
    soundfile.write(str(path), np.zeros((100, 2)), 8000)
    with pytest.raises(DataError, match=r"3_bob_2\.wav: found 2 channels"):
        scan_recordings(corpus, SPEAKERS, 9)
    soundfile.write(str(path), np.zeros(0), 8000)
    with pytest.raises(DataError, match=r"3_bob_2\.wav: found 1 channels of 0 samples"):
        scan_recordings(corpus, SPEAKERS, 9)


def test_folder_without_recordings(tmp_path):
    with pytest.raises(DataError, match="no WAV file in it"):
        scan_recordings(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        scan_recordings(tmp_path / "absent")


def test_fingerprint_is_of_contents_not_of_place(corpus, tiny_recordings):
    copies = scan_recordings(corpus, SPEAKERS, 9)
    assert corpus_fingerprint(copies) == corpus_fingerprint(tiny_recordings)
    content = bytearray((corpus / "3_bob_2.wav").read_bytes())
    content[-1] ^= 1
    (corpus / "3_bob_2.wav").write_bytes(content)
    assert corpus_fingerprint(copies) != corpus_fingerprint(tiny_recordings)


def test_manifests_fit_together_and_to_the_files(tiny_recordings):
    manifests = fsdd_manifests(tiny_recordings)
    assert {split: len(m[0]) for split, m in manifests.items()} == {
        "train": 40,
        "dev": 40,
        "test": 100,
    }
    for split, (recordings, supervisions) in manifests.items():
        validate_recordings_and_supervisions(recordings, supervisions, read_data=split == "dev")
        assert all(split_of_take(int(r.id.split("_")[2])) == split for r in recordings)
    words = Counter(s.text for s in manifests["test"][1])
    assert words["seven"] == 10 and len(words) == 10
    assert manifests["test"][1]["8_bob_0"].text == "eight"
    assert manifests["test"][1]["8_bob_0"].speaker == "bob"


@pytest.mark.skipif(not os.environ.get("FSDD_DIR"), reason="FSDD_DIR is not set")
def test_real_fsdd():
    recordings = scan_recordings(os.environ["FSDD_DIR"])
    assert len(recordings) == 3000
    assert Counter(r.split for r in recordings) == {"train": 2580, "dev": 120, "test": 300}
    assert {r.speaker for r in recordings} == set(FSDD_SPEAKERS)
    assert {r.sample_rate for r in recordings} == {8000}
    seconds = sum(r.num_samples for r in recordings) / 8000
    assert seconds / 60 == pytest.approx(21.9, abs=0.1)
