"""One writer of a run, or of a folder of checkpoints, at a time: on a disk and in a store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import store
from .disk import writing

BEAT = 5.0
"""Seconds between the heartbeats of a folder's holder; after three missed ones the folder is free."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` as its only writer while the block lasts; it is created if it is missing.

    Raises:
        ValueError: another process is writing it, or it cannot be written.
    """
    with _held_in_a_store(folder) if isinstance(folder, store.Mirrored) else _held_on_a_disk(folder):
        yield


@contextmanager
def _held_on_a_disk(folder: Path) -> Iterator[None]:
    """The lock is the kernel's, so a killed writer never leaves it behind."""
    path = folder / ".lease"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        opened = open(path, "a+")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _refused(folder, file.read().strip() or "another process") from None
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
        try:
            yield
        finally:
            # This only says who held the folder: a disk that fails now harms nobody.
            with suppress(OSError):
                file.truncate(0)


@contextmanager
def _held_in_a_store(folder: store.Mirrored) -> Iterator[None]:
    """An object that only one process can create, kept alive by heartbeats.

    A holder that stops (killed, or cut off) loses the folder after three missed ones; both would write the same bytes.
    """
    path = folder / ".lease"
    objects, key = store.store_of(path.url)
    host, own = socket.gethostname(), uuid.uuid4().hex

    def entry(beat: int) -> bytes:
        return json.dumps({"host": host, "process": os.getpid(), "own": own, "beat": beat}).encode()

    def read() -> dict[str, Any]:
        try:
            return dict(json.loads(store.retried(lambda: objects.cat_file(key), path.url)))
        except (FileNotFoundError, ValueError):
            return {}

    while True:
        try:
            store.retried(lambda: objects.pipe_file(key, entry(0), mode="create"), path.url)
            break
        except FileExistsError:
            before = read()
            if before.get("own") == own:  # the object was created, only the answer was lost
                break
            if not (before.get("host") == host and not _alive(int(before.get("process", 0)))):
                time.sleep(3 * BEAT)
                if (now := read()) and now != before:
                    raise _refused(folder, f"process {now.get('process')} on {now.get('host')}") from None
            with suppress(FileNotFoundError):
                store.retried(lambda: objects.rm_file(key), path.url)

    def live(ended: threading.Event) -> None:
        beat = 0
        while not ended.wait(BEAT):
            beat += 1
            with suppress(OSError):
                objects.pipe_file(key, entry(beat))

    try:
        with store.beside(live):
            yield
    finally:
        with suppress(OSError):
            objects.rm_file(key)


def _refused(folder: object, holder: str) -> ValueError:
    return ValueError(
        f"{store.shown(folder)} is being written by {holder}; wait until it ends, or choose another --out"
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process > 0
