"""Who a document is: ids that stay the same whatever else is in the run.

    doc_id (uint64, below 2**63) = file_hash (37 bits) << 26 | row

`file_hash` is a hash of (salt, corpus, path relative to the corpus root), never 0; `row` counts physical lines or
Parquet rows from zero, quarantined ones included. Adding a file therefore moves no other id, and an id resolves to
(corpus, file, row) through the run's file table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

ROW_BITS = 26
MAX_ROWS = 1 << ROW_BITS
FILE_BITS = 37
GROUP_BYTES = 64 << 20
MIN_GROUPS = 4


class TableReader(Protocol):
    """What reads a file that is neither JSON lines nor Arrow. Listing makes it from a recipe's settings; no text of a list,
    a manifest or a record becomes one."""

    def identity(self) -> str:
        """What the rows depend on besides the file."""

    def tables(self, path: str) -> Iterator[pa.RecordBatch]:
        """Record batches of the file with this path in its corpus."""


@dataclass(frozen=True)
class SourceFile:
    """One file (or streamed shard) of one corpus, as planning saw it."""

    corpus: str
    path: str
    """Relative to the corpus root, with forward slashes; part of the document ids."""
    url: str
    """What `open_source` opens, empty for a shard of a streamed data set. Not part of any identity: moving a corpus moves no
    id."""
    size: int
    """Bytes as stored; 0 where the store does not say (a streamed data set)."""
    version: str
    """What changes when the contents change: mtime in ns, etag or commit."""
    format: str
    held_out: bool
    file_hash: int
    reader: TableReader | None = None
    """None for JSON lines and Arrow files."""

    @property
    def name(self) -> str:
        return f"{self.corpus}/{self.path}"

    def identity(self) -> str:
        """The file's identity as an input of a task: names, size and version, not its place."""
        facts = [self.corpus, self.path, self.size, self.version, self.format, self.held_out, self.file_hash]
        if self.reader:
            facts.append(self.reader.identity())
        return "\0".join(map(str, facts))

    @classmethod
    def from_table(cls, entry: Mapping[str, Any]) -> SourceFile:
        """A file as a manifest's file table has it: who it is, not where or how it is read."""
        names = ("corpus", "path", "size", "format", "held_out", "file_hash")
        return cls(url="", version="", **{name: entry[name] for name in names})


def file_hash(corpus: str, path: str, salt: int = 0) -> int:
    """37-bit hash of a file's place in its corpus; never 0, so that doc_id 0 can mean "no document"."""
    digest = xxhash.xxh3_64_intdigest(f"{corpus}\0{path}".encode(), seed=salt)
    return (digest >> (64 - FILE_BITS)) or 1


def check_collisions(files: Iterable[SourceFile]) -> None:
    """Refuse two files with one hash.

    Raises:
        ValueError: naming both files and the remedy (another ``id_salt``).
    """
    seen: dict[int, SourceFile] = {}
    for file in files:
        other = seen.setdefault(file.file_hash, file)
        if other is not file:
            if other.name == file.name:
                raise ValueError(f"{file.name} is listed twice; let only one pattern of the recipe match it")
            raise ValueError(f"{file.name} and {other.name} have the same id hash; set another `id_salt` in the recipe")


@dataclass(frozen=True)
class Group:
    """Files of one corpus that later stages handle together: a function of the plan, never of workers."""

    corpus: str
    index: int
    held_out: bool
    files: tuple[SourceFile, ...]

    @property
    def name(self) -> str:
        return f"{self.corpus}/{'held-out-' if self.held_out else ''}{self.index:05d}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def format(self) -> str:
        """Of its files, which are of one corpus."""
        return self.files[0].format


def group_files(files: Sequence[SourceFile]) -> list[Group]:
    """Split every corpus into hash buckets of about 64 MiB (stored bytes), at least four.

    A power of two of buckets, chosen by hash: adding a file leaves the others where they are until the corpus doubles.
    """
    groups: list[Group] = []
    for corpus, held_out in sorted({(f.corpus, f.held_out) for f in files}):
        members = sorted((f for f in files if (f.corpus, f.held_out) == (corpus, held_out)), key=lambda f: f.path)
        size = sum(f.size for f in members) or len(members) * GROUP_BYTES
        count = MIN_GROUPS
        while count * 2 * GROUP_BYTES <= size:
            count *= 2
        buckets: dict[int, list[SourceFile]] = {}
        for file in members:
            buckets.setdefault(file.file_hash % count, []).append(file)
        groups += [Group(corpus, i, held_out, tuple(buckets[i])) for i in sorted(buckets)]
    return groups


@dataclass(frozen=True)
class FileTable:
    """Lookup from document ids to files and groups, as flat arrays that are cheap to send to a task."""

    hashes: np.ndarray
    """uint64 [files], ascending."""
    groups: np.ndarray
    """int32 [files]: the group of the file at the same place in `hashes`."""
    corpora: np.ndarray
    """uint8 [files]: index into `corpus_names`."""
    corpus_names: tuple[str, ...]

    @classmethod
    def build(cls, groups: Sequence[Group]) -> FileTable:
        names = tuple(sorted({g.corpus for g in groups}))
        rows = sorted((f.file_hash, g, names.index(f.corpus)) for g, group in enumerate(groups) for f in group.files)
        return cls(
            np.array([r[0] for r in rows], np.uint64),
            np.array([r[1] for r in rows], np.int32),
            np.array([r[2] for r in rows], np.uint8),
            names,
        )

    def _index(self, doc_ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.hashes, doc_ids >> np.uint64(ROW_BITS))

    def group_of(self, doc_ids: np.ndarray) -> np.ndarray:
        """int32 group index of every document id."""
        return self.groups[self._index(doc_ids)]

    def corpus_of(self, doc_ids: np.ndarray) -> np.ndarray:
        """uint8 corpus index of every document id."""
        return self.corpora[self._index(doc_ids)]
