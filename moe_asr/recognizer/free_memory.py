"""Freed memory, back to the system."""

import ctypes


def return_free_memory() -> None:
    """Gives back what was freed and is kept for later, where the C library can (glibc's ``malloc_trim``).

    Between tensors of many sizes lie small objects that stay, such as results: the heap of a process that
    works for hours is full of holes, and grows by hundreds of megabytes of which little is used.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
