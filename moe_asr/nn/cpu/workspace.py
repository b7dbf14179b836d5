"""Memory of kernels' intermediate results, kept from call to call."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

_LINE = 64  # bytes; every part begins at a multiple of it
_KEPT_BYTES = 512 << 20  # larger arenas, of hour-long inputs, are given back after their call


class Arena:
    """One block of memory that grows as needed, laid out anew by every call."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    @property
    def num_bytes(self) -> int:
        return self._memory.nbytes

    def lay_out(self, sizes: Sequence[int]) -> list[int]:
        """Addresses of parts of the given sizes in bytes, not initialised; what was there is lost."""
        rounded = [(size + _LINE - 1) // _LINE * _LINE for size in sizes]
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
        self._free: list[Arena] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[Arena]:
        """An arena that no other call has meanwhile."""
        with self._lock:
            arena = self._free.pop() if self._free else Arena()
        try:
            yield arena
        finally:
            if arena.num_bytes <= _KEPT_BYTES:
                with self._lock:
                    self._free.append(arena)
