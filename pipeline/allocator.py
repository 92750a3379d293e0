"""Keeps freed memory in the process, so that arrays of the same size, made again and again, cost no page faults.

The kernels allocate megabytes for every piece of text and free them at once. glibc hands such blocks back to the system
each time, and the next piece pays for zeroed pages: that was half of the segmentation's time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

KEPT_BYTES = 192 << 20
"""Freed memory that may stay in the process."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


@functools.cache
def keep_freed_memory() -> None:
    """Set glibc's thresholds for this process; where there is no glibc, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
