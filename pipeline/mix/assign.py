"""Claimed documents to pack partitions: one pass over the token shards, through the file shuffle.

A partition is a hash range of a set's documents, its bounds a function of the plan (about 64k documents or 32 Mi tokens),
never of tasks. Copies of a document for different epochs have different hashes. Every map task also sums up what it sends
to each partition, so that a partition whose documents are the same as before is not packed again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from ...tokenize.shards import TOKEN_SCHEMA, token_batches
from ..engine.shuffle import by_hash_range
from ..engine.shuffle_file import SPILL_BYTES, Levels, read_partition, write_partitions
from ..run.artifacts import Artifact, FileSet, publish
from ..signals.hashing import mix64, mix_array
from .budget import Cell, MixSettings
from .select import CellCount, CellShard, PhaseClaims, read_documents, taken_by

PARTITION_DOCUMENTS = 1 << 16
PARTITION_TOKENS = 32 << 20
MAX_COPIES = 64
QUALITY_CLASSES = 20
"""Of equal width, in the distributions that the ledger shows."""

ALL_SURVIVORS = -1
"""In place of a phase's number."""

ENTRY_SCHEMA = pa.schema(
    [
        pa.field("place", pa.uint64(), nullable=False),
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("cell", pa.uint16(), nullable=False),
        pa.field("take", pa.int64(), nullable=False),
        TOKEN_SCHEMA.field("input_ids"),
        TOKEN_SCHEMA.field("loss_spans"),
    ]
)
"""A copy of a document on its way to a partition; `place` orders it there, `take` is its length with BOS and EOS."""


@dataclass(frozen=True)
class Copies:
    """Copies that a phase takes: row in the `DOC` array, set, place, length."""

    row: np.ndarray
    set_index: np.ndarray
    place: np.ndarray
    take: np.ndarray
    number: np.ndarray
    """Which copy of its document it is, from 0."""


def claimed_copies(
    docs: np.ndarray, settings: MixSettings, cells: Sequence[Cell], claims: Sequence[PhaseClaims]
) -> Iterator[tuple[int, np.ndarray, Copies]]:
    """(phase, pool of every row int64 [n], its copies) for every phase, in claim order, of some documents."""
    for taken in taken_by(docs, settings, claims):
        copies = taken.copies
        row = np.repeat(np.arange(len(docs)), copies)
        number = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
        last = number == copies[row] - 1
        length = np.where(last, taken.last[row], docs["tokens"][row].astype(np.int64))
        keep = length > 1  # a budget that ends after BOS alone takes nothing
        row, number, length = row[keep], number[keep], length[keep]
        place = mix_array(docs["id"][row] * np.uint64(MAX_COPIES) + number.astype(np.uint64), settings.seed + 7)
        sets = _sets(docs[row], place, settings, taken.phase, cells)
        yield taken.phase, taken.pool, Copies(row, sets, place, length, number)


def _sets(docs: np.ndarray, place: np.ndarray, settings: MixSettings, phase: int, cells: Sequence[Cell]) -> np.ndarray:
    """int64 [n]: the set of every copy, by the block rules of its phase."""
    out = np.full(len(docs), -1, np.int64)
    share = (place & np.uint64(0xFFFF)).astype(np.float64) / 65_536
    index = {s: i for i, s in enumerate(settings.sets)}
    for code, cell in enumerate(cells):
        in_cell = docs["cell"] == code
        if not in_cell.any():
            continue
        rules = settings.phases[phase].rules_of(cell)
        for rule in rules:
            takes = (docs["tokens"] >= rule.min_tokens) | (share < rule.fill)
            out[in_cell & takes & (out < 0)] = index[phase, rule.length]
        out[in_cell & (out < 0)] = index[phase, rules[-1].length]
    return out


@dataclass(frozen=True)
class SetCount:
    """Copies of documents that go from a cell, through a pool of a phase, to a set, and their tokens."""

    phase: int
    pool: int
    cell: int
    set_index: int
    copies: int
    tokens: int


