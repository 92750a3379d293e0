"""From a selection to counts of every histogram, to rows of documents, and to files that hold them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...filter.judge import FilterSettings, signal_of
from ...run.documents import RunDocuments
from ...run.identity import SourceFile
from ..documents import DocumentTable
from ..sql import Condition
from .codes import CATEGORIES, MOST, NAMES, Codes, Held, choose, in_order, shares
from .count import OUT, count_names, count_own, count_pair, judge, list_places
from .scales import scale_of
from .selection import Selection

FIRST = ("words", "quality", "language_confidence", "mean_word_length", "symbol_word_ratio", "alpha_word_fraction")
"""Signals that a page shows first, besides those that a rule bounds."""
SHOWN = ("document", "doc_id", "subset", "language", "quality", "words", "kept", "reason", "similarity")
"""Columns of a page's table of documents."""
WRITTEN = (
    "document", "doc_id", "corpus", "file", "row", "subset", "domain", "language", "quality", "words", "kept", "reason",
    "reasons", "duplicate_of", "similarity", "kind", "cluster_size",
)  # fmt: skip
"""Columns of an export."""
FORMATS = {
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/x-ndjson",
    "txt": "text/plain; charset=utf-8",
}
"""Kinds of export and their media types; `txt` is an exclude list."""
MASKS = 4
"""Conditions whose answers are held."""
MOST_NAMES = 40
"""Hosts that are shown, those with the most documents."""


@dataclass(frozen=True)
class Counted:
    """Histograms of a selection."""

    columns: dict[str, np.ndarray]
    """Column -> int64 [2, bins]: documents that pass every filter but the column's own, by whether they are kept, and bin."""
    hosts: list[tuple[int, str, int, int]]
    """(number, host, dropped, kept) of the hosts with the most documents."""
    passed: int
    passed_kept: int


