"""The text of a few documents of a run, for people to look at."""

from __future__ import annotations

import pyarrow.compute as pc
import pyarrow.parquet as pq

from .artifacts import RunPaths
from .edits import apply_edits
from .identity import SourceFile
from .sources.quarantine import Quarantine
from .sources.rows import read_rows

EXCERPT = 160


def edited_text(paths: RunPaths, file: SourceFile, row: int) -> str:
    """The edited text of a document; empty if the file has no such row. Reads the file up to it."""
    edits = pq.read_table(paths.signals(file.corpus, file.path), columns=["row", "edits"])
    for batch in read_rows(file, Quarantine(file)):
        rows = batch.column("row").to_pylist()
        if row in rows:
            its = edits.filter(pc.equal(edits.column("row"), row)).column("edits").combine_chunks()
            return apply_edits(batch.column("text").slice(rows.index(row), 1), its)[0].as_py()
    return ""


def beginning(text: str, length: int = EXCERPT) -> str:
    """The first characters of a text on one line, safe for a terminal: what is not printable is left out."""
    head = " ".join(text[: 4 * length].split())[:length]
    return "".join(c for c in head if c.isprintable())


def visible(text: str) -> str:
    """A text of any length, safe for a terminal: what is neither printable nor white space is shown by its number."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
