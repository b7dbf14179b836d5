"""LibriSpeech and AISHELL as they lie on disk, whole and damaged, and what preparation makes of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from lhotse import SupervisionSet

from moe_asr.cli.main import main
from moe_asr.data.aishell import Aishell
from moe_asr.data.corpus import DurationLimits, Part, make_corpus, prepare_part
from moe_asr.data.manifests import read_cuts
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import read_json
from tests.egs import mock_corpora
from tests.egs.recipe_runs import serving

FOLDERS = {"librispeech": "LibriSpeech", "aishell": "."}


@pytest.fixture(scope="module")
def mocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mocks")
    return {name: mock_corpora.make(name, folder / name) for name in ("librispeech", "aishell")}


@pytest.fixture
def copy(mocks: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A corpus of this test's own, to be damaged."""
    return lambda name: Path(shutil.copytree(mocks[name], tmp_path / name))


def prepare(name: str, source: Path, output: Path, *options: str) -> int:
    command = ["prepare-corpus", "--corpus", name, "--source", str(source)]
    return main([*command, "--output", str(output), "--partial", *options])


def on_disk(name: str, root: Path, part: str) -> dict[str, tuple[Path, str]]:
    """{utterance: (audio, words)} by reading the files in the plainest way."""
    if name == "librispeech":
        pairs = {}
        for path in (root / part).rglob("*.trans.txt"):
            for line in path.read_text().splitlines():
                utterance, words = line.split(" ", 1)
                pairs[utterance] = (path.parent / f"{utterance}.flac", words)
        return pairs
    transcript = root / "data_aishell/transcript/aishell_transcript_v0.8.txt"
    words = dict(line.split(" ", 1) for line in transcript.read_text("utf-8").splitlines())
    waves = (root / "data_aishell/wav" / part).rglob("*.wav")
    return {path.stem: (path, words[path.stem]) for path in waves if path.stem in words}


