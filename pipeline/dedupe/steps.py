"""What every step of dedupe needs: how its tasks are run, and how rows go from those of one step to those of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..engine.engine import Engine
from ..engine.shuffle import Records, partition_count
from ..engine.shuffle_file import Levels
from ..engine.tasks import Task
from ..engine.two_level import Partitioned, bring_together, plan_levels
from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from . import VERSION
from .order import EDGE, Part, Plan
from .ranges import Layout

PARTITION_BYTES = 64 << 20
"""What a partition holds, unless that made more than `MOST_PARTITIONS`."""
MOST_PARTITIONS = 4_000
SHORT_TASKS = 512
"""Of what is less than so many tasks' worth, each takes less: all others wait for them."""
SHORT_BYTES = 4 << 20
"""But not less than this."""
MOST_RUNS = 32
"""Files that a partition is read from, or pieces are large: from more, it is brought together in two levels."""

Result = TypeVar("Result")


@dataclass
class Steps:
    """The engine, what is deduped, and the shape of the shuffles between steps."""

    engine: Engine
    parts: list[list[Part]]
    """By chunk."""
    plan: Plan
    documents: int

    def step(
        self,
        name: str,
        run: Callable[..., Result],
        arguments: Mapping[int, tuple[Any, ...]],
        memory: int = 0,
    ) -> list[Result]:
        """Run a task for each number of a chunk, partition or range.

        Args:
            arguments: by number; the plan follows them, and where to write.
            memory: bytes that a task needs, if that may be more than tasks of dedupe do with.
        """
        paths = self.engine.paths
        tasks = [
            Task(
                f"{i:05d}",
                run,
                (*given, self.plan, paths.dedupe(f"{name}/{i:05d}")),
                memory=max(self.engine.memory, memory),
            )
            for i, given in arguments.items()
        ]
        return self.engine.run(f"dedupe.{name}", VERSION, tasks)

    def partitions(self, record: np.dtype, each: int = 1, at_least: int = 4) -> int:
        """Partitions of a shuffle of so many records of each document, from the chunks."""
        size = self.documents * each * record.itemsize
        target = max(PARTITION_BYTES, size // MOST_PARTITIONS)
        return partition_count(size, min(len(self.parts), MOST_RUNS), target, at_least)

    def together(self, name: str, maps: Iterable[tuple[Artifact, ...]], levels: Levels, rows: Records) -> Partitioned:
        """What readers find of the files of a step's tasks."""
        files = [a for files in maps for a in files if a.rows]
        if not files:
            return nothing(levels.partitions)
        paths = self.engine.paths
        return bring_together(self.engine, f"dedupe.{name}", VERSION, files, levels, rows, paths.dedupe(name))

    def levels(self, size: int, maps: int, partitions: int) -> Levels:
        """How about `size` bytes go from so many tasks to partitions."""
        return plan_levels(size, maps, partitions, MOST_RUNS)

    def to_chunks(self, size: int, maps: int) -> Levels:
        """The same, to the chunks of the documents that they are about."""
        return self.levels(size, maps, len(self.parts))

    def to_ranges(self, layout: Layout) -> Levels:
        """How edges go to ranges of the order, in every round."""
        return self.levels(self.documents * EDGE.itemsize, 2 * len(self.parts), layout.ranges)


def handled_together(n: int, size: int, each: int) -> int:
    """How many of `n` partitions that follow each other one task handles, of `size` bytes in all: such of `each` bytes."""
    each = min(each, max(SHORT_BYTES, size // SHORT_TASKS))
    return max(1, n * each // max(size, 1))


def nothing(partitions: int) -> Partitioned:
    """A shuffle that moves no rows."""
    return Partitioned(Levels(partitions), (FileSet(),))


def sum_rows(outputs: Iterable[tuple[Artifact, ...]]) -> int:
    """Rows of the files of several tasks."""
    return sum(a.rows for files in outputs for a in files)


def all_of(outputs: Iterable[tuple[Artifact, ...]]) -> FileSet:
    """The files of several tasks that have rows."""
    return FileSet.filled(a for files in outputs for a in files)
