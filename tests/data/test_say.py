"""``moe-asr say``: speech to try things with."""

from pathlib import Path

import numpy as np
import pytest

from moe_asr.audio.io import read_audio
from moe_asr.cli.main import main
from moe_asr.data.speaking import say_text
from moe_asr.errors import ConfigError

pytest.importorskip("espeakng_loader")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Silence, speech, silence, at the rate that was asked for; a slower voice takes longer."""
    seconds = {}
    for name, options in {
        "usual.wav": [],
        "telephone.flac": ["--sample-rate", "8000"],
        "slow.wav": ["--rate", "90", "--voice", "en+f1"],
        "quiet.wav": ["--silence", "1.5"],
    }.items():
        path = tmp_path / name
        assert main(["say", "turn on", "the lights", "--output", str(path), *options]) == 0
        samples, rate = read_audio(path)
        assert rate == (8000 if "telephone" in name else 16000)
        seconds[name] = len(samples) / rate
        assert f"{path}: {seconds[name]:.2f} s, {rate} Hz" in capsys.readouterr().out
        silence = round((1.5 if "quiet" in name else 0.3) * rate)
        assert not samples[:silence].any() and not samples[-silence:].any()
        assert np.abs(samples[silence:-silence]).max() > 0.05
        assert np.abs(samples[silence : silence + rate // 10]).max() > 0.001
    assert seconds["telephone.flac"] == pytest.approx(seconds["usual.wav"], abs=0.05)
    assert seconds["quiet.wav"] == pytest.approx(seconds["usual.wav"] + 2.4, abs=0.05)
    assert seconds["slow.wav"] > 1.3 * seconds["usual.wav"]


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["hello", "--voice", "en+nobody"], "no voice 'en+nobody'"),
        (["hello", "--voice", "xx"], "no voice 'xx'"),
        (["  "], "nothing to say"),
        (["?!"], "says nothing of '?!'"),
        (["caf\udce9"], r"no Unicode text, which espeak-ng could say: 'caf\udce9'"),
        (["hello", "--rate", "3"], "rate must be between 80 and 450, found 3"),
        (["hello", "--sample-rate", "0"], "sample_rate must be between 4000 and 192000, found 0"),
        (
            ["hello", "--silence", "nan"],
            "silence_seconds must be between 0.0 and 3600.0, found nan",
        ),
    ],
)
def test_what_cannot_be_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["say", *arguments, "--output", str(tmp_path / "x.wav")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_same_words_are_the_same_length() -> None:
    """The first and the second time, whatever was said between."""
    first, _, second = (say_text(text) for text in ("one two", "three", "one two"))
    assert abs(len(first) - len(second)) < 160
    with pytest.raises(ConfigError, match="nothing to say"):
        say_text("")
