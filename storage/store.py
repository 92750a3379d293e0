"""Runs and checkpoints on object stores: worked on as a local mirror, uploaded when published, fetched when opened.

A folder `s3://bucket/runs/x` is, on every node, the folder SCRATCH/session-N/@s3/bucket/runs/x. A path of the mirror names its
URL and a URL its path, so nothing but paths travels between processes, and code that opens files works on both. `Mirrored`
is such a path:

    opening       fetches the file into the mirror, if it is not there; whole, under a name of its own, then renamed
    publishing    uploads the finished file: a store shows an object whole or not at all, so no rename is needed
    removing      removes both

A session is one command of a user: what its nodes fetch is never older than it, and a file does not change within it once
written. Mirrors are bounded at all times: what was opened longest ago is removed first, since the store has it. Failed requests are
retried with growing pauses.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PosixPath
from typing import Any, TypeGuard

from .access import retried, store_of, written
from .names import stays_below
from .scratch import has_room, make_private, make_room, may_go, note_use, scratch, session_folder

ASKED_BYTES = 4 << 20
"""Of a larger file the store is asked whether it has it, before it is sent."""


class Mirrored(PosixPath):
    """A file or folder of a store, by its place in the mirror."""

    @property
    def url(self) -> str:
        parts = self.parts
        at = self._at
        return _prefix(parts[at][1:]) + "/".join(parts[at + 1 :])

    @property
    def _at(self) -> int:
        """Which part of the path names the scheme; it follows the folder of the session."""
        return next(i for i, part in enumerate(self.parts) if part.startswith("@"))

    def make_private(self) -> None:
        """See to it that only this user can write the mirror.

        Raises:
            ValueError: others can.
        """
        make_private(PosixPath(*self.parts[: self._at]))

    @property
    def local(self) -> PosixPath:
        """The same place as a plain path: nothing is fetched."""
        return PosixPath(str(self))

    def __fspath__(self) -> str:
        return str(_fetched(self))

    def exists(self, **_: Any) -> bool:
        return self.local.exists() or size(self) is not None

    def is_file(self, **_: Any) -> bool:
        return self.local.is_file() or size(self) is not None

    def is_dir(self, **_: Any) -> bool:
        return self.local.is_dir() or bool(_listed(self))

    def stat(self, **_: Any) -> os.stat_result:
        with suppress(FileNotFoundError):
            return self.local.stat()
        known = size(self)
        if known is None:
            raise FileNotFoundError(f"{self.url} does not exist")
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, known, 0, 0, 0))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        self.make_private()
        self.local.mkdir(mode, parents, exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        there = self.local.exists()
        self.local.unlink(missing_ok=True)
        _forget(self)
        store, key = store_of(self.url)
        try:
            retried(lambda: store.rm_file(key), self.url)
        except FileNotFoundError:
            if not (there or missing_ok):
                raise

    def rglob(self, pattern: Any, **_: Any) -> Generator[Any, None, None]:
        yield from (p for p in _listed(self) if p.match(pattern))

    def glob(self, pattern: Any, **_: Any) -> Generator[Any, None, None]:
        """Files directly in the folder, and folders by the files in them."""
        inside = {self / p.relative_to(self.local).parts[0] for p in _listed(self)}
        yield from (p for p in sorted(inside) if p.match(pattern))

    def iterdir(self) -> Generator[Any, None, None]:
        yield from self.glob("*")

    def write_bytes(self, data: Any) -> int:
        self.make_private()
        self.local.parent.mkdir(parents=True, exist_ok=True)
        make_room(len(data))
        written = self.local.write_bytes(data)
        upload(self)
        return written

    def write_text(self, data: str, *args: Any, **options: Any) -> int:
        return self.write_bytes(data.encode())


# -- places ----------------------------------------------------------------------------------------------------------


def open_root(text: str | Path) -> Path:
    """A folder by path or URL; of a URL, its place in this session's mirror.

    Raises:
        ValueError: the URL does not name a folder of a store.
    """
    text = str(text)
    if "://" not in text:
        return as_path(os.path.abspath(text))
    scheme, _, rest = text.partition("://")
    rest = rest.strip("/")
    if not scheme or not rest or not stays_below(rest):
        raise ValueError(f"{text} is not a folder of a store; write s3://BUCKET/FOLDER")
    return Mirrored(session_folder(), f"@{scheme}", *rest.split("/"))


def as_path(text: str | Path) -> Path:
    """A path that may lie in a mirror, from its text."""
    # Asked for every file of a run: a path is parsed once.
    place = os.fspath(text)
    if "/@" not in place or not place.startswith(root := f"{scratch()}/"):
        return PosixPath(place)
    _session, _, inside = place[len(root) :].partition("/")
    return Mirrored(place) if inside.startswith("@") else PosixPath(place)


def shown(text: object) -> str:
    """A path, or a text that holds paths, as the user knows them: with URLs instead of places in a mirror."""
    place = re.escape(str(scratch())) + r"/session-[0-9a-f]+/@([a-z0-9+]+)/"
    return re.sub(place, lambda found: _prefix(found[1]), str(text))


def _prefix(scheme: str) -> str:
    """What stands before the parts of a URL; a local file's path begins with a slash."""
    return "file:///" if scheme == "file" else f"{scheme}://"


