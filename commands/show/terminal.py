"""Standard output and its tables: what all of `show` shares. Nothing that is printed here can steer the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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

    labels = 1
    """Columns at the left that say what a row is."""

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


def new_table(title: str, *columns: str) -> TextTable:
    table = TextTable(
        title=printable(title), title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def print_table(console: Console, table: TextTable) -> None:
    """Print a table; one that is wider than the terminal in parts, each with its labels, so that no figure is cut."""
    widths = [
        GAP + max(console.measure(cell).maximum for cell in (column.header, *column.cells)) for column in table.columns
    ]
    labels = list(range(table.labels))
    if sum(widths) - GAP <= console.width or len(widths) < len(labels) + 2:
        console.print(table)
        return
    parts, used = list[list[int]](), console.width
    for number in range(len(labels), len(widths)):
        if used + widths[number] - GAP > console.width:
            parts.append([*labels])
            used = sum(widths[: len(labels)])
        parts[-1].append(number)
        used += widths[number]
    for number, columns in enumerate(parts):
        console.print(_part(table, columns, first=not number))


GAP = 2
"""Spaces between columns."""


def _part(table: TextTable, columns: Sequence[int], first: bool) -> TextTable:
    """Some columns of a table; the first part has its title and caption."""
    part = new_table(str(table.title) if first else "")
    part.title = part.title or None
    for number in columns:
        part.add_column(table.columns[number].header, justify=table.columns[number].justify)
    cells = [list(table.columns[number].cells) for number in columns]
    for *row, facts in zip(*cells, table.rows, strict=True):
        part.add_row(*row, style=facts.style)
    if first:
        part.caption, part.caption_justify = table.caption, table.caption_justify
    return part
