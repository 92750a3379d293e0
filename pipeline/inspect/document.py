"""A document as a page shows it: its text in pieces, with what edits changed and what its failed rules count, and beside it the
copy that was kept.

Texts are cut into pieces here, where their bytes are: whoever shows them needs no offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...tokenize.chat import spoken
from ...tokenize.encode import Encoder
from ..filter.causes import Marked, Span, causes
from ..filter.judge import FilterSettings, threshold_of
from ..run.paths import RunPaths
from ..run.schemas import EDIT_TYPE
from ..signals.ratios import SIGNAL_COUNTS, SIGNALS
from ..signals.scores import is_score
from ..sources.domains import CHAT
from ..sources.source_row import SourceRow
from ..text.differences import Change, differences
from ..text.edits import apply_edits
from .dump import WITHHELD
from .provenance import Edited, Why, why
from .run import FinishedRun

MOST_BYTES = 200_000
"""Of a text that is shown."""


@dataclass(frozen=True)
class Piece:
    """Some text, all of it marked alike."""

    text: str
    rules: tuple[int, ...] = ()
    """Places in `Shown.failed` of the rules that count it."""
    edit: int = -1
    """Place in `Shown.edits` of what put it there; -1: it is the document's own."""
    differs: bool = False
    """It is not in the other text."""


@dataclass(frozen=True)
class Failed:
    """A rule that drops a document."""

    rule: str
    value: str
    """The signal behind it."""
    bound: str
    """The threshold for this document."""
    marked: int
    """Spans of the text that it counts."""


@dataclass
class Shown:
    """A document as a page shows it."""

    name: str
    doc_id: int
    facts: dict[str, Any]
    """Where it comes from, and what its source says of it."""
    decision: dict[str, Any]
    failed: list[Failed]
    signals: dict[str, float]
    blocks: list[dict[str, Any]]
    edits: list[dict[str, str]]
    pieces: list[Piece] = field(default_factory=list)
    note: str = ""
    """Why there is no text, or not all of it."""


def show(run: FinishedRun, filters: FilterSettings, name: str) -> Shown:
    """A document with its text.

    Args:
        filters: that it was judged by.
        name: as corpus/file#row, or an id.

    Raises:
        ValueError: the run has no such document.
    """
    found = why(run, name)
    file, facts = run.file(found.doc_id), found.signals
    origin = {"corpus": file.corpus, "file": file.path, "row": facts["row"], "held_out": file.held_out}
    shown = Shown(
        found.name,
        found.doc_id,
        origin | {n: facts[n] for n in ("subset", "domain", "language", "timestamp", "content_hash")},
        {**found.decision, "duplicate_name": found.duplicate_of},
        [],
        signals_of(facts),
        [vars(placed) for placed in found.blocks],
        [],
    )
    text, edits, shown.note = _text(run, found, shown)
    marks = []
    for rule, value in found.failed:
        spans = causes(text, rule, _benchmark_index(run.paths)) if text else []
        marks.append(spans)
        bound = threshold_of(filters, file.corpus, facts["subset"], facts["domain"], facts["language"], rule)
        said = ", ".join(bound) if isinstance(bound, tuple) else "" if bound is None else f"{bound:g}"
        shown.failed.append(Failed(rule, value, said, len(spans)))
    if text:
        raw_edits = facts["edits"] if edits else []
        shown.edits = [{"kind": e.kind, "was": e.was, "now": e.now} for e in edits]
        shown.pieces = list(_pieces(text.data, raw_edits, marks))
        if len(text.data) > MOST_BYTES:
            shown.note = f"The first {MOST_BYTES:,} of {len(text.data):,} bytes."
    return shown


def _benchmark_index(paths: RunPaths) -> list[Path]:
    """The files of the index of benchmark items; empty where the run has none."""
    names = ("contamination.arrow", "contamination-passages.arrow", "contamination-pairs.bin")
    files = [paths.prepare(name) for name in names]
    return files if all(file.exists() for file in files) else []