# -- the store -------------------------------------------------------------------------------------------------------


def upload(path: Path, grows: bool = False) -> None:
    """Upload a file of a mirror to the store; other paths already lie where they belong.

    Args:
        grows: it is appended to; otherwise it is finished.
    """
    if isinstance(path, Mirrored):
        store, key = store_of(path.url)
        retried(lambda: store.put_file(str(path.local), key), path.url)
        _note(path)
        if not grows:
            may_go(path.local)


def create(path: Path) -> bool:
    """Upload a finished file of a mirror if the store has no such object; whether it was created.

    Of two that create one object, the store lets one win. (A file that is not in a mirror lies where it belongs.)
    """
    if not isinstance(path, Mirrored):
        return True
    # A large one is asked for first, since a body that is refused has been sent.
    if path.local.stat().st_size > ASKED_BYTES and size(path) is not None:
        return False
    store, key = store_of(path.url)
    try:
        retried(lambda: store.put_file(str(path.local), key, mode="create"), path.url)
    except FileExistsError:
        return False
    _note(path)
    may_go(path.local)
    return True


def _note(path: Mirrored) -> None:
    if _known_of(path):
        _known[path.parent.url][path.name] = (path.local.stat().st_size, time.time_ns())


def copied(path: Mirrored, source: Mirrored) -> None:
    """Note that the store has made `path` a copy of another object."""
    path.local.unlink(missing_ok=True)
    if path.parent.url in _known and (bytes_ := size(source)) is not None:
        _known[path.parent.url][path.name] = (bytes_, time.time_ns())


def _forget(path: Mirrored) -> None:
    _known.get(path.parent.url, {}).pop(path.name, None)


def size(path: Mirrored) -> int | None:
    """Bytes of an object; None if it does not exist."""
    if known := _known_of(path):
        return known[0]
    store, key = store_of(path.url)
    try:
        facts = retried(lambda: store.info(key), path.url)
    except FileNotFoundError:
        return None
    return int(facts["size"]) if facts["type"] == "file" else None


Facts = tuple[int, int]
"""Of a file: its bytes, and when it was written, in nanoseconds of its disk's or store's clock (0: it does not say)."""

_known: dict[str, dict[str, Facts]] = {}
"""URL of a folder -> name -> facts of what `remember` listed, since a driver asks for the outputs of some hundred thousand
tasks."""


def _known_of(path: Mirrored) -> Facts | None:
    folder, _, name = path.url.rpartition("/")
    return _known.get(folder, {}).get(name)


