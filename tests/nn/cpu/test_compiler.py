"""How kernels are compiled and kept."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core.caching import FunctionCache

from moe_asr.nn.cpu import compiler

SOURCE = """
def double(x):
    return 2 * x
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes a kernel of a file, as if its module were imported by another process."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "kernels.py"
    path.write_text(SOURCE)

    def make() -> Any:
        names: dict[str, Any] = {"__name__": "kernels"}
        exec(compile(SOURCE, str(path), "exec"), names)
        return compiler.kernel(names["double"])

    return make


def test_kernels_are_kept_until_any_source_changes(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel contains those of other files that it calls: its own file does not tell."""
    hits = []
    for _ in range(2):
        kernel = double()
        assert kernel(3) == 6
        hits.append(sum(kernel.stats.cache_hits.values()))
    monkeypatch.setattr(compiler, "_SOURCES", "others")
    kernel = double()
    assert kernel(3) == 6
    assert [*hits, sum(kernel.stats.cache_hits.values())] == [0, 1, 0]


def test_a_cache_that_cannot_be_written(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)
    assert double()(3) == 6


def test_no_place_for_a_cache() -> None:
    names: dict[str, Any] = {"__name__": "kernels"}
    exec(compile(SOURCE, "<nowhere>", "exec"), names)
    assert compiler.kernel(names["double"])(3) == 6


def test_without_compiler() -> None:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    code = "import moe_asr.nn.cpu.compiler"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "NUMBA_DISABLE_JIT is set" in done.stderr
