"""Where the mirrors of stores lie on a node: a folder for each session, that nobody else can write."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path, PosixPath

from .private import remove_at_exit, why_not_private

STALE_HOURS = 24
"""A session's mirror that nobody touched for this long is removed."""


def scratch() -> Path:
    """Where mirrors lie: ${FOX1_SCRATCH}, the same on all nodes, best on a local NVMe disk."""
    named = os.environ.get("FOX1_SCRATCH")
    return PosixPath(named) if named else PosixPath(tempfile.gettempdir(), f"fox1-scratch-{os.getuid()}")


@cache
def make_private(session: Path) -> None:
    """Make the folder of a session on this node, and look once whether other users could write or exchange what is in it.

    All nodes name it alike, so that another one cannot take its place.

    Raises:
        ValueError: they could.
    """
    root = str(session.parent)
    with suppress(FileExistsError):
        os.makedirs(root, 0o700)
    if os.environ.get("FOX1_SCRATCH"):
        problem = why_not_private(os.path.realpath(root), base=True)
    else:
        facts = os.lstat(root)
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
            os.chmod(root, 0o700)  # an earlier version may have left it open; what is in it is not read
        problem = why_not_private(root)
    if not problem:
        with suppress(FileExistsError):
            os.mkdir(session, 0o700)
        root, problem = str(session), why_not_private(str(session))
    if problem:
        raise ValueError(
            f"{root} {problem}, and is not used for what is fetched from stores: remove it, or set FOX1_SCRATCH to a folder "
            "of your own"
        )


def scratch_limit() -> int:
    """Bytes that mirrors may take on a node: ${FOX1_SCRATCH_BYTES}, else half of the disk."""
    named = os.environ.get("FOX1_SCRATCH_BYTES")
    if not named:
        return shutil.disk_usage(scratch()).total // 2
    if not named.isdigit():
        raise ValueError(f"FOX1_SCRATCH_BYTES={named} is not a number of bytes; write for example 100000000000")
    return int(named)


_session = ""


def session_folder() -> Path:
    """This process's session folder, removed when the process ends."""
    global _session
    if not _session:
        name = f"session-{uuid.uuid4().hex[:12]}"
        folder = scratch() / name
        make_private(folder)
        _session = name
        _sweep()
        remove_at_exit(str(folder))
    return scratch() / _session


def _sweep() -> None:
    """Remove the mirrors of sessions that ended without doing so, here or on another node."""
    for folder in scratch().glob("session-*"):
        with suppress(OSError):
            newest = max((p.stat().st_mtime for p in (folder, *folder.rglob("*"))), default=0.0)
            if newest < time.time() - STALE_HOURS * 3600:
                shutil.rmtree(folder, ignore_errors=True)
