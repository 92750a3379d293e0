"""The total order of documents and the records that carry it between tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..artifacts import RunPaths
from ..filter import signal_batches
from ..identity import FileTable, Group

VERSION = 1


@dataclass(frozen=True)
class DedupeSettings:
    """What counts as a duplicate and which copy survives."""

    priority: tuple[str, ...] = ()
    """Corpora (or `corpus/subset`), best first; what is not named comes after, in name order."""
    jaccard: float = 0.78
    """A candidate pair is verified from this estimated Jaccard similarity of shingle sets on."""
    fan_out: int = 32
    """Best-ordered members of a bucket that every other member is compared with; what lies beyond is kept, counted."""


CONTENT = np.dtype([("h0", "<u8"), ("h1", "<u8"), ("order", "<u8"), ("id", "<u8")])
"""A document by its content hash: 32 bytes."""
CLASS = np.dtype([("id", "<u8"), ("leader", "<u8"), ("size", "<u8")])
"""A member of an exact class of more than one eligible document; of the leader, id == leader."""
BAND = np.dtype([("band", "<u8"), ("order", "<u8"), ("id", "<u8")])
"""A document in a band bucket: 24 bytes."""
PAIR = np.dtype([("id", "<u8"), ("order", "<u8"), ("better", "<u8"), ("better_order", "<u8")])
"""A candidate pair: `better` comes first in the order."""
EDGE = np.dtype([*PAIR.descr, ("shared", "<u4"), ("examined", "<u4")])
"""A verified pair with the counts its similarity is made of."""
DROP = np.dtype([("id", "<u8"), ("by", "<u8"), ("shared", "<u4"), ("examined", "<u4"), ("kind", "<u8")])
"""What becomes of a document: dropped for `by`; or, with kind ADDS, its cluster has `by` more documents."""
ADDS, EXACT, NEAR = 0, 1, 2

INELIGIBLE = np.uint64(1 << 63)


def ranks(settings: DedupeSettings, corpora: Sequence[str]) -> dict[str, int]:
    """Priority of every name of the recipe's list, then of the other corpora in name order."""
    names = [*settings.priority, *sorted(set(corpora) - set(settings.priority))]
    if len(names) > 250:
        raise ValueError(f"dedupe.priority has {len(names)} names; 250 is the most")
    return {name: i for i, name in enumerate(names)}


def order_keys(batch: pa.RecordBatch, group: Group, rank: dict[str, int], eligible: np.ndarray) -> np.ndarray:
    """uint64 [n]: smaller comes first; ties are broken by id. Documents that no filter kept come last.

    Bits from the top: ineligible 1, not held out 1, priority 8, contaminated 1, quality (inverted) 16, length
    (inverted) 32.
    """
    subsets = batch.column("subset").to_pylist()
    default = rank[group.corpus]
    priority = np.array([rank.get(f"{group.corpus}/{s}", default) for s in subsets], np.uint64)
    quality = batch.column("quality").to_numpy().astype(np.uint64)
    length = np.minimum(batch.column("n_bytes").to_numpy(), (1 << 32) - 1).astype(np.uint64)
    key = (~eligible).astype(np.uint64) << np.uint64(63)
    key |= np.uint64(not group.held_out) << np.uint64(62)
    key |= priority << np.uint64(54)
    key |= (batch.column("contaminated").to_numpy() > 0).astype(np.uint64) << np.uint64(53)
    key |= (np.uint64(65_535) - quality) << np.uint64(37)
    key |= (np.uint64((1 << 32) - 1) - length) << np.uint64(5)
    return key


ORDER_COLUMNS = ["doc_id", "subset", "quality", "contaminated", "n_bytes"]


def ordered_batches(
    group: Group, paths: RunPaths, rank: dict[str, int], columns: list[str]
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """(batch of signals with `columns` and those the order needs, order keys) over the files of a group."""
    reasons = np.concatenate(
        [
            b.column("reason").to_numpy(zero_copy_only=False)
            for b in signal_batches(paths.filtered(group.name), ["reason"])
        ]
        or [np.empty(0, object)]
    )
    at = 0
    for file in group.files:
        for batch in signal_batches(paths.signals(file.corpus, file.path), [*ORDER_COLUMNS, *columns]):
            eligible = reasons[at : at + batch.num_rows] == ""
            at += batch.num_rows
            yield batch, order_keys(batch, group, rank, eligible)


@dataclass(frozen=True)
class Chunks:
    """Consecutive groups that one task of dedupe handles; by bytes of text, since a URL list tells no stored bytes."""

    members: tuple[tuple[int, ...], ...]
    """Group indices of every chunk."""
    table: FileTable

    @classmethod
    def build(cls, groups: Sequence[Group], sizes: Sequence[int], target: int = 2 << 30, at_least: int = 4) -> Chunks:
        total = sum(sizes)
        count = min(len(groups), max(at_least, -(-total // target)))
        members: list[list[int]] = [[] for _ in range(count)]
        seen = 0
        for i, size in enumerate(sizes):
            members[min(count - 1, seen * count // max(total, 1))].append(i)
            seen += size
        return cls(tuple(tuple(m) for m in members if m), FileTable.build(groups))

    def of(self, doc_ids: np.ndarray) -> np.ndarray:
        """int64 chunk of every document."""
        chunk = np.empty(sum(map(len, self.members)), np.int64)
        for i, groups in enumerate(self.members):
            chunk[list(groups)] = i
        return chunk[self.table.group_of(doc_ids)]
