"""Made-up results of dedupe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fox1.pipeline.dedupe.buckets import Bands, Walked
from fox1.pipeline.dedupe.decide import LINK, Judged, Links, Pass, Settled, Told
from fox1.pipeline.dedupe.exact import CELLS, OVERLAP, Classes, Contents
from fox1.pipeline.dedupe.order import BAND, CONTENT, EDGE, FOLLOWER, MOST_CHUNKS, PAIR, REQUEST, UPDATE, Part
from fox1.pipeline.dedupe.ranges import Layout
from fox1.pipeline.dedupe.result import DecidedChunk, Resolved
from fox1.pipeline.dedupe.verify import Gathered, Verified
from fox1.pipeline.engine.shuffle import Records, Shuffled
from fox1.pipeline.engine.tasks import Planned
from fox1.pipeline.engine.tree import Joined
from fox1.pipeline.filter.judge import Verdict
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.file_sets import FileSet
from fox1.storage.ahead import READ_AHEAD

from .published import FILTERED, counts_of
from .results import (
    ANSWER,
    DECISIONS,
    FOLLOWERS,
    JUDGE,
    JUDGED_EDGE,
    LIVE,
    PAIRS,
    RULE,
    SORT,
    VERIFIED,
    WALKED_EDGE,
    Results,
    Work,
    artifact,
    beside,
    files_in,
    of_round,
    share,
)

CELLS_EACH = 500
"""Cells of the overlap that a task counts."""


class DedupeResults(Results):
    """Those of the steps of dedupe."""

    def _documents(self, parts: Sequence[Part]) -> int:
        return sum(a.rows for part in parts for a in part.signals)

    def _part_columns(self, work: Work, parts: Sequence[Part], narrow: float, wide: float = 0.0) -> None:
        self._walks_columns(work, [a for part in parts for a in part.signals], narrow)
        if wide:
            self._walks_columns(work, [a for part in parts for a in part.signatures], wide)

    def _shuffled(self, work: Work, stem: Path, name: str, rows: int, size: int) -> tuple[Artifact, ...]:
        """A shuffle file of so many rows of so many bytes."""
        self.totals[name] += rows
        work.seconds += rows * size / SORT
        return (artifact(beside(stem, name), rows * size, rows),)

    def shuffle_contents(self, planned: Planned, work: Work, parts: Sequence[Part], *args: Any) -> Contents:
        n, stem = self._documents(parts), args[-1]
        self._part_columns(work, parts, 0.3)
        spans, samples = (artifact(beside(stem, s), 4096, 100) for s in ("spans", "samples"))
        return Contents(self._shuffled(work, stem, "contents", n, CONTENT.itemsize), (spans,), (samples,))

    def lay_out(
        self, planned: Planned, work: Work, spans: FileSet, samples: FileSet, ranges: int, *args: Any
    ) -> Layout:
        work.reads(files_in((spans, samples)), 2 * 4096.0 * MOST_CHUNKS, READ_AHEAD)
        made = [artifact(beside(args[-1], s), 1 << 20, ranges) for s in ("bounds", "spans")]
        return Layout(made[0], made[1], ranges, self.documents)

    def find_classes(self, planned: Planned, work: Work, *args: Any) -> Classes:
        n, stem = self._reduces(work, planned, self.documents, CONTENT.itemsize), args[-1]
        behind = int(n * FOLLOWERS)
        members, leaders = (self._shuffled(work, stem, s, behind, FOLLOWER.itemsize) for s in ("members", "leaders"))
        return Classes(
            members, leaders, self._shuffled(work, stem, "edges", n // 1000, EDGE.itemsize), behind, self._cells(stem)
        )

    def shuffle_bands(self, planned: Planned, work: Work, parts: Sequence[Part], *args: Any) -> Bands:
        n = int(self._documents(parts) * self.compared / self.documents * (1 - FOLLOWERS))
        self._part_columns(work, parts, 0.3, 0.15)
        return Bands(self._shuffled(work, args[-1], "bands", n * 14, BAND.itemsize), n)

    @property
    def _found(self) -> int:
        return int(self.documents * of_round(PAIRS, self._round))

    @property
    def _edges(self) -> int:
        return int(self.documents * of_round(VERIFIED, self._round)) + self._left

    @property
    def _left(self) -> int:
        """Edges of open documents that the round before left."""
        return int(self.documents * of_round(LIVE, self._round - 1)) // 20

    @property
    def _live(self) -> int:
        return int(self.documents * of_round(LIVE, self._round))

    def walk_buckets(self, planned: Planned, work: Work, *args: Any) -> Walked:
        before = self.totals["bands"] if self._round == 0 else int(self.documents * of_round(LIVE, self._round - 1))
        n, stem = self._reduces(work, planned, before, BAND.itemsize), args[-1]
        pairs = share(self._found, planned.index, self._count)
        live = share(self._live, planned.index, self._count)
        return Walked(
            self._shuffled(work, stem, "pairs", pairs, PAIR.itemsize),
            self._shuffled(work, stem, "live", live, BAND.itemsize),
            self._shuffled(work, stem, "walked", live, UPDATE.itemsize),
            n // 4, 0, live, 1000,
        )  # fmt: skip

    def gather_pairs(self, planned: Planned, work: Work, *args: Any) -> Gathered:
        n, stem = self._reduces(work, planned, self._found, PAIR.itemsize), args[-1]
        return Gathered(
            self._shuffled(work, stem, "gathered", n, PAIR.itemsize),
            self._shuffled(work, stem, "requests", n, REQUEST.itemsize),
            self._shuffled(work, stem, "opened", n // 50, EDGE.itemsize),
            (), n,
        )  # fmt: skip

    def answer(self, planned: Planned, work: Work, chunks: Sequence[Sequence[Part]], *args: Any) -> Shuffled:
        n = self._reduces(work, planned, self._found, REQUEST.itemsize)
        for parts in chunks:
            self._part_columns(work, parts, 0.05, min(0.85, 3 * of_round(PAIRS, self._round)))
        return Shuffled(self._shuffled(work, args[-1], "answers", n, ANSWER))

    def verify(self, planned: Planned, work: Work, chunks: Sequence[Sequence[Part]], *args: Any) -> Verified:
        self._reduces(work, planned, self._found, ANSWER + PAIR.itemsize)
        for parts in chunks:
            self._part_columns(work, parts, 0.1, min(0.85, 3 * of_round(PAIRS, self._round)))
        n = share(self._edges, planned.index, self._count)
        return Verified(self._shuffled(work, args[-1], "edges", n, EDGE.itemsize), n)

    def number_edges(self, planned: Planned, work: Work, *args: Any) -> Links:
        n = self._reduces(work, planned, self._edges, EDGE.itemsize)
        return Links(self._shuffled(work, args[-1], "links", n, LINK.itemsize))

    def walk_edges(self, planned: Planned, work: Work, links: FileSet, numbers: int, *args: Any) -> Pass:
        work.reads(len(links), self._edges * LINK.itemsize, READ_AHEAD)
        work.seconds, work.meanwhile = self._edges * WALKED_EDGE, True
        return Pass(artifact(beside(args[-1], "states"), numbers // 4 + 1, numbers // 4 + 1))

    def judge_edges(self, planned: Planned, work: Work, links: FileSet, states: Artifact, *args: Any) -> Judged:
        n = share(self._edges, planned.index, self._count)
        work.reads(len(links), n * LINK.itemsize + states.bytes, READ_AHEAD)
        work.seconds, work.meanwhile = n * JUDGED_EDGE, True
        return Judged(artifact(beside(args[-1], "verdicts"), n, n))

    def judge_few(self, planned: Planned, work: Work, links: FileSet, numbers: int, *args: Any) -> Judged:
        work.reads(len(links), self._edges * LINK.itemsize, READ_AHEAD)
        work.seconds, work.meanwhile = self._edges * (WALKED_EDGE + JUDGED_EDGE), True
        return Judged(artifact(beside(args[-1], "verdicts"), self._edges, self._edges))

    def settle(self, planned: Planned, work: Work, *args: Any) -> Settled:
        n, stem = self._reduces(work, planned, self._edges, EDGE.itemsize), args[-1]
        left = share(self._live // 20, planned.index, self._count)
        return Settled(
            self._shuffled(work, stem, "drops", n // 2, EDGE.itemsize),
            self._shuffled(work, stem, "unknown", left, 8),
            self._shuffled(work, stem, "left", left, EDGE.itemsize),
        )

    def tell_chunks(self, planned: Planned, work: Work, *args: Any) -> Told:
        n = self._reduces(work, planned, self._edges // 2, EDGE.itemsize)
        drops = self._shuffled(work, args[-1], "drops", n, 32)
        live = share(self._live, planned.index, self._count)
        return Told(drops, self._shuffled(work, args[-1], "updates", live, UPDATE.itemsize), n)

    def resolve(self, planned: Planned, work: Work, *args: Any) -> Resolved:
        n = self._reduces(work, planned, int(self.documents * FOLLOWERS) + self.totals["drops"], 32)
        drops = self._shuffled(work, args[-1], "resolved", n, 32)
        return Resolved(drops, self._shuffled(work, args[-1], "clusters", n, 32))

    def write_decisions(self, planned: Planned, work: Work, parts: Sequence[Part], *args: Any) -> DecidedChunk:
        self._reduces(work, planned, int(self.documents * (2 * FOLLOWERS + FILTERED)), 64)
        self._part_columns(work, parts, 0.2)
        verdicts, kept_bytes = Counter[tuple[str, str, str]](), Counter[str]()
        decisions = {}
        for part in parts:
            corpus, fate = part.group.corpus, self.fates[part.group.corpus]
            for file, a in zip(part.group.files, part.signals, strict=True):
                decisions[file.table] = artifact(self.paths.decisions(corpus, file.part), a.rows * DECISIONS, a.rows)
                work.seconds += a.rows / (4 * JUDGE)
                for subset, (n, passed, kept) in counts_of(file, a.rows, fate).items():
                    verdicts[corpus, subset, RULE] += n - passed
                    verdicts[corpus, subset, "near_duplicate"] += passed - kept
                    verdicts[corpus, subset, ""] += kept
                    kept_bytes[f"{corpus}/{subset}"] += int(kept / fate.documents_per_byte)
        told = tuple(Verdict(*key, n) for key, n in verdicts.items() if n)
        return DecidedChunk(
            decisions,
            told,
            dict(kept_bytes),
            {},
            {},
            0,
            self._cells(self.paths.dedupe(f"decisions/{planned.task.name}")),
            {},
        )

    def _cells(self, stem: Path) -> tuple[Artifact, ...]:
        return (artifact(beside(stem, "overlaps"), CELLS_EACH * OVERLAP.itemsize, CELLS_EACH),)

    def join_records(self, planned: Planned, work: Work, files: FileSet, rows: Records, stem: Path) -> Joined:
        size = CELLS_EACH * OVERLAP.itemsize if rows == CELLS else 4096
        work.reads(2 * len(files), len(files) * size, READ_AHEAD)
        if rows != CELLS:
            return Joined(artifact(beside(stem, "joined"), size * len(files), 100 * len(files)))
        # The driver reads the last one.
        return Joined(self._cells(stem)[0] if self._count > 1 else CELLS.writer(stem).close()[0])
