"""`moe-asr transcribe`: what it prints, the files it leaves, and what it does with bad ones."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_asr.cli.main import main
from moe_asr.evaluate.ctm import read_ctm
from moe_asr.files import write_json
from moe_asr.model.directory import save_model_dir
from tests.recognizer.conftest import babble


@pytest.fixture(scope="module")
def place(loaded, graph, tmp_path_factory) -> Path:
    """A model, a graph, two good files and a bad one."""
    folder = tmp_path_factory.mktemp("place")
    save_model_dir(folder / "model", loaded.model, loaded.tokenizer, loaded.fbank_options)
    graph.save(folder / "graph.safetensors")
    soundfile.write(folder / "one.wav", babble(3.0, 1), 16000)
    soundfile.write(folder / "two.flac", babble(2.0, 2), 16000)
    (folder / "bad.wav").write_text("no sound")
    return folder


@pytest.fixture
def command(place, monkeypatch):
    """Runs it on files of the place, by the method that is the fastest to load."""

    def run(*arguments: object) -> int:
        monkeypatch.chdir(place)
        options = ["--model", "model", "--graph", "graph.safetensors", "--method", "one_best"]
        return main(["transcribe", *options, "--threads", "1", *map(str, arguments)])

    return run


def test_text_is_printed(command, capsys):
    assert command("one.wav") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and set(out.split()) <= {"a", "b", "ba"} and len(out.split()) > 2
    assert "3/3" in err  # seconds
    assert command("two.flac", "one.wav") == 0
    both = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in both] == ["two.flac", "one.wav"]
    assert both[1] == f"one.wav: {out.strip()}"


def test_every_format_is_written_and_the_bad_file_reported(command, tmp_path, capsys):
    for name, extension in {
        "text": "txt",
        "json": "json",
        "ctm": "ctm",
        "srt": "srt",
        "vtt": "vtt",
    }.items():
        files = ["one.wav", "bad.wav", "two.flac"]
        assert command(*files, "--format", name, "--output", tmp_path / name) == 1
        out, err = capsys.readouterr()
        written = [tmp_path / name / f"{stem}.{extension}" for stem in ("one", "two")]
        assert sorted((tmp_path / name).iterdir()) == written
        assert out == "".join(f"written: {path}\n" for path in written)
        assert "moe-asr transcribe: error: bad.wav: not readable as audio" in err
    words = (tmp_path / "text" / "one.txt").read_text().split()
    record = json.loads((tmp_path / "json" / "one.json").read_text())
    assert record["text"].split() == words and record["duration_seconds"] == 3.0
    assert [word.word for word in read_ctm(tmp_path / "ctm" / "one.ctm")["one"]] == words
    for name in ("srt", "vtt"):
        assert " --> " in (tmp_path / name / f"one.{name}").read_text()


def test_resuming_leaves_out_what_is_there(command, tmp_path, capsys):
    (tmp_path / "one.txt").write_text("kept")
    assert command("one.wav", "two.flac", "--output", tmp_path, "--resume") == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'two.txt'}\n"
    assert (tmp_path / "one.txt").read_text() == "kept"
    assert command("one.wav", "--output", tmp_path) == 0
    assert (tmp_path / "one.txt").read_text() != "kept"


def test_streaming_is_the_chunk_mask_with_endpoints(command, capsys):
    arguments = ("one.wav", "--chunk-size", 4, "--left-chunks", 2, "--format", "json")
    assert command(*arguments) == 0
    masked = json.loads(capsys.readouterr().out)
    assert command(*arguments, "--streaming") == 0
    streamed = json.loads(capsys.readouterr().out)
    assert masked["segments"][0]["endpoint"] == ""
    assert streamed["segments"][-1]["endpoint"] == "input_finished"
    if len(streamed["segments"]) == 1:
        assert streamed["text"] == masked["text"]
    assert command(*arguments, "--streaming", "--full-context-final", "--max-streams", 1) == 0
    final = json.loads(capsys.readouterr().out)
    assert command("one.wav", "--format", "json") == 0
    full = json.loads(capsys.readouterr().out)
    if len(final["segments"]) == 1:
        assert final["text"] == full["text"]


def test_options_scales_and_phrases_reach_the_search(command, tmp_path, capsys):
    def score(*arguments):
        assert command("one.wav", "--format", "json", *arguments) == 0
        return [one["score"] for one in json.loads(capsys.readouterr().out)["segments"]]

    plain = score()
    bonus = score("--option", "one_best.length_bonus=2.0")
    assert bonus != plain
    modes = {"full": {"scales": {"length_bonus": 2.0}}, "chunk4": {"scales": {"length_bonus": 0.0}}}
    tuned = {"method": "one_best", "modes": modes, "tuned_on": {"sha256": ""}}
    write_json(tmp_path / "one_best.json", tuned)
    assert score("--scales", tmp_path) == bonus
    masked = score("--chunk-size", 4)
    assert score("--chunk-size", 4, "--scales", tmp_path) == masked
    (tmp_path / "phrases").write_text("ba ba ba\t20\n")
    assert score("--phrases", tmp_path / "phrases") != plain


def test_the_model_may_come_from_the_environment(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    arguments = ["transcribe", "--graph", "graph.safetensors", "one.wav", "--method", "one_best"]
    monkeypatch.delenv("MOE_ASR_MODEL", raising=False)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "--model" in capsys.readouterr().err
    monkeypatch.setenv("MOE_ASR_MODEL", "model")
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert command("one.wav") == 0
    assert capsys.readouterr().out == printed


def test_a_channel_is_chosen(command, tmp_path, capsys):
    both = np.stack([np.zeros(48000), babble(3.0, 1)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", both, 16000)
    assert command(tmp_path / "stereo.wav") == 1
    assert "stereo.wav: found 2 channels" in capsys.readouterr().err
    assert command(tmp_path / "stereo.wav", "--channel", 1) == 0
    found = capsys.readouterr().out
    assert command("one.wav") == 0
    assert capsys.readouterr().out == found


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["one.wav", "--resume"], "--resume goes with --output"),
        (["one.wav", "one.wav"], "one.wav: given twice"),
        (["one.wav", "two.flac", "--format", "srt"], "srt is of one file"),
        (["one.wav", "--full-context-final"], "--full-context-final goes with --streaming"),
        (["one.wav", "--chunk-size", "0"], "--chunk-size: chunk_size must be at least 1"),
        (["one.wav", "--streaming", "--max-streams", "0"], "--max-streams: max_streams must be"),
        (["one.wav", "--max-segment-seconds", "0"], "max_segment_seconds must be at least 1"),
        (["one.wav", "--min-silence-seconds", "0"], "min_silence_seconds must be between 0.1 and"),
        (["one.wav", "--format", "json", "--alternatives", "-1"], "num_alternatives must be at"),
        (["one.wav", "--max-batch-seconds", "0"], "max_batch_seconds must be positive"),
        (["one.wav", "--option", "one_best.n=3"], "unknown key 'n'"),
        (["one.wav", "--method", "ctc_greedy"], "ctc_greedy"),
        (["one.wav", "--graph", "nowhere"], "nowhere"),
        (["one.wav", "--phrases", "nowhere"], "nowhere"),
        (["one.wav", "--scales", "nowhere"], "nowhere"),
    ],
)
def test_what_is_refused(command, capsys, arguments, message):
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err


def test_names_that_are_not_unicode_or_have_lines(command, place, tmp_path, capfd):
    names = [os.fsdecode(b"\xff.wav"), "a\nb.wav"]
    for name in names:
        soundfile.write(os.fsencode(tmp_path / name), babble(1.0), 16000, format="WAV")
    files = [tmp_path / name for name in names]
    for form in ("text", "json", "ctm"):
        assert command(*files, "--format", form) == 0
        lines = capfd.readouterr().out.splitlines()
        assert form == "ctm" or len(lines) == 2
        assert "\\xff" in lines[0]
    assert command(*files, "--format", "json", "--output", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_document_that_cannot_be_written_fails_alone(command, tmp_path, capsys):
    (tmp_path / "one.txt").mkdir()
    assert command("one.wav", "two.flac", "--output", tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == f"written: {tmp_path / 'two.txt'}\n"
    assert f"error: {tmp_path / 'one.txt'}: cannot be written: Is a directory" in err


def test_an_interruption_is_no_traceback(command, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("moe_asr.audio.reader.AudioReader.read", interrupt)
    assert command("one.wav") == 130
    assert "moe-asr transcribe: interrupted" in capsys.readouterr().err
