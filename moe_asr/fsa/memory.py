"""How much memory there is, how much a process has, and how much it had at most."""

import os
import re
import subprocess
import sys
from pathlib import Path

from moe_asr.errors import ConfigError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]*)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_NO_LIMIT = 1 << 60  # cgroup version 1 says "none" by a number of about this size


def parse_memory_size(text: str) -> int:
    """Bytes of ``4GB``, ``4G``, ``512 MiB``, ``1000000``; K, M, G, T are powers of 1024.

    Raises:
        ConfigError: if it is no such size, or 0.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size <= 0:
        raise ConfigError(f"expected an amount of memory such as 4GB or 500MB, found {text!r}")
    return size


def format_memory(num_bytes: int | None) -> str:
    """Megabytes (of 2**20 bytes) below ten gigabytes, gigabytes above; ``-`` for None."""
    if num_bytes is None:
        return "-"
    if num_bytes < 10 << 30:
        return f"{num_bytes / (1 << 20):.0f} MB"
    return f"{num_bytes / (1 << 30):.1f} GB"


def available_memory() -> int | None:
    """Bytes that can be taken without swapping or being killed; None where that cannot be told.

    The least of what the machine has left and what the limits of this process's control groups leave.
    """
    found = [_machine_memory(), *(_left_in_group(group) for group in _control_groups())]
    return min((value for value in found if value is not None), default=None)


def resident_bytes(pid: int) -> int | None:
    """Physical memory of a process; None if it has ended or that cannot be told."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        pass
    if Path("/proc/self/statm").exists():  # then the process is gone
        return None
    try:
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, text=True).stdout) << 10
    except (OSError, ValueError):
        return None


class PeakMeter:
    """The most physical memory that this process has had since the meter was made.

    On Linux the kernel's own high-water mark is set back; where it cannot be, peaks are not known.
    """

    def __init__(self) -> None:
        self.start_bytes = resident_bytes(os.getpid())
        self._is_reset = _reset_high_water_mark()

    def peak_bytes(self) -> int | None:
        """None where it is not known."""
        return _status_bytes("VmHWM") if self._is_reset else None

    def growth_bytes(self) -> int | None:
        """By how much the peak is above what the process had at first; None where not known."""
        peak = self.peak_bytes()
        if peak is None or self.start_bytes is None:
            return None
        return max(peak - self.start_bytes, 0)


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to VmRSS
    except OSError:
        return False
    peak, now = _status_bytes("VmHWM"), _status_bytes("VmRSS")
    return peak is not None and now is not None and peak <= now + (8 << 20)


def _status_bytes(name: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass
    return None


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass
    if sys.platform == "darwin":
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            pass
    return None


def _control_groups(root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders of this process's memory groups and all groups above them, of either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        group = base / name.strip("/")
        folders += [group, *(parent for parent in group.parents if parent.is_relative_to(base))]
    return folders


def _left_in_group(group: Path) -> int | None:
    """What the limit of a control group leaves; None if it has none. File caches can be given up."""
    for limit_file, usage_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (group / limit_file).read_text().strip()
            used = int((group / usage_file).read_text())
            statistics = dict(
                line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            return max(int(limit) - max(used - int(statistics.get(cache, 0)), 0), 0)
    return None