class AtStart:
    """The files below a folder by their names in it, as they are when first asked for; in a store, as `remember` listed them.

    A driver asks for a million: no path is made of a name.
    """

    def __init__(self, root: Path) -> None:
        self._stored = isinstance(root, Mirrored)
        self._base = root.url if isinstance(root, Mirrored) else str(root)

    def facts(self, name: str) -> Facts | None:
        """Bytes of a file, and when it was written (0 in a store, where objects change as a whole); None if it does not exist,
        or is a symbolic link or no regular file."""
        path = f"{self._base}/{name}"
        if self._stored:
            folder, _, base = path.rpartition("/")
            known = _known.get(folder, {}).get(base)
            return (known[0], 0) if known else None
        try:
            facts = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def listed_at_start(folder: Path) -> dict[str, Facts]:
    """The files that lie directly in a folder, by name; in a store, as `remember` listed them."""
    if isinstance(folder, Mirrored):
        return dict(_known.get(folder.url, {}))
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.stat()) for entry in found if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name: (facts.st_size, facts.st_mtime_ns) for name, facts in entries}


def modified(path: Path | str) -> int:
    """When a file was written, in nanoseconds; 0 if it does not exist or lies in a store, where objects change as a whole.

    Args:
        path: a text is the path of a file on a disk.
    """
    if isinstance(path, Mirrored):
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


LISTED_APART = 2
"""Levels of folders whose own folders are listed each by itself, several at once: a store answers a page of a listing after
the other, and what it says of a million objects takes more memory than what is kept of them."""
REQUESTS = 16
"""Requests that are under way at once."""


def remember(root: Path) -> None:
    """List a folder once, so that the sizes of its files need no request each."""
    if not isinstance(root, Mirrored):
        return
    folders = [root]
    with ThreadPoolExecutor(REQUESTS, "list") as pool:
        for _ in range(LISTED_APART):
            found = [entry for entries in pool.map(_entries, folders) for entry in entries]
            folders = [path for path, facts in found if facts["type"] == "directory"]
            _remember((path, facts) for path, facts in found if facts["type"] == "file")
        # One after the other, as they are answered: none of them waits in memory for the rest.
        for _ in pool.map(lambda folder: _remember(_objects(folder)), folders):
            pass


def _remember(found: Iterable[tuple[Mirrored, dict[str, Any]]]) -> None:
    for path, facts in found:
        folder, _, name = path.url.rpartition("/")
        _known.setdefault(folder, {})[name] = (int(facts["size"]), written(facts))


def _entries(folder: Mirrored) -> list[tuple[Mirrored, dict[str, Any]]]:
    """(file or folder, what the store says of it) directly in a folder."""
    store, key = store_of(folder.url)
    try:
        found = retried(lambda: store.ls(key, detail=True), folder.url)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return list(_inside(folder, store, key, ((str(facts["name"]), facts) for facts in found)))


def _objects(folder: Mirrored) -> Iterator[tuple[Mirrored, dict[str, Any]]]:
    """(file, what the store says of it) below a folder."""
    store, key = store_of(folder.url)
    try:
        found = retried(lambda: store.find(key, detail=True), folder.url)
    except FileNotFoundError:
        return iter(())
    return _inside(folder, store, key, found.items())


def _inside(
    folder: Mirrored, store: Any, key: str, found: Iterable[tuple[str, dict[str, Any]]]
) -> Iterator[tuple[Mirrored, dict[str, Any]]]:
    """What a store has listed, by its place in the mirror."""

    def bare(name: str) -> str:
        return str(store._strip_protocol(name)).lstrip("/")

    above = bare(key) + "/"
    for name, facts in found:
        inside = bare(name).removeprefix(above)
        # Keys may be any text; none may lead out of the mirror. Some stores list a folder in itself.
        if bare(name).startswith(above) and stays_below(inside):
            yield folder / inside, facts


def files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """(file, its bytes) of all files below a folder as it is now, from listings; no link is followed."""
    if isinstance(folder, Mirrored):
        yield from ((path, int(facts["size"])) for path, facts in _objects(folder))
        return
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                facts = os.lstat(f"{place}/{name}")
                if stat.S_ISREG(facts.st_mode):
                    yield PosixPath(place, name), facts.st_size


