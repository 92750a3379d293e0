"""The text of a few documents of a run, for people to look at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ...storage.wording import printable
from ...tokenize.chat import spoken
from ..run.identity import ROW_BITS, SourceFile
from ..run.parquet_rows import row_of
from ..run.paths import RunPaths
from ..sources.extracted import RAW_BYTES, RAW_HASH, extracted_row
from ..sources.quarantine import Quarantine
from ..sources.rows import read_rows
from ..sources.some_rows import Wanted
from .binding import TEXT_HASH, check_scanned, check_texts, not_scanned, text_hashes
from .edits import apply_edits

EXCERPT = 160
SURROUNDINGS = 60
"""Bytes before and after what an excerpt is about, at least."""
GAP = " … "
"""Between parts of an excerpt."""


def raw_text(paths: RunPaths, file: SourceFile, row: int) -> pa.LargeStringArray | None:
    """The text of a row that edits are of, as an array of length one; as `scanned_row` reads it."""
    found = scanned_row(paths, file, row)
    return found.column("text") if found is not None else None


def scanned_row(paths: RunPaths, file: SourceFile, row: int) -> pa.RecordBatch | None:
    """A row as it was scanned, of `TEXT_SCHEMA`; None if the file has no such row. Reads the file up to that row, or the row group
    of the stored texts that has it.

    Raises:
        ValueError: the row does not hold the text that was scanned.
    """
    signals = paths.signals(file.corpus, file.part)
    check_scanned(signals)
    for batch in _rows_with(file, row):
        at = np.flatnonzero(batch.column("row").to_numpy() == row)
        if len(at):
            found = batch.slice(int(at[0]), 1)
            stored = row_of(signals, file.file_hash << ROW_BITS | row, [TEXT_HASH])
            if stored is None:
                raise not_scanned(f"{file.name}#{row}", signals)
            check_texts(file, found.column("row"), found.column("text"), stored.column(TEXT_HASH), signals)
            return found
    return None


def _rows_with(file: SourceFile, row: int) -> Iterator[pa.RecordBatch]:
    """Batches of a file, among which is the one that has a row."""
    if file.extracted:
        found = extracted_row(file.extracted, row)
        return iter([found] if found else [])
    return read_rows(file, Quarantine(file), wanted=Wanted(iter([np.array([row])])))


@dataclass(frozen=True)
class RawRow:
    """The text of a row of a source, which steps of `before_scan` made another of."""

    bytes: int
    """Of its UTF-8."""
    hash: str
    """Hexadecimal; see `sources.extracted.RAW_HASH`."""


def raw_row(file: SourceFile, row: int) -> RawRow | None:
    """What the run has stored of the raw text of a row; None where no step was given it."""
    found = extracted_row(file.extracted, row, ("row", RAW_HASH, RAW_BYTES)) if file.extracted else None
    if found is None:
        return None
    return RawRow(found.column(RAW_BYTES)[0].as_py(), found.column(RAW_HASH)[0].as_py().hex())


def check_raw_row(file: SourceFile, row: int, stored: RawRow) -> None:
    """Read a row of a source again, and compare it with what the steps were given.

    Raises:
        ValueError: the source has no such row, or holds another text.
    """
    bare = replace(file, extracted=None)
    for batch in read_rows(bare, Quarantine(bare), wanted=Wanted(iter([np.array([row])]))):
        if text_hashes(batch.column("text"))[0].as_py().hex() == stored.hash:
            return
    raise ValueError(
        f"{file.name}#{row} no longer holds the text that the steps of `before_scan` were given; put the file back as it was, or "
        "run `fox1 curate` again to extract and scan what it holds now"
    )


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


def around(text: str, spans: Sequence[tuple[int, int]], letters: int) -> tuple[str, list[tuple[int, int]]]:
    """The parts of a text where some spans stand, with what is about them, and the spans within that excerpt.

    Args:
        spans: ascending, disjoint, in bytes of the text; without any, the excerpt is its beginning.
        letters: of the excerpt, about.

    Returns:
        The excerpt, its parts with an ellipsis between them, and the spans in its characters.
    """
    if not spans:
        return text[:letters], []
    data = text.encode()
    reach = max(SURROUNDINGS, letters // 10)
    windows: list[list[int]] = []
    for begin, end in spans:
        stop = min(end, begin + letters)
        first, last = max(0, begin - reach), min(len(data), stop + reach)
        # Whole words, where there are any.
        while 0 < first < begin and not data[first - 1 : first].isspace():
            first += 1
        while stop < last < len(data) and not data[last : last + 1].isspace():
            last -= 1
        if windows and first <= windows[-1][1]:
            windows[-1][1] = max(windows[-1][1], last)
        elif sum(b - a for a, b in windows) >= letters:
            break
        else:
            windows.append([first, last])
        if sum(b - a for a, b in windows) >= 2 * letters:
            break
    said, marks = "", list[tuple[int, int]]()
    ends = [end for _, end in spans]
    for first, last in windows:
        said += GAP if first else ""
        at = first
        # There may be thousands, of which few lie in a window.
        for begin, end in spans[bisect_right(ends, first) :]:
            low, high = max(begin, first), min(end, last)
            if begin >= last:
                break
            if low >= high:
                continue
            said += data[at:low].decode(errors="ignore")
            marked = data[low:high].decode(errors="ignore")
            marks.append((len(said), len(said) + len(marked)))
            said, at = said + marked, high
        said += data[at:last].decode(errors="ignore")
        if len(said) >= letters:
            break
    return said[:letters], [(begin, min(end, letters)) for begin, end in marks if begin < letters]
