"""Errors of a disk that cannot be written, as one line that names the file and the remedy."""

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
