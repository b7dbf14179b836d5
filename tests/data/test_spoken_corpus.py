import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_asr.audio.fbank import FbankOptions
from moe_asr.data.manifests import read_cuts
from moe_asr.data.spoken_audio import mix_utterance
from moe_asr.data.spoken_corpus import STAMP_NAME, make_spoken_corpus, manifest_path
from moe_asr.data.spoken_plan import SPLITS, SpokenCorpusOptions, SpokenPlan
from moe_asr.data.validation import validate_cuts
from moe_asr.data.voices import UNSEEN_ACCENTS
from moe_asr.errors import ConfigError, DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
ROOT = Path(__file__).parents[2]
SENTENCES = {
    "train": ["turn on the light in the kitchen", "call alice", "set a timer for ten minutes"],
    "dev": ["what is the weather like", "turn it off"],
    "test": ["play some jazz in the bedroom", "call bob at five o'clock"],
}
OPTIONS = SpokenCorpusOptions(
    train_hours=40 / 3600,
    dev_hours=4 / 3600,
    test_hours=12 / 3600,
    unseen_accent_share=0.5,
    reverb_probability=0.3,
)


def contents(folder: Path) -> dict[str, bytes]:
    """Audio and journals by name, and what the manifests say."""
    files = sorted((folder / "audio").glob("*/*"))
    found = {str(p.relative_to(folder)): p.read_bytes() for p in files if p.suffix == ".flac"}
    for split in SPLITS:
        cuts = [cut.to_dict() for cut in read_cuts(manifest_path(folder, split))]
        found[split] = json.dumps(cuts).replace(str(folder), "").encode()
    return found


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (folder / "audio").glob("*/[!.]*.flac")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    return folder, make_spoken_corpus(SENTENCES, folder, OPTIONS, 2, progress=False)


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")  # with the times of the files
    return tmp_path / "copy"


def remake(folder: Path, sentences=SENTENCES, options=OPTIONS, num_processes: int = 1):
    return make_spoken_corpus(sentences, folder, options, num_processes, progress=False)


def test_manifests_are_valid_and_last_the_hours_asked_for(made, tokenizer):
    folder, stamp = made
    ids = set()
    for split in SPLITS:
        cuts = list(read_cuts(manifest_path(folder, split)))
        num, seconds = validate_cuts(
            cuts, _Letters(tokenizer), FbankOptions(), max_speed_factor=1.1
        )
        wanted = OPTIONS.hours(split) * 3600
        assert wanted <= seconds and seconds - cuts[-1].duration < wanted
        counts = stamp["splits"][split]
        assert (num, round(seconds, 3)) == (counts["num_utterances"], counts["duration_seconds"])
        assert counts["num_words"] == sum(len(c.supervisions[0].text.split()) for c in cuts)
        assert {c.supervisions[0].text for c in cuts} <= set(SENTENCES[split])
        ids |= {c.id for c in cuts}
        for cut in cuts:
            samples, rate = soundfile.read(cut.recording.sources[0].source, dtype="int16")
            assert rate == 16000 == cut.sampling_rate and samples.shape == (cut.num_samples,)
            assert 500 < np.abs(samples).max() < 32700
    names = {path.stem for path in (folder / "audio").glob("*/[!.]*.flac")}
    assert names == ids  # what was made beyond the hours is not kept


