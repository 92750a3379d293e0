"""What counts as a duplicate, the total order of documents, and the records that carry both between tasks.

An order key is a uint64; the smaller comes first, ties are broken by the document id:

    bit 63      no document of dedupe: a filter dropped it
    bit 62      not of the finished run that new corpora are compared with
    bit 61      not held out
    bits 53-60  priority of the recipe, from 1
    bit 52      contaminated
    bits 36-51  quality, inverted
    bits 4-35   bytes of the edited text, inverted
    bits 0-3    flags, which are the same wherever two keys of one document are compared, or masked

A document taken out on request has zeros in bits 53 to 63: it comes before all others, nothing drops it, and what is its
copy goes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import zstandard
from numba import njit

from ...storage.fields import Bounds, Derived, Share
from ..carve.settings import CARVED
from ..engine.shuffle import Records, distinct
from ..filter.exclude import EXCLUDED
from ..filter.judge import signal_batches
from ..run.artifacts import Artifact, read_json, write_json
from ..run.columns import Columns, each_open
from ..run.identity import ROW_BITS, FileTable, Group
from ..signals.minhash import JACCARD


@dataclass(frozen=True)
class UrlSettings:
    """What equal URLs mean."""

    corpora: tuple[str, ...] = ()
    """Corpora in which an equal URL makes two documents candidates."""
    rule: Literal["candidates", "newest"] = "candidates"
    """`newest`: of these corpora's documents with one URL only the newest stays, compared or not."""


@dataclass(frozen=True)
class DedupeSettings:
    """What counts as a duplicate and which copy survives."""

    priority: tuple[str, ...] = ()
    """Corpora (or `corpus/subset`), best first: which copy survives; what is not named comes after, in name order."""
    jaccard: Share = JACCARD
    """Estimated Jaccard similarity of shingle sets from which a candidate pair counts as duplicates."""
    held_out_jaccard: Share = JACCARD
    """The same for a training document and a held-out one, whose copies must not be trained on; the lower of both counts."""
    containment: Share = 1.0
    """A document goes, too, if more than this share of its shingles is in a better one; 1: never."""
    fan_out: Annotated[int, Bounds(ge=1, le=1024)] = 32
    """Members of a bucket, best first, that every other is compared with; what lies beyond is kept and counted."""
    scope: Literal["all", "within", "across"] = "all"
    """Duplicates of any corpora, of the same corpus only, or of different corpora only."""
    exempt: tuple[str, ...] = ()
    """Corpora or `corpus/subset` that take no part: only copies of held-out documents are dropped of them."""
    url: UrlSettings = UrlSettings()
    """What equal URLs mean."""
    excluded_copies: Annotated[bool, Derived()] = True
    """Copies of documents that were taken out on request are dropped, too."""

    @property
    def of_held_out(self) -> float:
        """The similarity from which a training document is a copy of a held-out one."""
        return min(self.jaccard, self.held_out_jaccard)

    def __post_init__(self) -> None:
        if self.url.rule == "newest" and self.scope == "across":
            raise ValueError("`url.rule: newest` drops within a corpus, too; use the scope `all` or `within`")


INELIGIBLE = np.uint64(1 << 63)
NOT_OLD = np.uint64(1 << 62)
NOT_HELD_OUT = np.uint64(1 << 61)
NOT_EXCLUDED = np.uint64(1 << 53)
"""The smallest order key of a document that was not taken out on request."""
EXEMPT = np.uint64(1)
OPEN = np.uint64(2)
"""In a pair: its worse document has better ones in a bucket that it was not compared with yet."""
HEAD = np.uint64(2)
"""In a row of a live bucket: every later member was compared with this one."""
CAPPED = np.uint64(4)
"""In a pair: the cap keeps its document from being compared with better ones of a bucket."""

