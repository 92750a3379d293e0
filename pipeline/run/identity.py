"""Who a document is: ids that stay the same whatever else is in the run.

    doc_id (uint64, below 2**63) = file_hash (37 bits) << 26 | row

`file_hash` is a hash of (salt, corpus, path relative to the corpus root), never 0; `row` counts physical lines or
Parquet rows from zero, quarantined ones included. Adding a file therefore moves no other id, and an id resolves to
(corpus, file, row) through the run's file table.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

    from .artifacts import Artifact

ROW_BITS = 26
MAX_ROWS = 1 << ROW_BITS
FILE_BITS = 37
GROUP_TEXT = 256 << 20
"""Bytes of text from which a file, or a piece of one, is a group of its own; smaller ones share groups of as much at least."""
GROUP_FILES = 32
"""Files of a group, more or less: a task is sent what is known of each."""
MIN_GROUPS = 4
TOKENS = "tokens"
"""The format of files that hold token ids, not text: documents without signals and decisions, which are kept as they are."""
TEXT_PER_BYTE = {".gz": 3, ".zst": 4, ".bz2": 4, ".parquet": 4}
"""About how much text a stored byte holds, by suffix, where nobody has counted."""


class TableReader(Protocol):
    """What reads a file that is neither JSON lines nor Arrow. Listing makes it from a recipe's settings; no text of a list,
    a manifest or a record becomes one."""

    @property
    def first_row(self) -> int:
        """The row of the file that its tables begin with."""

    def identity(self) -> str:
        """What the rows depend on besides the file."""

    def tables(self, path: str) -> Iterator[pa.RecordBatch]:
        """Record batches of the file with this path in its corpus."""


@dataclass(frozen=True)
class Piece:
    """A part of a file that one task reads: whole lines, or whole row groups of a table. Its rows count on from those of the
    pieces before, and the last piece ends as the file does, also where that is damage."""

    number: int
    begin: int
    """Stored byte to read from: that of a line of plain text, or of a compressed frame. Of a table the first row group."""
    skip: int
    """Bytes of text after `begin` that belong to the piece before."""
    length: int
    """Bytes of text, or row groups; -1: to the end of the file."""
    row: int
    """The first one."""
    offset: int
    """Of the first line in the text of the file; -1 in a table."""
    text: int
    """Bytes of text that were counted, or are declared of the row groups."""
    rows: int = 0
    """Of a file that is only read from its start and was cut while it was scanned: how many, -1 to its end; `row` says all
    else. 0: the piece can be read by itself."""


@dataclass(frozen=True)
class SourceFile:
    """One file (or streamed shard) of one corpus, as planning saw it, or a piece of one that is large."""

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
    piece: Piece | None = None
    """The part of the file that is meant; None: all of it. Size and version are those of the whole file."""
    columns: tuple[tuple[str, str], ...] = ()
    """(field of a row, the column that holds it), where the recipe says so."""
    domain: str = ""
    """Of all its documents, where the recipe says so."""
    extracted: Artifact | None = None
    """The texts that the steps of `before_scan` made of its rows, which the run has stored: what is read instead of the file."""

    @property
    def name(self) -> str:
        """Of the whole file, as users know it."""
        return f"{self.corpus}/{self.path}"

    @property
    def part(self) -> str:
        """What names its tables within the corpus: the path, and the number of the piece."""
        return f"{self.path}/{self.piece.number:05d}" if self.piece else self.path

    @property
    def table(self) -> str:
        """What names its tables, and no other file's or piece's."""
        return f"{self.corpus}/{self.part}"

    @property
    def read_whole(self) -> bool:
        """Whether it is a piece of a file that is only read from its start."""
        return self.piece is not None and self.piece.rows != 0

    @property
    def quarantine(self) -> str:
        """What names the list of its bad rows within the corpus."""
        return self.path if self.read_whole else self.part

    @property
    def first_id(self) -> int:
        """Of its first row."""
        return self.file_hash << ROW_BITS | (self.piece.row if self.piece else 0)

    @property
    def text(self) -> int:
        """About how many bytes of text it holds; 0 where its store does not tell its size."""
        if self.piece:
            return self.piece.text
        return self.size * TEXT_PER_BYTE.get(os.path.splitext(self.path)[1], 1)

    def identity(self) -> str:
        """The file's identity as an input of a task: names, size and version, not its place."""
        facts = [self.corpus, self.path, self.size, self.version, self.format, self.held_out, self.file_hash]
        if self.reader:
            facts.append(self.reader.identity())
        facts += self.columns
        if self.domain:
            facts.append(f"domain {self.domain}")
        if self.piece:
            facts += vars(self.piece).values()
        if self.extracted:
            facts.append(f"extracted {self.extracted.hash}")
        return "\0".join(map(str, facts))


def cut_by_rows(file: SourceFile, number: int, row: int, rows: int, text: int) -> SourceFile:
    """Some rows of a file that is only read from its start, as a piece; see `Piece`."""
    return replace(file, piece=Piece(number, 0, 0, -1, row, -1, text, rows))


_TABLE = ("corpus", "path", "file_hash", "size", "held_out", "format")


def file_table(files: Iterable[SourceFile]) -> list[dict[str, Any]]:
    """The table of files and their pieces in a manifest: who they are, not where or how they are read."""
    entries: dict[str, dict[str, Any]] = {}
    for file in files:
        entry = entries.setdefault(file.name, {name: getattr(file, name) for name in _TABLE})
        if file.domain:
            entry["domain"] = file.domain
        if file.piece:
            entry.setdefault("pieces", []).append(asdict(file.piece))
    return list(entries.values())


