"""The files of a local corpus: regular ones, inside it, each folder once, without hidden and temporary names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fsspec.implementations.local import LocalFileSystem

from ...storage.wording import counted, printable
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
    """Files that match and are left out for a hidden or temporary name."""

    files: int = 0
    example: str = ""

    def add(self, path: str) -> None:
        self.files += 1
        self.example = min(self.example or path, path)

    def __str__(self) -> str:
        return f"skipped {counted(self.files, 'file')} with a hidden or temporary name, such as {self.example}"


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
        # Links to folders come after them, so that a folder is listed by its own name if it has one in the corpus. Hidden
        # folders come last, and only count: what a link shows of them is not hidden.
        folders, links, hidden = [""], list[str](), list[str]()
        while queue := folders or links or hidden:
            relative = queue.pop(0)
            try:
                facts = os.stat(self._full(relative))
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                with os.scandir(self._full(relative)) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
                for entry in entries:
                    path = f"{relative}/{entry.name}" if relative else entry.name
                    is_link = entry.is_symlink()
                    if not entry.is_dir():
                        self._take(path, is_link)
                    elif reaches(path, self.patterns) and not (is_link and is_hidden(path)):
                        if is_link:
                            self._check_link(path)
                        (links if is_link else hidden if is_hidden(path) else folders).append(path)
            except OSError as error:
                if not is_hidden(relative):
                    raise unreadable(error) from None
            links.sort()
        return self

    def _full(self, relative: str) -> str:
        return os.path.join(self.root, relative) if relative else self.root

    def _take(self, path: str, is_link: bool) -> None:
        if matches(path, self.patterns):
            if is_hidden(path):
                self.skipped.add(path)
            else:
                self.add(path, is_link)

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
                    f"{printable(full)} is {kind}, and corpora are made of files; remove it, or exclude it with `files`"
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
                f"{printable(full)} is a link that leaves the corpus, to {printable(real)}; set `follow_links: true` for this "
                "source, or exclude it with `files`"
            )


def unreadable(error: OSError) -> ValueError:
    """Without it, what cannot be listed would be left out silently."""
    return ValueError(
        f"{printable(str(error.filename))} cannot be read ({error.strerror}); make it readable, or exclude it with `files`"
    )
