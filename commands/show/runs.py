"""What a run ends with, what another filter would change in it, and the jobs of a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...storage.store import shown
from ...storage.wording import counted
from .terminal import TextTable, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from ...cluster.jobs import Job
    from ...pipeline.curate import Summary
    from ...pipeline.inspect.what_if import WhatIf

NAMED_FILES = 20
"""Damaged files of a corpus that a terminal shows."""


def print_summary(summary: Summary, run: Path, origin: str = "") -> None:
    """What a run ends with: what was kept, what was read badly, what each phase holds.

    Args:
        origin: the run that it took finished tasks from.
    """
    console = new_console()
    table = TextTable("corpus", "rows", "kept", "dropped", "quarantined", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for f in summary.funnels:
        name = f"{f.corpus} (held out)" if f.held_out else f.corpus
        table.add_row(name, f"{f.rows:,}", f"{f.kept:,}", f"{sum(f.dropped.values()):,}", f"{f.quarantined:,}")
    console.print(table)
    for funnel in summary.funnels:
        note_damage(console, funnel.corpus, funnel.damaged, funnel.lost_share)
        note_times(console, funnel.corpus, funnel.times_not_understood)
    for note in summary.notes:
        console.print(note, style="yellow")
    for phase in summary.mixture.get("phases", []):
        sets = ", ".join(f"{s['blocks']:,} blocks of {s['block_length']:,}" for s in phase["sets"])
        console.print(f"{phase['name']}: {phase['tokens']:,} tokens in {sets}")
        if phase["given_away"]:
            names = ", ".join(phase["given_away"])
            console.print(f"  no documents for {names}: the other pools got the share")
    for concern in summary.concerns:
        console.print(f"warning: {concern}", style="yellow", soft_wrap=True)
    reused = sum(r for r, _ in summary.reused.values())
    total = sum(t for _, t in summary.reused.values())
    taken = f", {summary.taken:,} of them taken from {origin}" if origin else ""
    console.print(
        f"{shown(run)}: {', '.join(summary.stages)}; {reused:,} of {total:,} tasks reused{taken}", soft_wrap=True
    )


def note_damage(console: Console, corpus: str, damaged: Sequence[str], lost: float) -> None:
    """Name the damaged files of a corpus, and how much of it was lost with them, in per cent."""
    if not damaged:
        return
    console.print(
        f"{corpus}: {counted(len(damaged), 'damaged file')} that lost {lost:.3g} % of the corpus; rows before the "
        "damage were used",
        style="yellow",
    )
    for damage in damaged[:NAMED_FILES]:
        console.print(f"  {damage}", style="yellow")
    if len(damaged) > NAMED_FILES:
        console.print(f"  and {len(damaged) - NAMED_FILES:,} more, listed in stats/funnel.json", style="yellow")


def note_times(console: Console, corpus: str, documents: int) -> None:
    """Say of how many documents of a corpus the time was not understood."""
    if documents:
        console.print(
            f"{corpus}: {counted(documents, 'document')} with a time that was not understood; rules by time take "
            "them for the oldest",
            style="yellow",
        )


def print_what_if(result: WhatIf, overrides: Sequence[str]) -> None:
    """What another filter would change: totals, by reason and subset, examples, and what a real change would redo."""
    console = new_console()
    lost, won = sum(result.dropped.values()), sum(result.restored.values())
    console.print(f"what if {', '.join(overrides)}", style="bold")
    now, again = ("are kept", "be kept") if result.decided else ("pass the filters", "pass")
    console.print(
        f"{result.documents:,} documents, {result.kept:,} {now} now; {lost:,} more would be dropped, {won:,} would {again} "
        f"again ({result.bytes / 1e6:+,.2f} MB of text)",
    )
    for title, counts in (("dropped for", result.dropped), ("no longer dropped for", result.restored)):
        for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            console.print(f"  {n:,} {title} {reason}")
    if result.by_subset:
        table = TextTable("subset", "dropped", "passes again", box=None, header_style="bold")
        for cell, (dropped, restored) in sorted(result.by_subset.items()):
            table.add_row(cell, f"{dropped:,}", f"{restored:,}")
        console.print(table)
    for example in result.examples:
        about = f"{example.name}  {example.reason}  {example.value}"
        console.print(about, style="cyan")
        console.print(f"    {example.text}")
    redo = (
        f"filter, dedupe, tokens of about {result.changed_groups} of {counted(result.groups, 'group')}, mix and stats"
    )
    console.print(
        f"a curation with this change would reuse the scan and redo {redo}" if lost or won else "nothing would change",
    )
    if result.before_passages:
        console.print(
            "these are decisions on whole documents: which passages are cut (`dedupe.passages`), in documents of any group, "
            "and who is too short then, takes their text; curate a variant for that: "
            "`fox1 curate RECIPE --out NEW --from RUN --set ...`",
            style="yellow",
        )


def print_jobs(jobs: Sequence[Job]) -> None:
    """Jobs of a cluster, the newest first."""
    table = TextTable("job", "status", "started", "took", "command", box=None, header_style="bold")
    for job in jobs:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started)) if job.started else ""
        minutes, seconds = divmod(int(job.seconds), 60)
        took = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        table.add_row(job.id, job.status.lower(), started, took, job.command)
    new_console().print(table)