def signals_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Every signal of a document, by the name that rules bound it by, in alphabetical order."""
    counts = {name: np.array([facts[name]]) for name in SIGNAL_COUNTS if name in facts}
    found = {}
    for name, make in sorted(SIGNALS.items()):
        try:
            value = make(counts)[0]
        except KeyError:  # a run of an earlier version has no such count
            continue
        found[name] = round(float(value) / 65_535, 4) if name == "quality" else round(float(value), 6)
    return found | {name: round(float(v), 6) for name, v in facts.items() if is_score(name) and v is not None}


def _text(run: FinishedRun, found: Why, shown: Shown) -> tuple[Marked | None, list[Edited], str]:
    """(the edited text, its edits, what there is to say of it); the facts of its row are added to what is shown."""
    if found.decision.get("reason") in WITHHELD:
        return None, [], "The text is left out: the recipe's licence policy excludes it."
    try:
        row = run.row(found.doc_id)
    except (ValueError, OSError) as error:
        stored = _stored_text(run, found)
        if stored is None:
            return None, [], f"The text cannot be read: {error}"
        return Marked(stored), [], f"The source cannot be read ({error}). This is the text of the run's tokens."
    shown.facts |= {name: row.column(name)[0].as_py() for name in ("url", "native_id")}
    raw = row.column("text")
    if run.file(found.doc_id).format == CHAT:
        return Marked(spoken(raw[0].as_py())), [], ""
    listed = pa.array([found.signals["edits"]], type=EDIT_TYPE)
    text: str = apply_edits(raw, listed)[0].as_py()
    data = raw[0].as_py().encode()
    return Marked(text), [Edited.of(data, edit) for edit in found.signals["edits"]], ""


def _stored_text(run: FinishedRun, found: Why) -> str | None:
    """The text of a kept document by its tokens."""
    if not found.decision.get("kept"):
        return None
    ids = run.ids(found.doc_id, found.signals["subset"])
    if ids is None:
        return None
    encoder = Encoder(run.paths.tokenizer, run.tokenizer.reserved, fast=False)
    return encoder.decode(ids).decode(errors="replace")


def _pieces(data: bytes, edits: Sequence[Mapping[str, Any]], marks: Sequence[Sequence[Span]]) -> Iterator[Piece]:
    """A text in pieces that are marked alike.

    Args:
        data: the edited text.
        edits: of the document, in the raw text.
        marks: of each failed rule, spans of the edited text.
    """
    end = min(len(data), MOST_BYTES)
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end -= 1
    placed, shift = list[Span](), 0
    for edit in edits:
        begin, size = edit["start"] + shift, len(edit["replacement"].encode())
        placed.append((begin, begin + size))
        shift += size - (edit["end"] - edit["start"])
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for rule, spans in enumerate(marks):
        for first, last in spans:
            starts.setdefault(first, []).append(rule)
            ends.setdefault(last, []).append(rule)
    bounds = sorted({0, end, *starts, *ends, *(at for span in placed for at in span)})
    active: set[int] = set()
    number = 0
    for first, last in zip(bounds, [*bounds[1:], end], strict=True):
        if first > end or (first == end and first):
            break
        active = (active - {*ends.get(first, ())}) | {*starts.get(first, ())}
        while number < len(placed) and placed[number][1] <= first and placed[number][0] < first:
            number += 1
        while number < len(placed) and placed[number] == (first, first):
            yield Piece("", (), number)
            number += 1
        inside = number < len(placed) and placed[number][0] <= first < placed[number][1]
        if text := data[first : min(last, end)].decode(errors="replace"):
            yield Piece(text, tuple(sorted(active)), number if inside else -1)
    for left in range(number, len(placed)):
        if placed[left] == (end, end):
            yield Piece("", (), left)


def show_row(run: FinishedRun, name: str) -> SourceRow:
    """The row of a document as it stands in its source file.

    Raises:
        ValueError: the run has no such document, its text may not be shown, or its source cannot be read any more.
    """
    found = why(run, name)
    if found.decision.get("reason") in WITHHELD:
        raise ValueError("the row is left out: the recipe's licence policy excludes its text")
    try:
        return run.source_row(found.doc_id)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"The source cannot be read: {error}. If the corpora have moved, name their place: --data OLD=NEW"
        ) from None


@dataclass(frozen=True)
class SideBySide:
    """Two texts, in pieces that are in both or in one of them."""

    name: str
    other: str
    pieces: list[Piece]
    other_pieces: list[Piece]
    same: float
    """The share of the first text's characters that is in both."""


def side_by_side(run: FinishedRun, name: str, other: str) -> SideBySide:
    """The raw texts of two documents, as dedupe compared them, with what differs.

    Raises:
        ValueError: the run has no such document, or a source no longer gives its text.
    """
    ids = [run.doc_id(each) for each in (name, other)]
    for doc_id in ids:
        if why(run, str(doc_id)).decision.get("reason") in WITHHELD:
            raise ValueError(f"the text of {run.name(doc_id)} is left out: the recipe's licence policy excludes it")
    old, new = (_cut(spoken(run.text(doc_id)[0].as_py())) for doc_id in ids)
    left, right = compared(old, new)
    same = sum(len(piece.text) for piece in left if not piece.differs)
    return SideBySide(run.name(ids[0]), run.name(ids[1]), left, right, same / max(len(old), 1))


def compared(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces that are in both or in one of them, by whole words."""
    changes = by_words(old.encode(), differences(old, new))
    return list(_sides(old.encode(), changes)), list(_other_side(old.encode(), changes))


def by_words(old: bytes, changes: Sequence[Change]) -> list[Change]:
    """The same changes, of whole words: not `us` of `used` for `employ` of `employed`."""
    wide: list[Change] = []
    for number, (start, end, text) in enumerate(changes):
        floor = wide[-1].end if wide else 0
        ceiling = changes[number + 1].start if number + 1 < len(changes) else len(old)
        said = text.encode()
        while (
            start > floor and _is_letter(old[start - 1]) and any(_is_letter(p[0]) for p in (old[start:end], said) if p)
        ):
            start -= 1
            said = old[start : start + 1] + said
        while end < ceiling and _is_letter(old[end]) and any(_is_letter(p[-1]) for p in (old[start:end], said) if p):
            said += old[end : end + 1]
            end += 1
        if wide and start == wide[-1].end:
            before = wide.pop()
            start, said = before.start, before.text.encode() + said
        wide.append(Change(start, end, said.decode()))
    return wide


def _is_letter(byte: int) -> bool:
    """Of ASCII: a word of other scripts has no end that a byte would tell."""
    return byte < 128 and (chr(byte).isalnum() or byte == 95)


def _cut(text: str) -> str:
    return text.encode()[:MOST_BYTES].decode(errors="ignore")


def _sides(old: bytes, changes: Sequence[Change]) -> Iterator[Piece]:
    at = 0
    for change in changes:
        yield from _both(old[at : change.start])
        if change.end > change.start:
            yield Piece(old[change.start : change.end].decode(), differs=True)
        at = change.end
    yield from _both(old[at:])


def _other_side(old: bytes, changes: Sequence[Change]) -> Iterator[Piece]:
    at = 0
    for change in changes:
        yield from _both(old[at : change.start])
        if change.text:
            yield Piece(change.text, differs=True)
        at = change.end
    yield from _both(old[at:])


def _both(text: bytes) -> Iterator[Piece]:
    if text:
        yield Piece(text.decode())