class Explorer:
    """The documents of a run, to be counted and read by selection."""

    def __init__(self, run: RunDocuments, filters: FilterSettings, most: int = MOST) -> None:
        """
        Args:
            filters: of the recipe: its rules say which signals come first, and where their thresholds lie.
        """
        listed, paths = run.manifest["artifacts"], run.paths
        self.table = DocumentTable(paths, list(run.files))

        def documents(file: SourceFile) -> int:
            name = paths.decisions(file.corpus, file.part).relative_to(paths.root).as_posix()
            return int(listed[name]["rows"]) if name in listed else 0

        files = [(file, documents(file)) for file in self.table.files]
        held = choose(files, most)
        self.codes = Codes(self.table, held)
        self.shares = shares(held, files)
        self._filters = filters
        self._pool = ThreadPoolExecutor(self.codes.threads, thread_name_prefix="fox1-count")
        self._masks: dict[str, np.ndarray] = {}
        self._judging = Lock()
        self._last: tuple[Selection | None, tuple[np.ndarray, int, int]] = (None, (np.empty(0, np.uint8), 0, 0))

    def start(self) -> None:
        """Begin to read what a page shows first."""
        self.codes.want([*CATEGORIES, "cluster_size", *([] if self.codes.hosts is None else [NAMES]), *self.leading()])

    def leading(self) -> list[str]:
        """Signals that a page shows first: those that a rule bounds, and a few more."""
        bounded = [signal_of(key) for section in self._filters.sections for key, _ in section.thresholds]
        return [name for name in dict.fromkeys([*FIRST[:2], *bounded, *FIRST]) if name in self.codes.signals]

    def close(self) -> None:
        """End what is being read."""
        self.codes.close()
        self._pool.shutdown()

    def thresholds(self) -> dict[str, list[dict[str, Any]]]:
        """Signal -> the rules that bound it: key, section and value."""
        found: dict[str, list[dict[str, Any]]] = {}
        for section in self._filters.sections:
            where = f"{section.where}/{section.language}" if section.language else section.where
            for key, value in section.thresholds:
                if (signal := signal_of(key)) and isinstance(value, int | float):
                    found.setdefault(signal, []).append({"key": key, "section": where, "value": value})
        return found

    def facets(self) -> dict[str, Any]:
        """What there is to see, for a page: columns with their bins or categories, thresholds, how much is read."""
        codes, bounds = self.codes, self.thresholds()
        scales = {name: scale_of(name) for name in ("cluster_size", *codes.signals)}
        return {
            "documents": codes.documents,
            "shares": {corpus: list(both) for corpus, both in self.shares.items()},
            "progress": codes.progress,
            "categories": {name: codes.labels[name].texts() for name in CATEGORIES},
            "hosts": codes.hosts is not None,
            "leading": ["cluster_size", *self.leading()],
            "signals": [
                {"name": name, "kind": scale.kind, "lows": scale.lows, "rules": bounds.get(name, [])}
                for name, scale in scales.items()
            ],
        }

    def counts(self, selection: Selection, names: Sequence[str]) -> Counted:
        """The histograms of some columns.

        Raises:
            ValueError: there is no such column, or the condition is none.
        """
        codes = self.codes
        known = [name for name in names if name in codes.columns]
        self._wait([*known, *([NAMES] if NAMES in names and codes.hosts is not None else [])])
        self._wait([f.column for f in selection.filters])
        state, passed, passed_kept = self._judge(selection)
        # At most half of the documents are counted: the others are what is left of the whole.
        inside = 2 * passed <= codes.documents
        shows_hosts = NAMES in names and codes.hosts is not None
        hosts = self._pool.submit(self._hosts, selection, state) if shows_hosts else None
        alone = {
            name: self._pool.submit(count_own, codes.codes[codes.place(name)], state, own, codes.kept)
            for name in known
            if (own := selection.number(name))
        }
        found = self._columns(known, state, inside)
        for name in known:
            if not inside:
                found[name] = codes.totals[name][:, : found[name].shape[1]] - found[name]
            if name in alone:
                found[name] = found[name] + alone[name].result()[:, : found[name].shape[1]]
        return Counted(found, hosts.result() if hosts else [], passed, passed_kept)

    def _columns(self, names: Sequence[str], state: np.ndarray, inside: bool) -> dict[str, np.ndarray]:
        """Column -> int64 [2, bins]: documents that pass all filters (or do not) by whether they are kept, and bin."""
        codes = self.codes

        def places(first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
            out = np.empty((2, end - first + 1), np.int32)
            dropped, kept = list_places(state, codes.kept, inside, first, end, out)
            return out[0, :dropped], out[1, :kept]

        listed = [part.result() for part in [self._pool.submit(places, *bounds) for bounds in self._ranges()]]

        def pair(first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
            sizes = self._bins(first), self._bins(second)
            rows = [codes.codes[codes.place(name)] for name in (first, second)]
            tables = np.zeros((2, 2, sizes[0] * sizes[1]), np.uint32)
            for part in listed:
                for side in (0, 1):
                    count_pair(*rows, part[side], sizes[1], tables[side])
            both = tables.sum(axis=1, dtype=np.int64).reshape(2, *sizes)
            return both.sum(axis=2), both.sum(axis=1)

        pairs = list(zip(names[::2], [*names[1::2], *names[-1:]], strict=False))
        found: dict[str, np.ndarray] = {}
        for (first, second), part in zip(pairs, [self._pool.submit(pair, *p) for p in pairs], strict=True):
            found[first], found[second] = part.result()
        return found

    def _bins(self, name: str) -> int:
        return len(self.codes.labels[name]) if name in self.codes.labels else scale_of(name).bins

    def _hosts(self, selection: Selection, state: np.ndarray) -> list[tuple[int, str, int, int]]:
        codes = self.codes
        assert codes.hosts is not None
        texts = codes.hosts.texts()
        counted = count_names(codes.host, state, selection.number(NAMES), codes.kept, len(texts))
        sums = counted.sum(axis=0)
        # The documents without a URL are of no host.
        sums[[texts.index("")] if "" in texts else []] = 0
        least = np.partition(sums, -MOST_NAMES)[-MOST_NAMES] if len(sums) > MOST_NAMES else 0
        some = np.flatnonzero(sums >= max(least, 1))
        most = some[np.argsort(-sums[some], kind="stable")][:MOST_NAMES]
        return [(int(k), texts[k], int(counted[0, k]), int(counted[1, k])) for k in most]

    def _ranges(self) -> list[tuple[int, int]]:
        n, parts = self.codes.documents, self.codes.threads
        bounds = [n * k // parts for k in range(parts + 1)]
        return list(pairwise(bounds))

    def _wait(self, names: Sequence[str]) -> None:
        for done in self.codes.want([*CATEGORIES, *names]):
            done.result()

    def _judge(self, selection: Selection) -> tuple[np.ndarray, int, int]:
        """(state of every document, how many pass, how many of them are kept); the last answer is held."""
        held, found = self._last
        if held != selection:
            found = self._judged(selection)
            self._last = selection, found
        return found

    def _judged(self, selection: Selection) -> tuple[np.ndarray, int, int]:
        codes = self.codes
        rows, allowed = selection.tables(codes)
        state = np.zeros(codes.documents, np.uint8)
        if selection.where.strip():
            state[~self._mask(selection.where)] = OUT
        if selection.kept is not None:
            state[codes.kept != selection.kept] = OUT
        parts = [
            self._pool.submit(judge, codes.codes, rows, allowed, state, codes.kept, *bounds)
            for bounds in self._ranges()
        ]
        passed, kept = (sum(both) for both in zip(*(part.result() for part in parts), strict=True))
        if (chosen := selection.hosts()) is not None:
            self._wait([NAMES])
            fails = ~np.isin(codes.host, np.array(chosen, np.uint32))
            # Who fails the names alone has their number; who fails another filter as well is out.
            state[fails & (state > 0)] = OUT
            state[fails & (state == 0)] = selection.number(NAMES)
            passes = state == 0
            passed, kept = int(np.count_nonzero(passes)), int(np.count_nonzero(passes & (codes.kept > 0)))
        return state, passed, kept

    def _mask(self, where: str) -> np.ndarray:
        """bool [documents]: which meet a condition."""
        with self._judging:
            if where not in self._masks:
                condition = Condition(where)
                names = condition.columns(self.table.columns) or ["row"]
                met = np.zeros(self.codes.documents, bool)
                for one in self.codes.held:
                    at = one.first
                    for batch in self.table.batches_of(one.file, names):
                        met[at + condition.places(batch)] = True
                        at += batch.num_rows
                while len(self._masks) >= MASKS:
                    del self._masks[next(iter(self._masks))]
                self._masks[where] = met
            return self._masks[where]

    def places(self, selection: Selection) -> np.ndarray:
        """int64, ascending: the documents that are selected, by file and row."""
        self._wait([f.column for f in selection.filters])
        return np.flatnonzero(self._judge(selection)[0] == 0)

    def rows(self, places: np.ndarray, names: Sequence[str] = SHOWN) -> pa.Table:
        """Some columns of a few documents, by file and row."""
        schema = self.table.columns.schema
        empty = pa.schema([schema.field(name) for name in names]).empty_table()
        parts = [self.table.take(one.file, own, names) for one, own in in_order(self.codes.held, places)]
        return pa.concat_tables([empty, *parts])

    def write(self, selection: Selection, kind: str) -> Iterator[bytes]:
        """A file with all documents that are selected, piece by piece; `kind` is of `FORMATS`."""
        names = ["document", "doc_id"] if kind == "txt" else [*WRITTEN]
        schema = pa.schema([self.table.columns.schema.field(name) for name in names])
        places = self.places(selection)
        if kind == "txt":
            said = selection.said(self.codes).replace("\n", " ")
            yield f"# {len(places):,} documents: {said or 'all'}\n".encode()
        out = _Pieces()
        writer = pq.ParquetWriter(out, schema, compression="zstd") if kind == "parquet" else None
        for one, own in in_order(self.codes.held, places):
            for batch in _batches(self.table, one, own, names):
                if writer:
                    writer.write_table(batch)
                    yield out.take()
                elif kind == "txt":
                    pairs = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                    # A name that is no line is written as its id.
                    yield "".join(f"{name if name.isprintable() else doc_id}\n" for name, doc_id in pairs).encode()
                else:
                    yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist()).encode()
        if writer:
            writer.close()
            yield out.take()


def _batches(table: DocumentTable, one: Held, own: np.ndarray, names: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of documents of a file, by their places in it."""
    at = 0
    for batch in table.batches_of(one.file, names):
        first, last = np.searchsorted(own, [at, at + batch.num_rows])
        if first < last:
            yield batch.take(pa.array(own[first:last] - at))
        at += batch.num_rows


class _Pieces(io.RawIOBase):
    """A file that is only written, and handed on piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data