class _Letters:
    """The alphabet's tokenizer, but for apostrophes."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def encode(self, text):
        return self._tokenizer.encode(text.replace("'", ""))


def test_cuts_say_how_they_were_made(made):
    folder, _ = made
    plan = SpokenPlan(SENTENCES, OPTIONS)
    for split in SPLITS:
        for index, cut in enumerate(read_cuts(manifest_path(folder, split))):
            u, custom = plan.utterance(split, index), cut.custom
            assert cut.id == u.id and cut.supervisions[0].speaker == u.speech.voice.name
            assert (custom["noise"], custom["snr_db"]) == (u.noise, u.snr_db)
            assert custom["unseen_accent"] == (custom["accent"] in UNSEEN_ACCENTS)
            assert bool(custom["rt60_seconds"]) == (u.room is not None)
    accents = [cut.custom["unseen_accent"] for cut in read_cuts(manifest_path(folder, "test"))]
    assert any(accents) and not all(accents)


def test_recorded_ratios_and_gains_are_those_of_the_pieces(made):
    """The file against speech and noise by themselves, which the plan gives again."""
    folder, _ = made
    plan = SpokenPlan(SENTENCES, OPTIONS)
    kinds = set()
    for index, cut in enumerate(read_cuts(manifest_path(folder, "train"))):
        mixed, _, gain_db = mix_utterance(plan.utterance("train", index), 16000)
        speech, noise = (t[0].astype(np.float64) for t in mixed.load_audio(mixed=False))
        ratio = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
        assert ratio == pytest.approx(cut.custom["snr_db"], abs=0.02)
        scale = min(1.0, 0.98 / np.abs(speech + noise).max())  # what would clip is softer
        assert gain_db + 20 * np.log10(scale) == pytest.approx(cut.custom["gain_db"], abs=0.01)
        written = cut.load_audio()[0]
        assert np.abs(written - scale * (speech + noise)).max() < 1e-4  # 16 bits
        kinds.add(cut.custom["noise"])
    assert len(kinds) > 3


def test_words_lie_where_the_speech_is(made):
    folder, _ = made
    plan = SpokenPlan(SENTENCES, OPTIONS)
    for index, cut in enumerate(read_cuts(manifest_path(folder, "train"))):
        supervision = cut.supervisions[0]
        words = supervision.alignment["word"]
        assert [w.symbol for w in words] == supervision.text.split()
        assert len(supervision.custom["phonemes"]) == len(words)
        assert words[0].start > 0 and words[-1].end < cut.duration
        assert all(w.duration > 0.02 for w in words)
        assert all(a.end <= b.start + 1e-9 for a, b in zip(words, words[1:], strict=False))
        u = plan.utterance("train", index)
        if u.room is not None:
            continue
        mixed, _, _ = mix_utterance(u, 16000)
        speech = mixed.load_audio(mixed=False)[0][0]
        inside = np.zeros(len(speech), dtype=bool)
        for w in words:
            span = slice(round(w.start * 16000), round(w.end * 16000))
            assert np.mean(speech[span] ** 2) > 1e-3 * np.mean(speech**2), w
            inside[span] = True
        assert np.sum(speech[~inside] ** 2) < 1e-3 * np.sum(speech**2)


def test_an_unchanged_call_does_nothing(made, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    assert remake(copy) == made[1]
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before


@pytest.fixture
def command(tmp_path):
    """The command line for the same corpus, in ``tmp_path / "out"``."""
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text("\n".join(SENTENCES[split]) + "\n\n")
    command = [sys.executable, "-m", "moe_asr.cli", "prepare-voice-commands"]
    command += [f"--{split}-text={tmp_path / split}.txt" for split in SPLITS]
    command += [f"--{split}-hours={OPTIONS.hours(split)!r}" for split in SPLITS]
    return [
        *command,
        "--unseen-accent-share=0.5",
        "--reverb-probability=0.3",
        f"--output={tmp_path / 'out'}",
    ]


def test_another_process_makes_the_same(made, command, tmp_path):
    """One process instead of two, by the command, from files."""
    done = subprocess.run([*command, "--num-processes=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout and "train: 0.01 h" in done.stdout
    assert contents(tmp_path / "out") == contents(made[0])


def test_a_killed_call_leaves_no_process_and_is_taken_up(made, command, tmp_path):
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while len(times(tmp_path / "out")) < 4 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()  # returns once the workers, who have the same pipes, are gone too
    assert process.returncode == -signal.SIGKILL
    kept = times(tmp_path / "out")
    assert not (tmp_path / "out" / STAMP_NAME).exists()
    remake(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(made[0])
    after = times(tmp_path / "out")
    # a file may have been finished and not yet be in the journal, one for each worker
    assert sum(after[name] != kept[name] for name in kept) <= 2


def test_an_interrupted_call_is_taken_up(made, copy):
    """As it was when the process died: no stamp, no manifests, some files, a line cut short."""
    expected, kept = contents(copy), times(copy)
    (copy / STAMP_NAME).unlink()
    for split in SPLITS:
        manifest_path(copy, split).unlink()
    gone = {f"train-{index:06d}.flac" for index in (3, 4)}
    journal = next((copy / "audio").glob("train-*/train-000000.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:20])
    gone.add(f"{json.loads(lines[-1])['id']}.flac")
    for path in list((copy / "audio").glob("train-*/*.flac")):
        if path.name in {"train-000003.flac", "train-000004.flac"}:
            path.unlink()
    remake(copy)
    assert contents(copy) == expected
    after = times(copy)
    assert {name for name in kept if after[name] != kept[name]} == gone


@pytest.mark.parametrize("damage", ["truncated", "a bit flipped", "empty", "gone"])
def test_a_damaged_file_is_found_and_made_again(made, copy, damage):
    expected, kept = contents(copy), times(copy)
    path = next((copy / "audio").glob("test-*/test-000001.flac"))
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "a bit flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    remake(copy)
    assert contents(copy) == expected
    after = times(copy)
    assert [name for name in kept if after[name] != kept[name]] == ["test-000001.flac"]


def test_a_damaged_manifest_is_written_again(made, copy):
    expected, kept = contents(copy), times(copy)
    path = manifest_path(copy, "dev")
    path.write_bytes(path.read_bytes()[:-10])
    remake(copy)
    assert contents(copy) == expected and times(copy) == kept


@pytest.mark.parametrize(
    "content", ["", '{"splits": {"tr', "[1]", '{"version": 1}', '{"version": 2}']
)
def test_a_damaged_stamp_is_written_again(made, copy, content):
    expected, kept = contents(copy), times(copy)
    (copy / STAMP_NAME).write_text(content)
    stamp = remake(copy)
    assert contents(copy) == expected and times(copy) == kept
    assert json.loads((copy / STAMP_NAME).read_text()) == stamp


def test_other_hours_keep_the_files_that_are_there(made, copy):
    kept = times(copy)
    longer = dataclasses.replace(OPTIONS, dev_hours=3 * OPTIONS.dev_hours)
    stamp = remake(copy, options=longer)
    after = times(copy)
    assert set(kept) < set(after) and kept == {name: after[name] for name in kept}
    assert stamp["splits"]["dev"]["duration_seconds"] >= 12
    assert len(read_cuts(manifest_path(copy, "dev"))) == stamp["splits"]["dev"]["num_utterances"]
    assert remake(copy)["splits"] == made[1]["splits"] | {
        split: made[1]["splits"][split] | {"manifest_checksum": pytest.approx(0, abs=2**32)}
        for split in SPLITS
    }
    assert contents(copy) == contents(made[0])


@pytest.mark.parametrize("changed", ["options", "sentences"])
def test_other_options_or_sentences_replace_everything(made, copy, changed):
    old = contents(copy)
    sentences, options = dict(SENTENCES), OPTIONS
    if changed == "options":
        options = SpokenCorpusOptions(
            train_hours=3 / 3600, dev_hours=2 / 3600, test_hours=2 / 3600, seed=1
        )
    else:
        sentences["dev"] = ["who is there"]
    stamp = remake(copy, sentences, options)
    assert json.loads((copy / STAMP_NAME).read_text()) == stamp
    folders = {split: stamp["splits"][split]["audio"] for split in SPLITS}
    assert set(os.listdir(copy / "audio")) == set(folders.values())
    same = [split for split in SPLITS if folders[split] == made[1]["splits"][split]["audio"]]
    assert same == ([] if changed == "options" else ["train", "test"])
    for name, content in contents(copy).items():
        unchanged = name.split("/")[-1].split("-")[0] in same
        assert unchanged == (old.get(name) == content), name


def test_an_unusable_call_removes_nothing(made, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    longer = dataclasses.replace(OPTIONS, dev_hours=3 * OPTIONS.dev_hours)
    with pytest.raises(ConfigError, match="num_processes: expected at least 1, found 0"):
        remake(copy, options=longer, num_processes=0)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before


def test_a_failure_leaves_no_manifest(made, copy):
    """Nothing that looks complete is left when the new corpus could not be made."""
    sentences = {**SENTENCES, "test": ["..."]}
    with pytest.raises(DataError, match=r"test-0000\d\d: '...'"):
        remake(copy, sentences)
    assert not (copy / STAMP_NAME).exists()
    assert not any(manifest_path(copy, split).exists() for split in SPLITS)
