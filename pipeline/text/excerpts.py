"""The text of a few documents of a run, for people to look at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...storage.wording import printable
from ...tokenize.chat import spoken
from ..run.artifacts import RunPaths
from ..run.identity import SourceFile
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from .edits import apply_edits

EXCERPT = 160


def raw_text(file: SourceFile, row: int) -> pa.LargeStringArray | None:
    """The text of a row, as an array of length one; None if the file has no such row. Reads the file up to that row."""
    for batch in read_rows(file, Quarantine(file)):
        at = np.flatnonzero(batch.column("row").to_numpy() == row)
        if len(at):
            return batch.column("text").slice(int(at[0]), 1)
    return None


def edited_text(paths: RunPaths, file: SourceFile, row: int) -> str:
    """The edited text of a document; empty if the file has no such row."""
    text = raw_text(file, row)
    if text is None:
        return ""
    edits = pq.read_table(paths.signals(file.corpus, file.path), columns=["row", "edits"])
    own_edits = edits.filter(pc.equal(edits.column("row"), row)).column("edits").combine_chunks()
    edited: str = apply_edits(text, own_edits)[0].as_py()
    return edited


def beginning(text: str, length: int = EXCERPT) -> str:
    """The first characters of a text on one line, safe for a terminal."""
    return printable(" ".join(spoken(text[: 4 * length]).split())[:length])
