"""Memory of kernels: of weights, and of intermediate results, kept from call to call."""

import mmap
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

_LINE = 64  # bytes; every part begins at a multiple of it
_HUGE_PAGE = 2 << 20  # bytes
_SLAB_BYTES = 32 * _HUGE_PAGE
_LARGE_BYTES = 1 << 20  # what is smaller is from the heap: a huge page for it would be half empty
_KEPT_BYTES = 512 << 20  # larger arenas, of hour-long inputs, are given back after their call


class Slabs:
    """Memory for weights, in few large blocks on huge pages where the system has them.

    A product of few rows is bound by reading its weights, and with small pages an eighth of that goes into
    finding them. Weights are not taken from the heap, in which what stays, between matrices that are made and
    freed while a model is packed, would leave holes of twice its size. What is not used of a block takes no
    memory.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, np.uint8)  # the rest of the last block

    def take(self, num_bytes: int) -> np.ndarray:
        """(num_bytes,) uint8 at the beginning of a cache line; it lives as long as the array."""
        if num_bytes < _LARGE_BYTES:
            memory = np.empty(num_bytes + _LINE, np.uint8)
            start = -memory.ctypes.data % _LINE
            return memory[start : start + num_bytes]
        if num_bytes > len(self._free):
            self._free = _block(max(num_bytes, _SLAB_BYTES))
        taken, self._free = self._free[:num_bytes], self._free[round_up(num_bytes, _LINE) :]
        return taken


def _block(num_bytes: int) -> np.ndarray:
    size = num_bytes + _HUGE_PAGE
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        memory = np.empty(size, np.uint8)
    else:
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                mapped.madvise(mmap.MADV_HUGEPAGE)
            except OSError:  # a kernel without them
                pass
        memory = np.frombuffer(mapped, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE
    return memory[start : start + num_bytes]


def round_up(number: int, multiple: int) -> int:
    """The next multiple, or the number itself if it is one."""
    return -(-number // multiple) * multiple


class Arena:
    """One block of memory that grows as needed, laid out anew by every call."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    @property
    def num_bytes(self) -> int:
        return self._memory.nbytes

    def lay_out(self, sizes: Sequence[int]) -> list[int]:
        """Addresses of parts of the given sizes in bytes, not initialised; what was there is lost."""
        rounded = [round_up(size, _LINE) for size in sizes]
        needed = sum(rounded) + _LINE
        if needed > self._memory.nbytes:
            self._memory = np.empty(0, np.uint8)  # the old one goes first
            self._memory = np.empty(needed + needed // 4, np.uint8)
        start = (self._memory.ctypes.data + _LINE - 1) // _LINE * _LINE
        offsets = np.concatenate([[0], np.cumsum(rounded)]) + start
        return [int(offset) for offset in offsets[:-1]]

    def view(self, address: int, dtype: type, count: int) -> np.ndarray:
        """(count,) values at an address that `lay_out` gave."""
        begin = address - self._memory.ctypes.data
        size = count * np.dtype(dtype).itemsize
        assert 0 <= begin and begin + size <= self._memory.nbytes, (address, dtype, count)
        return self._memory[begin : begin + size].view(dtype)


class Arenas:
    """Arenas for calls of several threads at once: each call borrows one."""

    def __init__(self) -> None:
        self._free: deque[Arena] = deque()  # safe without a lock, which a fork could find taken

    @contextmanager
    def borrow(self) -> Iterator[Arena]:
        """An arena that no other call has meanwhile."""
        try:
            arena = self._free.pop()
        except IndexError:
            arena = Arena()
        try:
            yield arena
        finally:
            if arena.num_bytes <= _KEPT_BYTES:
                self._free.append(arena)
