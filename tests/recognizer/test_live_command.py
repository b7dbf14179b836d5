"""``moe-asr live`` as a program: a pipe in, lines out, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moe_asr.cli.main import main
from moe_asr.model.directory import save_model_dir
from moe_asr.recognizer.display import final_line, result_record
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.stream import Stream
from tests.recognizer.conftest import babble
from tests.recognizer.fakes import FakeSound

SAMPLES = np.round(32767 * babble(3.0)).astype("<i2")


@pytest.fixture(scope="module")
def arguments(loaded, graph, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("live")
    save_model_dir(folder / "model", loaded.model, loaded.tokenizer, loaded.fbank_options)
    graph.save(folder / "LG.safetensors")
    (folder / "audio.raw").write_bytes(SAMPLES.tobytes())
    files = ["--model", str(folder / "model"), "--graph", str(folder / "LG.safetensors")]
    return ["live", *files, "--chunk-size", "8", "--stdin"]


@pytest.fixture(scope="module")
def expected(loaded, graph) -> list[Result]:
    """What the recogniser itself makes of the audio."""
    recognizer = Recognizer(loaded, graph, RecognizerOptions(8, max_streams=1))
    results = []
    with recognizer.create_stream("live") as stream:
        stream.accept_waveform(SAMPLES.astype(np.float32) / 32768, 16000)
        stream.input_finished()
        while not stream.is_finished:
            results += recognizer.decode([stream])[0]
    assert any(result.is_final and result.words for result in results)
    return results


def run_on(
    data: bytes, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> int:
    (tmp_path / "audio.raw").write_bytes(data)
    with open(tmp_path / "audio.raw") as file:
        monkeypatch.setattr(sys, "stdin", file)
        return main(arguments)


def test_lines_are_the_results(
    arguments: list[str],
    expected: list[Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finals = [one for one in expected if one.is_final and one.text]
    assert run_on(SAMPLES.tobytes(), arguments, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [one.text for one in finals]
    floats = (SAMPLES.astype("<f4") / 32768).tobytes()
    as_floats = [*arguments, "--format", "f32le", "--sample-rate", "16000", "--times"]
    assert run_on(floats, as_floats, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [final_line(one, True) for one in finals]
    assert run_on(SAMPLES.tobytes(), [*arguments, "--json"], monkeypatch, tmp_path) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["text"] for one in records] == [one.text for one in expected]
    assert records == [result_record(one) for one in expected]


def test_audio_that_goes_wrong_is_told_after_the_results_before_it(
    arguments: list[str],
    expected: list[Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    floats = np.concatenate([SAMPLES.astype("<f4") / 32768, np.full(800, np.nan, "<f4")])
    status = run_on(floats.tobytes(), [*arguments, "--format", "f32le"], monkeypatch, tmp_path)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out.splitlines() == [one.text for one in expected if one.is_final and one.text]
    assert "moe-asr live: error: stream live: sample" in printed.err


def test_ctrl_c_ends_it_with_the_last_result(arguments: list[str], expected: list[Result]) -> None:
    """A process whose input goes on for ever."""
    command = [sys.executable, "-m", "moe_asr.cli", *arguments, "--json"]
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert program.stdin is not None and program.stdout is not None
        program.stdin.write(SAMPLES.tobytes())
        program.stdin.flush()
        first = json.loads(program.stdout.readline())
        assert not first["final"]
        program.send_signal(signal.SIGINT)
        rest = [json.loads(line) for line in program.stdout.read().splitlines()]
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.stdin.close()
        program.stdout.close()
    assert rest[-1]["final"] and rest[-1]["endpoint"] == "input_finished"


def test_a_second_ctrl_c_interrupts_without_a_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a chunk is decoded; and one before anything listens."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    interrupts = iter([2, 0])
    decode = Recognizer.decode

    def interrupted(self: Recognizer, streams: Sequence[Stream]) -> list[list[Result]]:
        for _ in range(next(interrupts)):
            os.kill(os.getpid(), signal.SIGINT)
        return decode(self, streams)

    monkeypatch.setattr(Recognizer, "decode", interrupted)
    reading, writing = os.pipe()
    os.write(writing, SAMPLES.tobytes()[:60000])
    with open(reading) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(arguments) == 130
        os.close(writing)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(
        "moe_asr.cli.recognizer_input.read_recognizer_input",
        lambda args: os.kill(os.getpid(), signal.SIGINT),
    )
    assert main(arguments) == 130
    signal.signal(signal.SIGINT, before)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and not printed.out


def test_output_that_cannot_be_written(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A full disk is told in one line; a reader that leaves, as ``head`` does, is no error."""
    (tmp_path / "audio.raw").write_bytes(SAMPLES.tobytes())
    command = [sys.executable, "-m", "moe_asr.cli", *arguments, "--json"]
    with open(tmp_path / "audio.raw") as audio, open("/dev/full", "w") as full:
        done = subprocess.run(command, stdin=audio, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    _, line = done.stderr.decode().splitlines()  # the first says that it listens
    assert line == "moe-asr live: error: No space left on device"
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_on(SAMPLES.tobytes(), [*arguments, "--json"], monkeypatch, tmp_path) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_microphone_until_ctrl_c(
    arguments: list[str],
    expected: list[Result],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = SAMPLES.astype(np.float32) / 32768
    blocks = [(audio[i : i + 800], i == 1600) for i in range(0, len(audio), 800)]
    sound = FakeSound(blocks, then=lambda: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    from_microphone = [word for word in arguments if word != "--stdin"]
    assert main([*from_microphone, "--microphone", "2", "--json"]) == 0
    printed = capsys.readouterr()
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert records == [result_record(one) for one in expected]
    assert "microphone '2': overrun, the sound system lost audio 1 time(s)" in printed.err
    assert sound.opened["device"] == 2 and sound.is_closed
    with pytest.raises(SystemExit) as stop:
        main(["live", "--list-microphones"])
    assert stop.value.code == 0 and "desk" in capsys.readouterr().out


def test_what_cannot_be_asked(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = os.openpty()
    with open(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(arguments) == 2
    os.close(master)
    assert "found a terminal" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it of a closed one
    assert main(arguments) == 2
    assert "found nothing" in capsys.readouterr().err
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([*arguments, "--sample-rate", "0"]) == 2
    assert "must be at least 1 Hz, found 0" in capsys.readouterr().err
    from_microphone = [word for word in arguments if word != "--stdin"]
    assert main([*from_microphone, "--sample-rate", "8000"]) == 2
    assert "--sample-rate goes with --stdin" in capsys.readouterr().err
    assert main([*arguments, "--chunk-size", "0"]) == 2
    assert "--chunk-size: chunk_size must be at least 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(from_microphone) == 2
    assert "pip install 'moe-asr[live]'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["live", "--list-microphones"])
    assert stop.value.code == 2
    assert "pip install 'moe-asr[live]'" in capsys.readouterr().err
