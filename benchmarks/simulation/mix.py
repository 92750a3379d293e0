"""Made-up results of mix and stats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fox1.pipeline.engine.shuffle import Shuffled
from fox1.pipeline.engine.shuffle_file import Levels
from fox1.pipeline.engine.tasks import Planned
from fox1.pipeline.engine.two_level import Partition
from fox1.pipeline.mix import assign, index, lookup_index, select
from fox1.pipeline.mix.blocks import BlockFiles, PackedBlocks, PartitionDocuments, SetShape
from fox1.pipeline.mix.budget import Cell, MixSettings, quotas
from fox1.pipeline.mix.held_out import HeldOutSet
from fox1.pipeline.run.artifacts import Artifact, publish, write_json
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.stats.benchmark_items import ContaminationCounts, ContaminationReport
from fox1.pipeline.stats.distributions import DistributionCounts
from fox1.pipeline.stats.examples import FileExamples
from fox1.pipeline.stats.languages import LanguageCounts
from fox1.pipeline.text.survivors import DecidedFile
from fox1.storage.ahead import READ_AHEAD
from fox1.tokenize.shards import rows_per_file

from .results import (
    BLOCK_BYTES,
    JUDGE,
    LONG,
    MOVE,
    PACK,
    SEGMENTS,
    SORT,
    Results,
    Work,
    artifact,
    beside,
    files_in,
    share,
)


class MixResults(Results):
    """Those of the steps of mix, of the lookup index and of stats."""

    def list_documents(self, planned: Planned, work: Work, shards: Sequence[select.CellShard], *args: Any) -> Any:
        rows = sum(s.file.rows for s in shards)
        size = sum(s.file.bytes for s in shards)
        work.reads(len(shards), size)
        work.seconds = size / (5 * MOVE)
        cells = Counter[int]()
        tokens = Counter[int]()
        for s in shards:
            cells[s.cell] += s.file.rows
            tokens[s.cell] += int((s.file.bytes - 30 * s.file.rows) / 4.1) + s.file.rows * 2
        counts = tuple(select.CellCount(c, cells[c], tokens[c]) for c in sorted(cells))
        self.natural.update({c.cell: c.tokens for c in counts})
        return select.GroupDocuments(artifact(args[-1], rows * select.DOC.itemsize, rows), counts)

    def _counts(self, work: Work, documents: FileSet) -> None:
        rows = sum(self.natural.values()) / 900 / self._count
        work.reads(len(documents), rows * select.DOC.itemsize)
        work.seconds = rows * 100e-9

    def _table(self, work: Work, table: np.ndarray, path: Path) -> select.Histogram:
        """The one that the driver reads is there; of others only the size is."""
        if self._count > 1:
            return select.Histogram(artifact(path, 24 * len(table) * select.LEVELS))
        levels = np.arange(0, select.LEVELS, 256)
        row, level = np.repeat(np.arange(len(table)), len(levels)), np.tile(levels, len(table))
        triples = np.stack([row, level, np.repeat(table // len(levels), len(levels))], axis=1).astype(np.int64)
        with publish(path, rows=len(triples)) as file:
            file.write(np.ascontiguousarray(triples).tobytes())
        return select.Histogram(file.artifact)

    def quality_histogram(
        self, planned: Planned, work: Work, documents: FileSet, cells: Any, domains: Any, path: Path
    ) -> Any:
        self._counts(work, documents)
        self._last_table = np.full(len(domains), 1 << 40)
        return self._table(work, self._last_table, path)

    def histogram(
        self,
        planned: Planned,
        work: Work,
        documents: FileSet,
        settings: MixSettings,
        before: Any,
        search: Any,
        path: Path,
    ) -> Any:
        self._counts(work, documents)
        phase = settings.phases[search.phase]
        wanted, _ = quotas(phase, [1 << 60] * len(phase.pools))
        # Pools that may be repeated have to be.
        has = [w * 2 // 3 if p.max_epochs >= 2 else w * 6 // 5 for p, w in zip(phase.pools, wanted, strict=True)]
        self._last_table = np.array(has, np.int64) // (1 if search.bits == 0 else 256)
        return self._table(work, self._last_table, path)

    def add_tables(self, planned: Planned, work: Work, tables: FileSet, rows: int, path: Path) -> Any:
        work.reads(len(tables), len(tables) * 24.0 * rows * select.LEVELS)
        work.seconds = 0.002 * len(tables) * rows
        return self._table(work, self._last_table, path)

    def _bucket(self, work: Work, pools: int, path: Path) -> select.LastBucket:
        rows = np.array([[p, 1 << 40, p + 1, 1 << 20] for p in range(pools)], np.uint64)
        if self._count > 1:
            return select.LastBucket(artifact(path, rows.nbytes, pools))
        with publish(path, rows=pools) as file:
            file.write(rows.tobytes())
        return select.LastBucket(file.artifact)

    def last_bucket(
        self,
        planned: Planned,
        work: Work,
        documents: FileSet,
        settings: MixSettings,
        before: Any,
        search: Any,
        path: Path,
    ) -> Any:
        self._counts(work, documents)
        self._pools = len(search.prefixes)
        return self._bucket(work, self._pools, path)

    def join_buckets(self, planned: Planned, work: Work, buckets: FileSet, path: Path) -> Any:
        work.reads(len(buckets), 4096.0 * len(buckets))
        return self._bucket(work, self._pools, path)

    def tally(
        self,
        planned: Planned,
        work: Work,
        documents: FileSet,
        settings: MixSettings,
        cells: Any,
        claims: Any,
        path: Path,
    ) -> Any:
        self._counts(work, documents)
        if self.tallied is None:
            self.tallied = _tally(settings, cells)
            self.phase_of = [phase for phase, _ in settings.sets]
            for number, (_, length) in enumerate(settings.sets):
                self.totals[f"length{number}"] = length
            self.totals["copies"] = sum(s.copies for s in self.tallied.sets)
            self.totals["tokens"] = sum(s.tokens for s in self.tallied.sets)
            for s in self.tallied.sets:
                self.totals[f"tokens{s.set_index}"] += s.tokens
                self.totals[f"copies{s.set_index}"] += s.copies
        return self._tally_file(path)

    def add_tallies(self, planned: Planned, work: Work, tallies: FileSet, path: Path) -> Any:
        work.reads(len(tallies), 50_000.0 * len(tallies))
        work.seconds = 0.01 * len(tallies)
        return self._tally_file(path)

    def _tally_file(self, path: Path) -> assign.TallyFile:
        if self._count > 1:
            return assign.TallyFile(artifact(path, 50_000))
        return assign.TallyFile(write_json(path, msgspec.to_builtins(self.tallied)))

    def shuffle_documents(self, planned: Planned, work: Work, shards: Sequence[select.CellShard], *args: Any) -> Any:
        self.partitions, levels, stem = args[4], *args[-2:]
        read = sum(s.file.bytes for s in shards)
        size = share(4 * self.totals["tokens"] + 40 * self.totals["copies"], planned.index, self._count)
        work.reads(len(shards) + 1, read)
        work.seconds = (read + size) / MOVE
        digests = None if levels.fine else artifact(beside(stem, "digests"), 8 * levels.partitions, levels.partitions)
        rows = share(self.totals["copies"], planned.index, self._count)
        return assign.ShuffledDocuments(artifact(stem, size, rows), digests)

    def sum_digests(self, planned: Planned, work: Work, files: FileSet, stem: Path) -> Any:
        path = beside(stem, "digests")
        parts = sum(self.partitions)
        with publish(path, parts) as out:
            out.write(np.arange(parts, dtype=np.uint64).tobytes())
        return assign.Digests(out.artifact)

    def pack_partitions(
        self,
        planned: Planned,
        work: Work,
        documents: Sequence[PartitionDocuments],
        first: int,
        shape: SetShape,
        stem: Path,
    ) -> PackedBlocks:
        number = int(planned.task.name[:2])
        parts = self.partitions[number]
        tokens = _between(self.totals[f"tokens{number}"], first, first + len(documents), parts)
        copies = _between(self.totals[f"copies{number}"], first, first + len(documents), parts)
        work.reads(files_in(documents), 4.0 * tokens + 40 * copies, READ_AHEAD)
        work.seconds = 4 * tokens / PACK
        left = artifact(beside(stem, "left"), 2 * shape.block_length * len(documents), 2 * len(documents))
        return self._packed(number, tokens // shape.block_length, copies, shape, stem, left, {})

    def pack_leftovers(
        self, planned: Planned, work: Work, files: FileSet, number: int, shape: SetShape, last: bool, stem: Path
    ) -> PackedBlocks:
        set_number = int(planned.task.name[:2])
        work.reads(len(files), 2.0 * shape.block_length * len(files), READ_AHEAD)
        work.seconds = 0.01 * len(files)
        cells: dict[int, int] = {}
        if last:
            cells = {next(s.cell for s in self.tallied.sets if s.set_index == set_number): 1}
        left = None if last else artifact(beside(stem, "left"), shape.block_length, 1)
        return self._packed(set_number, len(files) // 2 + 1, 2 * len(files), shape, stem, left, cells)

    def _packed(
        self, number: int, blocks: int, copies: int, shape: SetShape, stem: Path, left: Any, cells: dict[int, int]
    ) -> PackedBlocks:
        tokens, segments = blocks * shape.block_length, int(copies * SEGMENTS)
        self.blocks[number] += blocks
        self.tokens[self.phase_of[number]] += tokens
        self.totals["segments"] += segments
        made = artifact(beside(stem, "blocks"), tokens * BLOCK_BYTES, blocks)
        return PackedBlocks(made, left, tokens, segments, 0, cells)

    def write_files(
        self, planned: Planned, work: Work, shuffled: Sequence[FileSet], skip: int, count: int, length: int, *args: Any
    ) -> BlockFiles:
        paths = args[-1]
        each = rows_per_file(length)
        rows = [min(each, count - at) for at in range(0, count, each)]
        work.reads(sum(map(files_in, shuffled)), count * length * BLOCK_BYTES, READ_AHEAD)
        work.seconds = count * length * BLOCK_BYTES / MOVE
        return BlockFiles(tuple(artifact(p, n * length * BLOCK_BYTES, n) for p, n in zip(paths, rows, strict=True)))

    def shuffle_segments(self, planned: Planned, work: Work, files: Sequence[Artifact], *args: Any) -> Shuffled:
        n = share(self.totals["segments"], planned.index, self._count)
        # The tokens lie in the same files and are not read.
        work.reads(2 * len(files), 0.02 * sum(f.bytes for f in files))
        work.seconds = n * index.RECORD.itemsize / SORT
        return Shuffled((artifact(args[-1], n * index.RECORD.itemsize, n),))

    def write_index(self, planned: Planned, work: Work, part: Partition, path: Path) -> index.IndexPart:
        n = self._reduces(work, planned, self.totals["segments"], index.RECORD.itemsize)
        return index.IndexPart(artifact(path, n * 16, n))

    def write_held_out(self, planned: Planned, work: Work, shards: Sequence[Any], shape: SetShape, folder: Path) -> Any:
        size = sum(s.file.bytes for s in shards)
        work.reads(len(shards), size)
        work.seconds = 4 * size / MOVE
        tokens, rows = size // 4, rows_per_file(shape.block_length)
        blocks = max(1, tokens // shape.block_length)
        files = [
            artifact(
                folder / f"data-{i:05d}.arrow", rows * shape.block_length * BLOCK_BYTES, min(rows, blocks - i * rows)
            )
            for i in range(-(-blocks // rows))
        ]
        return HeldOutSet(tuple(files), sum(s.file.rows for s in shards), tokens)

    def describe_set(self, planned: Planned, work: Work, *args: Any) -> Any:
        return planned.task.run(*args)

    # -- lookup and stats ----------------------------------------------------------------------------------------------

    def shuffle_keys(
        self, planned: Planned, work: Work, signals: Sequence[Artifact], levels: Levels, stems: Any
    ) -> Any:
        n, size = sum(a.rows for a in signals), lookup_index.RECORD.itemsize
        self._walks_columns(work, signals, 0.25)
        work.seconds = 3 * n * size / SORT
        return lookup_index.ShuffledKeys({kind: (artifact(stem, n * size, n),) for kind, stem in stems.items()})

    def write_parts(
        self, planned: Planned, work: Work, parts: Sequence[Partition], places: Sequence[Path]
    ) -> lookup_index.LookupParts:
        n = self._reduces(work, planned, 3 * self.documents, lookup_index.RECORD.itemsize)
        rows = [share(n, k, len(places)) for k in range(len(places))]
        return lookup_index.LookupParts(tuple(artifact(p, k * 14, k) for p, k in zip(places, rows, strict=True)))

    def write_value(self, planned: Planned, work: Work, *args: Any) -> Any:
        return planned.task.run(*args)

    def count_languages(
        self, planned: Planned, work: Work, files: Sequence[DecidedFile], parts: FileSet
    ) -> LanguageCounts:
        n = sum(f.signals.rows for f in files)
        self._walks_columns(work, [file.signals for file in files], 0.05)
        self._walks_columns(work, [file.decisions for file in files], 0.05)
        # Of the index, a row group or two for each file.
        work.reads(3 * len(files), 24.0 * n)
        work.seconds = n / (4 * JUDGE)
        tokens = {p + 1: {"en": t} for p, t in self.tokens.items()} if planned.index == 0 else {}
        return LanguageCounts({"en": n, "fr": 1}, {"en": n}, tokens)

    def count_documents(self, planned: Planned, work: Work, files: Sequence[DecidedFile], path: Path) -> Any:
        self._walks_columns(work, [file.signals for file in files], 0.05)
        self._walks_columns(work, [file.decisions for file in files], 0.05)
        work.seconds = sum(f.signals.rows for f in files) / (4 * JUDGE)
        return DistributionCounts(artifact(path, 20_000, 0))

    def add_distributions(self, planned: Planned, work: Work, counted: Sequence[Artifact], path: Path) -> Any:
        work.reads(len(counted), 20_000.0 * len(counted))
        return DistributionCounts(artifact(path, 100_000, 0))

    def write_distributions(self, planned: Planned, work: Work, counted: Sequence[Artifact], path: Path) -> Any:
        return self.add_distributions(planned, work, counted, path)

    def gather_examples(self, planned: Planned, work: Work, *_: Any) -> FileExamples:
        work.reads(4, 16 << 20)
        work.seconds = 1.0
        return FileExamples({})

    def count_items(
        self, planned: Planned, work: Work, files: Sequence[DecidedFile], items: Artifact, path: Path
    ) -> Any:
        self._walks_columns(work, [f.signals for f in files], 0.05)
        work.seconds = sum(f.signals.rows for f in files) / (4 * JUDGE)
        return ContaminationCounts(artifact(path, 10_000, 100))

    def add_counts(self, planned: Planned, work: Work, counted: Sequence[Artifact], path: Path) -> Any:
        work.reads(len(counted), 10_000.0 * len(counted))
        return ContaminationCounts(artifact(path, 100_000, 1000))

    def write_report(
        self, planned: Planned, work: Work, counted: Sequence[Artifact], items: Artifact, path: Path
    ) -> Any:
        return ContaminationReport(artifact(path, 1 << 20))


def _between(total: int, first: int, end: int, count: int) -> int:
    """What numbers from the first to before the end have of a total that `count` have evenly."""
    return total * end // count - total * first // count


def _tally(settings: MixSettings, cells: Sequence[Cell]) -> assign.Tally:
    """What will stand where: each pool's tokens from its first source, some in the longer blocks of the phase."""
    sets, levels = [], []
    for number, phase in enumerate(settings.phases):
        own = [(length, i) for i, (p, length) in enumerate(settings.sets) if p == number]
        cell_of = {pool: cell for cell, own in reversed([*enumerate(select.pools_of(phase, cells))]) for pool in own}
        wanted, _ = quotas(phase, [1 << 60 if p in cell_of else 0 for p in range(len(phase.pools))])
        parts = [1.0] if len(own) == 1 else [1 - LONG, LONG]
        for pool, tokens in enumerate(wanted):
            for (_, set_index), part in zip(sorted(own), parts, strict=True):
                n = int(tokens * part)
                if n:
                    sets.append(assign.SetCount(number, pool, cell_of[pool], set_index, n // 900 + 1, n))
        for domain in sorted({c.domain for c in cells}):
            levels += [assign.ClassCount(number, domain, level, 100, 100_000) for level in range(20)]
    return assign.Tally(tuple(sets), (), tuple(levels), tuple(levels))
