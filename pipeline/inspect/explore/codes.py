"""Every document of a run as a byte for each signal and category: read in the background, column by column as they are asked for.

    decisions/, signals/ -> batches of the table of documents -> codes [columns, documents]

What is first asked for is read first. Of a run of more documents than `MOST` some whole files are taken, chosen by hash, and
`shares` says how many of each corpus these are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...run.identity import SourceFile
from ...signals.ratios import SIGNALS
from ...signals.scores import is_score
from ..documents import DocumentTable
from .count import BINS
from .scales import scale_of

CATEGORIES = ("corpus", "subset", "domain", "language", "reason", "kind")
"""Columns of texts that few documents have of their own."""
NAMES = "host"
"""The column of texts that are as many as they like."""
MOST = 20_000_000
"""Documents that are held: with all signals 1.8 GB."""
_SIGNALS_AT_ONCE = 16
"""Signals that are read together: what the page shows first does not wait for those that it does not."""


class Labels:
    """Texts by number, in the order in which they are first seen."""

    def __init__(self, most: int = BINS) -> None:
        """
        Args:
            most: numbers at most; the last one is for all further texts.
        """
        self._most, self._lock = most, Lock()
        self._numbers: dict[str, int] = {}

    def numbers(self, column: pa.Array) -> np.ndarray:
        """int64: the number of each text."""
        coded = column.dictionary_encode()
        with self._lock:
            own = [self._number(text) for text in coded.dictionary.to_pylist()]
        return np.array(own, np.int64)[coded.indices.to_numpy()] if own else np.empty(0, np.int64)

    def _number(self, text: str) -> int:
        if len(self._numbers) >= self._most - 1 and text not in self._numbers:
            return self._most - 1
        return self._numbers.setdefault(text, len(self._numbers))

    def texts(self) -> list[str]:
        """By their numbers."""
        with self._lock:
            known = list(self._numbers)
        return [*known, "(others)"] if len(known) == self._most - 1 else known

    def __len__(self) -> int:
        return len(self.texts())


@dataclass(frozen=True)
class Held:
    """A file whose documents are held."""

    file: SourceFile
    first: int
    """Place of its first document."""
    documents: int


def choose(files: Sequence[tuple[SourceFile, int]], most: int = MOST) -> list[Held]:
    """The files whose documents are held, in their order: all, or as many whole ones as hold `most` documents, chosen by hash.

    Args:
        files: with the number of documents of each.
    """
    left, chosen = most, set[str]()
    for file, documents in sorted(files, key=lambda one: xxhash.xxh3_64_intdigest(one[0].table.encode())):
        if documents <= left or not chosen:
            chosen.add(file.table)
            left -= documents
    held, first = [], 0
    for file, documents in files:
        if file.table in chosen:
            held.append(Held(file, first, documents))
            first += documents
    return held


class Codes:
    """The documents of a run as bytes, by column."""

    def __init__(self, table: DocumentTable, held: Sequence[Held], threads: int = os.cpu_count() or 1) -> None:
        self._table, self.held, self.threads = table, list(held), threads
        self.documents = sum(one.documents for one in held)
        schema = table.columns.schema
        self.signals = tuple(name for name in schema.names if name in SIGNALS or is_score(name))
        self.columns = (*CATEGORIES, "cluster_size", *self.signals)
        self.codes = np.empty((len(self.columns), self.documents), np.uint8)
        """uint8 [columns, documents]; the memory of a column is taken when it is read."""
        self.kept = np.zeros(self.documents, np.uint8)
        self.labels = {name: Labels() for name in CATEGORIES}
        self.hosts = Labels(1 << 31) if NAMES in schema.names else None
        self.host = np.zeros(0 if self.hosts is None else self.documents, np.uint32)
        self.totals: dict[str, np.ndarray] = {}
        """Column -> int64 [2, BINS]: all documents by whether they are kept, and bin."""
        self._copies: list[tuple[np.ndarray, np.ndarray]] = []
        self.copies = np.empty(0, np.uint64), np.empty(0, np.uint64)
        """uint64 [dropped duplicates] each: the kept document that one is a copy of, ascending, and its own id."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fox1-codes")
        self._driver = ThreadPoolExecutor(1, thread_name_prefix="fox1-columns")
        self._wanted: dict[str, Future[None]] = {}
        self._lock, self._stop = Lock(), Event()
        self._rows_read, self._rows_asked = 0, 0

    def place(self, column: str) -> int:
        """The row of a column in `codes`."""
        return self.columns.index(column)

    def want(self, names: Sequence[str]) -> list[Future[None]]:
        """Have columns read, unless they are or will be; what is done when each is."""
        with self._lock:
            missing = [name for name in dict.fromkeys(names) if name not in self._wanted]
            # What every selection looks at is read with the first columns.
            first = [name for name in missing if name not in self.signals]
            rest = [name for name in missing if name in self.signals]
            if first:
                rest, first = rest[_SIGNALS_AT_ONCE:], [*first, *rest[:_SIGNALS_AT_ONCE]]
            parts = [first, *(rest[i : i + _SIGNALS_AT_ONCE] for i in range(0, len(rest), _SIGNALS_AT_ONCE))]
            for part in filter(None, parts):
                self._rows_asked += self.documents
                done = self._driver.submit(self._read, tuple(part))
                self._wanted |= dict.fromkeys(part, done)
            return [self._wanted[name] for name in names]

    @property
    def progress(self) -> float:
        """The share of what was asked for that is read."""
        return self._rows_read / self._rows_asked if self._rows_asked else 1.0

    def ready(self, name: str) -> bool:
        """Whether a column is read."""
        return name in self.totals or (name == NAMES and name in self._wanted and self._wanted[name].done())

    def close(self) -> None:
        """End what is being read."""
        self._stop.set()
        self._driver.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)

    def _read(self, names: tuple[str, ...]) -> None:
        """Read some columns of all files."""
        also = ("kept", "doc_id", "duplicate_of") if "reason" in names else ()
        for done in [self._threads.submit(self._read_file, one, names, also) for one in self.held]:
            done.result()
        if also:
            nothing = np.empty(0, np.uint64)
            pairs = zip(*[(nothing, nothing), *self._copies], strict=True)
            targets, own = (np.concatenate(parts) for parts in pairs)
            order = np.argsort(targets, kind="stable")
            self.copies = targets[order], own[order]
            self._copies.clear()
        for name in names:
            if name in self.columns:
                self.totals[name] = self._count(name)

    def _read_file(self, one: Held, names: tuple[str, ...], also: tuple[str, ...]) -> None:
        at = one.first
        for batch in self._table.batches_of(one.file, [*names, *also]):
            if self._stop.is_set():
                return
            end = at + batch.num_rows
            if end > one.first + one.documents:
                break
            for name in names:
                self._store(name, batch.column(name).combine_chunks(), at, end)
            if also:
                self.kept[at:end] = batch.column("kept").to_numpy()
                target, own = (batch.column(name).to_numpy() for name in ("duplicate_of", "doc_id"))
                there = target > 0
                with self._lock:
                    self._copies.append((target[there], own[there]))
            at = end
            with self._lock:
                self._rows_read += batch.num_rows
        if at != one.first + one.documents:
            raise ValueError(
                f"the tables of {one.file.name} have other rows than the manifest says; run `fox1 verify` on the run"
            )

    def _store(self, name: str, column: pa.Array, at: int, end: int) -> None:
        if name == NAMES:
            assert self.hosts is not None
            self.host[at:end] = self.hosts.numbers(column)
            return
        out = self.codes[self.place(name), at:end]
        if name == "subset":
            column = pc.binary_join_element_wise(self._corpus_of(at), column, "/")
        if name in self.labels:
            out[:] = self.labels[name].numbers(column)
        else:
            scale_of(name).codes(column.to_numpy(zero_copy_only=False), out)

    def _corpus_of(self, at: int) -> pa.Scalar:
        firsts = [one.first for one in self.held]
        return pa.scalar(self.held[int(np.searchsorted(firsts, at, "right")) - 1].file.corpus)

    def _count(self, name: str) -> np.ndarray:
        codes, out = self.codes[self.place(name)], np.zeros((2, BINS), np.int64)
        for begin in range(0, self.documents, 1 << 20):
            part = slice(begin, begin + (1 << 20))
            both = codes[part].astype(np.int64) + BINS * self.kept[part].astype(np.int64)
            out += np.bincount(both, minlength=2 * BINS).reshape(2, BINS)
        return out


def shares(held: Sequence[Held], files: Sequence[tuple[SourceFile, int]]) -> Mapping[str, tuple[int, int]]:
    """Corpus -> (documents that are held, all of them)."""
    found: dict[str, tuple[int, int]] = {}
    chosen = {one.file.table for one in held}
    for file, documents in files:
        own, all_ = found.get(file.corpus, (0, 0))
        found[file.corpus] = own + documents * (file.table in chosen), all_ + documents
    return found


def in_order(held: Sequence[Held], places: np.ndarray) -> Iterator[tuple[Held, np.ndarray]]:
    """Files with the places, among their own documents, of some documents that ascend."""
    for one in held:
        first, last = np.searchsorted(places, [one.first, one.first + one.documents])
        if first < last:
            yield one, places[first:last] - one.first