@pytest.mark.parametrize("name", ["librispeech", "aishell"])
def test_cuts_are_the_utterances_on_disk(
    mocks: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert prepare(name, mocks[name], tmp_path) == 0
    table = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    corpus, root = make_corpus(name), mocks[name] / FOLDERS[name]
    for part, info in corpus.parts.items():
        disk = on_disk(name, root, part)
        seconds = {key: soundfile.info(str(path)).duration for key, (path, _) in disk.items()}
        kept = {key for key, value in seconds.items() if info.role != "train" or value >= 1}
        cuts = list(read_cuts(tmp_path / f"cuts_{part}.jsonl.gz"))
        assert {cut.id for cut in cuts} == kept and len(cuts) == len(kept)
        for cut in cuts:
            path, words = disk[cut.id]
            assert cut.duration == pytest.approx(seconds[cut.id])
            assert Path(cut.recording.sources[0].source) == path.resolve()
            text = words.replace(" ", "") if name == "aishell" else words
            assert cut.supervisions[0].text == text
            assert cut.supervisions[0].speaker in path.parts
        lines = (tmp_path / f"text_{part}.txt").read_text("utf-8").splitlines()
        assert lines == [disk[cut.id][1] for cut in cuts]
        row = table[part]
        assert row[1:3] == [str(info.num_utterances), str(len(disk))]
        assert [int(field) for field in row[4:7]] == [len(disk) - len(kept), 0, len(kept)]
        if info.role != "train":
            assert [cut.id for cut in cuts] == sorted(disk)
    for joined, parts in corpus.joined.items():
        ids = [cut.id for cut in read_cuts(tmp_path / f"cuts_{joined}.jsonl.gz")]
        single = [[c.id for c in read_cuts(tmp_path / f"cuts_{part}.jsonl.gz")] for part in parts]
        assert sorted(ids) == sorted(sum(single, []))
        assert joined != "train" or ids != sum(single, [])  # mixed
    if name == "aishell":
        assert table["train"][3] == "1"  # the recording without a transcript


def test_where_a_corpus_is_looked_for(mocks: dict[str, Path], tmp_path: Path) -> None:
    libri, aishell = make_corpus("librispeech"), make_corpus("aishell")
    root = mocks["librispeech"] / "LibriSpeech"
    assert libri.locate(root) == libri.locate(root.parent) == root
    root = mocks["aishell"]
    assert aishell.locate(root) == aishell.locate(root / "data_aishell") == root
    for corpus, wrong in ((libri, root), (aishell, root / "data_aishel"), (aishell, tmp_path)):
        with pytest.raises(DataError, match=f"{wrong}: expected .* there"):
            corpus.locate(wrong)
    (tmp_path / "data_aishell.tgz").touch()
    with pytest.raises(DataError, match="data_aishell.tgz is there, but not unpacked"):
        aishell.locate(tmp_path)


def test_duration_limits_count_and_spare_the_test_parts(
    mocks: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("--min-seconds", "1.7", "--max-seconds", "1.8")
    assert prepare("aishell", mocks["aishell"], tmp_path, *limits) == 0
    disk = on_disk("aishell", mocks["aishell"], "train")
    seconds = [soundfile.info(str(path)).duration for path, _ in disk.values()]
    report = read_json(tmp_path / "report_train.json")
    assert report["too_short"] == sum(value < 1.7 for value in seconds) > 0
    assert report["too_long"] == sum(value > 1.8 for value in seconds) > 0
    assert report["kept"] == len(seconds) - report["too_short"] - report["too_long"] > 0
    assert read_json(tmp_path / "report_test.json")["kept"] == 2
    with pytest.raises(ConfigError, match="not a range of durations: 3.0 to 2.0 s"):
        DurationLimits(3.0, 2.0)
    with pytest.raises(ConfigError, match="not a range of durations: 1.0 to inf s"):
        DurationLimits(1.0, float("inf"))
    assert prepare("aishell", mocks["aishell"], tmp_path, "--min-seconds", "19") == 2
    assert "part train has no utterance of 19.0 to 20.0 s" in capsys.readouterr().err


def test_a_part_is_made_again_when_its_files_change(
    copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = copy("librispeech"), tmp_path / "out"
    parts = ("--parts", "train-clean-100", "test-clean")

    def made(*options: str) -> list[str]:
        assert prepare("librispeech", source, output, *(options or parts)) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split(":")[0].split("/")[1] for line in lines if ": made" in line]

    assert made() == ["part_train-clean-100", "part_test-clean", "joined_train"]
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert made() == []
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before

    transcript = source / "LibriSpeech/test-clean/61/70968/61-70968.trans.txt"
    transcript.write_text(transcript.read_text().replace("OLD", "NEW"))
    assert made() == ["part_test-clean"]
    assert "NEW" in (output / "text_test-clean.txt").read_text()
    audio = source / "LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac"
    samples, rate = soundfile.read(str(audio))
    soundfile.write(str(audio), samples[:-4000], rate)
    assert made() == ["part_train-clean-100", "joined_train"]
    cut = read_cuts(output / "cuts_train.jsonl.gz")["103-1240-0000"]
    assert cut.num_samples == len(samples) - 4000
    assert made(*parts, "--max-seconds", "1.8") == ["part_train-clean-100", "joined_train"]


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).write_text(change((root / name).read_text("utf-8")), "utf-8")

    return damage


def remove(*names: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).write_bytes(content)

    return damage


def copied(name: str, target: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, root / target)

    return damage


L, C = "LibriSpeech", "LibriSpeech/train-clean-100/103/1240"
A, W = "data_aishell/transcript/aishell_transcript_v0.8.txt", "data_aishell/wav"


@pytest.mark.parametrize(
    "name,damage,message",
    [
        ("librispeech", remove(L), "expected folders train-clean-100, .*; none of them is there"),
        ("librispeech", remove(f"{L}/test-other"),
         "test-other: no such folder; test-other.tar.gz unpacks to it. There are: train-clean-100,"),
        ("librispeech", remove(f"{L}/test-other/367"), "test-other: no utterances"),
        ("librispeech", remove(f"{C}/103-1240.trans.txt"), "103-1240.trans.txt: missing, beside 4"),
        ("librispeech", remove(f"{C}/103-1240-0001.flac"),
         "103-1240.trans.txt:2: there is no 103-1240-0001.flac"),
        ("librispeech", edit(f"{C}/103-1240.trans.txt", lambda text: text.split("\n", 1)[1]),
         "103-1240-0000.flac: no line in 103-1240.trans.txt"),
        ("librispeech", edit(f"{C}/103-1240.trans.txt", lambda text: text + text.split("\n")[0]),
         "103-1240.trans.txt:5: a second line for 103-1240-0000"),
        ("librispeech", edit(f"{C}/103-1240.trans.txt", lambda text: text.replace(" NO", "")),
         "103-1240.trans.txt:4: expected '103-1240-<nnnn> WORDS', found '103-1240-0003'"),
        ("librispeech", edit(f"{C}/103-1240.trans.txt", lambda text: text.replace("103-", "104-")),
         "103-1240.trans.txt:1: expected '103-1240-<nnnn> WORDS'"),
        ("librispeech", write(f"{C}/103-1240.trans.txt", b"103-1240-0000 A\xff\n"), "not UTF-8"),
        ("librispeech", write(f"{C}/103-1240-0001.flac", b""), "0001.flac: empty file"),
        ("librispeech", write(f"{C}/103-1240-0001.flac", b"fLaC no audio"),
         "lhotse cannot prepare train-clean-100: .*103-1240-0001.flac"),
        ("librispeech", copied(f"{L}/test-clean/61", f"{L}/train-clean-100/61"),
         "train-clean-100/61/70968: test-clean/ has the same chapter"),
        ("aishell", remove(A), f"expected {A} in it; it is not there"),
        ("aishell", remove(f"{W}/dev"), "wav/dev: no such folder"),
        ("aishell", remove(W), "wav: no such folder"),
        ("aishell", remove(f"{W}/test/S0764"), "test: no audio with a transcript"),
        ("aishell", remove(f"{W}/train/S0003/BAC009S0003W0127.wav"),
         "S0003/BAC009S0003W0127.wav: missing; it has a transcript"),
        ("aishell", write(f"{W}/S0999.tar.gz", b""), "1 archives are not unpacked, S0999.tar.gz"),
        ("aishell", write(f"{W}/dev/S0724/BAC009S0724W0135.wav", b""), "W0135.wav: empty file"),
        ("aishell", copied(f"{W}/train/S0002/BAC009S0002W0123.wav", f"{W}/train/S0003"),
         "S0003/BAC009S0002W0123.wav: expected it in a folder S0002"),
        ("aishell", copied(f"{W}/test/S0764", f"{W}/train/S0764"),
         "train/S0764: test/ has the same speaker"),
        ("aishell", edit(A, lambda text: text.replace("BAC009S0002W0123", "BAC009")),
         "transcript_v0.8.txt:2: expected 'BAC009S0002W0122 words', found 'BAC009 "),
        ("aishell", edit(A, lambda text: text + "BAC009S0002W0300\n"), "v0.8.txt:18: expected"),
        ("aishell", edit(A, lambda text: text + text), "v0.8.txt:18: a second line for BAC009S0002"),
        ("aishell", write(A, "BAC009S0002W0122 而".encode("gbk")), "v0.8.txt: not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_damaged_corpus_is_refused(
    copy: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    source = copy(name)
    damage(source)
    assert prepare(name, source, tmp_path / "out") == 2
    error = capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(DataError, match=message):  # for its message, should it not match
        raise DataError(error)
    assert not list((tmp_path / "out").glob("cuts_*"))


@pytest.mark.parametrize(
    "name,gone,message",
    [
        ("librispeech", "LibriSpeech/train-clean-100/1034",
         "part train-clean-100 has 6 utterances .*; published are 28539. 1 folders are missing, "
         "train-clean-100/1034/121119 for one"),
        ("aishell", f"{W}/train/S0003",
         r"part train has 9 utterances .*; published are 120098. 1 folders are missing, \*/S0003"),
    ],
)  # fmt: skip
def test_fewer_utterances_than_published_are_refused(
    copy: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    gone: str,
    message: str,
) -> None:
    source = copy(name)
    remove(gone)(source)
    command = ["prepare-corpus", "--corpus", name, "--source", str(source)]
    assert main([*command, "--output", str(tmp_path / "out")]) == 2
    with pytest.raises(DataError, match=message):
        raise DataError(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
    assert main([*command, "--output", str(tmp_path / "out"), "--parts", "dev-cleen"]) == 2
    assert f"{name} has no part 'dev-cleen'; expected one of " in capsys.readouterr().err


def test_as_many_utterances_as_published_pass(
    mocks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train": Part("train", 13), "dev": Part("dev", 2), "test": Part("test", 2)}
    monkeypatch.setattr(Aishell, "parts", parts)
    command = ["prepare-corpus", "--corpus", "aishell", "--source", str(mocks["aishell"])]
    assert main([*command, "--output", str(tmp_path)]) == 0
    monkeypatch.setitem(parts, "test", Part("test", 1))
    assert main([*command, "--output", str(tmp_path)]) == 2


def test_what_lhotse_leaves_out_or_changes_is_noticed(
    mocks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus("librispeech")
    root = corpus.locate(mocks["librispeech"])
    listing, limits = corpus.scan(root, "test-clean"), DurationLimits()
    recordings, supervisions = corpus.manifests(root, "test-clean")
    cases = {
        "61-70968-0001: on disk, left out by lhotse": lambda s: s.id != "61-70968-0001",
        "transcript 'HE SAW THE MILL', of lhotse 'he saw the mill'": None,
    }
    for message, keep in cases.items():
        changed = (
            supervisions.filter(keep)
            if keep
            else SupervisionSet.from_segments(s.transform_text(str.lower) for s in supervisions)
        )
        monkeypatch.setattr(corpus, "manifests", lambda *_, changed=changed: (recordings, changed))
        with pytest.raises(DataError, match=message):
            prepare_part(corpus, root, "test-clean", listing, limits)


def test_audio_of_another_rate_is_refused(copy: Callable[[str], Path]) -> None:
    source = copy("aishell")
    path = source / W / "test/S0764/BAC009S0764W0137.wav"
    samples, _ = soundfile.read(str(path))
    soundfile.write(str(path), samples, 44100)
    corpus = make_corpus("aishell")
    root = corpus.locate(source)
    with pytest.raises(DataError, match=r"W0137: 1 channel.* at 44100 Hz; expected 1 at 16000"):
        prepare_part(corpus, root, "test", corpus.scan(root, "test"), DurationLimits())


@pytest.mark.parametrize("name", ["librispeech", "aishell"])
def test_a_download_gives_what_was_packed(
    mocks: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    output = tmp_path / "downloads"
    command = ["download-corpus", "--corpus", name, "--output", str(output)]
    with serving(mock_corpora.pack(name, mocks[name], tmp_path / "server")) as url:
        assert main([*command, "--base-url", url]) == 0
    corpus = make_corpus(name)
    root = corpus.locate(output)
    for part in corpus.parts:
        there, packed = (on_disk(name, r, part) for r in (root, mocks[name] / FOLDERS[name]))
        assert {key: words for key, (_, words) in there.items()} == {
            key: words for key, (_, words) in packed.items()
        }
        assert all(
            path.read_bytes() == packed[key][0].read_bytes() for key, (path, _) in there.items()
        )
    # everything is there: another call needs no server
    assert main([*command, "--base-url", "http://127.0.0.1:9"]) == 0
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "other"), "--base-url", "http://127.0.0.1:9"]) == 2
    assert "download failed: URLError" in capsys.readouterr().err


def test_a_damaged_archive_and_files_for_language_models(
    mocks: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resources = mock_corpora.pack("librispeech", mocks["librispeech"], tmp_path / "server")
    archive = resources / "12" / "dev-clean.tar.gz"
    archive.write_bytes(archive.read_bytes()[:3000])
    command = ["download-corpus", "--corpus", "librispeech", "--output", str(tmp_path / "out")]
    with serving(resources) as url:
        command += ["--base-url", url, "--lm-files", "librispeech-lexicon.txt"]
        assert main([*command, "--parts"]) == 0
        assert main([*command, "--parts", "dev-clean"]) == 2
    lexicon = tmp_path / "out" / "lm" / "librispeech-lexicon.txt"
    assert lexicon.read_bytes() == (mocks["librispeech"] / "lm" / lexicon.name).read_bytes()
    assert not (tmp_path / "out" / "LibriSpeech").exists()
    error = capsys.readouterr().err
    assert "download failed: " in error and "delete that <part>.tar.gz in" in error
    assert main([*command, "librispeech.txt"]) == 2
    assert "no file 'librispeech.txt'; known: librispeech-lexicon.txt" in capsys.readouterr().err
