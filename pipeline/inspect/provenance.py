"""`fox1 why` and `fox1 trace`: from a document to what became of it, and from a block back to the bytes it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...tokenize.chat import ChatEncoder
from ...tokenize.encode import Encoder
from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import SetInfo, block_batches, read_set, rows_per_file
from ..carve.settings import CARVED
from ..filter.reasons import value_behind
from ..mix.index import part_of
from ..run.artifacts import row_groups
from ..run.identity import TOKENS, SourceFile
from ..run.parquet_rows import row_of, uint64s
from ..signals import content
from ..sources.domains import CHAT
from ..sources.token_files import subset_of
from ..text.binding import TEXT_HASH
from ..text.edits import apply_edits, kind_name, raw_span
from ..text.excerpts import RawRow
from .run import FinishedRun, index_parts, phase_names, shard_set

BINARY = ("contamination_items", TEXT_HASH)
"""Columns of `signals/` that mean nothing to a person."""


@dataclass(frozen=True)
class Placed:
    """A segment of a document in a block."""

    phase: str
    block_length: int
    block: int
    doc_start: int
    length: int


@dataclass(frozen=True)
class Edited:
    """An edit of a document."""

    kind: str
    """As `kind_name` names it."""
    start: int
    """First byte of the raw text that is cut or replaced."""
    end: int
    was: str
    """What stood there."""
    now: str
    """What stands there instead; empty: nothing."""

    @classmethod
    def of(cls, raw: bytes, edit: Mapping[str, Any]) -> Edited:
        """An edit as `signals/` has it."""
        start, end = edit["start"], edit["end"]
        was = raw[start:end].decode(errors="replace")
        return cls(kind_name(edit["kind"]), start, end, was, edit["replacement"])


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
    text: str | None = None
    """The edited text; None: it was not asked for."""
    edits: list[Edited] = field(default_factory=list)
    """What was cut from the raw text, or replaced; only with the text."""
    given: bool = False
    """It came as token ids: no signal of it is known, and nothing judged it."""
    raw_row: RawRow | None = None
    """What the source holds, where steps of `before_scan` made another text of it: the raw text that edits are of is theirs."""
    passages: list[Passage] = field(default_factory=list)
    """What was cut since other documents, or other places of this one, have it."""


def why(run: FinishedRun, name: str, text: bool = False) -> Why:
    """Signals, failed rules, decision and blocks of a document.

    Args:
        text: also read its text from the source.

    Raises:
        ValueError: there is no such document (it may be in the file's quarantine), or its source does not give its text.
    """
    doc_id = run.doc_id(name)
    file = run.file(doc_id)
    if file.format == TOKENS:
        return _why_given(run, doc_id, text)
    path = run.copied(run.paths.signals(file.corpus, file.part))
    columns = [n for n in pq.read_schema(path).names if n not in BINARY] if path.exists() else None
    signals = row_of(path, doc_id, columns)
    if signals is None:
        where = run.paths.quarantine(file.corpus, file.quarantine)
        hint = f"; {where} says why rows could not be read" if where.exists() else ""
        raise ValueError(f"{run.name(doc_id)}: the scan found no such document{hint}")
    signals = _with_beside(run, file, doc_id, signals)
    decision = row_of(run.copied(run.paths.decisions(file.corpus, file.part)), doc_id)
    decided = decision.to_pylist()[0] if decision else {}
    failed = [(rule, value_behind(signals, 0, rule)) for rule in decided.get("reasons", ()) if rule != CARVED]
    partner = int(decided.get("duplicate_of") or 0)
    facts = signals.to_pylist()[0]
    facts[content.COLUMN] = content.written(facts[content.COLUMN], content.algorithm_of(path))
    edits, passages = facts["edits"], facts.pop("passages", [])
    raw = run.text(doc_id) if text else None
    return Why(
        run.name(doc_id),
        doc_id,
        facts,
        failed,
        decided,
        run.name(partner) if partner else "",
        placed(run, doc_id),
        apply_edits(raw, signals.column("edits"))[0].as_py() if raw is not None else None,
        [Edited.of(raw[0].as_py().encode(), edit) for edit in edits] if raw is not None else [],
        raw_row=run.raw_row(doc_id),
        passages=passages_of(run, passages),
    )


def _why_given(run: FinishedRun, doc_id: int, text: bool) -> Why:
    """The same of a document that came as token ids."""
    ids = run.given_ids(doc_id)
    if ids is None:
        raise ValueError(
            f"{run.name(doc_id)}: no such document was taken; the file does not have it, or it has no tokens, the id of a control "
            "piece inside, or an excluded subset"
        )
    facts = {"subset": subset_of(run.file(doc_id)), "tokens": len(ids)}
    said = _decoded(run, ids).decode(errors="replace") if text else None
    decision = {"kept": True, "reason": "", "reasons": [], "cluster_size": 1}
    return Why(run.name(doc_id), doc_id, facts, [], decision, "", placed(run, doc_id), said, given=True)


def _decoded(run: FinishedRun, ids: list[int]) -> bytes:
    return Encoder(run.paths.tokenizer, fast=False).decode(ids)


def _with_beside(run: FinishedRun, file: SourceFile, doc_id: int, signals: pa.RecordBatch) -> pa.RecordBatch:
    """The signals of a document with the scores and cuts that stand beside them, in place of what has the same name."""
    beside = [run.cut_row(doc_id)]
    if "scores" in run.manifest["artifacts"].folders:
        beside.append(row_of(run.copied(run.paths.scores(file.corpus, file.part)), doc_id))
    rows = [signals, *(row for row in beside if row is not None)]
    if len(rows) == 1:
        return signals
    own = {name: row for row in rows for name in row.schema.names}
    fields = [row.schema.field(name) for name, row in own.items()]
    columns = [row.column(name) for name, row in own.items()]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, signals.schema.metadata))


@dataclass(frozen=True)
class Passage:
    """A passage of a document that was cut, since another one has it."""

    kind: str
    """As `kind_name` names it."""
    start: int
    """First byte of the raw text."""
    end: int
    kept_in: str
    """The document that keeps it; the same one, where it stands there a second time."""
    held_out: bool = False
    """That document is held out."""


def passages_of(run: FinishedRun, listed: Sequence[Mapping[str, Any]]) -> list[Passage]:
    """Passages as `cuts/` has them, with the names of the documents that keep them."""
    # Runs of versions before had no `held_out`.
    return [
        Passage(kind_name(p["kind"]), p["start"], p["end"], run.name(p["kept_in"]), p.get("held_out", False))
        for p in listed
    ]


def placed(run: FinishedRun, doc_id: int) -> list[Placed]:
    """The segments of a document in all phases, by the index."""
    parts = index_parts(run.paths, run.manifest)
    if not parts:
        return []
    phases = phase_names(run.paths)
    number = int(part_of(np.array([doc_id], np.uint64), len(parts))[0])
    found: list[Placed] = []
    for file, group in row_groups(parts[number], "doc_id", doc_id, doc_id):
        table = file.read_row_group(group)
        first, end = np.searchsorted(uint64s(table.column("doc_id")), np.array([doc_id, doc_id + 1], np.uint64))
        found += [
            Placed(phases[r["phase"] - 1], r["block_length"], r["block"], r["doc_start"], r["length"])
            for r in table.slice(int(first), int(end - first)).to_pylist()
        ]
    return found


@dataclass(frozen=True)
class Traced:
    """A segment of a block, traced to its source."""

    name: str
    tokens: tuple[int, int]
    """First and end token in the document's stream, BOS included."""
    edited: tuple[int, int]
    """First and end byte in the edited text."""
    raw: tuple[int, int]
    """First and end byte of the raw text that these were made of."""
    text: str
    """The edited text of the span; bytes of a character that the span cuts are shown as U+FFFD."""
    edits: list[str]
    """Kinds of the edits inside the raw span."""
    passages: list[Passage]
    """What was cut inside it since other documents have it."""
    raw_row: RawRow | None = None
    """What the source holds, where steps of `before_scan` made another text of it: the raw text is theirs."""


def trace(run: FinishedRun, asked: str | int, block: int, length: int = 0, source: bool = False) -> list[Traced]:
    """The documents of a block, with the spans of their text that it holds.

    The text comes from the run's own token shards, so that no source is read up to a row, or from the source where the shards
    cannot give it exactly.

    Args:
        asked: a phase by name or number, or `held_out`.
        length: the split's block length; 0 where the set has one split.
        source: always read the source, and compare; also the raw row that steps of `before_scan` were given.

    Raises:
        ValueError: no such set or block, or a source does not give what is in the block.
    """
    _, values = read_block(run, asked, block, length)
    settings = run.tokenizer
    # For a few documents SentencePiece loads sooner than the fast encoder, and gives the same ids.
    tracer = _Tracer(run, Encoder(run.paths.tokenizer, settings.reserved, fast=False), settings, source)
    found, begin = [], 0
    for doc_id, start, end in zip(values["doc_ids"], values["doc_starts"], values["doc_ends"], strict=True):
        found.append(tracer.segment(doc_id, start, values["input_ids"][begin:end]))
        begin = end
    return found


def read_block(run: FinishedRun, asked: str | int, block: int, length: int = 0) -> tuple[SetInfo, dict[str, Any]]:
    """(the set, the values of a block of it by column); arguments and errors are those of `trace`."""
    folder = shard_set(run.paths, asked)
    phase = folder.name
    info = read_set(folder)
    splits = {s.block_length: s for s in info.splits}
    if not length and len(splits) > 1:
        raise ValueError(f"{phase} has blocks of {' and '.join(map(str, splits))} tokens; choose one with --length")
    split = splits.get(length or next(iter(splits)))
    if split is None or not 0 <= block < split.blocks:
        there = ", ".join(f"{s.blocks:,} of {n}" for n, s in splits.items())
        raise ValueError(f"{phase} has no block {block} of {length or next(iter(splits))} tokens; it has {there}")
    number, row = divmod(block, rows_per_file(split.block_length))
    path, values = folder / str(split.block_length) / split.files[number], None
    for batch in block_batches(path, split.block_length, info.masked):
        if row < batch.num_rows:
            values = batch.slice(row, 1).to_pylist()[0]
            break
        row -= batch.num_rows
    if values is None:
        raise ValueError(f"{path} has fewer blocks than fox1.json says; run `fox1 curate` again to rebuild it")
    return info, values


@dataclass(frozen=True)
class _Tracer:
    run: FinishedRun
    encoder: Encoder
    settings: TokenizerSettings
    source: bool

    def segment(self, doc_id: int, start: int, ids: list[int]) -> Traced:
        run, encoder, settings = self.run, self.encoder, self.settings
        listed, passages, (data, encoded, bounds) = self._document(doc_id)
        special = encoder.specials
        stream = [*([special.bos] if settings.bos else []), *encoded, *([special.eos] if settings.eos else [])]
        if stream[start : start + len(ids)] != ids:
            raise ValueError(f"{run.name(doc_id)} gives other tokens than the block holds; its source may have changed")
        shift = int(settings.bos)
        first = min(max(start - shift, 0), len(encoded))
        end = min(max(start + len(ids) - shift, 0), len(encoded))
        span = (bounds[first], bounds[end])
        whole = raw_span(listed, *span)
        kinds = [kind_name(e["kind"]) for e in listed if e["start"] < whole[1] and e["end"] > whole[0]]
        text = data[span[0] : span[1]].decode(errors="replace")
        raw = run.raw_row(doc_id)
        if raw and self.source:
            run.check_raw_row(doc_id, raw)
        inside = [p for p in passages if p["start"] < whole[1] and p["end"] > whole[0]]
        name = run.name(doc_id)
        return Traced(name, (start, start + len(ids)), span, whole, text, kinds, passages_of(run, inside), raw)

    def _document(
        self, doc_id: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], tuple[bytes, list[int], list[int]]]:
        """(the edits of a document, its passages that were cut, its edited text, ids, and where each begins in it)."""
        file = self.run.file(doc_id)
        if file.format == TOKENS:
            ids = self.run.given_ids(doc_id) or []
            data = self.encoder.decode(ids)
            return [], [], (data, ids, self.encoder.byte_bounds(data, ids))
        signals = row_of(self.run.paths.signals(file.corpus, file.part), doc_id, ["subset", "raw_bytes", "edits"])
        assert signals is not None
        passages: list[dict[str, Any]] = []
        if (cut := self.run.cut_row(doc_id)) is not None:
            passages = cut.column("passages").to_pylist()[0]
            signals = signals.set_column(2, signals.schema.field("edits"), cut.column("edits"))
        listed: list[dict[str, Any]] = signals.column("edits").to_pylist()[0]
        return listed, passages, self._stored(doc_id, signals) or self._read(doc_id, signals)

    def _stored(self, doc_id: int, signals: pa.RecordBatch) -> tuple[bytes, list[int], list[int]] | None:
        """(edited text, ids, where each begins in it) of a document from its token shard; None if that is not exact."""
        file = self.run.file(doc_id)
        if self.source or file.format == CHAT or not self.encoder.is_lossless:
            return None
        ids = self.run.ids(doc_id, signals.column("subset")[0].as_py())
        if ids is None:
            return None
        data = self.encoder.decode(ids)
        size = signals.column("raw_bytes")[0].as_py()
        for edit in signals.column("edits").to_pylist()[0]:
            size += len(edit["replacement"].encode()) - (edit["end"] - edit["start"])
        # Shorter only where the text has the character that stands for a space.
        return (data, ids, self.encoder.byte_bounds(data, ids)) if len(data) == size else None

    def _read(self, doc_id: int, signals: pa.RecordBatch) -> tuple[bytes, list[int], list[int]]:
        """The same from the source."""
        text = apply_edits(self.run.text(doc_id), signals.column("edits"))
        data = text[0].as_py().encode()
        if self.run.file(doc_id).format == CHAT:
            chat = ChatEncoder(self.encoder, self.settings.chat)
            ids = chat.encode(text).ids.tolist()
            return data, ids, chat.byte_bounds(text[0].as_py())
        ids = self.encoder.encode(text).ids.tolist()
        return data, ids, self.encoder.byte_bounds(data, ids)