@dataclass(frozen=True)
class ClassCount:
    """Documents of a domain that are in a class, each once, and their tokens."""

    phase: int
    """`ALL_SURVIVORS`: whatever the phase, if any."""
    domain: str
    level: int
    """Of lengths: the power of two below a document's tokens; of quality: a twentieth of the scale."""
    documents: int
    tokens: int


@dataclass(frozen=True)
class Tally:
    """What will stand where, before any block is written."""

    sets: tuple[SetCount, ...]
    unused: tuple[CellCount, ...]
    """What no phase takes."""
    lengths: tuple[ClassCount, ...]
    quality: tuple[ClassCount, ...]

    @classmethod
    def sum(cls, parts: Sequence[Tally]) -> Tally:
        """The same over all documents."""
        sets, unused, lengths, quality = (_Sums() for _ in range(4))
        for part in parts:
            for s in part.sets:
                sets.add((s.phase, s.pool, s.cell, s.set_index), s.copies, s.tokens)
            for c in part.unused:
                unused.add((c.cell,), c.documents, c.tokens)
            for into, classes in ((lengths, part.lengths), (quality, part.quality)):
                for k in classes:
                    into.add((k.phase, k.domain, k.level), k.documents, k.tokens)
        return cls(
            tuple(SetCount(*row) for row in sets.rows()),
            tuple(CellCount(*row) for row in unused.rows()),
            tuple(ClassCount(*row) for row in lengths.rows()),
            tuple(ClassCount(*row) for row in quality.rows()),
        )


