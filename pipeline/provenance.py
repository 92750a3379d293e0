"""From a document to what became of it, and from a block back to the bytes it was made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..tokenize.encode import Encoder
from ..tokenize.model import TokenizerSettings
from ..tokenize.shards import read_set, rows_per_file
from .artifacts import RunPaths, read_json
from .edits import EDIT_KINDS, apply_edits, raw_span
from .excerpts import raw_text
from .filter import FilterSettings, judge
from .identity import MAX_ROWS, ROW_BITS, SourceFile
from .mix.index import part_of
from .what_if import value_behind

BINARY = ("band_signature", "sketch", "contamination_items")
"""Columns of signals that tell a person nothing."""


class Run:
    """A finished run, by its manifest."""

    def __init__(self, paths: RunPaths, files: list[SourceFile]) -> None:
        """`files`: as planning lists them, where their text is to be read."""
        self.paths = paths
        self.manifest = read_json(paths.manifest)
        known = {f.file_hash: f for f in files}
        self.files = {
            f["file_hash"]: known.get(f["file_hash"]) or SourceFile.from_table(f) for f in self.manifest["files"]
        }

    def doc_id(self, name: str) -> int:
        """The id of `corpus/file#row`, or of an id given as a number.

        Raises:
            ValueError: the run has no such file; the message shows one it has.
        """
        if name.isdigit():
            return int(name)
        path, _, row = name.rpartition("#")
        found = next((f for f in self.files.values() if f.name == path), None)
        if found is None or not row.isdigit():
            example = next(iter(self.files.values())).name
            raise ValueError(
                f"{name}: write corpus/file#row with a file of the run, such as {example}#0, or a document id"
            )
        return found.file_hash << ROW_BITS | int(row)

    def file(self, doc_id: int) -> SourceFile:
        """Raises ValueError if no file of the run holds the document."""
        found = self.files.get(doc_id >> ROW_BITS)
        if found is None:
            raise ValueError(f"document {doc_id} is in no file of {self.paths.root}")
        return found

    def name(self, doc_id: int) -> str:
        """`corpus/file#row`; of a document of another run, its id."""
        found = self.files.get(doc_id >> ROW_BITS)
        return f"{found.name}#{doc_id % MAX_ROWS}" if found else f"document {doc_id} of the run in `against`"

    def text(self, doc_id: int) -> pa.LargeStringArray:
        """The raw text of a document, read from its source.

        Raises:
            ValueError: the source is gone or has no such row.
        """
        file = self.file(doc_id)
        text = raw_text(file, doc_id % MAX_ROWS) if file.url else None
        if text is not None:
            return text
        raise ValueError(f"{self.name(doc_id)} cannot be read from its source any more")


def row_of(path: Path, doc_id: int, columns: list[str] | None = None) -> pa.RecordBatch | None:
    """The row of a document in a Parquet file of ours, found by the statistics of its row groups."""
    with pq.ParquetFile(path) as file:
        key = next(i for i in range(file.metadata.num_columns) if file.metadata.schema.column(i).path == "doc_id")
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            if facts.num_rows and facts.column(key).statistics.min <= doc_id <= facts.column(key).statistics.max:
                wanted = None if columns is None else list(dict.fromkeys(["doc_id", *columns]))
                table = file.read_row_group(group, columns=wanted).combine_chunks()
                at = np.flatnonzero(table.column("doc_id").to_numpy() == doc_id)
                if len(at):
                    return table.slice(int(at[0]), 1).to_batches()[0]
    return None


@dataclass(frozen=True)
class Placed:
    """A segment of a document in a block."""

    phase: str
    block_length: int
    block: int
    doc_start: int
    length: int


@dataclass
class Why:
    """What became of a document."""

    name: str
    doc_id: int
    signals: dict[str, Any]
    failed: list[tuple[str, str]]
    """(rule, the signal behind it) of all rules that drop it."""
    decision: dict[str, Any]
    duplicate_of: str
    blocks: list[Placed] = field(default_factory=list)


def why(run: Run, name: str, settings: FilterSettings) -> Why:
    """Signals, failed rules, decision and blocks of a document.

    Raises:
        ValueError: there is no such document; it may be in the file's quarantine.
    """
    doc_id = run.doc_id(name)
    file = run.file(doc_id)
    signals = row_of(run.paths.signals(file.corpus, file.path), doc_id)
    if signals is None:
        where = run.paths.quarantine(file.corpus, file.path)
        hint = f"; {where} says why rows could not be read" if where.exists() else ""
        raise ValueError(f"{run.name(doc_id)}: the scan found no such document{hint}")
    decision = row_of(run.paths.decisions(file.corpus, file.path), doc_id)
    failed = [
        (rule, value_behind(signals, 0, rule)) for rule, hit in judge(signals, file.corpus, settings) if bool(hit[0])
    ]
    decided = decision.to_pylist()[0] if decision else {}
    partner = int(decided.get("duplicate_of") or 0)
    facts = {k: v for k, v in signals.to_pylist()[0].items() if k not in BINARY}
    return Why(
        run.name(doc_id),
        doc_id,
        facts,
        failed,
        decided,
        run.name(partner) if partner else "",
        placed(run, doc_id),
    )


def placed(run: Run, doc_id: int) -> list[Placed]:
    """The segments of a document in all phases, by the index."""
    parts = sorted(n for n in run.manifest["artifacts"] if n.startswith("index/blocks-"))
    phases = [p["name"] for p in read_json(run.paths.stats("mixture"))["phases"]] if parts else []
    if not parts:
        return []
    number = int(part_of(np.array([doc_id], np.uint64), len(parts))[0])
    found: list[Placed] = []
    with pq.ParquetFile(run.paths.root / parts[number]) as file:
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group).column(0).statistics
            if facts and facts.min <= doc_id <= facts.max:
                table = file.read_row_group(group)
                mine = table.filter(pa.array(table.column("doc_id").to_numpy() == doc_id))
                found += [
                    Placed(phases[r["phase"] - 1], r["block_length"], r["block"], r["doc_start"], r["length"])
                    for r in mine.to_pylist()
                ]
    return found


@dataclass(frozen=True)
class Traced:
    """A segment of a block, traced to its source."""

    name: str
    tokens: tuple[int, int]
    """Of the document's stream, BOS included: first, end."""
    edited: tuple[int, int]
    """Bytes of the edited text."""
    raw: tuple[int, int]
    """Bytes of the raw text that these were made of."""
    text: str
    """The edited text of the span; bytes of a character that the span cuts are shown as U+FFFD."""
    edits: list[str]
    """Kinds of edits inside of the raw span."""