CONTENT = np.dtype([("h0", "<u8"), ("h1", "<u8"), ("order", "<u8"), ("id", "<u8"), ("bytes", "<u4"), ("code", "<u4")])
"""A document by its content hash (or its URL): 40 bytes. `code` is that of its corpus and subset."""
FOLLOWER = np.dtype(
    [("id", "<u8"), ("leader", "<u8"), ("leader_order", "<u8"), ("bytes", "<u4"), ("code", "<u2"), ("twin", "<u2")]
)
"""A member of a class of equal content that goes as its leader goes: 32 bytes. A twin stays if its leader stays; the leader's
order key is 0 where it leads a URL."""
BAND = np.dtype([("band", "<u8"), ("order", "<u8"), ("id", "<u8")])
"""A document in a bucket: 24 bytes."""
PAIR = np.dtype([("id", "<u8"), ("better", "<u8"), ("order", "<u8"), ("better_order", "<u8")])
"""A candidate pair, `better` before `id` in the order; or, where `better` is 0, flags of a document alone."""
REQUEST = np.dtype([("id", "<u8"), ("chunk", "<u8"), ("slot", "<u8")])
"""A chunk needs the sketch of a document, for its pairs of one slot."""
EDGE = np.dtype(
    [
        ("better_order", "<u8"),
        ("better", "<u8"),
        ("order", "<u8"),
        ("id", "<u8"),
        ("shared", "<u2"),
        ("examined", "<u2"),
        ("code", "<u2"),
        ("kind", "<u2"),
    ]
)
"""A verified pair with the counts its similarity is made of; `code` is the worse document's."""
DROP = np.dtype(
    [
        ("id", "<u8"),
        ("by", "<u8"),
        ("bytes", "<u4"),
        ("shared", "<u2"),
        ("examined", "<u2"),
        ("code", "<u4"),
        ("kind", "<u4"),
    ]
)
"""A document is dropped for another: 32 bytes."""
BY_BETTER = ("better_order", "better", "order", "id")
"""How edges are sorted."""
EDGES = Records(EDGE, BY_BETTER)
FOLLOWERS = Records(FOLLOWER)
ID = np.dtype([("id", "<u8")])
IDS = Records(ID, ("id",), distinct)
NODE = np.dtype([("order", "<u8"), ("id", "<u8")])
"""A place in the total order."""
UPDATE = np.dtype([("id", "<u8"), ("state", "<u8")])
"""What became of a document in a round, or (as membership) the task that left it in a live bucket."""
DROPPED, UNKNOWN = 1, 2
EXACT, NEAR, URL = 1, 2, 3
KINDS = {EXACT: "exact", NEAR: "near", URL: "url"}
DUPLICATES = tuple(f"{KINDS[kind]}_duplicate" for kind in sorted(KINDS))
"""Reasons of a decision, by kind."""
OF_EXCLUDED = 8
"""Added to the kind of a drop: the document is a copy of one that was taken out on request."""


def sketch_record(size: int) -> np.dtype:
    """A document's sketch on its way to a chunk that asked for it."""
    return np.dtype(
        [("slot", "<u8"), ("id", "<u8"), ("n_shingles", "<u4"), ("held", "<u4"), ("sketch", "<u4", (size + size % 2,))],
    )


@njit(cache=True, nogil=True, inline="always")
def may_drop(better: np.uint64, worse: np.uint64, same_corpus: bool, across: bool) -> bool:
    """Whether the scope lets a document of order key `better` stand for one of order key `worse`."""
    if not worse & NOT_OLD:
        return False
    if not better & worse & NOT_HELD_OUT:
        # Copies of held-out and excluded documents go whatever the scope; so does a held-out copy of what a finished run
        # trained on.
        return True
    if (better | worse) & EXEMPT:
        return False
    return not (across and same_corpus)


