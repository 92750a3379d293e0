"""Shuffles in two levels: what thousands of map tasks write, as files that a reducer reads in tens of large pieces.

In one level every map file has a piece for every partition, and the pieces shrink with the square of the data. In two, a map
task writes coarse partitions (about the square root of their number), each by its fine ones. Then

    tables    the tables of a group of map files, transposed, so that a reader of a coarse partition makes one small read
    merge     (coarse partition, group) -> one file of its fine partitions; sorted records stay sorted

and a reducer reads its fine partition of one merged file for each group. How many of each there are follows from bytes and
constants alone. With few map tasks, or pieces that are large enough, there is one level; the rows of a partition are the
same, and in the same order if they have one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..run.artifacts import Artifact, publish
from ..run.file_sets import FileSet
from .engine import Engine
from .rows import Rows
from .shuffle import Records
from .shuffle_file import ENTRY, Levels, of_files, read_exactly, read_fine, read_sizes, read_table
from .tasks import MOST_EQUAL, Task

MOST_MAPS = 256
"""Files that a reducer reads pieces of, however small these are."""
LEAST_PIECE = 1 << 20
"""Bytes of a piece for which one level is enough, however many map files there are: what makes a request worth its time."""
MOST_PIECE = 2 << 20
"""Larger pieces cost no less; where they could be, merge tasks are shorter instead, so that requests grow with the bytes."""
MERGE_BYTES = 3 << 29
"""What a merge task reads at most: more would make tasks longer, and take more scratch."""
SMALL_MERGE = 32 << 20
"""The same of a little, which otherwise few tasks would merge while all others wait."""
MERGES = 1024
"""Of what has less than so many merge tasks, these are shorter."""
LEAST_MERGE = 128 << 20
"""What it reads at least, where there is more: a task costs the driver as much as any."""
WAVE = MOST_EQUAL * 9 // 10
"""About so many merge tasks there are, or a multiple where they would be too long: rounding makes a few more."""


def plan_levels(total_bytes: int, maps: int, partitions: int, most_maps: int = 0) -> Levels:
    """How a shuffle of `total_bytes` from `maps` tasks into `partitions` goes.

    The pieces that merge tasks read (of map files) and that reducers read (of merged files) come out equally large.

    Args:
        most_maps: files for which one level is enough, however small their pieces are; 0: `MOST_MAPS`.
    """
    if maps <= (most_maps or MOST_MAPS) or total_bytes >= LEAST_PIECE * partitions * maps:
        return Levels(partitions)
    of_map = max(1, total_bytes // maps)
    waves = max(1, -(-total_bytes // (WAVE * MERGE_BYTES)))
    large = max(LEAST_MERGE, total_bytes // (WAVE * waves))
    most = min(large, max(SMALL_MERGE, total_bytes // MERGES))
    coarse = max(1, round(math.sqrt(of_map * partitions / most)), of_map // MOST_PIECE)
    coarse = min(partitions, coarse)
    groups = total_bytes / (most * coarse)
    # Of few, one less would have tasks that are much longer.
    group = min(maps, max(2, -(-maps // max(1, round(groups) if groups > 4 else math.ceil(groups)))))
    return Levels(partitions, -(-partitions // coarse), group)


def merge_tasks(levels: Levels, maps: int) -> int:
    """Tasks that `bring_together` runs for the files of so many map tasks."""
    if not levels.fine:
        return 0
    return -(-maps // levels.group) * (1 + levels.coarse)


@dataclass(frozen=True)
class Partition:
    """What a reducer reads: one partition, in the files that hold it."""

    files: FileSet
    place: int = 0
    """Of the partition in each file."""


@dataclass(frozen=True)
class Span:
    """What a task reads that reduces consecutive partitions one after the other: they lie beside each other in each file."""

    files: FileSet
    place: int
    """Of the first."""
    count: int


@dataclass(frozen=True)
class Partitioned:
    """The rows of a shuffle, by partition. The driver's view; a reducer gets a `Partition`."""

    levels: Levels
    files: tuple[FileSet, ...]
    """Of every coarse partition; of all where there is one level."""
    rows: tuple[int, ...] = ()
    """In each of these sets of files."""

    def of(self, partition: int) -> Partition:
        """What the reducer of a partition reads."""
        if not self.levels.fine:
            return Partition(self.files[0], partition)
        coarse, place = divmod(partition, self.levels.fine)
        return Partition(self.files[coarse], place)

    def between(self, first: int, end: int) -> tuple[Span, ...]:
        """What a reducer of the partitions from `first` up to `end` reads, in their order."""
        spans = []
        for files, (begin, stop) in zip(self.files, self.levels.parts(), strict=True):
            low, high = max(first, begin), min(end, stop)
            if low < high:
                spans.append(Span(files, low - begin, high - low))
        return tuple(spans)