def remove_files(paths: Sequence[Path]) -> None:
    """Remove files, where they are still there; in a store, a thousand by one request."""
    for path in paths:
        PosixPath(str(path)).unlink(missing_ok=True)
    stored = [path for path in paths if isinstance(path, Mirrored)]
    for path in stored:
        _forget(path)
    for first in range(0, len(stored), REMOVED_AT_ONCE):
        urls = [path.url for path in stored[first : first + REMOVED_AT_ONCE]]
        store, _ = store_of(urls[0])
        keys = [str(store._strip_protocol(url)) for url in urls]
        # In a list, fsspec would take such a key for a pattern.
        together = [] if any(set("*?[").intersection(key) for key in keys) else keys
        try:
            if together:
                retried(lambda: store.rm(together), urls[0])  # noqa: B023
                continue
        except FileNotFoundError:  # of a store that stops at the first that is gone
            pass
        for key, url in zip(keys, urls, strict=True):
            with suppress(FileNotFoundError):
                retried(lambda: store.rm_file(key), url)  # noqa: B023


REMOVED_AT_ONCE = 1000
"""Objects that a store removes by one request."""


def _listed(folder: Mirrored) -> list[Mirrored]:
    """Files below a folder, of the store and of the mirror."""
    found = {path for path, _ in _objects(folder)}
    found |= {Mirrored(p) for p in folder.local.rglob("*") if p.is_file() and not p.name.endswith(".tmp")}
    return sorted(found)


def read_now(path: Path) -> bytes:
    """A small file as it is now, not as a mirror has it.

    Raises:
        FileNotFoundError: there is none.
    """
    if not isinstance(path, Mirrored):
        return path.read_bytes()
    store, key = store_of(path.url)
    return bytes(retried(lambda: store.cat_file(key), path.url))


def only_in_store(path: Path) -> TypeGuard[Mirrored]:
    """Whether opening a file would fetch all of it."""
    return isinstance(path, Mirrored) and not path.local.exists()


def read_range(path: Path, begin: int, end: int | None) -> bytes:
    """Bytes of a file (None: to its end) without fetching the rest of it."""
    if end is not None and end <= begin:
        return b""
    if only_in_store(path):
        store, key = store_of(path.url)
        return bytes(retried(lambda: store.cat_file(key, start=begin, end=end), path.url))
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(-1 if end is None else end - begin)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all it holds."""
    if isinstance(folder, Mirrored):
        store, key = store_of(folder.url)
        with suppress(FileNotFoundError):
            retried(lambda: store.rm(key, recursive=True), folder.url)
        shutil.rmtree(folder.local, ignore_errors=True)
    else:
        shutil.rmtree(folder)


def fetch_tree(folder: Path) -> None:
    """Fetch all files of a folder."""
    if isinstance(folder, Mirrored):
        for path in _listed(folder):
            os.fspath(path)


class _NoRoom(Exception):
    """A file that is being fetched has no room."""


def _fetched(path: Mirrored) -> Path:
    """The file in the mirror, fetched first if only the store has it; opening it fails if neither has it."""
    local = path.local
    path.make_private()
    with suppress(OSError):
        facts = os.lstat(local)
        if facts.st_mtime == 0:
            note_use(local)
        return local
    store, key = store_of(path.url)
    temporary = local.with_name(f".{uuid.uuid4().hex}.tmp")

    def get() -> int:
        """Fetch the file; the bytes that it needs and there is no room for, else 0."""
        from fsspec.callbacks import Callback

        class Sized(Callback):
            def set_size(self, size: int | None) -> None:
                """Called with the size that the store answers, before anything is written."""
                if not has_room(size or 0):
                    raise _NoRoom(size)

        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.get_file(key, str(temporary), callback=Sized())
        except _NoRoom as full:
            return int(full.args[0])
        return 0

    try:
        while wanted := retried(get, path.url):
            # Not within the request: other requests, heartbeats among them, would wait as well.
            make_room(wanted)
    except FileNotFoundError:
        return local
    except IsADirectoryError:
        return local
    else:
        # Some stores answer a request for a folder with a folder.
        if temporary.is_dir():
            temporary.rmdir()
            return local
        note_use(temporary)
        os.replace(temporary, local)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return local