def across_held_out(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool [n]: of pairs of order keys, those of which one is held out and the other is not, nor is one excluded."""
    excluded = np.minimum(a, b) < NOT_EXCLUDED
    return ((a ^ b) & NOT_HELD_OUT != 0) & ~excluded


def ranks(settings: DedupeSettings, corpora: Sequence[str]) -> dict[str, int]:
    """Priority, from 1, of every name of the recipe's list, then of the other corpora in name order."""
    names = [*settings.priority, *sorted(set(corpora) - set(settings.priority))]
    if len(names) > 250:
        raise ValueError(f"dedupe.priority names {len(names)} corpora and subsets; name at most 250")
    return {name: 1 + i for i, name in enumerate(names)}


def bytes_of(order: np.ndarray) -> np.ndarray:
    """uint32 bytes of the edited text, from order keys."""
    return (~(order >> np.uint64(4))).astype(np.uint32)


@dataclass(frozen=True)
class Part:
    """A file group of this run, or of the finished run that its documents are compared with."""

    group: Group
    signals: tuple[Artifact, ...]
    """Of each file of the group."""
    signatures: tuple[Artifact, ...]
    """Of each file of the group, row by row beside the signals."""
    filtered: Artifact | None
    """What the filters say of the group; None for a finished run."""
    decisions: tuple[Artifact, ...] = ()
    """Of each file of the group, for a finished run."""
    scores: tuple[Artifact, ...] = ()
    """Of each file of the group, where scores of others are the quality."""

    @property
    def old(self) -> bool:
        return self.filtered is None

    def identity(self) -> str:
        """Its name: what it holds is a part of the plan, which every task has."""
        return f"{'old ' if self.old else ''}{self.group.name}"

    def contents(self) -> list[object]:
        """Who its documents are and what is known of them, for `Plan.layout`."""
        hashes = [
            a.hash
            for a in (
                *self.signals,
                *self.signatures,
                *([self.filtered] if self.filtered else []),
                *self.decisions,
                *self.scores,
            )
        ]
        return [self.identity(), [f.table for f in self.group.files], hashes]

    def __reduce__(self) -> tuple[Any, ...]:
        """Compressed: of hundreds of files in the arguments of a task, most is paths that begin alike."""
        held = pickle.dumps([getattr(self, f.name) for f in fields(self)])
        return _unpacked, (zstandard.ZstdCompressor().compress(held),)


def _unpacked(packed: bytes) -> Part:
    return Part(*pickle.loads(zstandard.ZstdDecompressor().decompress(packed)))


@dataclass(frozen=True)
class Plan:
    """What every step of dedupe knows: the settings, which documents there are and which task handles them."""

    settings: DedupeSettings
    chunks: StoredChunks
    rank: dict[str, int]
    """Name -> priority."""
    codes: tuple[str, ...]
    """`corpus/subset` by code."""
    memory: int
    """Bytes a slice of records may take; no result depends on it."""
    layout: str
    """A digest of who is in which chunk and of all that is known of them. Bounds of chunks are a part of what a step's
    files hold, so every task's key has it, and no task's key needs the hashes of its own parts.
    """

    def identity(self) -> object:
        return [self.settings, self.layout]

    def corpora(self) -> np.ndarray:
        """int64 [codes]: the corpus of every code, by its place in the chunks' table."""
        return np.array([self.chunks.table.corpus_names.index(c.split("/", 1)[0]) for c in self.codes], np.int64)


SIGNATURES = ("band_signature", "sketch")
"""Columns of `signatures/`; all others are of `signals/`."""
ORDER_COLUMNS = ["doc_id", "subset", "quality", "contaminated", "n_bytes"]


def ordered_batches(
    parts: Sequence[Part], plan: Plan, columns: Sequence[str]
) -> Iterator[tuple[Part, pa.RecordBatch, np.ndarray, np.ndarray]]:
    """(part, batch with `columns` of signals and signatures and those the order needs, order keys, codes) over the files of some
    parts.
    """
    code = {name: i for i, name in enumerate(plan.codes)}
    wanted = list(dict.fromkeys([*ORDER_COLUMNS, *columns]))
    narrow, wide = _of_tables(wanted)
    places = [(part, i) for part in parts for i in range(len(part.signals))]
    tables = (
        [
            [part.signals[i].file, *([part.scores[i].file] if part.scores else [])],
            *([[part.signatures[i].file]] if wide else []),
        ]
        for part, i in places
    )
    for (part, i), (file, *signed) in zip(places, each_open(tables, [narrow, wide]), strict=True):
        group = part.group
        if part.filtered is None:
            judged, at = _Judged.before(part.decisions[i]), 0
        elif not i:
            judged, at = _Judged.of(part.filtered, plan.settings.excluded_copies), 0
        for number in range(file.num_row_groups):
            for batch in _beside(file, signed[0] if signed else file, number, wanted, onwards=True):
                order, subsets = order_keys(batch, group, part.old, plan.settings, plan.rank)
                rows = slice(at, at + batch.num_rows)
                order[~judged.eligible[rows]] |= INELIGIBLE
                order[judged.excluded[rows]] &= NOT_EXCLUDED - np.uint64(1) - EXEMPT
                order[judged.carved[rows]] &= ~(NOT_HELD_OUT | EXEMPT)
                at += batch.num_rows
                codes = np.array([code[f"{group.corpus}/{s}"] for s in subsets.dictionary.to_pylist()], np.uint32)
                yield part, batch, order, codes[subsets.indices.to_numpy()]


class _Judged(NamedTuple):
    """What was said of the documents of a group or file before dedupe, bool [n] each."""

    eligible: np.ndarray
    """Who takes part."""
    excluded: np.ndarray
    """Who was taken out, and makes its copies go."""
    carved: np.ndarray
    """Who is set apart to measure on: it comes first as if its file were held out."""

    @classmethod
    def of(cls, filtered: Artifact, excluded_copies: bool) -> _Judged:
        """By what the filters say of a group."""
        reason = _reasons(filtered)
        excluded, carved = (reason == EXCLUDED) & excluded_copies, reason == CARVED
        return cls((reason == "") | excluded | carved, excluded, carved)

    @classmethod
    def before(cls, decisions: Artifact) -> _Judged:
        """By the decisions of a finished run: nothing new may be a copy of what it trained on, or measures on."""
        reason = _reasons(decisions)
        eligible, nobody = (reason == "") | (reason == CARVED), np.zeros(len(reason), bool)
        return cls(eligible, nobody, nobody)


def _reasons(file: Artifact) -> np.ndarray:
    found = [_column(b, "reason") for b in signal_batches(file.file, ["reason"])]
    return np.concatenate([np.empty(0, object), *found])


def _column(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return batch.column(name).to_numpy(zero_copy_only=False)


def _names(names: Sequence[str], cell: str) -> bool:
    return cell in names or cell.split("/", 1)[0] in names


def order_keys(
    batch: pa.RecordBatch, group: Group, old: bool, settings: DedupeSettings, rank: Mapping[str, int]
) -> tuple[np.ndarray, pa.DictionaryArray]:
    """(order keys of eligible documents, their subsets).

    Args:
        batch: `ORDER_COLUMNS` of documents of the group.
        old: the group is of the finished run that new corpora are compared with.
        rank: priority of every name of the recipe's list.
    """
    subsets = batch.column("subset").dictionary_encode()
    names = [f"{group.corpus}/{s}" for s in subsets.dictionary.to_pylist()]
    which = subsets.indices.to_numpy()
    priority = np.array([rank.get(n, rank[group.corpus]) for n in names], np.uint64)[which]
    exempt = np.array([_names(settings.exempt, n) for n in names], bool)[which]
    quality = batch.column("quality").to_numpy().astype(np.uint64)
    length = np.minimum(batch.column("n_bytes").to_numpy(), (1 << 32) - 1).astype(np.uint64)
    key = np.full(batch.num_rows, np.uint64(not old) << np.uint64(62))
    key |= np.uint64(not group.held_out) << np.uint64(61)
    key |= priority << np.uint64(53)
    key |= (batch.column("contaminated").to_numpy() > 0).astype(np.uint64) << np.uint64(52)
    key |= (np.uint64(65_535) - quality) << np.uint64(36)
    key |= (np.uint64((1 << 32) - 1) - length) << np.uint64(4)
    if not group.held_out:
        key |= exempt.astype(np.uint64) * EXEMPT
    return key, subsets


CHUNK_DOCUMENTS = 250_000
MIN_CHUNKS, MOST_CHUNKS = 4, 4_000
CHUNK_FILES = 64
"""Files of a store that take about as long as `CHUNK_DOCUMENTS`, with their footers fetched ahead: a chunk of many small ones has
less text."""


@dataclass(frozen=True)
class Chunks:
    """Consecutive file groups that one task of dedupe handles, and who is in which."""

    members: tuple[tuple[int, ...], ...]
    """Group indices of every chunk; chunks of a finished run come last."""
    table: FileTable

    @classmethod
    def build(
        cls,
        groups: Sequence[Group],
        sizes: Sequence[tuple[int, int]],
        old: Sequence[bool] = (),
        target: tuple[int, int] = (2 << 30, CHUNK_DOCUMENTS),
        at_least: int = MIN_CHUNKS,
        at_most: int = MOST_CHUNKS,
    ) -> Chunks:
        """Cut groups into chunks of about `target`.

        Args:
            sizes: (bytes of text, documents) of every group: a URL list tells no stored bytes.
            old: whether a group is of the finished run; those make chunks of their own, after the others.
            at_most: one for each of the 4,096 cores that a run is planned for. Every chunk has a piece in every file of every
                shuffle between documents and buckets, so many small chunks would be read in crumbs.
        """
        old = old or [False] * len(groups)
        members: list[tuple[int, ...]] = []
        for kind in (False, True):
            same_run = [i for i in range(len(groups)) if old[i] is kind]
            work = [max(b / target[0], n / target[1]) for b, n in (sizes[i] for i in same_run)]
            count = min(len(same_run), at_most, max(at_least, round(sum(work) + 0.5)))
            work = [w + len(groups[i].files) / CHUNK_FILES for i, w in zip(same_run, work, strict=True)]
            chunks: list[list[int]] = [[] for _ in range(count)]
            seen, total = 0.0, sum(work)
            for i, w in zip(same_run, work, strict=True):
                chunks[min(count - 1, int(seen * count / max(total, 1e-9)))].append(i)
                seen += w
            members += [tuple(c) for c in chunks if c]
        return cls(tuple(members), FileTable.build(groups))

    def store(self, path: Path) -> StoredChunks:
        """Write who is in which chunk, for tasks to look up."""
        chunk_of = np.empty(sum(map(len, self.members)), np.int64)
        for i, groups in enumerate(self.members):
            chunk_of[list(groups)] = i
        names = (f.name for f in fields(self.table) if f.name != "corpus_names")
        columns = {name: getattr(self.table, name).tolist() for name in names}
        listed = {"chunk_of": chunk_of.tolist(), "corpus_names": self.table.corpus_names, "columns": columns}
        write_json(path, listed, dense=True)
        return StoredChunks(path, len(self.members))


@dataclass(frozen=True)
class StoredChunks:
    """Who is in which chunk, as tasks find it in a file: the table of a hundred thousand files would cost more in the
    arguments of each task than in a file that a worker reads once.
    """

    path: Path
    count: int
    """Of the chunks."""

    @property
    def table(self) -> FileTable:
        return _read_chunks(self.path)[1]

    def of(self, doc_ids: np.ndarray) -> np.ndarray:
        """int64 chunk of every document."""
        chunk_of, table = _read_chunks(self.path)
        return chunk_of[table.group_of(doc_ids)]


@lru_cache(maxsize=2)
def _read_chunks(path: Path) -> tuple[np.ndarray, FileTable]:
    listed = read_json(path)
    types = {"groups": np.int32, "corpora": np.uint8}
    table: dict[str, Any] = {name: np.array(v, types.get(name, np.uint64)) for name, v in listed["columns"].items()}
    return np.array(listed["chunk_of"], np.int64), FileTable(corpus_names=tuple(listed["corpus_names"]), **table)


def id_batches(
    parts: Sequence[Part], columns: Sequence[str], need: Callable[[], int | None]
) -> Iterator[pa.RecordBatch]:
    """Batches of signals in ascending order of ids, without those that hold none of the ids asked for.

    Args:
        need: asked before each batch for the smallest id that is still needed; None ends the walk.
    """
    files = [
        (file.first_id, signals, signatures)
        for part in parts
        for file, signals, signatures in zip(part.group.files, part.signals, part.signatures, strict=True)
    ]

    def wanted() -> Iterator[list[list[Path]]]:
        for first_id, signals, signatures in sorted(files, key=lambda entry: entry[0]):
            first = need()
            if first is None:
                return
            if first >> ROW_BITS <= first_id >> ROW_BITS:
                yield [[signals.file], [signatures.file]]

    # After one that was needed the next one will be, too.
    dense = False
    tables, expected = _of_tables(columns), list[list[str]]()
    for file, signed in each_open(wanted(), expected):
        at = file.schema_arrow.names.index("doc_id")
        for group in range(file.num_row_groups):
            first = need()
            if first is None:
                return
            rows = file.metadata.row_group(group)
            needed = bool(rows.num_rows) and first <= rows.column(at).statistics.max
            if needed:
                yield from _beside(file, signed, group, columns, dense)
            dense = needed
            expected[:] = tables if dense else ()


def _beside(
    signals: Columns, signatures: Columns, group: int, columns: Sequence[str], onwards: bool
) -> Iterator[pa.RecordBatch]:
    """Columns of a row group of both tables, none if it is empty; `onwards` as `Columns.read_row_group` takes it."""
    narrow, wide = _of_tables(columns)
    table = signals.read_row_group(group, narrow, onwards)
    if wide:
        more = signatures.read_row_group(group, wide, onwards)
        if more.num_rows != table.num_rows:
            raise ValueError("signals and signatures of a file differ in their rows; delete both and run again")
        for name in wide:
            table = table.append_column(more.schema.field(name), more.column(name))
    yield from table.combine_chunks().to_batches()


def _of_tables(columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns of signals, and those of signatures."""
    return [name for name in columns if name not in SIGNATURES], [name for name in columns if name in SIGNATURES]
