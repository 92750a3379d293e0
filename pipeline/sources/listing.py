"""Planning: the files of a recipe's sources, each with its identity, listed before any text is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import fsspec

from ...storage.fields import Arguments, Derived, OneOf, Pairs
from ...storage.names import stays_below
from ...storage.web import Reach, WebUrl, http_options, naming_private_hosts
from ...storage.wording import counted
from ...tokenize.token_files import DS
from ..run.checksums import hash_file
from ..run.identity import TOKENS, SourceFile, TableReader, check_collisions, file_hash
from .adapter import is_plain
from .datatrove import DatatroveReader
from .domains import OneDomain, is_domain
from .folder import Entry, Folder, Skipped, is_hidden, local_path
from .formats import ARROW_SUFFIXES, JSON_SUFFIXES, SEPARATED_SUFFIXES
from .globs import matches
from .huggingface import FIELDS
from .url_list import list_urls, unversioned

LONGEST_NAME = 255 - len(".parquet")
"""Bytes of a file's name. The files of a run that tell of it have its name and a suffix."""
ASKED_AT_ONCE = 32
"""Requests for sizes of files that are under way at once."""


SUFFIXES = (*JSON_SUFFIXES, *SEPARATED_SUFFIXES, *ARROW_SUFFIXES)
"""Of the files that fox1 reads itself."""


def _formats() -> tuple[str, ...]:
    from .rows import ADAPTERS

    return (*ADAPTERS, TOKENS)


@dataclass(frozen=True)
class SourceSettings:
    """Where one corpus (or its held-out part) lies."""

    corpus: Annotated[str, Derived()]
    format: Annotated[str, OneOf(_formats)] = "huggingface"
    """How rows are written; `huggingface` takes the columns text, id, url and timestamp or those of `columns`, `datatrove` a
    `reader`, `chat` conversations; `tokens` are no rows of text but datatrove's token files, `.ds` with `.ds.index`."""
    root: str = ""
    """Folder or fsspec URL (s3://, https://, hf://datasets/...); ${VAR} is replaced."""
    files: tuple[str, ...] = ("**/*",)
    """Globs over paths relative to the root; they select from a listing or a URL list alike."""
    urls: str = ""
    """A list of files, one a line: URLs, or paths below its folder; used where no local root is given."""
    follow_links: bool = False
    """Links below the root may lead out of it, as those of hub caches do."""
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
    """Arguments of the reader besides its folder; `adapter` by its dotted path."""

    columns: Annotated[tuple[tuple[Annotated[str, OneOf(FIELDS)], str], ...], Pairs()] = ()
    """Columns of `huggingface` rows that have other names: of text, id, url, timestamp and subset."""

    domain: Annotated[str, OneDomain(optional=True)] = ""
    """Domain of all its documents, of the table or of a name of your own; empty: by its subsets, or `other`."""

    tokenizer: str = ""
    """What token files call their tokenizer, where it is the recipe's under another name."""

    def __post_init__(self) -> None:
        if self.domain and not is_domain(self.domain):
            raise ValueError(f"{self.domain!r} cannot name a domain: use letters, digits, - and _")
        if self.columns and self.format != "huggingface":
            raise ValueError(
                f"`columns` belongs to `format: huggingface`; {self.format} rows have columns of their own"
            )
        columns = dict(self.columns)
        text = columns.pop("text", "text")
        if twice := next((field for field, column in columns.items() if column == text), None):
            raise ValueError(f"`columns` names {text!r} as {twice} and it holds the text; name another column")
        if self.tokenizer and self.format != TOKENS:
            raise ValueError(f"`tokenizer` of a source belongs to `format: {TOKENS}`; text has that of the recipe")
        if not (self.root or self.urls or self.dataset):
            raise ValueError("give `root`, `urls` or `dataset`")
        if self.dataset and self.format != "huggingface":
            raise ValueError("a streamed `dataset` needs `format: huggingface`")
        if bool(self.reader) != (self.format == "datatrove"):
            raise ValueError("`format: datatrove` and `reader` belong together")
        if self.reader and not self.root:
            raise ValueError("a `reader` needs `root`, the folder it reads")


