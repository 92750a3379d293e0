"""What a person sees while a run goes on: a bar per stage with rate and ETA, and a summary at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ...pipeline.text.edits import EDIT_KINDS
from ...pipeline.text.excerpts import beginning
from ...storage.store import shown
from ...storage.wording import printable
from .mixture import new_console

if TYPE_CHECKING:
    from ...cluster.jobs import Job
    from ...pipeline.curate import Summary
    from ...pipeline.inspect.lookup import Found, Listed
    from ...pipeline.inspect.provenance import Traced, Why
    from ...pipeline.inspect.what_if import WhatIf


LOG_SECONDS = 30.0
"""Between lines on a stage where no bar can be drawn, such as the log of a job."""


class StageBars:
    """Shows stages as bars on a terminal, as lines elsewhere. A `pipeline.engine.Progress`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, emoji=False)
        columns = (
            TextColumn("{task.description:28}"),
            BarColumn(),
            TextColumn("{task.fields[rate]:>12}"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._bar: TaskID | None = None
        self._part = ""
        self._part_began = self._began = time.monotonic()
        self._done = self._whole = self._tasks_done = self._tasks = 0
        self._told = self._began
        self._reused = self._ran = 0

    def __enter__(self) -> StageBars:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close_part()
        if self._bars:
            self._bars.stop()

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        part = name.split(".")[0]
        if part != self._part:
            self._close_part()
            self._part, self._part_began = part, time.monotonic()
            self._reused = self._ran = 0
        self._reused += reused
        self._ran += tasks
        self._began = self._told = time.monotonic()
        self._done, self._whole, self._tasks_done, self._tasks = 0, max(weight, 1), 0, tasks
        if self._bars:
            self._bar = self._bars.add_task(name, total=max(weight, 1), rate="")

    def task_done(self, name: str, weight: int) -> None:
        self._done += weight
        self._tasks_done += 1
        now = time.monotonic()
        seconds = max(now - self._began, 1e-3)
        rate = f"{self._done / seconds / 1e6:.1f} MB/s" if self._done > 1 << 16 else ""
        if self._bars and self._bar is not None:
            self._bars.update(self._bar, advance=weight, rate=rate)
        elif not self._bars and now - self._told > LOG_SECONDS and self._tasks_done < self._tasks:
            self._told = now
            left = seconds * (self._whole - self._done) / max(self._done, 1)
            told = [f"{self._tasks_done:,} of {self._tasks:,} tasks", rate, f"{timedelta(seconds=int(left))} left"]
            self._console.print(f"{name}: {', '.join(t for t in told if t)}", highlight=False)

    def stage_done(self, name: str, seconds: float) -> None:
        if self._bars and self._bar is not None:
            self._bars.remove_task(self._bar)
            self._bar = None

    def slow(self, name: str, task: str, seconds: float) -> None:
        self._console.print(
            f"{name}: {task} has been under way for {seconds:.0f} s, much longer than the others took", highlight=False
        )

    def _close_part(self) -> None:
        if self._part:
            seconds = time.monotonic() - self._part_began
            reused = f", {self._reused} reused" if self._reused else ""
            self._console.print(f"{self._part:10} {seconds:7.1f} s  {self._ran} tasks{reused}", highlight=False)


def print_summary(summary: Summary, run: Path) -> None:
    """What a run ends with: what was kept, what was read badly, what each phase holds."""
    console = new_console()
    table = Table("corpus", "rows", "kept", "dropped", "quarantined", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for f in summary.funnels:
        name = f"{f.corpus} (held out)" if f.held_out else f.corpus
        table.add_row(name, f"{f.rows:,}", f"{f.kept:,}", f"{sum(f.dropped.values()):,}", f"{f.quarantined:,}")
    console.print(table)
    for funnel in summary.funnels:
        for damage in funnel.damaged:
            console.print(f"damaged: {printable(damage)}; rows before the damage were used", style="yellow")
    for note in summary.notes:
        console.print(printable(note), style="yellow", highlight=False)
    for phase in summary.mixture.get("phases", []):
        sets = ", ".join(f"{s['blocks']:,} blocks of {s['block_length']:,}" for s in phase["sets"])
        console.print(f"{phase['name']}: {phase['tokens']:,} tokens in {sets}", highlight=False)
        if phase["given_away"]:
            names = printable(", ".join(phase["given_away"]))
            console.print(f"  nothing there of {names}: its share went to the other pools", highlight=False)
    reused = sum(r for r, _ in summary.reused.values())
    total = sum(t for _, t in summary.reused.values())
    console.print(
        f"{shown(run)}: {', '.join(summary.stages)}; {reused} of {total} tasks reused", highlight=False, soft_wrap=True
    )


def print_what_if(result: WhatIf, changes: Sequence[str]) -> None:
    """What another filter would change: totals, by reason and subset, examples, and what a real change would redo."""
    console = new_console()
    lost, won = sum(result.dropped.values()), sum(result.restored.values())
    console.print(printable(f"what if {', '.join(changes)}"), style="bold", highlight=False)
    console.print(
        f"{result.documents:,} documents, {result.kept:,} pass the filters now; {lost:,} more would be dropped, {won:,} would "
        f"pass again ({result.bytes / 1e6:+,.2f} MB of text)",
        highlight=False,
    )
    for title, counts in (("dropped for", result.dropped), ("no longer dropped for", result.restored)):
        for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            console.print(f"  {n:,} {title} {reason}", highlight=False)
    if result.by_subset:
        table = Table("subset", "dropped", "passes again", box=None, header_style="bold")
        for cell, (dropped, restored) in sorted(result.by_subset.items()):
            table.add_row(printable(cell), f"{dropped:,}", f"{restored:,}")
        console.print(table)
    for example in result.examples:
        about = printable(f"{example.name}  {example.reason}  {example.value}")
        console.print(about, style="cyan", highlight=False)
        console.print(f"    {printable(example.text)}", highlight=False)
    redo = f"filter, dedupe, tokens of about {result.changed_groups} of {result.groups} groups, mix and stats"
    console.print(
        f"a real change would redo {redo}; the scan would be reused" if lost or won else "nothing would change",
        highlight=False,
    )


def print_why(found: Why) -> None:
    """What became of a document, from its decision to its signals."""
    decision = found.decision
    print(f"{printable(found.name)} (id {found.doc_id})")
    if not decision:
        print("  not decided yet: the run has no dedupe stage")
    elif decision["kept"]:
        size = decision["cluster_size"]
        print(f"  kept; stands for {size:,} documents, itself included" if size > 1 else "  kept; no other is its copy")
    elif found.duplicate_of:
        print(
            f"  dropped: {decision['reason']}, {decision['kind']} copy of {printable(found.duplicate_of)}, "
            f"similarity {decision['similarity']:.3f}"
        )
    else:
        print(f"  dropped: {decision['reason']}")
    for rule, value in found.failed:
        print(f"  fails {rule}" + (f": {value}" if value else ""))
    for p in found.blocks:
        print(
            f"  {p.phase}: block {p.block:,} of {p.block_length:,} tokens, "
            f"its tokens {p.doc_start:,} to {p.doc_start + p.length:,}"
        )
    if decision.get("kept") and not found.blocks:
        print("  in no phase: the budgets did not need it")
    for name, value in _facts(found.signals):
        print(f"    {name:28} {value}")


def _facts(signals: dict[str, Any]) -> list[tuple[str, str]]:
    """Signals as a person reads them: fractions, dates, kinds of edits; counts of nothing in one line."""
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
                f"{EDIT_KINDS[kind - 1]} {n:,}" for kind, n in sorted(Counter(e["kind"] for e in value).items())
            )
        elif isinstance(value, bytes):
            text = f"0x{value.hex()}"
        else:
            text = f"{value:,}" if isinstance(value, int) else beginning(value, 80)
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
        print("not in the run: no document of its sources has it")
    for f in found:
        _print_found(f)


def _print_found(f: Found) -> None:
    print(f"{printable(f.name)} (id {f.doc_id}): " + ("trained on" if f.trained_on else "not trained on"))
    if not f.decision.get("kept"):
        print(
            f"  dropped: {f.decision.get('reason', 'not decided yet')}"
            + (f", copy of {printable(f.copy)}" if f.copy else "")
        )
    for name, blocks in (("", f.blocks), (f.copy, f.copy_blocks)):
        for p in blocks:
            of = f" of {printable(name)}" if name else ""
            print(f"  {p.phase}: block {p.block:,} of {p.block_length:,} tokens{of}")


def print_listed(listed: Listed) -> None:
    """What a run has of an exclude list."""
    for entry, found in listed.named.items():
        print(f"{printable(entry)}: {len(found)} documents" if len(found) != 1 else f"{printable(entry)}: 1 document")
        for f in found:
            _print_found(f)
    if listed.copies:
        print(f"and their copies: {len(listed.copies)}")
    for f in listed.copies:
        _print_found(f)


def print_trace(segments: Sequence[Traced], full: bool) -> None:
    """The documents of a block, with the bytes they come from."""
    for s in segments:
        edits = f", edits inside: {', '.join(s.edits)}" if s.edits else ""
        print(
            f"{printable(s.name)}: tokens {s.tokens[0]:,} to {s.tokens[1]:,}, bytes {s.raw[0]:,} to {s.raw[1]:,} of the raw text "
            f"({s.edited[0]:,} to {s.edited[1]:,} edited){edits}"
        )
        print(printable(s.text, "\n\t") if full else f"  {beginning(s.text)}")


def print_jobs(jobs: Sequence[Job]) -> None:
    """Jobs of a cluster, the newest first."""
    table = Table("job", "status", "started", "took", "command", box=None, header_style="bold")
    for job in jobs:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started)) if job.started else ""
        minutes, seconds = divmod(int(job.seconds), 60)
        took = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        table.add_row(job.id, job.status.lower(), started, took, printable(job.command))
    new_console().print(table)
