"""One writer of a run, a dump or a folder of checkpoints at a time, on a disk and in a store; and its readers.

`held` makes this process the only writer of a folder. Its right to write is a `Lease`, which travels to workers; `allow_write`
asks for it before anything is published or deleted. A holder that was paused, or cut off from the store, may have lost the
folder meanwhile: whoever took it over has a lease of another name and a higher generation, and the first finds that out
before it publishes again. A lease on a disk is the kernel's lock; in a store it is an object that only one process can
create and that is never overwritten, beside an object of the holder's own that its heartbeats overwrite.

`.fox1.json` marks a folder as ours: what it holds, when each generation of writers began, and until when what it wrote is
known to be on the disk. A folder that is neither marked nor empty is somebody else's, and is refused.

A file is on the disk before it gets its name, or, where all who write are processes of one machine, soon after: then all that
they wrote is flushed together, every `FLUSH` seconds and when the holder ends. A killed process loses nothing; a machine that
stops may lose what was written since the last flush, and whoever trusts that compares it with its hash (`Lease.unflushed`).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import access, disk, store
from .background import beside
from .disk import writing
from .inside import is_partial, open_own, partial, refuse_links
from .wording import printable

BEAT = 5.0
"""Seconds between the heartbeats of a folder's holder; after three missed ones the folder is free."""
FLUSH = 30.0
"""Seconds between two flushes of a folder whose files are flushed together."""
MARK = ".fox1.json"
LEASE, READERS = ".lease", ".readers"
RUN, DUMP, TRAINING, TUNING = "run", "dump", "training", "tuning"
"""What a folder of ours may hold."""
_OF_ANY_DISK = {LEASE, READERS, MARK, "lost+found"}
"""Names in a folder that is empty all the same."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that runs while the machine sleeps, where there is one."""


class LeaseLost(ValueError):
    """Another process has taken over the folder that this one was writing."""


@dataclass(frozen=True)
class Lease:
    """The right to write below a folder, until another process takes it over."""

    folder: Path
    own: str
    """Its name: no two leases have the same."""
    generation: int = 0
    """How many held the folder until now, this one included; 0 where the folder has no mark."""
    began: tuple[int, ...] = field(default=(), repr=False)
    """When each generation began, in nanoseconds by the clock of the disk or store."""
    flushed: tuple[int | None, ...] = field(default=(), repr=False)
    """Of each generation before which time what it wrote is on the disk, by the same clock; None: each file is, at any time."""
    device: int | None = None
    """Files on this device are flushed together, by the holder; any other one before it gets its name."""

    def confirm(self, afresh: bool = False) -> None:
        """Is the folder still this one's?

        Args:
            afresh: ask the store, even if it was asked less than a heartbeat ago.

        Raises:
            LeaseLost: another process has it.
        """
        now = time.clock_gettime(_CLOCK)
        seen, said = _confirmed.get(self.own, (-BEAT, None))
        if now - seen < BEAT and not afresh and isinstance(self.folder, store.Mirrored):
            return
        # Asked for every file: what it said the last time is not parsed again.
        if (data := _read(self.folder, LEASE)) != said and (holder := _entry(data)).get("own") != self.own:
            raise LeaseLost(
                f"{store.shown(self.folder)} was taken over by {_named(holder)} while this process was paused or cut off; it "
                "writes nothing there any more. Wait until the other one ends, and run the same command again"
            )
        _confirmed[self.own] = now, data

    def outlived(self, generation: int, written: int) -> bool:
        """Whether what an earlier holder wrote is of a time when its successor had already begun.

        Args:
            generation: the earlier holder's.
            written: when, in nanoseconds by the clock of the disk or store.
        """
        return 0 < generation < self.generation <= len(self.began) and written > self.began[generation]

    def flushes(self, descriptor: int) -> bool:
        """Whether an open file below the folder is flushed together with others."""
        return self.device is not None and os.fstat(descriptor).st_dev == self.device

    def unflushed(self, generation: int, written: int) -> bool:
        """Whether what a holder wrote may be lost since: its machine may have stopped before that was on the disk.

        Args:
            generation: the holder's.
            written: when, in nanoseconds by the clock of the disk.
        """
        if not 0 < generation <= len(self.flushed):
            return False
        until = self.flushed[generation - 1]
        return until is not None and written >= until


_confirmed: dict[str, tuple[float, bytes]] = {}
"""Name of a lease -> when this process last saw that it holds, and what its file said then."""
_leases: list[Lease] = []
"""Those that this process writes under."""


@contextmanager
def under(lease: Lease | None) -> Iterator[None]:
    """Write under a lease that this process, or the driver that it works for, holds."""
    if lease is None:
        yield
        return
    _leases.append(lease)
    try:
        yield
    finally:
        _leases.remove(lease)


