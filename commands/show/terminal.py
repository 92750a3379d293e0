"""Standard output and its tables: the settings of rich that all of `show` shares."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def new_console() -> Console:
    """Standard output; what stands in brackets or between colons is text. Names from data go through `printable`, too."""
    # A log file has no width: eighty columns would cut numbers.
    return Console(width=None if sys.stdout.isatty() else 150, markup=False, emoji=False)


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