def trace(run: Run, phase: str, block: int, length: int, settings: TokenizerSettings) -> list[Traced]:
    """The documents of a block, with the spans of their text that it holds.

    Args:
        length: the split's block length; 0 where the set has one split.

    Raises:
        ValueError: no such set or block, or a source does not give what is in the block.
    """
    folder = run.paths.held_out if phase == "held_out" else run.paths.phase(phase)
    info = read_set(folder)
    splits = {s.block_length: s for s in info.splits}
    if not length and len(splits) > 1:
        raise ValueError(f"{phase} has blocks of {' and '.join(map(str, splits))} tokens: say which with --length")
    split = splits.get(length or next(iter(splits)))
    if split is None or not 0 <= block < split.blocks:
        there = ", ".join(f"{s.blocks:,} of {n}" for n, s in splits.items())
        raise ValueError(f"{phase} has no block {block} of {length or next(iter(splits))} tokens; it has {there}")
    number, row = divmod(block, rows_per_file(split.block_length))
    with pa.memory_map(str(folder / str(split.block_length) / split.files[number])) as source:
        for batch in pa.ipc.open_stream(source):
            if row < batch.num_rows:
                values = batch.slice(row, 1).to_pylist()[0]
                break
            row -= batch.num_rows
    # A few documents: SentencePiece is loaded sooner than the fast encoder, and gives the same ids.
    encoder = Encoder(run.paths.tokenizer, settings.reserved, fast=False)
    found, begin = [], 0
    for doc_id, start, end in zip(values["doc_ids"], values["doc_starts"], values["doc_ends"], strict=True):
        ids = values["input_ids"][begin:end]
        found.append(_trace(run, encoder, settings, doc_id, start, ids))
        begin = end
    return found


def _trace(run: Run, encoder: Encoder, settings: TokenizerSettings, doc_id: int, start: int, ids: list[int]) -> Traced:
    raw = run.text(doc_id)
    file = run.file(doc_id)
    signals = row_of(run.paths.signals(file.corpus, file.path), doc_id, ["edits"])
    assert signals is not None
    edits = signals.column("edits")
    text = apply_edits(raw, edits)
    encoded = encoder.encode(text).ids.tolist()
    special = encoder.specials
    stream = [*([special.bos] if settings.bos else []), *encoded, *([special.eos] if settings.eos else [])]
    if stream[start : start + len(ids)] != ids:
        raise ValueError(f"{run.name(doc_id)} gives other tokens than the block holds: has its source changed?")
    data = text[0].as_py().encode()
    bounds = encoder.byte_bounds(data, encoded)
    shift = int(settings.bos)
    first = min(max(start - shift, 0), len(encoded))
    end = min(max(start + len(ids) - shift, 0), len(encoded))
    span = (bounds[first], bounds[end])
    listed = edits.to_pylist()[0]
    whole = raw_span(listed, *span)
    kinds = [EDIT_KINDS[e["kind"] - 1] for e in listed if e["start"] < whole[1] and e["end"] > whole[0]]
    return Traced(
        run.name(doc_id),
        (start, start + len(ids)),
        span,
        whole,
        data[span[0] : span[1]].decode(errors="replace"),
        kinds,
    )