class _Sums:
    """Documents and tokens by key."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Any, ...], list[int]] = {}

    def add(self, key: tuple[Any, ...], documents: int, tokens: int) -> None:
        sums = self._sums.setdefault(key, [0, 0])
        sums[0] += documents
        sums[1] += tokens

    def rows(self) -> Iterator[tuple[Any, ...]]:
        return ((*key, *sums) for key, sums in sorted(self._sums.items()))


def tally(documents: Artifact, settings: MixSettings, cells: Sequence[Cell], claims: Sequence[PhaseClaims]) -> Tally:
    """Map: what will stand where, of one `DOC` file."""
    docs = read_documents(documents)
    domains = [c.domain for c in cells]
    sets: list[SetCount] = []
    lengths, quality = _Sums(), _Sums()
    tokens = docs["tokens"].astype(np.int64)
    length_class = np.floor(np.log2(np.maximum(tokens, 1))).astype(np.int64)
    quality_class = docs["quality"].astype(np.int64) * QUALITY_CLASSES >> 16

    def distribute(phase: int, rows: np.ndarray) -> None:
        for into, classes in ((lengths, length_class), (quality, quality_class)):
            facts = np.stack([docs["cell"][rows].astype(np.int64), classes[rows]])
            for (cell, level), n, t in _sums(facts, tokens[rows]):
                into.add((phase, domains[cell], level), n, t)

    distribute(ALL_SURVIVORS, np.arange(len(docs)))
    used = np.zeros(len(docs), bool)
    for phase, pool, copies in claimed_copies(docs, settings, cells, claims):
        facts = np.stack([pool[copies.row], docs["cell"][copies.row].astype(np.int64), copies.set_index])
        for key, n, t in _sums(facts, copies.take):
            pool_number, cell, set_index = key
            sets.append(SetCount(phase, pool_number, cell, set_index, n, t))
        once = np.unique(copies.row)
        used[once] = True
        distribute(phase, once)
    left = np.flatnonzero(~used)
    unused = (CellCount(cell, n, t) for (cell,), n, t in _sums(docs["cell"][left].astype(np.int64)[None], tokens[left]))
    classes = (tuple(ClassCount(*row) for row in sums.rows()) for sums in (lengths, quality))
    return Tally(tuple(sets), tuple(unused), *classes)


def _sums(facts: np.ndarray, tokens: np.ndarray) -> Iterator[tuple[list[int], int, int]]:
    """(facts, rows, tokens) of every distinct column of `facts` (int64 [k, n])."""
    if not facts.shape[1]:
        return
    found, at = np.unique(facts, axis=1, return_inverse=True)
    n = np.bincount(at.ravel(), minlength=found.shape[1])
    # Exact below 2^53 tokens a file.
    t = np.bincount(at.ravel(), weights=tokens, minlength=found.shape[1]).astype(np.int64)
    for k in range(found.shape[1]):
        yield found[:, k].tolist(), int(n[k]), int(t[k])


@dataclass(frozen=True)
class ShuffledDocuments:
    """The claimed copies of some documents, by (set, partition)."""

    files: tuple[Artifact, ...]
    """Shuffle files of `ENTRY_SCHEMA`."""
    digests: Artifact
    """uint64 [partitions]: what each partition gets."""


def shuffle_documents(
    shards: Sequence[CellShard],
    documents: Artifact,
    settings: MixSettings,
    cells: Sequence[Cell],
    claims: Sequence[PhaseClaims],
    partitions: Sequence[int],
    epochs: Sequence[int],
    stem: Path,
) -> ShuffledDocuments:
    """Map: the tokens of all claimed copies of some token shards, by (set, partition).

    Args:
        partitions: partitions of every set; a set's begin after those of the sets before it.
        epochs: copies of a document that every set may hold; a divisor of its partitions.
    """
    copies = _by_row([c for _, _, c in claimed_copies(read_documents(documents), settings, cells, claims)])
    where = _partitions_of(copies, partitions, epochs)
    out = _EntryShuffle(stem, sum(partitions))
    at = 0
    for shard, cell in shards:
        for batch in token_batches(shard.file):
            first, last = np.searchsorted(copies.row, [at, at + batch.num_rows])
            local = pa.array(copies.row[first:last] - at)
            at += batch.num_rows
            if first == last:
                continue
            columns = [
                pa.array(copies.place[first:last]),
                batch.column("doc_id").take(local),
                pa.array(np.full(last - first, cell, np.uint16)),
                pa.array(copies.take[first:last]),
                batch.column("input_ids").take(local),
                batch.column("loss_spans").take(local),
            ]
            out.add(columns, where[first:last])
    return out.close()


def _by_row(parts: Sequence[Copies]) -> Copies:
    """The copies of all phases as one, in the order of their documents."""
    order = np.argsort(np.concatenate([c.row for c in parts]), kind="stable")
    return Copies(*(np.concatenate([getattr(c, f.name) for c in parts])[order] for f in fields(Copies)))


def _partitions_of(copies: Copies, partitions: Sequence[int], epochs: Sequence[int]) -> np.ndarray:
    """int64 [n]: the partition that each copy goes to, over all sets."""
    begin = np.r_[0, np.cumsum(partitions)]
    where = np.empty(len(copies.row), np.int64)
    for s, (count, times) in enumerate(zip(partitions, epochs, strict=True)):
        in_set = copies.set_index == s
        # Each epoch has its own partitions, so that copies of a document never meet in a block.
        ranges = count // times
        where[in_set] = begin[s] + copies.number[in_set] * ranges + by_hash_range(copies.place[in_set], ranges)
    return where


class _EntryShuffle:
    """Shuffle files of `ENTRY_SCHEMA`, and a digest of what each partition gets."""

    def __init__(self, stem: Path, partitions: int) -> None:
        self._stem, self._partitions = stem, partitions
        self._digests = np.zeros(partitions, np.uint64)
        self._files: list[Artifact] = []
        self._held: list[pa.RecordBatch] = []
        self._held_where: list[np.ndarray] = []
        self._size = 0

    def add(self, columns: list[pa.Array], where: np.ndarray) -> None:
        """Add rows, each for its partition."""
        self._held.append(pa.RecordBatch.from_arrays(columns, schema=ENTRY_SCHEMA))
        self._held_where.append(where)
        facts = np.stack([c.to_numpy().astype(np.uint64) for c in columns[:4]])
        _add_digests(where, facts, *column_lists(columns[4]), *column_lists(columns[5]), self._digests)
        self._size += self._held[-1].nbytes
        if self._size >= SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        table = pa.Table.from_batches(self._held, ENTRY_SCHEMA)
        to = np.concatenate(self._held_where) if self._held_where else np.empty(0, np.int64)
        by = np.argsort(to, kind="stable")
        bounds = np.searchsorted(to[by], np.arange(self._partitions + 1))
        parts = [ipc_bytes(table.take(pa.array(by[a:b])), ENTRY_SCHEMA) for a, b in itertools.pairwise(bounds)]
        path = self._stem.with_name(f"{self._stem.name}.{len(self._files)}")
        self._files.append(write_parts(path, parts, np.diff(bounds)))
        self._held, self._held_where, self._size = [], [], 0

    def close(self) -> ShuffledDocuments:
        if self._held or not self._files:
            self._spill()
        return ShuffledDocuments(tuple(self._files), _publish_digests(self._digests, self._stem))


@njit(cache=True, nogil=True)
def _add_digests(
    where: np.ndarray,
    facts: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    spans: np.ndarray,
    span_offsets: np.ndarray,
    digests: np.ndarray,
) -> None:
    """Add a hash of every row to the digest of its partition. A sum: neither the order of rows nor the files they come in
    matter, as they do not for the packing.
    """
    for i in range(len(where)):
        h = np.uint64(0)
        for k in range(len(facts)):
            h = mix64(h ^ facts[k, i]) + np.uint64(k)
        for at in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(ids[at])) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        for at in range(span_offsets[i], span_offsets[i + 1]):
            h = mix64(h ^ np.uint64(spans[at]))
        digests[where[i]] += mix64(h)


def write_parts(path: Path, parts: Sequence[memoryview], rows: np.ndarray) -> Artifact:
    """One shuffle file of parts with so many rows."""
    sizes = np.stack([np.array([part.nbytes for part in parts], np.int64), rows.astype(np.int64)], axis=1)
    return write_partitions(path, Levels(len(parts)), sizes, ((0, part) for part in parts))


def _publish_digests(digests: np.ndarray, stem: Path) -> Artifact:
    with publish(stem.with_name(f"{stem.name}.digests"), len(digests)) as out:
        out.write(digests.tobytes())
    return out.artifact


@dataclass(frozen=True)
class Digests:
    """uint64 [partitions of all sets]: what each partition holds."""

    file: Artifact


def sum_digests(files: FileSet, stem: Path) -> Digests:
    """Reduce: the digest of every partition over all map tasks (`<stem>.digests`)."""
    digests = np.stack([read_digests(file) for file in files]).sum(axis=0, dtype=np.uint64)
    return Digests(_publish_digests(digests, stem))


def read_digests(file: Path) -> np.ndarray:
    """uint64 [partitions of all sets]."""
    return np.frombuffer(file.read_bytes(), np.uint64)


def column_lists(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column and where each row's begin in them, int64 [n + 1]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.flatten().to_numpy(), offsets - (offsets[0] if len(offsets) else 0)


def ipc_bytes(table: pa.Table, schema: pa.Schema, always: bool = False) -> memoryview:
    """A table as one IPC stream; nothing where it has no rows, unless `always`."""
    if table.num_rows == 0 and not always:
        return memoryview(b"")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table.combine_chunks())
    return memoryview(sink.getvalue())


def read_entries(files: FileSet, partition: int) -> pa.Table:
    """All copies of one partition, in their order there: by place, then id."""
    tables = [pa.Table.from_batches([], ENTRY_SCHEMA)]
    for file in files:
        data = read_partition(file, partition)
        if data:
            tables.append(pa.ipc.open_stream(data).read_all())
    table = pa.concat_tables(tables).combine_chunks()
    order = np.lexsort((table.column("doc_id").to_numpy(), table.column("place").to_numpy()))
    return table.take(pa.array(order)).combine_chunks()
