"""Planning: the files of a recipe's sources, each with its identity, listed before any text is read."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import fsspec

from ...storage.fields import Arguments, Derived, OneOf
from ..run.checksums import hash_file
from ..run.identity import SourceFile, check_collisions, file_hash
from .adapter import is_plain
from .datatrove import make_reader, reader_url
from .formats import is_arrow, is_json_lines, open_source


def _formats() -> tuple[str, ...]:
    from .rows import ADAPTERS

    return tuple(ADAPTERS)


@dataclass(frozen=True)
class SourceSettings:
    """Where one corpus (or its held-out part) lies."""

    corpus: Annotated[str, Derived()]
    format: Annotated[str, OneOf(_formats)]
    """How rows are written; `huggingface` takes columns text, id and url, `datatrove` a `reader`, `chat` conversations."""
    root: str = ""
    """Folder or fsspec URL (s3://, https://, hf://datasets/...); ${VAR} is replaced."""
    files: tuple[str, ...] = ("**/*",)
    """Globs over paths relative to the root; they select from a listing or a URL list alike."""
    urls: str = ""
    """A list of file URLs, one a line; used where no local root is given."""
    held_out: Annotated[bool, Derived()] = False
    revision: str = ""
    """Revision of a hub data set; resolved to a commit when a run is planned."""
    dataset: str = ""
    """Name of a data set to stream through `datasets`, instead of root and files."""
    config: str = ""
    """Configuration of the data set."""
    split: str = "train"
    """Split of the data set."""
    reader: str = ""
    """Dotted path of a datatrove reader of files, e.g. datatrove.pipeline.readers.CSVReader."""
    arguments: Arguments = "{}"
    """Arguments of the reader besides its folder."""

    def __post_init__(self) -> None:
        if not (self.root or self.urls or self.dataset):
            raise ValueError("give `root`, `urls` or `dataset`")
        if self.dataset and self.format != "huggingface":
            raise ValueError("a streamed `dataset` needs `format: huggingface`")
        if bool(self.reader) != (self.format == "datatrove"):
            raise ValueError("`format: datatrove` and `reader` belong together")
        if self.reader and not self.root:
            raise ValueError("a `reader` needs `root`, the folder it reads")


def list_sources(sources: Iterable[SourceSettings], salt: int = 0) -> list[SourceFile]:
    """Every file of every source, sorted by name.

    Raises:
        ValueError: a root is missing, nothing matches, a suffix is unknown, or two files collide.
    """
    files: list[SourceFile] = []
    for source in sources:
        found = list(_list(source, salt))
        if not found:
            patterns = ", ".join(source.files)
            raise ValueError(
                f"source {source.corpus}: nothing under {source.root or source.urls} matches {patterns}; correct `files`"
            )
        files += found
    files.sort(key=lambda f: f.name)
    check_collisions(files)
    return files


def _list(source: SourceSettings, salt: int) -> Iterable[SourceFile]:
    if source.dataset:
        from .huggingface import shards

        entries = [
            (path, url, 0, version)
            for path, url, version in shards(
                source.dataset, source.config or None, source.split, source.revision or None
            )
        ]
    else:
        entries = _entries(source)
        if outside := next((p for p, *_ in entries if p.startswith("/") or {".", ".."} & set(p.split("/"))), None):
            raise ValueError(f"source {source.corpus}: {outside!r} leaves the folder of its corpus; remove it")
        if source.reader:
            make_reader(source.reader, source.arguments, source.root)
        elif bad := next((p for p, *_ in entries if not (is_json_lines(p) or is_arrow(p))), None):
            raise ValueError(f"source {source.corpus}: {bad!r} has a suffix that fox1 does not read; narrow `files`")
    if odd := next((p for p, *_ in entries if not is_plain(p)), None):
        raise ValueError(f"source {source.corpus}: the name {odd!r} contains control characters; rename the file")
    for path, url, size, version in entries:
        hash_ = file_hash(source.corpus, path, salt)
        if source.reader:
            url = reader_url(source.reader, source.arguments, source.root, path)
            version = f"{version} {source.reader} {source.arguments}"
        yield SourceFile(source.corpus, path, url, size, version, source.format, source.held_out, hash_)


def _entries(source: SourceSettings) -> list[tuple[str, str, int, str]]:
    """(relative path, url, size, version) of the matching files."""
    if source.root and "://" not in source.root:
        if os.path.isdir(source.root):
            return _local(source)
        if not source.urls:
            raise ValueError(
                f"source {source.corpus}: the folder {source.root} does not exist; set `root` (or FOX1_DATA) to where the "
                "data is"
            )
    if source.root and "://" in source.root:
        return _remote(source)
    return _url_list(source)


def _local(source: SourceSettings) -> list[tuple[str, str, int, str]]:
    entries = []

    def unreadable(error: OSError) -> None:
        raise ValueError(
            f"source {source.corpus}: {error.filename} cannot be read ({error.strerror}); make it readable, or exclude it "
            "with `files`"
        ) from None

    # Without this, what cannot be listed would be left out silently.
    for directory, _, names in os.walk(source.root, followlinks=True, onerror=unreadable):
        for name in names:
            full = os.path.join(directory, name)
            path = os.path.relpath(full, source.root).replace(os.sep, "/")
            if matches(path, source.files):
                try:
                    stat = os.stat(full)
                    if not os.access(full, os.R_OK):
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), full)
                except OSError as error:
                    unreadable(error)
                entries.append((path, os.path.abspath(full), stat.st_size, str(stat.st_mtime_ns)))
    return entries


