"""Files of counts or records, added up by tasks as a tree: no task reads more than some of them, and the driver never all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..run.artifacts import Artifact
from ..run.file_sets import FileSet
from .engine import Engine
from .shuffle import Records, read_ahead
from .tasks import Task

FAN_IN = 64
"""Files that a task adds up."""


class Counted(Protocol):
    """What a task counted, or added up."""

    @property
    def file(self) -> Artifact: ...


def add_up(
    engine: Engine,
    step: str,
    version: int,
    counted: Sequence[Artifact],
    add: Callable[..., Counted],
    folder: Path,
    given: tuple[Any, ...] = (),
    most: int = 0,
    fan_in: int = 0,
) -> list[Artifact]:
    """Add files up until few are left.

    Args:
        step: of the first level; the further ones have its name with their number.
        add: of a `FileSet`, `given` and where to write.
        folder: of what the first level adds up; the further ones likewise.
        most: files that may be left; 0: `FAN_IN`.
        fan_in: files that a task adds up, fewer where they are large; 0: `FAN_IN`.
    """
    files, level, fan_in = list(counted), 1, fan_in or FAN_IN
    while len(files) > (most or FAN_IN):
        number = str(level) if level > 1 else ""
        place = folder.with_name(f"{folder.name}{number}")
        sets = [FileSet.of(files[at : at + fan_in]) for at in range(0, len(files), fan_in)]
        tasks = [Task(f"{i:05d}", add, (some, *given, place / f"{i:05d}")) for i, some in enumerate(sets)]
        files = [added.file for added in engine.run(f"{step}{number}", version, tasks)]
        level += 1
    return files


@dataclass(frozen=True)
class Joined:
    """The records of some files."""

    file: Artifact


def join_records(files: FileSet, rows: Records, stem: Path) -> Joined:
    """The records of some files as one, sorted and combined as `rows` says."""
    out = rows.writer(stem)
    for records in read_ahead(files, 0, rows.dtype):
        out.add(records)
    return Joined(out.close()[0])
