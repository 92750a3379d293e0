"""The files of a local corpus: regular ones, inside it, each folder once, without hidden and temporary names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fsspec.implementations.local import LocalFileSystem

from ...storage.wording import counted
from .globs import matches, reaches

TEMPORARY = ("_temporary", "__MACOSX")
"""Folders that unfinished jobs of Hadoop and Spark leave, and archives of macOS."""
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Entry(NamedTuple):
    """A file as a listing finds it."""

    path: str
    """Relative to the root of its corpus, with forward slashes."""
    url: str
    size: int
    version: str


@dataclass
class Skipped:
    """What a listing leaves out for its name, without being asked to."""

    files: int = 0
    folders: int = 0
    example: str = ""

    def add(self, path: str, is_folder: bool = False) -> None:
        self.files += not is_folder
        self.folders += is_folder
        self.example = min(self.example or path, path)

    def __str__(self) -> str:
        counts = [counted(n, noun) for n, noun in ((self.files, "file"), (self.folders, "folder")) if n]
        return f"{' and '.join(counts)} with a hidden or temporary name, such as {self.example}"


def is_hidden(path: str) -> bool:
    """Whether a name of a relative path is one that notebooks, jobs and archives leave beside data."""
    return any(name.startswith(".") or name in TEMPORARY for name in path.split("/"))


def local_path(url: str) -> str | None:
    """The path that a text names on this machine, also as file://; None for other URLs."""
    if "://" not in url:
        return url
    return str(LocalFileSystem._strip_protocol(url)) if url.startswith(("file://", "local://")) else None


@dataclass
class Folder:
    """The walk through the folder of a corpus."""

    root: str
    patterns: Sequence[str]
    follow_links: bool = False
    """Links may lead out of the corpus."""
    entries: list[Entry] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def walk(self) -> Folder:
        """List the files that match.

        Raises:
            ValueError: something that matches cannot be read, is not a regular file, or leaves the corpus; names it.
        """
        seen: set[tuple[int, int]] = set()
        folders, links = [""], list[str]()
        # Links to folders come last, so that a folder is listed by its own name if it has one in the corpus.
        while folders or links:
            relative = folders.pop() if folders else links.pop(0)
            try:
                facts = os.stat(self._full(relative))
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                with os.scandir(self._full(relative)) as found:
                    for entry in sorted(found, key=lambda entry: entry.name):
                        self._take(entry, f"{relative}/{entry.name}".lstrip("/"), folders, links)
            except OSError as error:
                raise unreadable(error) from None
            links.sort()
        return self

    def _full(self, relative: str) -> str:
        return os.path.join(self.root, relative) if relative else self.root

    def _take(self, entry: os.DirEntry[str], path: str, folders: list[str], links: list[str]) -> None:
        is_folder = entry.is_dir()
        if not (reaches(path, self.patterns) if is_folder else matches(path, self.patterns)):
            return
        if is_hidden(entry.name):
            self.skipped.add(path, is_folder)
        elif not is_folder:
            self.add(path, entry.is_symlink())
        elif entry.is_symlink():
            self._check_link(path)
            links.append(path)
        else:
            folders.append(path)

    def add(self, path: str, may_leave: bool = True) -> None:
        """List a file by its relative path.

        Args:
            may_leave: it is a link, or may lie behind one.

        Raises:
            ValueError: it cannot be read, is not a regular file, or leaves the corpus.
        """
        full = self._full(path)
        try:
            facts = os.stat(full)
            if not stat.S_ISREG(facts.st_mode):
                kind = KINDS.get(stat.S_IFMT(facts.st_mode), "not a file")
                raise ValueError(
                    f"{full} is {kind}, and corpora are made of files; remove it, or exclude it with `files`"
                )
            if not os.access(full, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), full)
        except OSError as error:
            raise unreadable(error) from None
        if may_leave:
            self._check_link(path)
        self.entries.append(Entry(path, os.path.abspath(full), facts.st_size, str(facts.st_mtime_ns)))

    def _check_link(self, path: str) -> None:
        full = self._full(path)
        real, root = os.path.realpath(full), os.path.realpath(self.root)
        if not self.follow_links and os.path.commonpath([real, root]) != root:
            raise ValueError(
                f"{full} is a link that leaves the corpus, to {real}; set `follow_links: true` for this source, or exclude it "
                "with `files`"
            )


def unreadable(error: OSError) -> ValueError:
    """Without it, what cannot be listed would be left out silently."""
    return ValueError(
        f"{error.filename} cannot be read ({error.strerror}); make it readable, or exclude it with `files`"
    )
