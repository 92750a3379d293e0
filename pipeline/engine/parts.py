"""What a long task has published before it ends, so that a later attempt goes on after it instead of beginning anew.

    parts/<step>/<task>/NNNNN.json     key of the task, and the result of the part with the files that it published

A file that is only read from its start is one task, of up to twenty minutes, whatever the number of workers: without this, a node
that is lost near its end costs the run as long again. A part vouches for its files only if they have their hashes, so that no
attempt, however late, can leave one that is believed wrongly. All parts go when the run is finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from ...storage import store
from ...storage.inside import named
from ..run.artifacts import Artifact, content_key, read_json, write_json
from ..run.checksums import hash_file
from ..run.paths import RunPaths
from .records import artifacts_in, decoder_of, with_artifacts

Part = TypeVar("Part")
Row = TypeVar("Row")


@dataclass(frozen=True)
class _Attempt:
    """The attempt that this thread makes."""

    paths: RunPaths
    folder: Path
    key: str


_current: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


@contextmanager
def attempting(paths: RunPaths, step: str, task: str, key: str) -> Iterator[None]:
    """Meanwhile, what `Parts` keeps is that of a task.

    Args:
        key: empty: nothing is kept.
    """
    folder = paths.parts / step / RunPaths.record_name(task).removesuffix(".json")
    token = _current.set(_Attempt(paths, folder, key) if key else None)
    try:
        yield
    finally:
        _current.reset(token)


class Parts(Generic[Part]):
    """The parts of the task that this thread attempts. Outside an attempt, none is known and none is kept."""

    def __init__(self, kind: type[Part]) -> None:
        """
        Args:
            kind: the frozen dataclass that says what a part has published.
        """
        self._kind: Any = kind
        self._attempt = _current.get()

    def take(self, number: int, rows: Iterator[Row], make: Callable[[Iterator[Row]], Part]) -> Part:
        """A part: the one that is there, whose rows are only read, to come to those after them; else made now, and kept.

        Args:
            rows: what it is made of.
            make: publishes its files.
        """
        if part := self.known(number):
            deque(rows, maxlen=0)
            return part
        part = make(rows)
        self.add(number, part)
        return part

    def known(self, number: int) -> Part | None:
        """A part that an earlier attempt at the same task has published whole."""
        if not self._attempt:
            return None
        try:
            said = read_json(self._place(number))
            if said.pop("hash", "") != content_key(said) or said["key"] != self._attempt.key:
                return None
            part: Part = decoder_of(self._kind).decode(msgspec.json.encode(said["part"]))
            root = self._attempt.paths.root
            part = with_artifacts(part, lambda a: _placed(a, root))
            whole = all(a.file.stat().st_size == a.bytes and hash_file(a.file) == a.hash for a in artifacts_in(part))
        except (ValueError, KeyError, OSError):
            # Missing or damaged, it is made again.
            return None
        return part if whole else None

    def add(self, number: int, part: Part) -> None:
        """Keep one whose files are published."""
        if not self._attempt:
            return
        relative: Any = with_artifacts(part, self._attempt.paths.relative)
        said = {"key": self._attempt.key, "part": msgspec.to_builtins(relative, str_keys=True)}
        write_json(self._place(number), {**said, "hash": content_key(said)}, dense=True)

    def _place(self, number: int) -> Path:
        assert self._attempt
        return self._attempt.folder / f"{number:05d}.json"


def _placed(artifact: Artifact, root: Path) -> Artifact:
    return replace(artifact, path=str(named(root, artifact.path)))


def remove_parts(paths: RunPaths) -> None:
    """Delete those of a finished run."""
    folder = named(paths.root, paths.parts.relative_to(paths.root).as_posix())
    if folder.exists():
        store.remove_tree(folder)
