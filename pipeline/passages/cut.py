"""What cut passages mean for documents: their edits, and which of them are too short now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from ..dedupe.order import Plan
from ..engine.shuffle import Cursor, merged
from ..engine.two_level import Partition
from ..run.artifacts import Artifact, parquet_writer
from ..run.columns import open_columns
from ..run.identity import Group
from ..run.parquet_rows import RowCursor
from ..run.paths import RunPaths
from ..run.schemas import CUT_SCHEMA, DECISION_SCHEMA, EDIT_TYPE, SIGNAL_GROUP_ROWS
from ..text.edits import DUPLICATE, cut_upon, raw_spans
from ..text.survivors import DecidedFile
from .find import CUT, CUTS, Unpacked
from .settings import REASON
from .units import RUN, words_of_units

SIGNALS = ("doc_id", "subset", "n_bytes", "n_words", "edits")
ROWS = 1024
"""Documents whose cuts are held at once."""


@dataclass(frozen=True)
class Tally:
    """What was cut of the documents of a subset."""

    documents: int = 0
    """Those that lost a passage."""
    dropped: int = 0
    """Those of them that are too short now."""
    kept_short: int = 0
    """Those that are, and stay: others lost theirs for them, or are their copies."""
    words: int = 0
    bytes: int = 0
    """Of the edited text, also of documents that are dropped."""
    lost_bytes: int = 0
    """Those, and what was left of documents that are dropped."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class SubsetCuts:
    """What was cut of a subset."""

    corpus: str
    subset: str
    tally: Tally


@dataclass(frozen=True)
class KindCuts:
    """What was cut of one kind: passages that lie beside each other and are kept in one document count as one. Those of several
    kinds may share bytes."""

    passages: int
    bytes: int


@dataclass(frozen=True)
class HeldOutCuts:
    """What was cut of training documents since it stands in held-out ones. It is among what was cut of each kind and subset."""

    documents: int
    passages: int
    bytes: int


@dataclass(frozen=True)
class CutChunk:
    """The documents of a chunk after their passages were cut."""

    cuts: dict[str, Artifact]
    """`CUT_SCHEMA`, by `SourceFile.table`."""
    decisions: dict[str, Artifact]
    """`DECISION_SCHEMA`, likewise."""
    subsets: tuple[SubsetCuts, ...]
    kinds: tuple[KindCuts, ...]
    """From the first kind on."""
    of_held_out: HeldOutCuts


def cut_passages_of(
    groups: Sequence[Group],
    files: Sequence[DecidedFile],
    found: tuple[Partition, ...],
    min_left: int,
    paths: RunPaths,
    plan: Plan,
    _stem: object = None,
) -> CutChunk:
    """Write ``cuts/`` and ``decisions/`` of the files of some groups.

    Args:
        files: of all groups, with the decisions on whole documents.
        found: `CUT` of these documents, of every search for passages.
        min_left: words that a document must have left.
    """
    limit = plan.memory // 8 // max(len(found), 1)
    cuts = [Cursor(merged(f.files, f.place, CUT, CUTS.by, limit), "id", CUT) for f in found]
    counts = _Counts()
    written: dict[str, Artifact] = {}
    decided: dict[str, Artifact] = {}
    for file in sorted(files, key=lambda f: f.source.first_id):
        source = file.source
        with (
            open_columns(file.signals.file) as scanned,
            open_columns(file.decisions.file) as stored,
            parquet_writer(paths.cuts(source.corpus, source.part), CUT_SCHEMA, SIGNAL_GROUP_ROWS) as out,
            parquet_writer(paths.decisions(source.corpus, source.part), DECISION_SCHEMA) as decisions,
        ):
            facts, said = RowCursor(scanned, SIGNALS), RowCursor(stored, DECISION_SCHEMA.names)
            while (rows := facts.take(ROWS)).num_rows:
                slice_ = _Slice(rows, said.take(ROWS))
                own = np.concatenate([cursor.take(int(slice_.ids[-1])) for cursor in cuts])
                edits, after = slice_.cut(own, min_left, counts)
                out.write(edits)
                decisions.write(after)
        written[source.table], decided[source.table] = out.artifact, decisions.artifact
    return CutChunk(
        written,
        decided,
        counts.listed(),
        tuple(KindCuts(*k) for k in counts.kinds.tolist()),
        HeldOutCuts(*counts.of_held_out.tolist()),
    )


@dataclass
class _Counts:
    """What is counted of a chunk."""

    subsets: dict[tuple[str, str], Tally] = field(default_factory=dict)
    kinds: np.ndarray = field(default_factory=lambda: np.zeros((RUN, 2), np.int64))
    of_held_out: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))

    def listed(self) -> tuple[SubsetCuts, ...]:
        return tuple(SubsetCuts(*key, tally) for key, tally in sorted(self.subsets.items()))


