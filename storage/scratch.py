"""Where the mirrors of stores lie on a node: a folder for each session, that nobody else can write."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
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


IN_USE = 5.0
"""Seconds for which a file is not removed after its path was handed out: it is about to be opened. An open one stays readable."""
WAIT = 60.0
"""Seconds that a process waits for room that others, or its own reading, may give back."""
ROOM_STEP = 64 << 20
"""Most bytes that a process writes between two looks at how full the folder is."""


_looking = threading.Lock()
_left = 0
"""Bytes that this process may still write before it looks again at what all processes of the node hold."""


def has_room(size: int) -> bool:
    """Whether bytes can be written below the scratch folder, where what was used longest ago is removed if it must.

    Processes of a node write at once, and each looks only now and then: a quarter of the limit is kept free for that.
    """
    global _left
    with _looking:
        if size <= _left:
            _left -= size
            return True
        wanted = scratch_limit() * 3 // 4 - size
        if _remove_unused(wanted) > wanted:
            return False
        _left = min(ROOM_STEP, scratch_limit() // (4 * (os.cpu_count() or 1)))
        return True


def make_room(size: int) -> None:
    """Called before bytes are written below the scratch folder: waits until they have room.

    Raises:
        OSError: the limit is too small for what is being written and read.
    """
    ends = time.monotonic() + WAIT
    while not has_room(size):
        if size > scratch_limit() * 3 // 4 or time.monotonic() > ends:
            raise OSError(
                f"{scratch()} has no room for {size:,} bytes (FOX1_SCRATCH_BYTES is {scratch_limit():,}, and what is in use "
                "stays); raise it, or run fewer tasks at once"
            )
        time.sleep(IN_USE / 20)


def _remove_unused(wanted: int) -> int:
    """Remove the least recently used files until the mirrors hold what is wanted; how much they hold then."""
    files, held = [], 0
    for folder, _, names in os.walk(scratch()):
        for name in names:
            with suppress(OSError):
                facts = os.stat(os.path.join(folder, name))
                held += facts.st_size
                if facts.st_mtime == 0:
                    files.append((facts.st_atime, facts.st_size, os.path.join(folder, name)))
    for used, size, name in sorted(files):
        if held <= wanted or used > time.time() - IN_USE:
            break
        with suppress(OSError):
            os.unlink(name)
            held -= size
    return held


def note_use(path: Path) -> None:
    """Note that a file which the store has is about to be opened.

    A file whose time of change is 0 is one that the store has, and its time of access is that of its last use. What is
    written to a file, here or anywhere, changes the first: then it is nowhere else, and is not removed.
    """
    os.utime(path, (time.time(), 0))


def may_go(path: Path) -> None:
    """Let a file be removed as soon as room is needed: the store has it, and nobody is about to open it."""
    with suppress(OSError):
        os.utime(path, (0, 0))


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
            times = (p.stat() for p in (folder, *folder.rglob("*")))
            newest = max(max(facts.st_mtime, facts.st_atime) for facts in times)
            if newest < time.time() - STALE_HOURS * 3600:
                shutil.rmtree(folder, ignore_errors=True)
