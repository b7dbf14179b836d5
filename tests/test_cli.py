"""The ``moe-asr`` command: what it lists, what it imports, how it reports errors."""

import argparse
import logging
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from moe_asr.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"moe-asr {name}" in capsys.readouterr().out
    lines = Path(import_module(COMMANDS[name][0]).__file__ or "").read_text().count("\n")
    assert lines <= 100, f"{name} is {lines} lines: an entry point parses, calls and prints"


def test_input_errors_are_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "absent.jsonl.gz"
    status = main(
        ["compute-cmvn", "--manifest", str(manifest), "--output", str(tmp_path / "cmvn.json")]
    )
    assert status == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and str(manifest) in error[0]
    assert not (tmp_path / "cmvn.json").exists()


def test_output_that_cannot_be_written_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> int:
        open("/absent/x", "w")
        return 0

    monkeypatch.setattr("moe_asr.cli.info.run", run)
    assert main(["info", "--preset", "tiny"]) == 2
    expected = "moe-asr info: error: /absent/x: No such file or directory\n"
    assert capsys.readouterr().err == expected


def test_the_log_is_seen_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        logging.getLogger("moe_asr.fsa.native.compiling").info("compiled the search in %.1f s", 2.0)
        logging.getLogger("elsewhere").info("not ours")
        return 0

    monkeypatch.setattr("moe_asr.cli.info.run", run)
    for _ in range(2):
        assert main(["info", "--preset", "tiny"]) == 0
        assert capsys.readouterr().err == "compiled the search in 2.0 s\n"
    assert not logging.getLogger("moe_asr").handlers


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from moe_asr.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