class _Unions(NamedTuple):
    """What is cut of documents, each byte once: int64 [n] each."""

    document: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class _Slice:
    """Some documents of a file."""

    facts: pa.Table
    """`SIGNALS`."""
    decisions: pa.Table

    @property
    def ids(self) -> np.ndarray:
        ids: np.ndarray = self.facts.column("doc_id").to_numpy()
        return ids

    def cut(self, own: np.ndarray, min_left: int, counts: _Counts) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """(`CUT_SCHEMA`, `DECISION_SCHEMA`) of the documents.

        Args:
            own: `CUT` of them.
        """
        n = self.facts.num_rows
        edits = self.facts.column("edits").combine_chunks()
        decisions = self.decisions.combine_chunks().to_batches()[0]
        if not own["by"].any():
            return _cut_batch(self.facts, edits, _no_passages(n)), decisions
        told = np.isin(self.ids, own["id"][own["by"] == 0])
        own = own[own["by"] != 0]
        packed = Unpacked.of(own)
        document = np.searchsorted(self.ids, own["id"])
        order = np.lexsort((packed.end, packed.begin, document))
        unions, units, size = _unions(
            document[order], *(column[order] for column in (packed.begin, packed.end, packed.first, packed.size)),
            packed.kind[order], n,
        )  # fmt: skip
        script = np.zeros(n, np.int64)
        script[document] = packed.script
        words = words_of_units(units, script)
        dropped = self._count(words, size, told, min_left, counts)
        listed = list(_listed(document, packed, own["by"]))
        held_out = np.unique(own["by"][packed.of_held_out > 0]).astype(np.int64)
        for kind, spans in listed:
            counts.kinds[kind - 1] += len(spans), int((spans[:, 2] - spans[:, 1]).sum())
            spans = spans[np.isin(spans[:, 3], held_out)]
            counts.of_held_out[1:] += len(spans), int((spans[:, 2] - spans[:, 1]).sum())
        counts.of_held_out[0] += len(np.unique(document[packed.of_held_out > 0]))
        changed = np.unique(unions[:, 0])
        new = self._edits(changed, edits, unions)
        batch = _cut_batch(self.facts, new, _passages(changed, edits, listed, held_out, n))
        return batch, _with_dropped(decisions, dropped)

    def _count(
        self, words: np.ndarray, size: np.ndarray, told: np.ndarray, min_left: int, counts: _Counts
    ) -> np.ndarray:
        """bool [n]: who is dropped. What is cut is counted."""
        facts, decisions = self.facts, self.decisions
        left = np.maximum(facts.column("n_words").to_numpy() - words, 0)
        held = facts.column("n_bytes").to_numpy()
        cut = size > 0
        short = cut & (left < min_left)
        stands = told | (decisions.column("cluster_size").to_numpy() > 1)
        # All of what is cut whole stands elsewhere, whatever it stood for.
        dropped = (short & ~stands) | (cut & (size >= held))
        corpus = decisions.column("corpus")[0].as_py()
        subsets = np.array(facts.column("subset").to_pylist(), object)
        for subset in sorted(set(subsets[cut].tolist())):
            use = cut & (subsets == subset)
            gone = use & dropped
            tally = Tally(
                int(use.sum()),
                int(gone.sum()),
                int((use & short & ~dropped).sum()),
                int(words[use].sum()),
                int(size[use].sum()),
                int(size[use & ~dropped].sum() + held[gone].sum()),
            )
            counts.subsets[corpus, subset] = counts.subsets.get((corpus, subset), Tally()) + tally
        return dropped

    def _edits(self, changed: np.ndarray, edits: pa.ListArray, unions: np.ndarray) -> pa.ListArray:
        """All edits of the documents, those of `changed` with what is cut."""
        before = edits.take(pa.array(changed)).to_pylist()
        bounds = np.searchsorted(unions[:, 0], np.append(changed, len(edits)))
        spans = unions[:, 1:] + np.array([0, 0, DUPLICATE])
        made = [cut_upon(of, spans[a:b].tolist()) for of, a, b in zip(before, bounds[:-1], bounds[1:], strict=True)]
        places = np.arange(len(edits))
        places[changed] = len(edits) + np.arange(len(changed))
        return pa.concat_arrays([edits, pa.array(made, EDIT_TYPE)]).take(pa.array(places))


_LIST = CUT_SCHEMA.field("passages").type


def _no_passages(n: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], _LIST.value_type), type=_LIST)


def _cut_batch(facts: pa.Table, edits: pa.ListArray, passages: pa.ListArray) -> pa.RecordBatch:
    ids = facts.column("doc_id").combine_chunks()
    return pa.RecordBatch.from_arrays([ids, edits, passages], schema=CUT_SCHEMA)