def allow_write(path: Path, afresh: bool = False) -> Lease | None:
    """Called before a file is published, appended to or deleted; the lease of its folder, if this process writes under one.

    Raises:
        LeaseLost: its folder was taken over by another process.
        ValueError: it lies behind a symbolic link.
    """
    text = str(path)
    for lease in reversed(_leases):
        if text.startswith(f"{lease.folder}/"):
            refuse_links(lease.folder, path)
            lease.confirm(afresh)
            return lease
    return None


@contextmanager
def held(folder: Path, kind: str = "", alone: bool = False, together: bool = False) -> Iterator[Lease]:
    """Hold `folder` as its only writer while the block lasts; it is created if it is missing.

    Args:
        kind: what it holds; it is marked as that. Empty: it is not marked.
        alone: nobody may be `reading` it either.
        together: files are flushed together, where the system can do that: all who write are processes of this machine, and
            what it may lose they find by its hash. It needs a kind.

    Raises:
        ValueError: another process is writing or reading it, it cannot be written, or it is not ours.
        OSError: the disk refused what was flushed.
    """
    assert kind or not together, "what is flushed is noted in the mark"
    if kind:
        _refuse_others(folder, kind)
    with ExitStack() as closing:
        if isinstance(folder, store.Mirrored):
            own = closing.enter_context(_held_in_a_store(folder))
            if alone:
                _refuse_readers(folder)
        else:
            own = closing.enter_context(_held_on_a_disk(folder))
            if alone:
                closing.enter_context(_without_readers(folder))
        lease = Lease(folder, own)
        if kind:
            began, flushed = _generations(folder)
            began = (*began, _written(folder, LEASE))
            together = together and disk.can_flush() and not isinstance(folder, store.Mirrored)
            device = os.stat(folder).st_dev if together else None
            lease = Lease(folder, own, len(began), began, (*flushed, 0 if together else None), device)
            _mark(folder, kind, lease.began, lease.flushed)
        with under(lease), _flushing(lease, kind) if together else nullcontext():
            yield lease


@contextmanager
def _flushing(lease: Lease, kind: str) -> Iterator[None]:
    """Flush what is written now and then while the block lasts, and when it ends without an error."""

    def now_and_then(ended: threading.Event) -> None:
        while not ended.wait(FLUSH):
            # Whatever the disk says: the next one may succeed, and the last one is heard.
            with suppress(OSError, LeaseLost):
                _flush(lease, kind)

    with beside(now_and_then):
        yield
    _flush(lease, kind, last=True)


