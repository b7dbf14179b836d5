import pytest

from moe_asr.cli.main import main
from moe_asr.data import download, synthetic_digits
from moe_asr.data.manifests import read_cuts
from moe_asr.errors import DataError
from moe_asr.files import read_json

SMALL = ["--num-train", "12", "--num-dev", "6", "--num-test", "6", "--num-processes", "1"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("FSDD_DIR", raising=False)


def run(output, *arguments):
    return main(["prepare-digits", "--output", str(output), *SMALL, *arguments])


@pytest.mark.parametrize("way", ["option", "environment"])
def test_fsdd_from_a_folder(fsdd_like, tmp_path, monkeypatch, capsys, way):
    if way == "environment":
        monkeypatch.setenv("FSDD_DIR", str(fsdd_like))
        arguments = ["--exclude-speaker", "theo"]
    else:
        monkeypatch.setenv("FSDD_DIR", "/not/this")
        arguments = ["--fsdd-dir", str(fsdd_like / "recordings"), "--exclude-speaker", "theo"]
    assert run(tmp_path, *arguments) == 0
    assert "corpus: fsdd, 3000 recordings of 6 speakers" in capsys.readouterr().out
    summary = read_json(tmp_path / "corpus.json")
    assert summary["corpus"] == "fsdd" and summary["exclude_speaker"] == "theo"
    for split, number in (("train", 12), ("dev", 6), ("test", 6)):
        cuts = read_cuts(tmp_path / f"cuts_{split}.jsonl.gz")
        assert len(cuts) == number == summary["splits"][split]["num_strings"]
        assert all((c.supervisions[0].speaker == "theo") == (split == "test") for c in cuts)


def test_download_comes_before_synthesis(fsdd_like, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(target):
        asked.append(target)
        return fsdd_like

    monkeypatch.setattr(download, "download_fsdd", fetch)
    assert run(tmp_path) == 0
    assert asked == [tmp_path / "corpus" / "fsdd"]
    assert read_json(tmp_path / "corpus.json")["corpus"] == "fsdd"
    assert "SYNTHETIC" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--no-download"], ["--synthetic"]])
def test_synthesis_comes_last_and_is_said_plainly(
    fsdd_like, tmp_path, monkeypatch, capsys, arguments
):
    def fetch(target):
        assert not arguments, "no download was wanted"
        raise DataError("no network here")

    def synthesize(folder, num_processes):
        assert folder == tmp_path / "corpus" / "synthetic"
        return fsdd_like

    def names():
        from moe_asr.data.fsdd import FSDD_SPEAKERS
        from moe_asr.data.synthetic_digits import SyntheticSpeaker

        return tuple(SyntheticSpeaker(name, "en-us", 170, 50) for name in FSDD_SPEAKERS)

    if arguments == ["--synthetic"]:
        monkeypatch.setenv("FSDD_DIR", str(fsdd_like))  # told not to take it
    monkeypatch.setattr(download, "download_fsdd", fetch)
    monkeypatch.setattr(synthetic_digits, "synthesize_digits", synthesize)
    monkeypatch.setattr(synthetic_digits, "SPEAKERS", names())
    assert run(tmp_path, *arguments) == 0
    output = capsys.readouterr().out
    assert "SYNTHETIC" in output and "corpus: synthetic" in output
    assert ("no network here" in output) == (arguments == [])
    assert read_json(tmp_path / "corpus.json")["corpus"] == "synthetic"


def test_a_wrong_folder_is_an_error_not_a_fallback(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSDD_DIR", str(tmp_path / "absent"))
    assert run(tmp_path / "out") == 2
    assert "absent: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_an_unknown_speaker_is_an_error(fsdd_like, tmp_path, capsys):
    assert run(tmp_path, "--fsdd-dir", str(fsdd_like), "--exclude-speaker", "carl") == 2
    assert "unknown speaker 'carl'" in capsys.readouterr().err
