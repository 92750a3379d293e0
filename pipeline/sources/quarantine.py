"""Rows that could not be read: kept with their place and the reason, counted, never silently skipped."""

from __future__ import annotations

import json
from pathlib import Path

from ..run.artifacts import Artifact, Publication, remove
from ..run.identity import SourceFile
from .formats import Damaged

EXCERPT_BYTES = 200
REASON_CHARS = 300
MAX_ENTRIES = 5_000
"""Rows of a file that its quarantine names; of the others it says how many they are."""


class Quarantine:
    """The bad rows of one file, as JSON lines; without a path they are only counted."""

    def __init__(self, file: SourceFile, path: Path | None = None) -> None:
        self._file = file
        self._path = path
        self._out: Publication | None = None
        self.rows = 0
        self.times = 0
        """Good rows whose time is there and not understood."""
        self.damage = ""
        """What is wrong with the file as a whole; empty if it could be read to its end."""
        self.intact = 0
        """Stored bytes before the damage."""
        self.cut = False
        """Whether the damage is that the file ends too early."""

    def row(self, row: int, offset: int, reason: str, data: bytes | memoryview = b"") -> None:
        """Note one bad row. `offset` is its first byte in the decompressed file (-1 in columnar files)."""
        self.rows += 1
        if self.rows <= MAX_ENTRIES:
            self._write(row, offset, reason[:REASON_CHARS], bytes(data[:EXCERPT_BYTES]))

    def damaged(self, damage: Damaged) -> None:
        """Note that the file ends in damage: everything after it is lost."""
        self.damage, self.intact, self.cut = damage.reason, damage.intact, damage.cut
        self._write(-1, damage.offset, f"damaged file: {damage.reason}")

    def _write(self, row: int, offset: int, reason: str, data: bytes = b"") -> None:
        if self._path is None:
            return
        if self._out is None:
            self._out = Publication(self._path, 0)
        entry = {"file": self._file.name, "row": row, "offset": offset, "reason": reason}
        if data:
            entry["excerpt"] = data.decode("utf-8", "backslashreplace")
        self._out.write(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
        self._out.rows += 1

    def publish(self) -> Artifact | None:
        """Publish the quarantine file, or remove an old one if the file has no bad rows now."""
        if self.rows > MAX_ENTRIES:
            self._write(-1, -1, f"and {self.rows - MAX_ENTRIES:,} more rows that could not be read")
        if self._out is None:
            if self._path:
                remove(self._path)
            return None
        self._out.commit()
        return self._out.artifact