def _flush(lease: Lease, kind: str, last: bool = False) -> None:
    """Flush all that was written, and note until when.

    Args:
        last: nothing else is being written, also not within this tick of the disk's clock.
    """
    temporary = partial(lease.folder)
    with writing(lease.folder), open(temporary, "xb") as file:
        until = os.fstat(file.fileno()).st_mtime_ns + int(last)
        disk.flush(file.fileno())
        file.write(_mark_of(kind, lease.began, (*lease.flushed[:-1], until)))
        file.flush()
        os.fsync(file.fileno())
        lease.confirm()
        os.replace(temporary, lease.folder / MARK)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Let nobody hold `folder` `alone` while the block reads it. Where nothing can be written, it is read all the same.

    Raises:
        ValueError: somebody holds it.
    """
    with _reading_in_a_store(folder) if isinstance(folder, store.Mirrored) else _reading_on_a_disk(folder):
        yield


# -- whose folder it is ------------------------------------------------------------------------------------------------


def claim(folder: Path, kind: str) -> None:
    """Mark a folder as ours before anybody holds it, if it is new or empty.

    Raises:
        ValueError: it holds something else, or is somebody else's.
    """
    _refuse_others(folder, kind)
    if not _read(folder, MARK):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _mark(folder, kind, (), ())


def _mark(folder: Path, kind: str, began: tuple[int, ...], flushed: tuple[int | None, ...]) -> None:
    _write(folder, MARK, _mark_of(kind, began, flushed))


def _mark_of(kind: str, began: tuple[int, ...], flushed: tuple[int | None, ...]) -> bytes:
    return json.dumps({"kind": kind, "generations": began, "flushed": flushed}).encode() + b"\n"


def _refuse_others(folder: Path, kind: str) -> None:
    """Raise ValueError unless a folder is new, empty, or holds what it shall."""
    said = _entry(_read(folder, MARK))
    if said.get("kind") == kind or (not said and _is_older(folder, kind)):
        return
    if said:
        raise ValueError(
            f"{store.shown(folder)} holds a {printable(str(said.get('kind')))} of fox1, not a {kind}; choose another folder"
        )
    with writing(folder):
        there = [path.name for path in folder.iterdir()] if folder.is_dir() or folder.exists() else []
        if any(name not in _OF_ANY_DISK and not is_partial(name) for name in there):
            raise ValueError(
                f"{store.shown(folder)} is not empty and holds no {kind} of fox1, so nothing is written there; choose an empty "
                "or new folder"
            )


def enclosing(path: Path) -> Path | None:
    """The nearest folder that fox1 wrote, a run for example, of those that a file lies in; None: it lies in none."""

    def is_ours(folder: Path) -> bool:
        if os.path.lexists(folder / MARK):
            return True
        # What cannot be read as a run's is none.
        with suppress(ValueError, OSError):
            return _is_older(folder, RUN)
        return False

    return next(filter(is_ours, Path(os.path.realpath(path)).parents), None)


def _is_older(folder: Path, kind: str) -> bool:
    """Whether a folder without a mark was written by a fox1 that made none."""
    if kind == RUN:
        whole = b'"artifacts"' in _read(folder, "manifest.json")
        return whole or all((folder / name).exists() for name in ("recipe.yaml", "records"))
    if kind == DUMP:
        return (folder / "__fox1").exists()
    begun = all((folder / name).exists() for name in ("metrics.jsonl", "train.log"))
    return begun or any((path / "manifest.json").exists() for path in folder.glob("step-*"))


def past(folder: Path) -> Lease:
    """The last lease of a folder that nobody holds now: it tells what an earlier holder wrote too late, and allows nothing."""
    began, flushed = _generations(folder)
    return Lease(folder, "", len(began), began, flushed)


def _generations(folder: Path) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """What the mark of a folder says of its generations: when each began, and until when what it wrote is on the disk."""
    said = _entry(_read(folder, MARK))
    began, flushed = said.get("generations"), said.get("flushed")
    times = [at for at in began if type(at) is int] if isinstance(began, list) else []
    # A fox1 that notes none waited for each file.
    known = flushed if isinstance(flushed, list) and len(flushed) == len(times) else [None] * len(times)
    return tuple(times), tuple(at if type(at) is int else None for at in known)


# -- small files beside what a folder holds, never those of a mirror -----------------------------------------------------


def _read(folder: Path, name: str) -> bytes:
    """A small file of a folder as it is now, or the beginning of a large one; empty if there is none."""
    try:
        if isinstance(folder, store.Mirrored):
            return store.read_now(folder / name)[:_MOST]
        descriptor = open_own(Path(f"{folder}/{name}"), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, _MOST))
    finally:
        os.close(descriptor)


_MOST = 1 << 20
"""Bytes of a file that are read here."""


def _write(folder: Path, name: str, data: bytes) -> None:
    """Publish a small file of a folder."""
    if isinstance(folder, store.Mirrored):
        objects, key = access.store_of((folder / name).url)
        access.retried(lambda: objects.pipe_file(key, data), str(folder))
        return
    path, temporary = folder / name, partial(folder)
    with writing(path):
        with open(temporary, "xb") as file:
            file.write(data)
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _written(folder: Path, name: str) -> int:
    """When a file was written, by the clock of its disk or store."""
    if isinstance(folder, store.Mirrored):
        objects, key = access.store_of((folder / name).url)
        return access.written(access.retried(lambda: objects.info(key), str(folder)))
    return os.stat(folder / name).st_mtime_ns


def _entry(data: bytes) -> dict[str, Any]:
    """What a mark or a lease says; nothing if it is damaged."""
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {}


def _mine(own: str) -> bytes:
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "own": own}).encode()


def _named(holder: dict[str, Any]) -> str:
    if "process" not in holder:
        return "another process"
    where = holder.get("host", "")
    return printable(f"process {holder['process']}" + (f" on {where}" if where != socket.gethostname() else ""))


# -- on a disk -----------------------------------------------------------------------------------------------------------


@contextmanager
def _locked(path: Path, how: int, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int | None]:
    """An open file with a lock of the kernel's, which a killed process never leaves behind; None if it is taken."""
    with writing(path):
        descriptor = open_own(path, flags)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _held_on_a_disk(folder: Path) -> Iterator[str]:
    path, own = folder / LEASE, uuid.uuid4().hex
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(path, fcntl.LOCK_EX) as file:
        if file is None:
            raise _refused(folder, _entry(_read(folder, LEASE)))
        with writing(path):
            os.ftruncate(file, 0)
            os.pwrite(file, _mine(own), 0)
        try:
            yield own
        finally:
            # Workers that outlive their driver find that it holds the folder no more; a disk that fails now harms nobody.
            with suppress(OSError):
                if _entry(os.pread(file, _MOST, 0)).get("own") == own:
                    os.ftruncate(file, 0)


@contextmanager
def _without_readers(folder: Path) -> Iterator[None]:
    with _locked(folder / READERS, fcntl.LOCK_EX) as file:
        if file is None:
            raise _being_read(folder)
        yield