def bring_together(
    engine: Engine,
    step: str,
    version: int,
    maps: Sequence[Artifact],
    levels: Levels,
    rows: Records | Rows,
    folder: Path,
) -> Partitioned:
    """What reducers read of the shuffle files of map tasks; in two levels, merge them first.

    Args:
        step: of the merging; `<step>_tables` gathers where it finds its pieces.
        maps: in the order that rows without one of their own shall have.
        folder: of what is merged.
    """
    if not levels.fine:
        return Partitioned(levels, (FileSet.filled(maps),), (sum(a.rows for a in maps),))
    groups = [FileSet.of(maps[at : at + levels.group]) for at in range(0, len(maps), levels.group)]
    tables = engine.run(
        f"{step}_tables",
        version,
        [
            Task(f"{g:05d}", gather_tables, (files, levels.coarse, folder / "tables" / f"{g:05d}"))
            for g, files in enumerate(groups)
        ],
    )
    places = [(coarse, g) for coarse in range(levels.coarse) for g in range(len(groups))]
    merged = engine.run(
        step,
        version,
        [
            Task(
                f"{coarse:05d}-{g:05d}",
                merge_pieces,
                (groups[g], tables[g].file, coarse, levels, rows, folder / f"{coarse:05d}" / f"{g:05d}"),
            )
            for coarse, g in places
        ],
    )
    files: list[list[Artifact]] = [[] for _ in range(levels.coarse)]
    for (coarse, _), result in zip(places, merged, strict=True):
        files[coarse].append(result.file)
    sets = tuple(FileSet.filled(found) for found in files)
    return Partitioned(levels, sets, tuple(sum(a.rows for a in found) for found in files))


@dataclass(frozen=True)
class Tables:
    """int64 [coarse partitions, map files, 2]: first byte of a coarse partition in each file, and the byte after it."""

    file: Artifact


def gather_tables(maps: FileSet, coarse: int, path: Path) -> Tables:
    """Where the coarse partitions lie in the map files of a group."""
    places = np.empty((coarse, len(maps), 2), np.int64)
    files = list(maps)
    for number, (file, (base, table)) in enumerate(zip(files, of_files(read_sizes, files), strict=True)):
        if len(table) != coarse + 1:
            raise ValueError(f"{file} has {len(table) - 1} partitions, not {coarse}; delete it and run again")
        places[:, number, 0], places[:, number, 1] = base + table[:-1, 0], base + table[1:, 0]
    with publish(path, rows=coarse) as out:
        out.write(places)
    return Tables(out.artifact)


@dataclass(frozen=True)
class Merged:
    """A coarse partition of a group of map files, by its fine partitions."""

    file: Artifact


def merge_pieces(
    maps: FileSet, tables: Artifact, coarse: int, levels: Levels, rows: Records | Rows, path: Path
) -> Merged:
    """The pieces of one coarse partition in the map files of a group, as one file of its fine partitions."""
    line = ENTRY * len(maps)
    fine = min(levels.fine, levels.partitions - coarse * levels.fine)
    places = read_table(read_exactly(tables.file, coarse * line, (coarse + 1) * line)).tolist()
    writer = rows.writer(path, Levels(fine))
    pieces = dict(zip(maps, places, strict=True))
    for data in of_files(lambda file: read_exactly(file, *pieces[file]), pieces):
        writer.add_block(*read_fine(data, fine))
    return Merged(writer.close()[0])
