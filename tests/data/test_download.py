import io
import os
import tarfile

import pytest

from moe_asr.data.download import download_fsdd
from moe_asr.data.fsdd import scan_recordings
from moe_asr.errors import DataError


def make_archive(path, wavs):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in {
            "fsdd-26eb9aa/README.md": b"hello",
            "fsdd-26eb9aa/recordings/notes.txt": b"no audio",
            "../outside.wav": b"evil",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for wav in wavs:
            tar.add(wav, f"fsdd-26eb9aa/recordings/{wav.name}")
    return path.as_uri()


def test_the_archive_is_unpacked_once(fsdd_like, tmp_path):
    url = make_archive(tmp_path / "fsdd.tar.gz", (fsdd_like / "recordings").iterdir())
    target = tmp_path / "corpus"
    assert download_fsdd(target, url) == target
    assert len(scan_recordings(target)) == 3000
    assert sorted(p.name for p in target.iterdir()) == ["recordings"]
    assert all(p.suffix == ".wav" for p in (target / "recordings").iterdir())
    assert not (tmp_path / "outside.wav").exists()
    download_fsdd(target, "file:///no/such/archive")


def test_an_incomplete_archive_leaves_nothing(fsdd_like, tmp_path):
    url = make_archive(tmp_path / "fsdd.tar.gz", (fsdd_like / "recordings").glob("4_theo_*.wav"))
    with pytest.raises(DataError, match=r"2950 of 3000 recordings missing: 0_george_0\.wav"):
        download_fsdd(tmp_path / "corpus", url)
    assert os.listdir(tmp_path / "corpus") == []


@pytest.mark.parametrize("kept", [10, 3000])
def test_a_damaged_archive_is_named(fsdd_like, tmp_path, kept):
    url = make_archive(tmp_path / "fsdd.tar.gz", (fsdd_like / "recordings").glob("4_theo_*.wav"))
    content = (tmp_path / "fsdd.tar.gz").read_bytes()
    (tmp_path / "fsdd.tar.gz").write_bytes(content[:kept])
    with pytest.raises(DataError, match=r"fsdd\.tar\.gz: damaged archive"):
        download_fsdd(tmp_path / "corpus", url)
    assert os.listdir(tmp_path / "corpus") == []


def test_without_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded.*FSDD_DIR"):
        download_fsdd(tmp_path / "corpus", "http://127.0.0.1:9/fsdd.tar.gz", timeout_seconds=2)
    assert os.listdir(tmp_path / "corpus") == []
