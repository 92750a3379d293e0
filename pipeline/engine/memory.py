"""Memory: what this machine has, what a process takes, and how it keeps what it freed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import sys
from pathlib import Path

KEPT_BYTES = 192 << 20
"""Freed memory that may stay in the process."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


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


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container around this process, has."""
    limit = os.sysconf("SC_PHYS_PAGES") * _PAGE
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = min(limit, int(Path("/sys/fs/cgroup", name).read_text()))
    return limit


def own_bytes(pid: int) -> int:
    """Bytes that a process holds, what is mapped from files apart; 0 if it is gone, or the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * _PAGE
    return 0
