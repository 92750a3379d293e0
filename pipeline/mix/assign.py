"""Claimed documents to pack partitions: one pass over the token shards, through the file shuffle.

A partition is a hash range of a set's documents, its bounds a function of the plan (about 64k documents or 32 Mi tokens),
never of tasks. Copies of a document for different epochs have different hashes. In a shuffle of one level every map task also
sums up what it sends to each partition, so that a partition whose documents are the same as before is not packed again; in two
levels, all partitions of a coarse one are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numba import njit

from ...storage import reading
from ...tokenize.shards import token_batches
from ..engine.rows import Column, RowShuffle, pack_rows, read_rows
from ..engine.shuffle import by_hash_range
from ..engine.shuffle_file import Levels
from ..engine.two_level import Partition
from ..run.artifacts import Artifact, publish, write_json
from ..run.file_sets import FileSet
from ..run.numbers import distinct_numbers
from ..signals.hashing import mix64, mix_array
from .budget import Cell, MixSettings
from .select import (
    SLICE_DOCUMENTS,
    CellCount,
    CellShard,
    PhaseClaims,
    document_slices,
    read_documents,
    taken_by,
    type_of,
)

PARTITION_DOCUMENTS = 1 << 16
PARTITION_TOKENS = 32 << 20
MAX_COPIES = 64
QUALITY_CLASSES = 20
"""Of equal width, in the distributions that the ledger shows."""

ALL_SURVIVORS = -1
"""In place of a phase's number."""

ENTRY = np.dtype([("place", "<u8"), ("doc_id", "<u8"), ("take", "<i8"), ("cell", "<u4")])
"""A copy of a document on its way to a partition; `place` orders it there, `take` is its length with BOS and EOS. Its columns
are `input_ids` and `loss_spans`."""


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
    def sum(cls, parts: Iterable[Tally]) -> Tally:
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


@dataclass(frozen=True)
class TallyFile:
    """A `Tally` as JSON: of a run of billions of documents, thousands of tasks count."""

    file: Artifact


def tally(
    documents: FileSet, settings: MixSettings, cells: Sequence[Cell], claims: Sequence[PhaseClaims], out: Path
) -> TallyFile:
    """Map: what will stand where, of some `DOC` files."""
    return _write_tally(
        (_tally(docs, settings, cells, claims) for docs in document_slices(documents, type_of(settings))), out
    )


def add_tallies(tallies: FileSet, out: Path) -> TallyFile:
    """Reduce: the sum of several."""
    return _write_tally(map(read_tally, tallies), out)


def _write_tally(parts: Iterable[Tally], out: Path) -> TallyFile:
    return TallyFile(write_json(out, msgspec.to_builtins(Tally.sum(parts)), dense=True))


def read_tally(file: Path) -> Tally:
    """A `Tally` from its file."""
    return msgspec.convert(reading.read_json(file), Tally)


def _tally(docs: np.ndarray, settings: MixSettings, cells: Sequence[Cell], claims: Sequence[PhaseClaims]) -> Tally:
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
        once = distinct_numbers(copies.row)
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

    file: Artifact
    """A shuffle file of `ENTRY` rows."""
    digests: Artifact | None
    """uint64 [partitions]: what each partition gets; None in a shuffle of two levels."""


def shuffle_documents(
    shards: Sequence[CellShard],
    documents: Artifact,
    settings: MixSettings,
    cells: Sequence[Cell],
    claims: Sequence[PhaseClaims],
    partitions: Sequence[int],
    epochs: Sequence[int],
    levels: Levels,
    stem: Path,
) -> ShuffledDocuments:
    """Map: the tokens of all claimed copies of some token shards, by (set, partition).

    Args:
        partitions: partitions of every set; a set's begin after those of the sets before it.
        epochs: copies of a document that every set may hold; a divisor of its partitions.
        levels: of all partitions.
    """
    out = RowShuffle(stem, levels)
    digests = np.zeros(0 if levels.fine else levels.partitions, np.uint64)
    # Copies of the documents `low` to `high` - 1 are known; the next batch begins with document `at`.
    at = low = high = 0
    for shard, cell in shards:
        for batch in token_batches(shard.file, mapped=False):
            begin = 0
            while begin < batch.num_rows:
                if at == high:
                    docs = read_documents(documents.file, type_of(settings), at, SLICE_DOCUMENTS)
                    assert len(docs), f"{documents.path} has fewer documents than the shards it lists"
                    copies = _by_row([c for _, _, c in claimed_copies(docs, settings, cells, claims)])
                    where = _partitions_of(copies, partitions, epochs)
                    low, high = at, at + len(docs)
                end = min(batch.num_rows, begin + high - at)
                first, last = np.searchsorted(copies.row, [at - low, at - low + end - begin])
                mine = slice(int(first), int(last))
                if first < last:
                    rows = copies.row[mine] - (at - low) + begin
                    heads = np.empty(len(rows), ENTRY)
                    heads["place"], heads["take"], heads["cell"] = copies.place[mine], copies.take[mine], cell
                    heads["doc_id"] = batch.column("doc_id").to_numpy()[rows]
                    columns = [_column(batch, name, rows) for name in ("input_ids", "loss_spans")]
                    out.add(*pack_rows(heads, columns), where[mine])
                    if len(digests):
                        _add_digests(where[mine], heads, columns, digests)
                at, begin = at + end - begin, end
    (file,) = out.close()
    return ShuffledDocuments(file, _publish_digests(digests, stem) if len(digests) else None)


def _column(batch: pa.RecordBatch, name: str, rows: np.ndarray) -> Column:
    """A list column of some rows of a batch."""
    values, offsets = column_lists(batch.column(name))
    return Column(values, offsets[rows], np.diff(offsets)[rows])


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


def _add_digests(where: np.ndarray, heads: np.ndarray, columns: Sequence[Column], digests: np.ndarray) -> None:
    """Add a hash of every row to the digest of its partition. A sum: neither the order of rows nor the files they come in
    matter, as they do not for the packing.
    """
    hashes = np.zeros(len(heads), np.uint64)
    for name in ENTRY.names or ():
        hashes = mix_array(hashes ^ heads[name].astype(np.uint64), 0)
    for column in columns:
        _hash_values(hashes, column.values, column.begins, column.counts)
    np.add.at(digests, where, hashes)


@njit(cache=True, nogil=True)
def _hash_values(hashes: np.ndarray, values: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> None:
    """Hash the values of every row into its hash."""
    for i in range(len(hashes)):
        h = mix64(hashes[i] ^ np.uint64(counts[i]))
        for at in range(begins[i], begins[i] + counts[i]):
            h = mix64(h ^ np.uint64(values[at]))
        hashes[i] = h


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
    first, *others = files
    digests = read_digests(first).copy()
    for file in others:
        digests += read_digests(file)
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


def read_entries(part: Partition) -> tuple[np.ndarray, list[Column], np.ndarray]:
    """(`ENTRY` [n], `input_ids` and `loss_spans`) of all copies of a partition, and int64 [n] their order there: by place,
    then id.
    """
    heads, columns = read_rows(part.files, part.place, ENTRY, 2)
    return heads, columns, np.lexsort((heads["doc_id"], heads["place"]))
