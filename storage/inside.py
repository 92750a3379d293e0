"""Paths that stay in their folder: no name that a file gives leads out of it, and no symbolic link below it is followed.

The folder itself may lie anywhere, below links too: it is its user's. What lies in it may come from somebody else.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from pathlib import Path

from . import store
from .names import stays_below
from .reading import Misshapen, open_descriptor
from .wording import printable


def named(root: Path, name: str, own: int = 0) -> Path:
    """The file below `root` that a record, a manifest or a table calls `name`.

    Args:
        own: as `refuse_links` takes it.

    Raises:
        ValueError: the name is no relative path below the folder, or leads through a symbolic link.
    """
    if not stays_below(name) or "\0" in name:
        raise ValueError(
            f"{store.shown(root)} names the file {printable(name)!r}, which is not below its folder; do not trust it"
        )
    path = root / name
    refuse_links(root, path, own)
    return path


def refuse_links(root: Path, path: Path, own: int = 0) -> None:
    """Raise ValueError where a part of `path` below `root`, its file included, is a symbolic link.

    Args:
        own: the first parts that may be links to folders: a user's own.
    """
    if isinstance(root, store.Mirrored):  # a store has no links, and a mirror is this user's
        return
    at = str(root)
    for number, part in enumerate(str(path)[len(at) :].strip("/").split("/")):
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except (OSError, ValueError):
            # Nothing lies below what is not there.
            return
        if stat.S_ISLNK(mode) and not (number < own and os.path.isdir(at)):
            raise ValueError(
                f"{at} is a symbolic link; fox1 neither reads nor writes through links in {root}. Put the file or folder "
                "itself there, or choose another folder"
            )


_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.tmp")


def partial(folder: Path) -> Path:
    """A name for a file of `folder` that is being written, which none of a user's has."""
    return Path(f"{folder}/.{uuid.uuid4().hex}.tmp")


def is_partial(name: str) -> bool:
    """Whether a file has such a name."""
    return bool(_PARTIAL.fullmatch(name))


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours by its place; its descriptor.

    Raises:
        ValueError: it is a symbolic link, or no regular file.
        OSError: it cannot be opened.
    """
    try:
        return open_descriptor(path, flags | os.O_NOFOLLOW)
    except Misshapen:
        raise ValueError(f"{path} is not a regular file; remove it, and run the same command again") from None
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise ValueError(f"{path} is a symbolic link; remove it, and run the same command again") from None
        raise
