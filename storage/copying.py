"""A second name for a file, or a copy of an object, without reading what it holds."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from . import store
from .access import retried, store_of
from .disk import writing
from .inside import partial
from .lease import allow_write

_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of disks that hold the two names apart, or take no further name for a file."""


def linked(source: Path, target: Path) -> bool:
    """Let `target` be what `source` is: on one disk a hard link, in one store an object that the store copies itself.

    A file that was there is replaced as a whole. Both names lead to the same bytes, so whoever changes one has to replace it,
    as publishing does.

    Returns:
        Whether it could be done; if not, the file has to be read and written.

    Raises:
        LeaseLost: the target's folder was taken over by another process.
        OSError: the source is gone, or the target cannot be written.
    """
    allow_write(target)
    if isinstance(source, store.Mirrored) or isinstance(target, store.Mirrored):
        return isinstance(source, store.Mirrored) and isinstance(target, store.Mirrored) and _copied(source, target)
    temporary = partial(target.parent)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        try:
            os.replace(temporary, target)
        finally:
            # Where both names were links to one file already, nothing was renamed.
            with suppress(FileNotFoundError):
                temporary.unlink()
    return True


def _copied(source: store.Mirrored, target: store.Mirrored) -> bool:
    (objects, key), (others, place) = store_of(source.url), store_of(target.url)
    if objects is not others:
        return False
    retried(lambda: objects.cp_file(key, place), target.url)
    store.copied(target, source)
    return True
