"""Standard output and its tables: what all of `show` shares. Nothing that is printed here can steer the terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from ...storage.wording import printable


class TextConsole(Console):
    """A console for lines of text: what stands in brackets or between colons is text, whatever rich would make of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


class TextTable(Table):
    """A table whose cells are text."""

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        super().add_column(_text(header), *arguments, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*map(_text, cells), **options)


def _text(cell: Any) -> Any:
    return printable(cell) if isinstance(cell, str) else cell


def new_console() -> Console:
    """Standard output."""
    # A log file has no width: eighty columns would cut numbers.
    return TextConsole(width=None if sys.stdout.isatty() else 150)


def new_table(title: str, *columns: str) -> Table:
    table = TextTable(
        title=printable(title), title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
