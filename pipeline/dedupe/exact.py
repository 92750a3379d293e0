"""Exact duplicates: one content hash, whatever the corpus. Also counts which corpus holds copies of which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..artifacts import RunPaths
from ..engine import TaskResult
from ..identity import Group
from ..shuffle import RecordShuffle, by_hash_range, read_records
from .order import CLASS, CONTENT, INELIGIBLE, Chunks, ordered_batches


def shuffle_contents(
    groups: Sequence[Group], rank: dict[str, int], partitions: int, stem: Path, paths: RunPaths
) -> TaskResult:
    """Map: every document of some groups, by ranges of its content hash."""
    out = RecordShuffle(stem, partitions, CONTENT)
    for group in groups:
        for batch, order in ordered_batches(group, paths, rank, ["content_hash"]):
            records = np.empty(batch.num_rows, CONTENT)
            column = batch.column("content_hash")
            hashes = np.frombuffer(column.buffers()[1], "<u8")[2 * column.offset :][: 2 * batch.num_rows]
            records["h0"], records["h1"] = hashes[0::2], hashes[1::2]
            records["order"], records["id"] = order, batch.column("doc_id").to_numpy()
            out.add(records, by_hash_range(records["h0"], partitions))
    return TaskResult(tuple(out.close()))


def find_classes(files: Sequence[Path], partition: int, chunks: Chunks, stem: Path) -> TaskResult:
    """Reduce: classes of equal content. The best-ordered member leads; the others point to it.

    Writes each member twice: by the chunk of its own id (`<stem>.members`), for whoever must leave it out, and by the
    chunk of its leader (`<stem>.leaders`), for whoever learns what becomes of the leader.
    """
    rows = read_records(files, partition, CONTENT)
    rows = rows[np.lexsort((rows["id"], rows["order"], rows["h1"], rows["h0"]))]
    corpora = chunks.table.corpora.max(initial=0) + 1 if len(chunks.table.corpora) else 1
    corpus = chunks.table.corpus_of(rows["id"]).astype(np.int64)
    eligible = (rows["order"] & INELIGIBLE) == 0
    begins = np.flatnonzero(
        np.r_[True, (rows["h0"][1:] != rows["h0"][:-1]) | (rows["h1"][1:] != rows["h1"][:-1])] if len(rows) else []
    )
    group = np.zeros(len(rows), np.int64)
    group[begins[1:]] = 1
    group = np.cumsum(group)
    n_classes = len(begins)
    # Ineligible documents sort last in their class, so a class's first row leads its eligible ones.
    size = np.bincount(group, weights=eligible, minlength=n_classes).astype(np.uint64)
    members = np.flatnonzero(eligible & (size[group] > 1)) if len(rows) else np.empty(0, np.int64)
    records = np.empty(len(members), CLASS)
    records["id"] = rows["id"][members]
    records["leader"] = rows["id"][begins[group[members]]] if len(members) else 0
    records["size"] = size[group[members]] if len(members) else 0
    outputs = []
    for name, key in (("members", "id"), ("leaders", "leader")):
        out = RecordShuffle(stem.with_name(f"{stem.name}.{name}"), len(chunks.members), CLASS)
        out.add(records, chunks.of(records[key]))
        outputs += out.close()
    data = {
        "overlap_all": overlap(group, corpus, np.ones(len(rows), bool), int(corpora)),
        "overlap_kept": overlap(group, corpus, eligible, int(corpora)),
    }
    return TaskResult(
        tuple(outputs),
        {"exact_duplicates": int(len(members) - np.count_nonzero(records["id"] == records["leader"]))},
        data,
    )


def overlap(group: np.ndarray, corpus: np.ndarray, mask: np.ndarray, corpora: int) -> list[list[int]]:
    """[A][B]: documents of corpus A that have a copy in corpus B; on the diagonal, another copy in A itself."""
    matrix = np.zeros((corpora, corpora), np.int64)
    if len(group):
        per_class = np.zeros((group[-1] + 1, corpora), np.int64)
        np.add.at(per_class, (group[mask], corpus[mask]), 1)
        for a in range(corpora):
            for b in range(corpora):
                have = per_class[:, b] > (1 if a == b else 0)
                matrix[a, b] = int(per_class[have, a].sum())
    return matrix.tolist()