def _with_dropped(decisions: pa.RecordBatch, dropped: np.ndarray) -> pa.RecordBatch:
    """Decisions, some of which are now that too little is left."""
    if not dropped.any():
        return decisions
    n = len(dropped)
    columns = {name: decisions.column(name) for name in DECISION_SCHEMA.names}
    reasons = columns["reasons"]
    also = pa.array([[REASON]], reasons.type)
    columns["reasons"] = pa.concat_arrays([reasons, also]).take(pa.array(np.where(dropped, n, np.arange(n))))
    reason = columns["reason"].to_numpy(zero_copy_only=False)
    columns["reason"] = pa.array(np.where(dropped, REASON, reason), pa.string())
    columns["kept"] = pa.array(columns["kept"].to_numpy(zero_copy_only=False) & ~dropped)
    size = columns["cluster_size"].to_numpy()
    columns["cluster_size"] = pa.array(np.where(dropped, np.uint32(0), size).astype(np.uint32))
    return pa.RecordBatch.from_arrays([columns[name] for name in DECISION_SCHEMA.names], schema=DECISION_SCHEMA)


def _listed(document: np.ndarray, packed: Unpacked, by: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(kind, int64 [n, 4] document, first byte, byte after the last, who keeps it) of the passages of each kind; those that
    overlap or touch and are kept in one document are one."""
    for kind in np.unique(packed.kind).tolist():
        use = np.flatnonzero(packed.kind == kind)
        use = use[np.lexsort((packed.begin[use], by[use], document[use]))]
        spans = _joined(document[use], packed.begin[use], packed.end[use], by[use])
        yield kind, spans


@njit(cache=True, nogil=True)
def _joined(document: np.ndarray, begin: np.ndarray, end: np.ndarray, by: np.ndarray) -> np.ndarray:
    """int64 [m, 4] of (document, begin, end, by) of sorted spans, joined within a document and `by` (below 2^63)."""
    out = np.empty((len(begin), 4), np.int64)
    m = 0
    for i in range(len(begin)):
        if m and out[m - 1, 0] == document[i] and out[m - 1, 3] == np.int64(by[i]) and begin[i] <= out[m - 1, 2]:
            out[m - 1, 2] = max(out[m - 1, 2], end[i])
        else:
            out[m, 0], out[m, 1], out[m, 2], out[m, 3] = document[i], begin[i], end[i], np.int64(by[i])
            m += 1
    return out[:m]


def _passages(
    changed: np.ndarray, edits: pa.ListArray, listed: Sequence[tuple[int, np.ndarray]], held_out: np.ndarray, n: int
) -> pa.ListArray:
    """The column `passages`: every document's in the order of their bytes, then kinds.

    Args:
        held_out: the held-out documents among those that keep them.
    """
    every = np.concatenate([np.column_stack([spans, np.full(len(spans), kind)]) for kind, spans in listed])
    every = every[np.lexsort((every[:, 3], every[:, 4], every[:, 1], every[:, 0]))]
    bounds = np.searchsorted(every[:, 0], np.append(changed, n))
    before = edits.take(pa.array(changed)).to_pylist()
    start, end = every[:, 1].copy(), every[:, 2].copy()
    for of, a, b in zip(before, bounds[:-1], bounds[1:], strict=True):
        if of:
            start[a:b], end[a:b] = raw_spans(of, every[a:b, 1], every[a:b, 2])
    kind = (every[:, 4] + DUPLICATE).astype(np.uint8)
    columns = [pa.array(start), pa.array(end), pa.array(kind), pa.array(every[:, 3].astype(np.uint64))]
    columns.append(pa.array(np.isin(every[:, 3], held_out)))
    values = pa.StructArray.from_arrays(columns, fields=list(_LIST.value_type))
    offsets = np.searchsorted(every[:, 0], np.arange(n + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=_LIST)


@njit(cache=True, nogil=True)
def _unions(
    document: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    kind: np.ndarray,
    n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int64 [m, 4] document, begin, end and least kind of what sorted spans cover, int64 [n] words and bytes of each document)."""
    out = np.empty((len(begin), 4), np.int64)
    words = np.zeros(n, np.int64)
    size = np.zeros(n, np.int64)
    m = 0
    last_word = 0
    for i in range(len(begin)):
        d = document[i]
        if not m or out[m - 1, 0] != d:
            last_word = 0
        if m and out[m - 1, 0] == d and begin[i] <= out[m - 1, 2]:
            size[d] += max(end[i] - out[m - 1, 2], 0)
            out[m - 1, 2] = max(out[m - 1, 2], end[i])
            out[m - 1, 3] = min(out[m - 1, 3], kind[i])
        else:
            out[m, 0], out[m, 1], out[m, 2], out[m, 3] = d, begin[i], end[i], kind[i]
            size[d] += end[i] - begin[i]
            m += 1
        stop = first[i] + count[i]
        words[d] += max(stop - max(first[i], last_word), 0)
        last_word = max(last_word, stop)
    return out[:m], words, size
