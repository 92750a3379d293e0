"""Content hashes as people read and write them: the name of the hash, a colon, and 32 hexadecimal digits.

The name tells them from the hashes of earlier versions, for which anybody could make texts.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from ...storage.wording import printable

ALGORITHM = "blake3"
_DIGITS = re.compile("[0-9a-fA-F]{32}")
COLUMN = "content_hash"
"""The column of `signals/`; its encoding begins with the name of the hash."""
ENCODING = f"{ALGORITHM} of NFC, white space collapsed, first 128 bits; v2"


def written(content_hash: bytes, algorithm: str = ALGORITHM) -> str:
    """A content hash as `fox1 why` shows it and exclude lists have it."""
    return f"{algorithm}:{content_hash.hex()}"


def parsed(value: str) -> bytes:
    """The 16 bytes of a content hash that is written in this way.

    Raises:
        ValueError: it is none, or one of an earlier version.
    """
    name, _, digits = value.rpartition(":")
    is_hash = _DIGITS.fullmatch(digits)
    if is_hash and name == ALGORITHM:
        return bytes.fromhex(digits)
    if is_hash or _DIGITS.fullmatch(digits.removeprefix("0x")):
        raise ValueError(
            f"{printable(value[:200])} is a content hash of an earlier version of fox1, for which anybody can make a text; write "
            f"{ALGORITHM}:... as `fox1 why` shows it for the document in a run of this version"
        )
    raise ValueError(
        f"{value[:200]!r} is no content hash; write {ALGORITHM}: and 32 hexadecimal digits, as `fox1 why` does"
    )


def algorithm_of(signals: Path) -> str:
    """The name of the hash of contents in a file of `signals/`."""
    metadata = pq.read_schema(signals).field(COLUMN).metadata or {}
    return str(metadata.get(b"encoding", b"unknown").decode().split()[0])