def list_sources(
    sources: Iterable[SourceSettings],
    salt: int = 0,
    private_hosts: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[SourceFile]:
    """Every file of every source, sorted by name.

    Args:
        private_hosts: lists and redirects may lead to addresses that are not public.
        say: called with a line for what was left out.

    Raises:
        ValueError: a root is missing, nothing matches, a suffix is unknown, or two files collide.
    """
    files: list[SourceFile] = []
    for source in sources:
        try:
            found = list(_list(source, salt, private_hosts, say))
        except ValueError as error:
            raise ValueError(f"source {source.corpus}: {error}") from None
        if not found:
            patterns = ", ".join(source.files)
            raise ValueError(
                f"source {source.corpus}: nothing under {source.root or source.urls} matches {patterns}; correct `files`"
            )
        files += found
    files.sort(key=lambda f: f.name)
    check_collisions(files)
    return files


def _list(source: SourceSettings, salt: int, private_hosts: bool, say: Callable[[str], None]) -> Iterable[SourceFile]:
    found: list[tuple[Entry, TableReader | None]]
    if source.dataset:
        from .huggingface import shards

        found = [
            (Entry(path, "", 0, version), shard)
            for path, shard, version in shards(
                source.dataset, source.config or None, source.split, source.revision or None, source.columns
            )
        ]
    else:
        found = [(entry, None) for entry in _entries(source, private_hosts, say)]
        for entry, _ in found:
            if not entry.path:
                raise ValueError(f"{entry.url} names no file; remove it")
            if not stays_below(entry.path):
                raise ValueError(f"{entry.path!r} leaves the folder of its corpus; remove it")
        if source.reader:
            by_path = {entry.path: entry for entry, _ in found}
            reader = DatatroveReader(source.reader, source.arguments, source.root)
            found = [(by_path[path], part) for path, part in reader.choose(list(by_path))]
        elif source.format == TOKENS:
            # Beside them lie what belongs to them: .ds.index, .ds.metadata, .ds.loss.
            found = [(entry, part) for entry, part in found if entry.path.endswith(DS)]
            if not found:
                raise ValueError(
                    f"no {DS} file below {source.root or source.urls} matches `files`; correct one of them"
                )
        elif bad := next((e.path for e, _ in found if not e.path.endswith(SUFFIXES)), None):
            raise ValueError(f"{bad!r} has a suffix that fox1 does not read; narrow `files`")
    if odd := next((entry.path for entry, _ in found if not is_plain(entry.path)), None):
        raise ValueError(f"the name {odd!r} contains control characters; rename the file")
    if long := next((n for e, _ in found if len((n := e.path.rsplit("/", 1)[-1]).encode()) > LONGEST_NAME), None):
        raise ValueError(f"the name {long} is longer than {LONGEST_NAME} bytes, and a run adds to it; rename the file")
    for (path, url, size, version), table_reader in found:
        hash_ = file_hash(source.corpus, path, salt)
        facts = (source.corpus, path, url, size, version, source.format, source.held_out, hash_)
        yield SourceFile(*facts, table_reader, columns=source.columns, domain=source.domain)


def _entries(source: SourceSettings, private_hosts: bool, say: Callable[[str], None]) -> list[Entry]:
    """The files that match."""
    folder = local_path(source.root) if source.root else None
    if folder is not None and os.path.isdir(folder):
        found = Folder(folder, source.files, source.follow_links).walk()
        if found.skipped.example:
            say(f"source {source.corpus}: {found.skipped}")
        return found.entries
    if folder is not None and (source.reader or not source.urls):
        raise ValueError(f"the folder {source.root} does not exist; set `root` (or FOX1_DATA) to where the data is")
    if source.root and folder is None:
        return _remote(source, private_hosts, say)
    try:
        return list_urls(source.urls, source.files, source.follow_links, private_hosts)
    except OSError as error:
        absent = f"the folder {source.root} does not exist, and " if source.root else ""
        raise ValueError(
            f"{absent}the URL list {source.urls} cannot be read ({str(error) or 'unreachable'}); set `root` (or FOX1_DATA) "
            "to where the data is"
        ) from None


def _remote(source: SourceSettings, private_hosts: bool, say: Callable[[str], None]) -> list[Entry]:
    root = source.root.rstrip("/")
    if root.startswith("hf://datasets/") and "@" not in root:
        from .huggingface import resolve_commit

        owner_name = "/".join(root.removeprefix("hf://datasets/").split("/")[:2])
        commit = resolve_commit(owner_name, source.revision or None)
        root = root.replace(owner_name, f"{owner_name}@{commit}", 1)
    reach = Reach.ANY if private_hosts else Reach.OWN
    entries, skipped, unknown = [], Skipped(), list[str]()
    try:
        with naming_private_hosts(root):
            filesystem, base = fsspec.core.url_to_fs(root, **http_options(WebUrl(root, reach)))
            prefix = base.rstrip("/") + "/"
            found = filesystem.find(base, detail=True)
            if not found:
                filesystem.ls(base)  # which says why, where `find` takes an error for an empty folder
            for full, info in found.items():
                path = full.removeprefix(prefix)
                if not matches(path, source.files):
                    continue
                if is_hidden(path):
                    skipped.add(path)
                    continue
                url = WebUrl(filesystem.unstrip_protocol(full), reach)
                if not (versions := _versions(info)):
                    # HTTP has no listings that say more than names.
                    info = {**info, **filesystem.info(full)}
                    versions = _versions(info)
                if not versions:
                    unknown.append(path)
                entries.append(Entry(path, url, int(info.get("size") or 0), (versions or [unversioned(url)])[0]))
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{root} cannot be listed ({error}); check the address and your access") from None
    if skipped.example:
        say(f"source {source.corpus}: {skipped}")
    if unknown:
        say(
            f"source {source.corpus}: the store tells neither a version nor a time of {counted(len(unknown), 'file')}, such "
            f"as {min(unknown)}; a change of them is noticed only by what they hold"
        )
    return entries


def with_sizes(files: Sequence[SourceFile], known: Mapping[str, int]) -> list[SourceFile]:
    """The files with the sizes that no listing told: a list of URLs has names alone.

    Args:
        known: sizes by name, as an earlier planning of the run found them, 0 among them: what is asked for once stays, since a
            size is a part of a file's identity.

    Raises:
        ValueError: a store cannot be reached.
    """
    unknown = [f for f in files if not f.size and "://" in f.url and f.name not in known]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        asked = dict(zip((f.name for f in unknown), pool.map(_size, unknown), strict=True))
    return [f if f.size else replace(f, size=asked.get(f.name, known.get(f.name, 0))) for f in files]


def _size(file: SourceFile) -> int:
    """The size of a remote file; 0 where its store does not tell, or has no such file: the scan will say so."""
    try:
        with naming_private_hosts(file.url):
            filesystem, place = fsspec.core.url_to_fs(file.url, **http_options(file.url))
            return int(filesystem.info(place).get("size") or 0)
    except (OSError, ImportError) as error:
        # fsspec takes a host that does not answer for a file that is not there.
        if isinstance(error, FileNotFoundError) and not isinstance(error.__cause__, OSError):
            return 0
        raise ValueError(
            f"{file.url} cannot be asked for its size ({error.__cause__ or error}); check the address and your access"
        ) from None


_HASHES = ("ETag", "etag", "blob_id", "Content-MD5", "Digest", "generation")
_TIMES = (
    "LastModified",
    "Last-Modified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "modificationTime",
    "created",
)
"""What stores call that which changes with a file."""


def _versions(info: Mapping[str, Any]) -> list[str]:
    # A store may tell one time as a datetime in a listing, and in seconds of the file.
    values = [info[name] for name in (*_HASHES, *_TIMES) if info.get(name)]
    return [str(v.timestamp() if isinstance(v, datetime) else v) for v in values]


def current_version(file: SourceFile) -> tuple[int, str]:
    """(size, version) of a file now, to notice that it changed between the two reads; as planned where its place tells
    neither, or cannot change it.

    Raises:
        OSError: it is gone, or its store cannot be reached.
    """
    if (path := local_path(file.url)) is not None:
        if not path:  # a shard of a streamed data set
            return file.size, file.version
        stat = os.stat(path)
        return stat.st_size, str(stat.st_mtime_ns)
    # A hub's files are those of one commit.
    if file.version == unversioned(file.url) or file.url.startswith("hf://"):
        return file.size, file.version
    with naming_private_hosts(file.url):
        filesystem, place = fsspec.core.url_to_fs(file.url, **http_options(file.url))
        filesystem.invalidate_cache()
        info = filesystem.info(place)
    versions = _versions(info)
    version = file.version if file.version in versions or not versions else versions[0]
    return int(info.get("size") or 0), version


def check_unchanged(file: SourceFile) -> None:
    """Raise ValueError if a file is no longer the one that planning saw; one whose texts the run has stored is not read again."""
    if not file.extracted and current_version(file) != (file.size, file.version):
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
    path = local_path(url)
    return hash_file(Path(path)) if path is not None and os.path.isfile(path) else url


def sample_files(files: Sequence[SourceFile], share: float, seed: int) -> list[SourceFile]:
    """A seeded sample of whole files: at least one of each corpus (and of each held-out part)."""
    kept = []
    for part in sorted({(f.corpus, f.held_out) for f in files}):
        candidates = sorted(
            (f for f in files if (f.corpus, f.held_out) == part), key=lambda f: file_hash(f.corpus, f.path, seed + 1)
        )
        kept += candidates[: max(1, round(len(candidates) * share))]
    return sorted(kept, key=lambda f: f.name)
