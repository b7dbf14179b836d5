"""docs/lattices.md: its code runs, and its commands print what the page shows."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from moe_asr.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "lattices.md").read_text(encoding="utf-8")


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pieces = re.findall(
        r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)+)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert len(pieces) == PAGE.count("```python") == 2
    names: dict[str, object] = {}
    for code, shown in pieces:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/lattices.md", "exec"), names)
        assert printed.getvalue() == re.sub(r"^    ", "", shown, flags=re.MULTILINE)
    commands = re.findall(r"^    \$ (moe-asr lattice .*)\n((?:    .*\n)+)", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command, shown in commands:
        assert main(shlex.split(command)[1:]) == 0
        output = capsys.readouterr().out.rstrip("\n") + "\n"
        assert output == re.sub(r"^    ", "", shown, flags=re.MULTILINE)


def test_the_drawings_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another lattice than the page's, which takes a trained model to make."""
    from tests.fsa.random_lattices import LatticeArc, lattice_of

    monkeypatch.chdir(tmp_path)
    arcs = [LatticeArc(i, i + 1, 1, True, -1.0, 0.0, (1,)) for i in range(40)]
    arcs.append(LatticeArc(40, 41, -1, False, 0.0, 0.0, ()))
    lattice_of(arcs, [*range(41), 40], 40).save("lat.safetensors", name="test-000001")
    page = PAGE.replace("\\\n", "")
    commands = re.findall(r"^    (moe-asr lattice draw .*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out.startswith("written: ")
    images = Path(__file__).parents[2] / "docs"
    for image in re.findall(r"!\[.*?\]\((.*?)\)", PAGE):
        assert (images / image).is_file()
