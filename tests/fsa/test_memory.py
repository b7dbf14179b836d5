"""Amounts of memory: what the user writes, what the machine and its control groups leave, peaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe_asr.errors import ConfigError
from moe_asr.fsa import memory
from moe_asr.fsa.memory import (
    PeakMeter,
    available_memory,
    format_memory,
    parse_memory_size,
    resident_bytes,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MB, GB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * GB), ("4G", 4 * GB), ("4 GiB", 4 * GB), ("1.5g", 3 * GB // 2), ("500MB", 500 * MB),
        ("64k", 65536), ("123456", 123456), ("1TB", 1024 * GB), (" 2 gb ", 2 * GB), ("100B", 100),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_memory_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "four", "4 XB", "-4GB", "0", "0.0GB", "4GB2", "1e9", "nan", "9" * 400]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="amount of memory such as 4GB"):
        parse_memory_size(text)


def test_sizes_as_shown() -> None:
    shown = [format_memory(size) for size in (None, 0, 300 * MB, 4 * GB, 12 * GB + 300 * MB)]
    assert shown == ["-", "0 MB", "300 MB", "4096 MB", "12.3 GB"]


@LINUX
def test_available_memory_is_that_of_the_machine_or_less() -> None:
    available = available_memory()
    assert available is not None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 16 * MB < available <= total


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups(tmp_path: Path, version: int) -> None:
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    none = {1: "9223372036854771712", 2: "max"}[version]

    def limit(folder: Path, size: str, used: int, cache: int) -> None:
        (folder / names[0]).write_text(f"{size}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"cache 5\n{names[2]} {cache}\nother 7\n")

    left = memory._left_in_group
    limit(group, none, 1000, 10)
    assert left(group) is None and left(tmp_path) is None
    limit(group, "5000", 1000, 10)
    assert left(group) == 5000 - 990
    limit(group, "5000", 6000, 100)
    assert left(group) == 0


_PEAKS = """
import numpy as np
from moe_asr.fsa.memory import PeakMeter
large = np.ones(32 << 20)  # 256 MB
del large
meter = PeakMeter()
before = meter.peak_bytes()
small = np.ones(6 << 20)  # 48 MB
del small
print(meter.peak_bytes() - before, meter.growth_bytes())
"""


@LINUX
def test_peaks_are_of_the_time_since_the_meter_was_made() -> None:
    """In a process of its own: here, other tests' memory may be given back between two readings.

    Arrays above 32 MB: smaller ones may take what the allocator has kept from others, and is resident.
    """
    command = [sys.executable, "-c", _PEAKS]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak, growth = map(int, printed.split())
    assert 40 * MB < peak < 120 * MB
    assert 40 * MB < growth < 120 * MB


@LINUX
def test_peaks_are_unknown_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_reset_high_water_mark", lambda: False)
    meter = PeakMeter()
    assert meter.peak_bytes() is None and meter.growth_bytes() is None


def test_memory_of_a_process() -> None:
    mine = resident_bytes(os.getpid())
    assert mine is not None and mine > 8 * MB
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert resident_bytes(child.pid) is not None
    finally:
        child.kill()
        child.communicate()
    assert not resident_bytes(child.pid)
