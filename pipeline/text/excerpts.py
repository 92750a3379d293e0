"""The text of a few documents of a run, for people to look at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ...storage.wording import printable
from ...tokenize.chat import spoken
from ..run.artifacts import RunPaths
from ..run.identity import ROW_BITS, SourceFile
from ..run.parquet_rows import row_of
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from .binding import TEXT_HASH, check_scanned, check_texts, not_scanned
from .edits import apply_edits

EXCERPT = 160


def raw_text(paths: RunPaths, file: SourceFile, row: int) -> pa.LargeStringArray | None:
    """The text of a row, as an array of length one; None if the file has no such row. Reads the file up to that row.

    Raises:
        ValueError: the row does not hold the text that was scanned.
    """
    signals = paths.signals(file.corpus, file.part)
    check_scanned(signals)
    for batch in read_rows(file, Quarantine(file)):
        at = np.flatnonzero(batch.column("row").to_numpy() == row)
        if len(at):
            found = batch.slice(int(at[0]), 1)
            stored = row_of(signals, file.file_hash << ROW_BITS | row, [TEXT_HASH])
            if stored is None:
                raise not_scanned(f"{file.name}#{row}", signals)
            check_texts(file, found.column("row"), found.column("text"), stored.column(TEXT_HASH), signals)
            return found.column("text")
    return None


def edited_text(paths: RunPaths, file: SourceFile, row: int) -> str:
    """The edited text of a document; empty if the file has no such row.

    Raises:
        ValueError: the row does not hold the text that was scanned.
    """
    text = raw_text(paths, file, row)
    if text is None:
        return ""
    stored = row_of(paths.signals(file.corpus, file.part), file.file_hash << ROW_BITS | row, ["edits"])
    assert stored is not None
    edited: str = apply_edits(text, stored.column("edits"))[0].as_py()
    return edited


def beginning(text: str, length: int = EXCERPT) -> str:
    """The first characters of a text on one line, safe for a terminal."""
    return printable(" ".join(spoken(text[: 4 * length]).split())[:length])
