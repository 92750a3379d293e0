"""What `fox1 eval` shows: bars over the items, then the scores beside the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.progress import track

from ...storage.wording import printable
from ...trainer.evaluate.evaluate import PUBLISHED_MEMORY_MIB, PUBLISHED_TOKENS_PER_SECOND, Generation, Score
from .terminal import TextConsole, new_console, new_table


def track_items(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Pass items on with a bar on the terminal; nothing is shown elsewhere."""
    console = TextConsole(stderr=True)
    return track(items, escape(printable(what)), console=console, disable=not console.is_terminal, transient=True)


def print_scores(scores: Sequence[Score], generation: Generation) -> None:
    """Two tables, each beside what is published of Fox-1."""
    console = new_console()
    if scores:
        columns = ("shots", "items", "score %", "± (1 s.e.)", "Fox-1, published %")
        table = new_table("Scores", "benchmark", *columns)
        for s in scores:
            cells = (str(s.shots), f"{s.items:,}", f"{s.per_cent:.2f}", f"{s.standard_error:.2f}", f"{s.published:.2f}")
            table.add_row(s.benchmark, *cells)
        console.print(table)
        console.print()
    here, published = f"here, {generation.dtype} on {generation.device}", "published, bf16 on one H100"
    table = new_table("Generation", "measure", here, published)
    table.add_row("memory, MiB", f"{generation.memory_mib:,.0f}", f"{PUBLISHED_MEMORY_MIB:,}")
    table.add_row("tokens per second", f"{generation.tokens_per_second:,.1f}", f"> {PUBLISHED_TOKENS_PER_SECOND}")
    console.print(table)
