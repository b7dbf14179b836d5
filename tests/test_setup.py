"""scripts/setup_env.sh, with stub Pythons instead of real installations."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = (
    "awk bash cat cksum cp cut dirname env flock grep ls mkdir mv rm sed sort tail touch".split()
)

# Logs its calls; makes "environments" that hold itself; refuses to be the Python named in REFUSE.
STUB = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$LOG"
case "$*" in
  *"(3, ${REFUSE:-none})"*) exit 1 ;;
  *"print(sys.executable)"*) echo "$0" ;;
  *"print(sys.version_info[1])"*) echo 11 ;;
  *"-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
  *"--version"*) echo "pip 23.0.1 from here" ;;
  *"-m pip download"*) mkdir -p "${@: -1}" && touch "${@: -1}/k2-1.23.4-py3.10-none-any.whl" ;;
  *"-m pip"*"install"*) [ -z "${FAIL_INSTALL:-}" ] || exit 1 ;;
esac
"""


class Machine:
    """A PATH with the shell's tools and stub Pythons, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.log, self.bin = folder / "log", folder / "bin"
        self.environment = folder / "environment"
        self.script = folder / "checkout" / "scripts" / "setup_env.sh"
        shutil.copytree(ROOT / "scripts", self.script.parent)
        shutil.copy(ROOT / "pyproject.toml", folder / "checkout")
        self.bin.mkdir()
        for tool in [*TOOLS, "basename"]:
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)
        for name in ("python3.10", "python3.11", "python3"):
            (self.bin / name).write_text(STUB)
            (self.bin / name).chmod(0o755)

    def setup(self, **variables: str) -> "subprocess.CompletedProcess[str]":
        values = {"PATH": str(self.bin), "HOME": str(self.bin), "LOG": str(self.log), **variables}
        command = ["bash", str(self.script), "k2", str(self.environment)]
        return subprocess.run(command, env=values, text=True, capture_output=True)

    def installs(self) -> "list[str]":
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if " install " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if os.name != "posix" or shutil.which("bash") is None:
        pytest.skip("the set-up is a bash script")
    return Machine(tmp_path)


def test_everything_is_one_resolver_call_and_only_once(machine: Machine) -> None:
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    (call,) = machine.installs()
    assert "k2-1.23.4-py3.10-none-any.whl" in call and ".[k2,synthetic,dev]" in call
    second = machine.setup()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(machine.installs()) == 1


def test_without_python_3_10_it_says_so_in_one_line_and_goes_without_k2(machine: Machine) -> None:
    done = machine.setup(REFUSE="10")
    assert done.returncode == 0, done.stderr
    assert sum("no Python 3.10 found" in line for line in done.stdout.splitlines()) == 1
    (call,) = machine.installs()
    assert ".[current,synthetic,dev]" in call and "k2" not in call.split(".[")[1]


def test_an_interrupted_installation_starts_over(machine: Machine) -> None:
    assert machine.setup(FAIL_INSTALL="1").returncode != 0
    assert machine.setup().returncode == 0
    assert len(machine.installs()) == 2
