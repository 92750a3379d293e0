"""What to say of a disk that refuses to be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNWRITABLE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in the quota",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EEXIST: "it is a file where a folder should be: name another",
    errno.ENOTDIR: "a part of it is a file where a folder should be: name another",
}


def refusal(path: Path, error: OSError) -> str:
    """What to say of a disk that refuses to be written: which file it was, and what helps; empty for other errors."""
    if (remedy := _UNWRITABLE.get(error.errno or 0)) is None:
        return ""
    return f"{path} cannot be written ({os.strerror(error.errno or 0)}); {remedy}, and run the same command again"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a disk refuses, say what: the error of a write knows neither the file nor what helps.

    Raises:
        OSError: one line.
    """
    try:
        yield
    except OSError as error:
        if said := refusal(path, error):
            raise OSError(said) from error
        raise