def _remote(source: SourceSettings) -> list[tuple[str, str, int, str]]:
    root = source.root.rstrip("/")
    if root.startswith("hf://datasets/") and "@" not in root:
        from .huggingface import resolve_commit

        owner_name = "/".join(root.removeprefix("hf://datasets/").split("/")[:2])
        commit = resolve_commit(owner_name, source.revision or None)
        root = root.replace(owner_name, f"{owner_name}@{commit}", 1)
    try:
        filesystem, base = fsspec.core.url_to_fs(root)
        found = filesystem.find(base, detail=True)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"source {source.corpus}: {root} cannot be listed ({error}); check the address and your access"
        ) from None
    prefix = base.rstrip("/") + "/"
    entries = []
    for full, info in found.items():
        path = full.removeprefix(prefix)
        if matches(path, source.files):
            version = info.get("ETag") or info.get("etag") or info.get("blob_id") or info.get("LastModified") or ""
            entries.append((path, filesystem.unstrip_protocol(full), int(info.get("size") or 0), str(version)))
    return entries


def _url_list(source: SourceSettings) -> list[tuple[str, str, int, str]]:
    """Files of a URL list; the path below the common prefix of all its URLs is the relative path."""
    try:
        with open_source(source.urls) as file:
            urls = [line.strip() for line in file.read().decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        absent = f"the folder {source.root} does not exist, and " if source.root else ""
        raise ValueError(
            f"source {source.corpus}: {absent}the URL list {source.urls} cannot be read ({str(error) or 'unreachable'}); "
            "set `root` (or FOX1_DATA) to where the data is"
        ) from None
    urls = sorted({u for u in urls if u and not u.startswith("#")})
    prefix = os.path.commonprefix([u.rsplit("/", 1)[0] + "/" for u in urls])  # noqa: RUF071
    prefix = prefix[: prefix.rfind("/") + 1]
    try:
        # A list carries no sizes or etags: its published files never change under one URL.
        return [(u[len(prefix) :], u, 0, urlsplit(u).path) for u in urls if matches(u[len(prefix) :], source.files)]
    except ValueError as error:
        raise ValueError(f"source {source.corpus}: {source.urls} has a line that is not a URL ({error})") from None


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a relative path matches a glob: `*` within a folder, `**` over any depth."""
    return any(_glob(pattern).fullmatch(path) for pattern in patterns)


def _glob(pattern: str) -> re.Pattern[str]:
    parts = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece) or re.escape(piece))
    return re.compile("".join(parts))


def current_version(file: SourceFile) -> tuple[int, str]:
    """(size, version) of a local file now, to notice that it changed between the two reads; of others as planned."""
    if "://" in file.url:
        return file.size, file.version
    stat = os.stat(file.url)
    return stat.st_size, str(stat.st_mtime_ns)


def check_unchanged(file: SourceFile) -> None:
    """Raise ValueError if a local file is no longer the one that planning saw."""
    if current_version(file) != (file.size, file.version):
        raise ValueError(f"{file.name} changed while the run was reading it; run again to plan with the new file")


@dataclass(frozen=True)
class NamedFile:
    """A small file that a recipe names, such as a list or a model, as planning saw it."""

    url: str
    version: str

    @classmethod
    def of(cls, url: str) -> NamedFile:
        return cls(url, file_version(url))

    def identity(self) -> str:
        """What the file holds, as far as planning can tell; not where it lies."""
        return self.version


def file_version(url: str) -> str:
    """What changes when a named file changes: a hash of a local one, since a file that travels with a job gets another
    time in each; of others only the name."""
    if "://" in url or not os.path.isfile(url):
        return url
    return hash_file(Path(url))


def sample_files(files: Sequence[SourceFile], share: float, seed: int) -> list[SourceFile]:
    """A seeded sample of whole files: at least one of each corpus (and of each held-out part)."""
    kept = []
    for part in sorted({(f.corpus, f.held_out) for f in files}):
        candidates = sorted(
            (f for f in files if (f.corpus, f.held_out) == part), key=lambda f: file_hash(f.corpus, f.path, seed + 1)
        )
        kept += candidates[: max(1, round(len(candidates) * share))]
    return sorted(kept, key=lambda f: f.name)
