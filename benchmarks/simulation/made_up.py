"""Made-up results of all stages, and of what their shuffles of two levels merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fox1.pipeline.engine.shuffle import Records
from fox1.pipeline.engine.tasks import Planned
from fox1.pipeline.engine.two_level import Merged, Tables
from fox1.pipeline.mix import index, lookup_index
from fox1.pipeline.run.file_sets import FileSet
from fox1.storage.ahead import READ_AHEAD

from .dedupe import DedupeResults
from .mix import MixResults
from .results import BLOCK_BYTES, FOLLOWERS, MOVE, SORT, Work, artifact, share


class MadeUp(DedupeResults, MixResults):
    """Makes up results of all tasks of a run."""

    def gather_tables(self, planned: Planned, work: Work, maps: FileSet, coarse: int, path: Path) -> Tables:
        work.reads(len(maps), len(maps) * 16.0 * coarse, READ_AHEAD)
        return Tables(artifact(path, coarse * len(maps) * 16, coarse))

    def merge_pieces(self, planned: Planned, work: Work, maps: FileSet, *args: Any) -> Merged:
        rows, path = args[-2:]
        total, size = self._stream(rows)
        n = share(total, planned.index, self._count)
        work.reads(len(maps) + 1, n * size, READ_AHEAD)
        work.seconds = n * size / (SORT * 2 if isinstance(rows, Records) and rows.by else MOVE)
        return Merged(artifact(path, n * size, n))

    def _stream(self, rows: Any) -> tuple[int, float]:
        """(rows, bytes of each) of what the step brings together."""
        if self._step == "mix.merge":
            return self.totals["copies"], 4 * self.totals["tokens"] / max(1, self.totals["copies"]) + 40
        if self._step.startswith("mix.blocks."):
            number = int(self._step[-2:])
            return self.blocks[number], BLOCK_BYTES * self.totals[f"length{number}"]
        if self._step == "mix.index_merge":
            return self.totals["segments"], index.RECORD.itemsize
        if self._step.startswith("mix.lookup_merge"):
            return self.documents, lookup_index.RECORD.itemsize
        of_step = {
            "contents_together": self.documents,
            "followers": int(self.documents * FOLLOWERS),
            "leaders": int(self.documents * FOLLOWERS),
            "bands_together": self.totals["bands"],
            "pairs": self._found,
            "members": self._live,
            "requests": self._found,
            "answers": self._found,
            "edges": self._edges,
            "drops": self._edges // 2,
            "unknown": self._live // 20,
            "updates": self._live,
            "dropped": self.totals["resolved"],
            "clusters": self.totals["clusters"],
        }
        name = self._step.removeprefix("dedupe.").rstrip("0123456789")
        return of_step[name], rows.dtype.itemsize
