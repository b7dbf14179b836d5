"""The commands that docs/lang.md shows, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moe_asr.errors import StaleError
from moe_asr.lang.directory import LangDir
from moe_asr.lang.provenance import verify

ROOT = Path(__file__).parents[2]


def test_the_commands_of_the_walk_through(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "lang.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    (tmp_path / "lang").symlink_to(ROOT / "lang")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "text (text): has changed since step 'tokenizer'" in done.stderr
    lang = LangDir.load(tmp_path / "data" / "lang")
    assert "weather" in lang.lexicon and lang.tokenizer.kind == "bpe"
    phones = LangDir.load(tmp_path / "data" / "lang_phones")
    assert len(phones.lexicon["the"]) == 2 and "<unk>" in phones.words
    verify(tmp_path / "data" / "graph")
    with pytest.raises(StaleError):  # the model of the text before the edit
        verify(tmp_path / "data" / "graph_3gram")
