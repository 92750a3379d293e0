"""Which documents are set apart: of every domain and half, those whose contents have the smallest hashes.

A document's rank is a hash of its content, so copies of one text count once, wherever they lie, and a text of many copies is no
likelier to be drawn than one of a single copy. Tasks keep the smallest ranks of each domain and half only; how many texts there
are follows from how close together these lie (k minimum values: Bar-Yossef et al. 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..engine.shuffle import lookup
from ..filter.exclude import EXCLUDED
from ..filter.judge import FILTERED_SCHEMA, signal_batches
from ..run.artifacts import Artifact, parquet_writer, publish
from ..run.columns import read_columns
from ..run.file_sets import FileSet
from ..run.identity import Group
from ..signals.hashing import halves, mix_array
from .settings import CARVED, HALVES, KEPT, LARGEST_PART, LEAST_DOCUMENTS, Carve

SMALLEST = 1024
"""Ranks that are kept of every domain and half, where not more documents are wanted: their number is known within 3 %."""
BARRED = (EXCLUDED, "licence", "url", "contaminated")
"""Reasons that are no question of quality: nobody measures on such a document."""
_COLUMNS = ["doc_id", "domain", "content_hash", "n_bytes", "contaminated"]

CANDIDATE = pa.schema(
    [
        pa.field("domain", pa.string(), nullable=False),
        pa.field("half", pa.uint8(), nullable=False),
        pa.field("rank", pa.uint64(), nullable=False),
        pa.field("content", pa.uint64(), nullable=False),
        pa.field("doc_id", pa.uint64(), nullable=False),
        pa.field("bytes", pa.uint64(), nullable=False),
    ]
)
"""A document that may be set apart; `half` is a place in `HALVES`. One for each content."""
CHOSEN = np.dtype([("id", "<u8"), ("half", "<u4"), ("most", "<u4")])
"""A document that is set apart, and tokens of it that are measured at most."""


@dataclass(frozen=True)
class Candidates:
    """The documents of the smallest ranks, of some groups."""

    file: Artifact
    """`CANDIDATE`, an Arrow stream."""


def find_candidates(
    groups: Sequence[Group],
    signals: Sequence[Sequence[Artifact]],
    filtered: Sequence[Artifact],
    barred: Sequence[str],
    seed: int,
    most: int,
    out: Path,
) -> Candidates:
    """Map: of the documents of some groups, those of the smallest ranks.

    Args:
        signals: by group, of each of its files.
        filtered: by group.
        barred: reasons of documents that are not measured on.
        most: documents of a domain and half.
    """
    found = CANDIDATE.empty_table()
    for own, said in zip(signals, filtered, strict=True):
        reasons = read_columns(said.file, ["reason"]).column("reason").combine_chunks()
        at = 0
        for file in own:
            for batch in signal_batches(file.file, _COLUMNS):
                reason = reasons.slice(at, batch.num_rows).to_numpy(zero_copy_only=False)
                at += batch.num_rows
                found = _smallest(pa.concat_tables([found, *_ranked(batch, reason, barred, seed)]), most)
    return _written(found, out)


def _ranked(batch: pa.RecordBatch, reason: np.ndarray, barred: Sequence[str], seed: int) -> Iterator[pa.Table]:
    """The documents of a batch that may be of each half."""
    may = ~np.isin(reason, barred) & (batch.column("contaminated").to_numpy() == 0)
    content = halves(batch.column("content_hash"))[0]
    for half, name in enumerate(HALVES):
        use = may & (reason == "") if name == KEPT else may
        rank = mix_array(content, (seed << 8) + half)[use]
        own = batch.filter(pa.array(use))
        columns = [own.column("domain"), pa.array(np.full(len(rank), half, np.uint8)), pa.array(rank)]
        columns += [pa.array(content[use]), own.column("doc_id"), own.column("n_bytes").cast(pa.uint64())]
        yield pa.Table.from_arrays(columns, schema=CANDIDATE)


def join_candidates(files: FileSet, most: int, out: Path) -> Candidates:
    """Reduce: those of the smallest ranks of several files."""
    return _written(_smallest(_read(files), most), out)


def _read(files: FileSet) -> pa.Table:
    tables = []
    for path in files:
        with pa.OSFile(str(path)) as source:
            tables.append(pa.ipc.open_stream(source).read_all().cast(CANDIDATE))
    return pa.concat_tables(tables)


def _written(table: pa.Table, out: Path) -> Candidates:
    with publish(out, table.num_rows) as file, pa.ipc.new_stream(file, CANDIDATE) as writer:
        writer.write_table(table.combine_chunks())
    return Candidates(file.artifact)


def _smallest(table: pa.Table, most: int) -> pa.Table:
    """By domain, half and rank, the first `most` of each domain and half; of equal contents the smallest id."""
    ordered = table.sort_by([(name, "ascending") for name in ("domain", "half", "rank", "doc_id")]).combine_chunks()
    if not len(ordered):
        return ordered
    domain = ordered.column("domain").combine_chunks().dictionary_encode().indices.to_numpy()
    half, rank = (ordered.column(name).to_numpy() for name in ("half", "rank"))
    begins = np.r_[True, (domain[1:] != domain[:-1]) | (half[1:] != half[:-1])]
    first = begins | np.r_[True, rank[1:] != rank[:-1]]
    place = np.cumsum(first)
    # Of the contents of its domain and half, the how-manieth each is.
    place -= np.maximum.accumulate(np.where(begins, place, 0))
    return ordered.filter(pa.array(first & (place < most)))


@dataclass(frozen=True)
class Chosen:
    """What is set apart."""

    file: Artifact
    """`CHOSEN`, by id."""


def choose(files: FileSet, carve: Carve, text: tuple[int, int], most: int, out: Path) -> Chosen:
    """Reduce: the documents that are set apart.

    Args:
        files: of `CANDIDATE`.
        text: bytes of some text, and its tokens.
        most: documents of a domain and half that these hold.

    Raises:
        ValueError: no domain has documents enough.
    """
    found = _smallest(_read(files), most)
    names = found.column("domain").to_numpy()
    half, rank, content, ids, size = (found.column(name).to_numpy() for name in CANDIDATE.names[1:])
    rows: list[np.ndarray] = []
    for domain in sorted(set(names.tolist())):
        of_half = [np.flatnonzero((names == domain) & (half == h)) for h in range(len(HALVES))]
        if texts_of(rank[of_half[HALVES.index(KEPT)]], most) < LEAST_DOCUMENTS:
            continue
        taken = np.empty(0, np.uint64)
        for h, (own, part) in enumerate(zip(of_half, carve.parts, strict=True)):
            if not part:
                continue
            limit = max(1, int(part * texts_of(rank[own], most)) // LARGEST_PART)
            own = own[~np.isin(content[own], taken)]
            each = -(-size[own].astype(np.int64) * text[1] // max(text[0], 1))
            count = min(limit, _enough(each, math.ceil(carve.documents * part), carve.tokens * part, carve.most_tokens))
            own = own[:count]
            taken = np.append(taken, content[own])
            chosen = np.empty(len(own), CHOSEN)
            chosen["id"], chosen["half"] = ids[own], h
            chosen["most"] = max(carve.most_tokens, math.ceil(carve.tokens * part / max(len(own), 1)))
            rows.append(chosen)
    if not rows:
        raise ValueError(
            f"held_out.carve: no domain of the run has {LEAST_DOCUMENTS} documents, so none can be set apart; curate more text"
        )
    chosen = np.concatenate(rows)
    return write_chosen(chosen[np.argsort(chosen["id"])], out)


def texts_of(rank: np.ndarray, most: int) -> int:
    """About how many ranks there are (uint64, ascending) of which those are the smallest; exactly, if fewer than `most`."""
    if len(rank) < most:
        return len(rank)
    return int((most - 1) * (1 << 64) // max(int(rank[-1]), 1))


def _enough(each: np.ndarray, documents: int, tokens: float, most: int) -> int:
    """Documents, in their order, until there are so many, and so many tokens, of which each has `most` at most."""
    held = np.cumsum(np.minimum(each, most))
    return max(documents, int(np.searchsorted(held, tokens)) + 1)


def write_chosen(rows: np.ndarray, out: Path) -> Chosen:
    """Publish `CHOSEN`."""
    with publish(out, len(rows)) as file:
        file.write(rows.tobytes())
    return Chosen(file.artifact)


def read_chosen(chosen: Path) -> np.ndarray:
    """`CHOSEN` from a file."""
    return np.fromfile(chosen, CHOSEN)


@dataclass(frozen=True)
class Marked:
    """What the filters say of a group, with those that are set apart."""

    filtered: Artifact
    """`FILTERED_SCHEMA`."""


def mark(filtered: Artifact, chosen: Artifact, out: Path) -> Marked:
    """Give the chosen documents of a group the reason `carved`; what they fail stays behind it in `reasons`."""
    ids = read_chosen(chosen.file)["id"]
    with parquet_writer(out, FILTERED_SCHEMA) as written:
        for batch in signal_batches(filtered.file, FILTERED_SCHEMA.names):
            apart = lookup(ids, batch.column("doc_id").to_numpy())[1]
            reason = np.where(apart, CARVED, batch.column("reason").to_numpy(zero_copy_only=False))
            reasons = batch.column("reasons").to_pylist()
            for i in np.flatnonzero(apart).tolist():
                reasons[i] = [CARVED, *reasons[i]]
            columns = [batch.column("doc_id"), pa.array(reason, pa.string())]
            columns.append(pa.array(reasons, FILTERED_SCHEMA.field("reasons").type))
            written.write(pa.RecordBatch.from_arrays(columns, schema=FILTERED_SCHEMA))
    return Marked(written.artifact)
