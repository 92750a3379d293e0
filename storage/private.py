"""Folders that nobody else can write: for caches whose files are loaded as code, and for copies of what a store holds.

Root is trusted as this user is, who could do nothing against it. Standard library only: the package asks when it is imported.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress


def why_not_private(folder: str, base: bool = False) -> str:
    """Why others could put files into a folder, as the end of a sentence; empty if they cannot. A link is no folder.

    Args:
        base: ask for less: whether they could exchange a private folder in it. They cannot in one like /tmp, where all may
            write and each may move only what is theirs.
    """
    try:
        facts = os.lstat(folder)
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    if not stat.S_ISDIR(facts.st_mode):
        return "is a link" if stat.S_ISLNK(facts.st_mode) else "is no folder"
    if base and facts.st_mode & stat.S_ISVTX:
        return ""
    if facts.st_uid not in (os.getuid(), 0):
        return f"belongs to another user (of number {facts.st_uid})"
    # By custom, the group that has a user's number is of this user alone.
    others = 0o002 if base and facts.st_gid == facts.st_uid else 0o022
    return "can be written by other users" if facts.st_mode & others else ""


def cache_folder(name: str) -> str:
    """A private folder of this machine that outlives the process, for what need not be made again; made if it is missing.

    It lies below the user's folder for caches, else below the one for temporary files, where somebody else may have put one
    of its name; then it is a new one, for this process and those it starts.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home) and (folder := _made(home, "fox1", name)):
        return folder
    try:
        temporary = tempfile.gettempdir()
        if folder := _made(temporary, f"fox1-{os.getuid()}", name):
            return folder
        folder = tempfile.mkdtemp(prefix="fox1-")
    except OSError:
        return os.devnull  # nothing can be written anywhere: every process does without
    remove_at_exit(folder)
    return folder


def remove_at_exit(folder: str) -> None:
    """Remove a folder when this process ends. A forked child ends earlier, and is not the owner."""
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)


def _made(base: str, *names: str) -> str:
    """The folder below `base`, made where it is missing; empty if it is not private, or this user cannot write it."""
    with suppress(OSError):
        os.makedirs(base, 0o700, exist_ok=True)
        folder = base
        private = not why_not_private(os.path.realpath(base), base=True)
        for name in names if private else ():
            folder = os.path.join(folder, name)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            private &= not why_not_private(folder)
        return folder if private and os.access(folder, os.W_OK) else ""
    return ""
