"""Errors of a disk that cannot be written, as one line that names the file and the remedy; and waiting for a disk."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_UNWRITABLE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in the quota",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EEXIST: "choose another path, since a file is where its folder should be",
    errno.ENOTDIR: "choose another path, since a file is where one of its folders should be",
}


def refusal(path: Path, error: OSError) -> str:
    """The message for a disk that cannot be written: the file and the remedy; empty for other errors."""
    if (remedy := _UNWRITABLE.get(error.errno or 0)) is None:
        return ""
    return f"{path} cannot be written ({os.strerror(error.errno or 0)}); {remedy}, and run the same command again"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's refusal into a message with file and remedy, since the error of a write knows neither.

    Raises:
        OSError: one line.
    """
    try:
        yield
    except OSError as error:
        if said := refusal(path, error):
            raise OSError(said) from error
        raise


@cache
def can_flush() -> bool:
    """Whether `flush` works here, and reports what a disk refused: Linux, since 5.8."""
    found = [int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit()]
    return platform.system() == "Linux" and found >= [5, 8] and hasattr(_libc(), "syncfs")


def flush(descriptor: int) -> None:
    """Wait until all that was written to the file system of an open file is on its disk.

    One of these takes as long as a few `os.fsync`, however many small files there are.

    Raises:
        OSError: the disk refused some of it.
    """
    if _libc().syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