@contextmanager
def _reading_on_a_disk(folder: Path) -> Iterator[None]:
    with ExitStack() as closing:
        # A folder, or a file system, that takes no lock: what is read is checked all the same.
        with suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT if os.access(folder, os.W_OK) else os.O_RDONLY
            if closing.enter_context(_locked(folder / READERS, fcntl.LOCK_SH, flags)) is None:
                raise _refused(folder, _entry(_read(folder, LEASE)))
        yield


# -- in a store ----------------------------------------------------------------------------------------------------------


@contextmanager
def _held_in_a_store(folder: store.Mirrored) -> Iterator[str]:
    """An object that only one process can create, and that is never overwritten; another one keeps it alive.

    A holder that stops (killed, paused or cut off) loses the folder after three missed heartbeats.
    """
    own = uuid.uuid4().hex
    path = folder / LEASE
    objects, key = access.store_of(path.url)
    with _beating(folder, f".beat-{own}"):
        while True:
            try:
                access.retried(lambda: objects.pipe_file(key, _mine(own), mode="create"), path.url)
                break
            except FileExistsError:
                if _entry(_read(folder, LEASE)).get("own") == own:  # it was created, only the answer was lost
                    break
                if holder := _live_holder(folder):
                    raise _refused(folder, holder) from None
                with suppress(FileNotFoundError):
                    access.retried(lambda: objects.rm_file(key), path.url)
        try:
            yield own
        finally:
            with suppress(OSError):
                if _entry(_read(folder, LEASE)).get("own") == own:
                    objects.rm_file(key)


def _live_holder(folder: store.Mirrored) -> dict[str, Any]:
    """Who holds a folder, if anybody does and lives."""
    if not (holder := _entry(_read(folder, LEASE))):
        return {}
    beat = f".beat-{quote(str(holder.get('own')), safe='')}"
    if _lives(holder, lambda: _read(folder, LEASE) + _read(folder, beat)):
        return _entry(_read(folder, LEASE))  # unless it has just ended
    _remove(folder, beat)
    return {}


def _lives(holder: dict[str, Any], look: Callable[[], bytes]) -> bool:
    """Whether a process that says where it runs is alive: on this host, or by what it changes within three heartbeats."""
    if holder.get("host") == socket.gethostname() and not _alive(holder.get("process")):
        return False
    before, ends = look(), time.monotonic() + 3 * BEAT
    while time.monotonic() < ends:
        time.sleep(BEAT / 5)
        if look() != before:
            return True
    return False


@contextmanager
def _beating(folder: store.Mirrored, name: str) -> Iterator[None]:
    """Overwrite an object of this process's own again and again while the block lasts; then it is removed.

    Raises:
        OSError: the store takes no object.
    """
    facts = {"host": socket.gethostname(), "process": os.getpid()}
    _write(folder, name, json.dumps({**facts, "beat": 0}).encode())
    objects, key = access.store_of((folder / name).url)

    def live(ended: threading.Event) -> None:
        beat = 0
        while not ended.wait(BEAT):
            beat += 1
            # Whatever the store says: the next one may succeed.
            with suppress(Exception):
                objects.pipe_file(key, json.dumps({**facts, "beat": beat}).encode())

    try:
        with beside(live):
            yield
    finally:
        _remove(folder, name)


def _remove(folder: store.Mirrored, name: str) -> None:
    objects, key = access.store_of((folder / name).url)
    with suppress(OSError):
        objects.rm_file(key)


@contextmanager
def _reading_in_a_store(folder: store.Mirrored) -> Iterator[None]:
    with ExitStack() as closing:
        # A store that this user may only read: what is read is checked all the same.
        with suppress(OSError):
            closing.enter_context(_beating(folder, f"{READERS}-{uuid.uuid4().hex}"))
        if holder := _live_holder(folder):
            raise _refused(folder, holder)
        yield


def _refuse_readers(folder: store.Mirrored) -> None:
    objects, key = access.store_of(folder.url)
    try:
        found = access.retried(lambda: objects.ls(key, detail=False), folder.url)
    except FileNotFoundError:
        return
    for name in (str(path).rpartition("/")[2] for path in found):
        if name.startswith(f"{READERS}-"):
            entry = _entry(_read(folder, name))
            if entry and _lives(entry, lambda name=name: _read(folder, name)):  # type: ignore[misc]
                raise _being_read(folder)
            _remove(folder, name)


def _refused(folder: Path, holder: dict[str, Any]) -> ValueError:
    return ValueError(
        f"{store.shown(folder)} is being written by {_named(holder)}; wait until it ends, or choose another --out"
    )


def _being_read(folder: Path) -> ValueError:
    return ValueError(
        f"{store.shown(folder)} is being read by a training or by `fox1 curate --from`; wait until it ends, or choose another "
        "--out"
    )


def _alive(process: object) -> bool:
    if type(process) is not int or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
