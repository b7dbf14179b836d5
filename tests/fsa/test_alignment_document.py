"""docs/alignment.md: its code prints what the page shows, its commands are ones that there are."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

from moe_asr.cli.main import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "alignment.md").read_text(encoding="utf-8")


def test_the_page_shows_what_is_printed() -> None:
    pieces = re.findall(
        r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)+)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert len(pieces) == PAGE.count("```python") == 1
    for code, shown in pieces:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/alignment.md", "exec"), {})
        assert printed.getvalue() == re.sub(r"^    ", "", shown, flags=re.MULTILINE)


def test_the_commands_are_understood() -> None:
    commands = re.findall(r"^    moe-asr (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        name, *arguments = shlex.split(command)
        parser = argparse.ArgumentParser()
        importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
        parser.parse_args(arguments)
