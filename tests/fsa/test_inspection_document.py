"""The commands of docs/inspection.md, on the files of docs/lang.md: they print what the page shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_asr.cli.main import main

ROOT = Path(__file__).parents[2]


def make_files(folder: Path) -> None:
    """The walk through of lang.md up to its graphs, without phones, then the builds of inspection.md."""
    pages = [
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("lang.md", "inspection.md")
    ]
    before, builds = (
        re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) for page in pages
    )
    last = next(number for number, block in enumerate(before) if "graph_3gram" in block)
    blocks = [block for block in before[: last + 1] if "phone" not in block]
    assert len(blocks) >= 4 and len(builds) == 1
    (folder / "lang").symlink_to(ROOT / "lang")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    script = "\n".join([*blocks, *builds])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def examples(page: str) -> list[tuple[str, str | None]]:
    """The indented commands of a page, each with what it prints; None after one without a prompt."""
    found: list[tuple[str, str | None]] = []
    for block in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE):
        text = re.sub(r"^    ", "", block, flags=re.MULTILINE).replace("\\\n", "")
        if text.startswith("moe-asr "):
            found += [(line, None) for line in text.splitlines()]
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = examples((ROOT / "docs" / "inspection.md").read_text(encoding="utf-8"))
    assert sorted(expected is None for _, expected in shown) == 6 * [False] + 3 * [True]
    for command, expected in shown:
        words = shlex.split(command)
        if shutil.which("dot") is None:
            words = [word.replace(".svg", ".dot") for word in words]
        assert words[:2] == ["moe-asr", "graph"]
        status = main(words[1:])
        output = "".join(capsys.readouterr())
        if expected is None:
            assert status == 0 and output.startswith("written: "), output
        else:
            assert without_hashes(output) == without_hashes(expected)
            assert (status == 0) == ("error" not in expected)
    sentence = ["--words", "play jazz please"]
    assert main(["graph", "path", "data/graph_3gram/HLG.safetensors", *sentence]) == 0
    assert "13 arcs, 3 words, score -7.3806" in capsys.readouterr().out  # as G alone says


def without_hashes(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)
