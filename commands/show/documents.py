"""Documents of a run: what became of one, those that were looked for, and the documents of a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...pipeline.carve.settings import CARVED
from ...pipeline.text.edits import kind_name
from ...pipeline.text.excerpts import beginning
from ...storage.wording import counted, say

if TYPE_CHECKING:
    from ...pipeline.inspect.lookup import Found, Listed
    from ...pipeline.inspect.provenance import Passage, Traced, Why


MOST_PASSAGES = 20
"""Cut passages of a document that a terminal shows."""


def _passage(cut: Passage) -> str:
    """A passage that was cut, and who keeps it."""
    held_out = ", which is held out" if cut.held_out else ""
    return f"{cut.kind}, bytes {cut.start:,} to {cut.end:,} of the raw text, kept in {cut.kept_in}{held_out}"


def print_why(found: Why) -> None:
    """What became of a document, from its decision to its signals."""
    decision = found.decision
    say(f"{found.name} (id {found.doc_id})")
    if not decision:
        say("  not decided yet: the dedupe stage has not run")
    elif found.given:
        say("  kept as it came, as token ids: no rule judged it, and it was compared with nothing")
    elif decision["kept"]:
        size = decision["cluster_size"]
        say(f"  kept; represents {size:,} documents, itself included" if size > 1 else "  kept; it has no duplicates")
    elif found.duplicate_of:
        say(
            f"  dropped: {decision['reason']}, {decision['kind']} copy of {found.duplicate_of}, "
            f"similarity {decision['similarity']:.3f}"
        )
    elif decision["reason"] == CARVED:
        say("  held out (carved): set apart to measure on; it is in no phase, and copies of it are dropped")
    else:
        say(f"  dropped: {decision['reason']}")
    for rule, value in found.failed:
        say(f"  fails {rule}" + (f": {value}" if value else ""))
    if found.raw_row:
        say(
            f"  text of the steps before the scan, from a row of {found.raw_row.bytes:,} bytes (blake3 {found.raw_row.hash})"
        )
    for p in found.blocks:
        say(
            f"  {p.phase}: block {p.block:,} of {p.block_length:,} tokens, "
            f"with tokens {p.doc_start:,} to {p.doc_start + p.length:,} of the document"
        )
    if decision.get("kept") and not found.blocks:
        say("  not used in any phase: it is held out, or the budgets were filled without it")
    for name, value in _facts(found.signals):
        say(f"    {name:28} {value}")
    for passage in found.passages[:MOST_PASSAGES]:
        say(f"  cut: {_passage(passage)}")
    if len(found.passages) > MOST_PASSAGES:
        say(f"  cut: {len(found.passages) - MOST_PASSAGES:,} more passages, which --json shows")
    for edit in found.edits:
        now = f"replaced by {edit.now}" if edit.now else "cut"
        say(
            f"  edit: {edit.kind}, bytes {edit.start:,} to {edit.end:,} of the raw text {now}: {beginning(edit.was, 60)}"
        )
    if found.text is not None:
        size = len(found.text.encode())
        say(f"  text, {size:,} bytes:" if found.text else "  text: empty")
        say(found.text, besides="\n\t")


def _facts(signals: dict[str, Any]) -> list[tuple[str, str]]:
    """Signals as a person reads them: fractions, dates, kinds of edits; those that are empty or 0 as one count."""
    facts, nothing = [], 0
    for name, value in signals.items():
        if name in ("doc_id", "row", "url_hash", "native_id_hash", "language_score"):
            continue
        if name == "quality":
            text = f"{value / 65_535:.4f}"
        elif name == "language":
            text = f"{value} (confidence {signals['language_score'] / 1e4:.4f})"
        elif name == "timestamp":
            text = _date(value)
        elif name == "edits":
            text = ", ".join(
                f"{kind_name(kind)} {n:,}" for kind, n in sorted(Counter(e["kind"] for e in value).items())
            )
        elif value is None:
            text = ""
        else:
            text = (
                f"{value:,}"
                if isinstance(value, int)
                else f"{value:.6g}"
                if isinstance(value, float)
                else beginning(value, 80)
            )
        if not value or not text:
            nothing += 1
        else:
            facts.append((name, text))
    return [*facts, ("none or 0", f"{nothing} more, which --json shows")] if nothing else facts


def _date(seconds: int) -> str:
    """Of a timestamp as sources give it, which may be no date at all."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:,}"


def print_found(found: Sequence[Found]) -> None:
    """Documents that were looked for."""
    if not found:
        say("not found: no document of the run matches")
    for f in found:
        _print_found(f)


def _print_found(f: Found) -> None:
    say(f"{f.name} (id {f.doc_id}): " + ("trained on" if f.trained_on else "not trained on"))
    if not f.decision["kept"]:
        say(f"  dropped: {f.decision['reason']}" + (f", copy of {f.copy}" if f.copy else ""))
    for name, blocks in (("", f.blocks), (f.copy, f.copy_blocks)):
        for p in blocks:
            whose = f", with {name}" if name else ""
            say(f"  {p.phase}: block {p.block:,} of {p.block_length:,} tokens{whose}")


def print_listed(listed: Listed) -> None:
    """What a run has of an exclude list."""
    for entry, found in listed.named.items():
        say(f"{entry}: {counted(len(found), 'document')}")
        for f in found:
            _print_found(f)
    if listed.copies:
        say(f"copies of these: {counted(len(listed.copies), 'document')}")
    for f in listed.copies:
        _print_found(f)


def print_trace(segments: Sequence[Traced], full: bool) -> None:
    """The documents of a block, with the bytes they come from."""
    for s in segments:
        edits = f", edits inside: {', '.join(s.edits)}" if s.edits else ""
        raw = "extracted" if s.raw_row else "raw"
        row = f", from a row of {s.raw_row.bytes:,} bytes (blake3 {s.raw_row.hash})" if s.raw_row else ""
        say(
            f"{s.name}: tokens {s.tokens[0]:,} to {s.tokens[1]:,}, bytes {s.raw[0]:,} to {s.raw[1]:,} of the {raw} text "
            f"({s.edited[0]:,} to {s.edited[1]:,} of the edited text){edits}{row}"
        )
        for p in s.passages[:MOST_PASSAGES]:
            say(f"  cut inside: {_passage(p)}")
        say(s.text if full else f"  {beginning(s.text)}", besides="\n\t" if full else "")
