"""The second read is bound to the first: scan stores a hash of every raw text, and whoever reads a text again compares it.

What scan decided and where its edits lie says something of those bytes alone. A file that was swapped, or a server that
gives another text to the second reader, must not bring in text that no filter saw and no edit fits.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...tokenize.spans import text_buffers
from ..run.identity import SourceFile
from ..signals import collapse
from ..signals.hashing import fixed_binary

TEXT_HASH = "text_hash"
"""The column of `signals/`."""
ENCODING = "BLAKE3 of the UTF-8 before edits, by signals/collapse.py, first 128 bits; v2"


def text_hashes(text: pa.LargeStringArray) -> pa.FixedSizeBinaryArray:
    """The hashes of raw texts, as scan stores them."""
    return fixed_binary(collapse.text_hashes(*text_buffers(text))[1])


def check_scanned(signals: Path) -> None:
    """Refuse signals that cannot tell whether a text is the one that was scanned.

    Raises:
        ValueError: another version of fox1 wrote them.
    """
    schema = pq.read_schema(signals)
    if TEXT_HASH not in schema.names or schema.field(TEXT_HASH).metadata != {b"encoding": ENCODING.encode()}:
        raise ValueError(
            f"{signals} was written by another version of fox1 and has no hashes of the texts to compare; run `fox1 curate` again "
            "to scan its file"
        )


def check_texts(
    file: SourceFile, rows: pa.Int64Array, text: pa.LargeStringArray, scanned: pa.FixedSizeBinaryArray, signals: Path
) -> None:
    """Compare raw texts with what scan stored of their rows.

    Args:
        rows: of the texts, in the file.
        scanned: the column `TEXT_HASH` of these rows.
        signals: the file that it is from.

    Raises:
        ValueError: naming the first row with another text.
    """
    other = pc.indices_nonzero(pc.not_equal(text_hashes(text), scanned))
    if len(other):
        raise not_scanned(f"{file.name}#{rows[other[0].as_py()]}", signals)


def not_scanned(name: str, signals: Path) -> ValueError:
    """What to raise where a file or row, by its name, is not the one that was scanned."""
    return ValueError(
        f"{name} no longer holds the text that was scanned; put the file back as it was, or delete {signals} and run "
        "`fox1 curate` again to scan what it holds now"
    )
