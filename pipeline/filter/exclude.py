"""Documents that are taken out on request: lists of rows, URLs, hosts, native ids and content hashes.

One entry a line, `#` begins a comment line:

    redpajama/arxiv/arxiv_0.jsonl#12      a row of a file, as `fox1 why` names it; or a document id
    https://example.com/page              every document of this URL, in normal form; or url:...
    host:example.com                      every document of a URL of this host, or of one below it
    id:abc123                             every document to which its source gives this id
    blake3:0123456789abcdef0123456789abcdef
                                          every document with this content hash, as `fox1 why` shows it

The filter drops what a list names with the reason `excluded`; dedupe drops its exact and verified near copies, wherever
they are, unless the recipe says `copies: false`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ...storage.wording import printable
from ..engine.shuffle import first_of_runs, lookup
from ..run.artifacts import Artifact, parquet_writer
from ..run.identity import MAX_ROWS, ROW_BITS, file_hash
from ..run.manifest import read_manifest
from ..run.paths import RunPaths
from ..signals.content import ALGORITHM, parsed
from ..signals.hashing import halves
from ..signals.hosts import entries_above, host_key, hosts
from ..signals.urls import normalised_hashes
from ..sources.formats import open_source

EXCLUDED = "excluded"
"""The reason."""
FILE = "exclude.parquet"
COLUMNS = ("doc_id", "url_hash", "native_id_hash", "content_hash", "host")
"""Columns of `signals/` by which documents are named, one for every kind of entry."""
KINDS = ("row", "url", "id", "hash", "host")
_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("rest", pa.uint64(), nullable=False, metadata={"encoding": "second half of a content hash, else 0"}),
        pa.field("entry", pa.string(), nullable=False, metadata={"encoding": "as the list has it"}),
    ]
)


@dataclass(frozen=True)
class Excluded:
    """The entries of a run's lists, by kind and key."""

    kind: np.ndarray
    key: np.ndarray
    rest: np.ndarray
    entries: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns of `signals/` that matching reads."""
        return [column for kind, column in enumerate(COLUMNS) if (self.kind == kind).any()]

    def match(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """(bool [n]: which documents of a batch of signals are named, int64: the entries that name one)."""
        named = np.zeros(batch.num_rows, bool)
        hit: list[np.ndarray] = []
        for kind, column in enumerate(COLUMNS):
            begin, end = np.searchsorted(self.kind, [kind, kind + 1])
            if begin == end:
                continue
            keys = batch.column(column)
            if KINDS[kind] == "host":
                at = entries_above(keys, self.key[begin:end])
                found = at >= 0
            elif KINDS[kind] == "hash":
                first, second = halves(keys)
                at, found = lookup(self.key[begin:end], first)
                found &= self.rest[begin:end][at] == second
            else:
                at, found = lookup(self.key[begin:end], keys.to_numpy())
            named |= found
            hit.append(begin + np.unique(at[found]))
        return named, np.concatenate(hit) if hit else np.empty(0, np.int64)


NOTHING = Excluded(np.empty(0, np.uint8), np.empty(0, np.uint64), np.empty(0, np.uint64), ())


def split_entry(entry: str) -> tuple[str, str]:
    """(kind, what it names) of one line; the kind is of `KINDS`.

    Raises:
        ValueError: it is no entry, or a content hash of an earlier version.
    """
    scheme, _, value = entry.partition(":")
    if scheme in ("http", "https"):
        return "url", entry
    if scheme in ("url", "id", "host") and value:
        return scheme, value
    if scheme in (ALGORITHM, "hash"):
        parsed(entry)
        return "hash", entry
    name, _, row = entry.rpartition("#")
    if entry.isascii() and (entry.isdigit() or ("/" in name and row.isdigit())):
        return "row", entry
    raise ValueError(
        f"{entry[:200]!r} is no corpus/file#row, document id, https://..., url:..., host:..., id:... or {ALGORITHM}:..."
    )


def index_key(kind: str, value: str) -> int:
    """The key of a URL (0: it is none), a native id (0: it is empty) or a content hash as it is written; of a content hash its
    first half.
    """
    if kind == "url":
        return int(normalised_hashes(pa.array([value], pa.string()))[0])
    if kind == "id":
        return xxhash.xxh3_64_intdigest(value.encode()) if value else 0
    return int.from_bytes(parsed(value)[:8], "little")


def host_of(value: str) -> str:
    """The one form of a host that an entry names.

    Raises:
        ValueError: it is none, or more than a host.
    """
    found: str = hosts(pa.array([value.strip().removeprefix("*.")], pa.string()))[0].as_py()
    if not found or any(c in value for c in "/?#@") or (":" in value and not value.startswith("[")):
        raise ValueError(f"{printable(value[:200])} is no host; write it alone, as in host:example.com")
    return found


def key_of(kind: str, value: str, corpora: Sequence[str], salt: int) -> tuple[int, int]:
    """(key, second half of a content hash or 0) of what an entry names.

    Args:
        corpora: of the run.
        salt: its `id_salt`.

    Raises:
        ValueError: it names nothing that a run could have.
    """
    if kind == "host":
        return host_key(host_of(value)), 0
    if kind != "row":
        key = index_key(kind, value)
        if kind == "url" and not key:
            raise ValueError(f"{value[:200]!r} is no URL")
        return key, int.from_bytes(parsed(value)[8:], "little") if kind == "hash" else 0
    name, _, row = value.rpartition("#")
    if int(row) >= (MAX_ROWS if name else 1 << 63):
        raise ValueError(f"{printable(value[:200])} is beyond the last id that a document can have")
    if not name:
        return int(row), 0
    corpus, _, path = name.partition("/")
    if corpus not in corpora:
        raise ValueError(
            f"{printable(value[:200])} is of the corpus {printable(corpus)!r}; the recipe has {', '.join(corpora)}"
        )
    return file_hash(corpus, path, salt) << ROW_BITS | int(row), 0


def read_entries(name: str) -> Iterator[tuple[int, str, str, str]]:
    """(line number, entry, kind, what it names) of a list.

    Raises:
        ValueError: the list cannot be read, or a line is no entry.
    """
    try:
        lines = _read(name).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"exclude list {name} is no UTF-8 text: {error}") from None
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            try:
                yield number, entry, *split_entry(entry)
            except ValueError as error:
                raise ValueError(f"exclude list {name}, line {number}: {error}") from None


def _read(name: str) -> bytes:
    try:
        with open_source(name) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"exclude list {name} cannot be read: {error}") from None


class Entry(NamedTuple):
    """An entry of an exclude list."""

    kind: int
    """Place in `KINDS`."""
    key: int
    rest: int
    """Second half of a content hash, else 0."""
    text: str
    """As the list has it."""


def read_lists(lists: Sequence[str], corpora: Sequence[str], salt: int) -> list[Entry]:
    """The entries of all lists, sorted.

    Args:
        corpora: of the run.
        salt: its `id_salt`.

    Raises:
        ValueError: a list cannot be read or has a line that is no entry; names both.
    """
    found: list[Entry] = []
    for name in lists:
        for number, entry, kind, value in read_entries(name):
            try:
                found.append(Entry(KINDS.index(kind), *key_of(kind, value, corpora, salt), entry))
            except ValueError as error:
                raise ValueError(f"exclude list {name}, line {number}: {error}") from None
    return sorted(found)


@dataclass(frozen=True)
class PreparedExclude:
    """The exclude lists as one."""

    file: Artifact
    entries: int


def excluded_by(found: Sequence[Entry]) -> Excluded:
    """The entries that `read_lists` found, without repeats."""
    kinds = np.array([e.kind for e in found], np.uint64)
    key, rest = np.array([e.key for e in found], np.uint64), np.array([e.rest for e in found], np.uint64)
    first = first_of_runs(kinds, key, rest)
    entries = tuple(found[i].text for i in first.tolist())
    return Excluded(kinds[first].astype(np.uint8), key[first], rest[first], entries)


def prepare_exclude(found: Sequence[Entry], paths: RunPaths) -> PreparedExclude:
    """Publish ``prepare/exclude.parquet``: the entries that `read_lists` found, without repeats."""
    listed = excluded_by(found)
    columns = [*map(pa.array, (listed.kind, listed.key, listed.rest)), pa.array(listed.entries, pa.string())]
    with parquet_writer(paths.prepare(FILE), _SCHEMA) as out:
        for batch in pa.Table.from_arrays(columns, schema=_SCHEMA).to_batches(1 << 16):
            out.write(batch)
    return PreparedExclude(out.artifact, len(listed.entries))


@functools.lru_cache(maxsize=2)
def load_excluded(prepared: Artifact | None) -> Excluded:
    """What `prepare` made of the lists; nothing where there are none. A worker keeps it."""
    if prepared is None:
        return NOTHING
    table = pq.read_table(prepared.file)
    kind, key, rest = (table.column(name).to_numpy() for name in ("kind", "key", "rest"))
    return Excluded(kind, key, rest, tuple(table.column("entry").to_pylist()))


def excluded_of(paths: RunPaths) -> Excluded:
    """The lists that a finished run was made with."""
    listed = read_manifest(paths)["artifacts"].get(f"prepare/{FILE}")
    return load_excluded(Artifact(str(paths.prepare(FILE)), **listed) if listed else None)
