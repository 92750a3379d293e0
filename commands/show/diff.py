"""`fox1 diff`: two runs as tables, no wider than eighty columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ...pipeline.inspect.diff import ABSENT, KEPT, RunDiff
from ...storage.wording import counted
from .terminal import new_console, new_table

VALUE = 60
"""Characters of a value of a recipe that are shown."""


def print_diff(found: RunDiff, a: str, b: str) -> None:
    """What two runs were asked for, what they kept and dropped, and which documents changed sides.

    Args:
        a, b: places of the runs.
    """
    console = new_console()
    console.print(f"A  {a}", soft_wrap=True)
    console.print(f"B  {b}", soft_wrap=True)
    console.print()
    console.print("Recipe keys that differ" if found.settings else "The recipes are the same.", style="bold")
    for key, old, new in found.settings:
        console.print(f"  {key}: {_short(old)} -> {_short(new)}", soft_wrap=True)
    console.print()
    console.print(_rates(found.outcomes))
    console.print()
    total = sum(found.changes.values())
    console.print(f"{counted(total, 'document')} changed, {found.unchanged:,} did not", style="bold")
    if not total:
        return
    table = new_table("", "in A", "in B", "documents")
    table.columns[1].justify = "left"
    for (before, after), documents in found.changes.items():
        table.add_row(_said(before), _said(after), f"{documents:,}")
    console.print(table)
    console.print()
    for before, after in found.changes:
        console.print(f"{_said(before)} -> {_said(after)}", style="cyan")
        for name in found.examples[before, after]:
            console.print(f"  {name}", soft_wrap=True)


def _said(outcome: str) -> str:
    return outcome if outcome in (KEPT, ABSENT) else f"dropped: {outcome}"


def _short(value: str) -> str:
    return value if len(value) <= VALUE else f"{value[: VALUE - 3]}..."


def _rates(outcomes: Mapping[str, Mapping[str, tuple[int, int]]]) -> Table:
    """Shares of each corpus's documents that are kept, and that are dropped for reasons of which the two runs differ."""
    table = new_table("Share of the documents of a corpus", "corpus", "outcome", "A", "B", "change")
    table.columns[1].justify = "left"
    for corpus, counts in sorted(outcomes.items()):
        sizes = [max(1, sum(n[side] for n in counts.values())) for side in (0, 1)]
        ordered = sorted(counts, key=lambda outcome: (outcome != KEPT, outcome))
        for outcome in [o for o in ordered if o == KEPT or counts[o][0] != counts[o][1]]:
            old, new = (100 * counts[outcome][side] / sizes[side] for side in (0, 1))
            table.add_row(corpus, outcome, f"{old:.2f} %", f"{new:.2f} %", f"{new - old:+.2f}")
            corpus = ""
    return table
