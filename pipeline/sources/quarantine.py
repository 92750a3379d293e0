"""Rows that could not be read: kept with their place and the reason, counted, never silently skipped."""

from __future__ import annotations

import json
from pathlib import Path

from ..artifacts import Artifact, publish
from ..identity import SourceFile

EXCERPT_BYTES = 200


class Quarantine:
    """Collects the bad rows of one file and publishes them as JSON lines."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._lines: list[str] = []
        self.rows = 0
        self.damage = ""
        """What is wrong with the file as a whole; empty if it could be read to its end."""

    def row(self, row: int, offset: int, reason: str, data: bytes | memoryview = b"") -> None:
        """Note one bad row. `offset`: of the row in the decompressed file, in bytes (-1 in columnar files)."""
        self.rows += 1
        self._write(row, offset, reason, bytes(data[:EXCERPT_BYTES]))

    def damaged(self, row: int, offset: int, reason: str) -> None:
        """Note that the file ends in damage: everything from `row` on is lost."""
        self.damage = reason
        self._write(row, offset, f"damaged file: {reason}", b"")

    def _write(self, row: int, offset: int, reason: str, data: bytes) -> None:
        entry = {"file": self._file.name, "row": row, "offset": offset, "reason": reason}
        if data:
            entry["excerpt"] = data.decode("utf-8", "backslashreplace")
        self._lines.append(json.dumps(entry, ensure_ascii=True))

    def publish(self, path: Path) -> Artifact | None:
        """Write the quarantine file, or remove a stale one when nothing is wrong (any more)."""
        if not self._lines:
            path.unlink(missing_ok=True)
            return None
        with publish(path, rows=len(self._lines)) as out:
            out.write(("\n".join(self._lines) + "\n").encode())
        return out.artifact
