"""Configuration of the C library's memory allocator: keep freed memory for reuse."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of malloc.h
_DEFAULT = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_MAX: 65_536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Context manager in which freed memory stays with the process; at its end the memory is returned to the system.

    A network on a CPU allocates and frees the same large arrays in every step. By default glibc requests each of them from the operating
    system, which clears every page again; this takes up to a quarter of the time. With other C libraries this does nothing.

    Examples:
        >>> with keep_freed_memory():
        ...     total = sum(range(10))
    """
    library = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if library is None:
        yield
        return
    # for the whole process, since glibc has one setting for all threads
    for option, value in _KEEPING.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULT.items():
            library.mallopt(option, value)
        library.malloc_trim(0)  # the options alone do not return what is free already
