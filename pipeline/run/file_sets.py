"""Files that a task reads together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...storage import reading, store
from ...storage.names import stays_below
from .artifacts import Artifact, content_key, write_json
from .paths import RunPaths


@dataclass(frozen=True)
class FileSet:
    """Files that a task reads together, with one digest for what they hold: thousands of hashes in the key of each of
    thousands of tasks would cost the driver more than the tasks. So would thousands of paths in the arguments of each: the
    engine hands on where they are listed.
    """

    files: tuple[str, ...] = ()
    """Paths of the files themselves; none where they are listed. Text, as the driver makes thousands that it never opens."""
    digest: str = ""
    listed: FileList | None = None

    @classmethod
    def of(cls, artifacts: Iterable[Artifact]) -> FileSet:
        """These files, in this order."""
        chosen = list(artifacts)
        return cls(tuple(a.path for a in chosen), content_key([a.hash for a in chosen])) if chosen else cls()

    @classmethod
    def filled(cls, artifacts: Iterable[Artifact]) -> FileSet:
        """Those of some files that have rows."""
        return cls.of(a for a in artifacts if a.rows)

    def __add__(self, more: FileSet) -> FileSet:
        assert not (self.listed or more.listed), "only the driver adds files, and lists them afterwards"
        if not (self.files and more.files):
            return self if self.files else more
        return FileSet(self.files + more.files, content_key([self.digest, more.digest]))

    def __iter__(self) -> Iterator[Path]:
        return self.listed.read() if self.listed else map(store.as_path, self.files)

    def __len__(self) -> int:
        return self.listed.count if self.listed else len(self.files)

    def identity(self) -> str:
        """What it adds to the key of a task."""
        return self.digest


@dataclass(frozen=True)
class FileList:
    """A published list of files. It lives as long as the step whose tasks read it."""

    path: Path
    root: Path
    """The folder that all the files lie below."""
    count: int

    @classmethod
    def write(cls, files: Sequence[str], paths: RunPaths) -> FileList:
        """List files, under a name that follows from theirs."""
        root = store.as_path(os.path.commonpath([os.path.dirname(file) for file in files]))
        names = [file[len(str(root)) + 1 :] for file in files]
        path = paths.lists(content_key(str(root), names))
        write_json(path, names, dense=True)
        return cls(path, root, len(names))

    def read(self) -> Iterator[Path]:
        """The files.

        Raises:
            ValueError: the list is damaged, or names a file outside its folder.
        """
        names = reading.read_json(self.path)
        if not isinstance(names, list) or len(names) != self.count or not all(map(stays_below, names)):
            raise ValueError(f"{store.shown(self.path)} is damaged; run the same command again")
        return (self.root / name for name in names)
