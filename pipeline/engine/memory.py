"""The memory of this process: how much it took at most, and how it keeps what it freed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import resource
import sys

KEPT_BYTES = 192 << 20
"""Freed memory that may stay in the process."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20


def peak_bytes() -> int:
    """The largest resident memory of this program so far, in bytes.

    Linux counts the parent's memory at the fork into `ru_maxrss` and keeps it over an exec; `VmHWM` begins with the
    program itself.
    """
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def keep_freed_memory() -> None:
    """Keep freed arrays in the process, so that arrays of the same size, made again and again, cost no page faults.

    The kernels allocate megabytes for every piece of text and free them at once. glibc hands such blocks back to the
    system each time, and the next piece pays for zeroed pages: that was half of the segmentation's time. Where there
    is no glibc, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