def files_of_table(table: Iterable[Mapping[str, Any]], given: bool = False) -> list[SourceFile]:
    """The files of a manifest's table, those that were cut as their pieces.

    Args:
        given: those that hold token ids (`TOKENS`), instead of those that hold text.
    """
    files = (
        (SourceFile(url="", version="", domain=e.get("domain", ""), **{name: e[name] for name in _TABLE}), e)
        for e in table
        if (e["format"] == TOKENS) == given
    )
    return [piece for file, entry in files for piece in with_pieces(file, entry)]


def with_pieces(file: SourceFile, entry: Mapping[str, Any]) -> list[SourceFile]:
    """The pieces that a manifest's table has of a file; the file itself where it was not cut. A size that a listing does not
    tell is the one of the table.
    """
    file = replace(file, size=file.size or entry["size"])
    names = {f.name for f in fields(Piece)}
    pieces = (Piece(**{name: piece[name] for name in piece if name in names}) for piece in entry.get("pieces", ()))
    return [replace(file, piece=piece) for piece in pieces] or [file]


class FilesById:
    """Files and pieces by the ids of their documents."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self._files = sorted(files, key=lambda f: f.first_id)
        self._first = [f.first_id for f in self._files]

    def get(self, doc_id: int) -> SourceFile | None:
        """What holds a document, if it is one of these files."""
        at = bisect.bisect_right(self._first, doc_id) - 1
        return self._files[at] if at >= 0 and self._files[at].file_hash == doc_id >> ROW_BITS else None

    def __iter__(self) -> Iterator[SourceFile]:
        return iter(self._files)


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
    """A hash bucket; of a group of one large file or piece the id of its first row."""
    held_out: bool
    files: tuple[SourceFile, ...]

    @property
    def name(self) -> str:
        return f"{self.corpus}/{'held-out-' if self.held_out else ''}{self.index:05d}"

    @property
    def text(self) -> int:
        """About how many bytes of text its files hold."""
        return sum(file.text for file in self.files)

    @property
    def format(self) -> str:
        """Of its files, which are of one corpus."""
        return self.files[0].format

    @property
    def domain(self) -> str:
        """Of all its documents, where the recipe says so."""
        return self.files[0].domain


def group_files(files: Sequence[SourceFile]) -> list[Group]:
    """Every file or piece of at least `GROUP_TEXT` alone, the others of a corpus in hash buckets, at least four.

    Pieces of a file that is only read from its start are alone as well: whoever reads their text reads all of them.

    Buckets hold about as much text, or `GROUP_FILES` smaller files. Their number is a power of two: adding a file leaves the
    others where they are until it doubles.
    """
    groups: list[Group] = []
    for corpus, held_out in sorted({(f.corpus, f.held_out) for f in files}):
        own = sorted((f for f in files if (f.corpus, f.held_out) == (corpus, held_out)), key=lambda f: f.table)
        alone = [f for f in own if f.text >= GROUP_TEXT or f.read_whole]
        members = [f for f in own if f.text < GROUP_TEXT and not f.read_whole]
        size = sum(f.text for f in members) or len(members) * GROUP_TEXT
        count = MIN_GROUPS
        while count * 2 * GROUP_TEXT <= size or count * GROUP_FILES < len(members):
            count *= 2
        buckets: dict[int, list[SourceFile]] = {}
        for file in members:
            # Pieces of one file have one hash.
            buckets.setdefault((file.file_hash + (file.piece.number if file.piece else 0)) % count, []).append(file)
        groups += [Group(corpus, i, held_out, tuple(buckets[i])) for i in sorted(buckets)]
        groups += [Group(corpus, f.first_id, held_out, (f,)) for f in sorted(alone, key=lambda f: f.first_id)]
    return groups


def read_together(groups: Sequence[Group]) -> list[tuple[Group, ...]]:
    """The groups by whose text is read by one task: those of a file that is only read from its start, and each other one."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        first = group.files[0]
        in_one_pass = first.read_whole and not first.extracted
        found.setdefault(first.name if in_one_pass else f"{group.name}\0", []).append(group)
    return [tuple(together) for together in found.values()]


@dataclass(frozen=True)
class FileTable:
    """Lookup from document ids to files (or pieces) and groups, as flat arrays that are cheap to send to a task."""

    first: np.ndarray
    """uint64 [files], ascending: the id of each one's first row."""
    groups: np.ndarray
    """int32 [files]: the group of the file at the same place in `first`."""
    corpora: np.ndarray
    """uint8 [files]: index into `corpus_names`."""
    corpus_names: tuple[str, ...]

    @classmethod
    def build(cls, groups: Sequence[Group]) -> FileTable:
        names = tuple(sorted({g.corpus for g in groups}))
        rows = sorted((f.first_id, g, names.index(f.corpus)) for g, group in enumerate(groups) for f in group.files)
        return cls(
            np.array([r[0] for r in rows], np.uint64),
            np.array([r[1] for r in rows], np.int32),
            np.array([r[2] for r in rows], np.uint8),
            names,
        )

    def _index(self, doc_ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.first, doc_ids, "right") - 1

    def group_of(self, doc_ids: np.ndarray) -> np.ndarray:
        """int32 group index of every document id."""
        return self.groups[self._index(doc_ids)]

    def corpus_of(self, doc_ids: np.ndarray) -> np.ndarray:
        """uint8 corpus index of every document id."""
        return self.corpora[self._index(doc_ids)]
