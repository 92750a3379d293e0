"""Whether a task is finished: a record with its key, and every output in place.

An output is in place if it has its size, and its time or else its hash. Of what a writer left that had lost the run, and of what
may not have been on the disk when a machine stopped, only the hash tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...storage import store
from ..run.artifacts import Artifact
from ..run.checksums import hash_file
from ..run.records import Record, StepRecords
from .records import result_of, result_type
from .tasks import Planned


class Changed(Exception):
    """An output is not what its task wrote."""

    def __init__(self, modified: int) -> None:
        super().__init__()
        self.modified = modified
        """When it was changed, in its file system's nanoseconds."""


@dataclass(frozen=True)
class FinishedTask:
    """A finished task, as its run has it."""

    result: Any
    record: Record
    outputs: tuple[Artifact, ...]
    """As the record has them, with the paths of now."""
    times: tuple[int, ...]
    """When each of them was written, as its file says now: a touched or copied one has another time than its record."""
    compared: bool
    """The outputs were compared with their hashes, since nothing else tells what they are."""


def finished_task(records: StepRecords, there: store.AtStart, root: str, planned: Planned) -> FinishedTask | None:
    """What is there of a task that is finished and whose outputs are in place, else None.

    Args:
        there: the files of the records' run.
        root: its folder.

    Raises:
        Changed: an output was changed after it was written.
    """
    record = records.found.get(planned.task.name)
    if record is None or record.key != planned.key:
        return None
    result, outputs = result_of(records, record, result_type(planned.task.run))
    skipped = len(root) + 1
    facts = [there.facts(a.path[skipped:]) for a in outputs]
    if result is None or None in facts:
        return None
    doubtful = records.is_doubtful(record, max((a.modified for a in outputs), default=0))
    times = []
    for was, (size, modified) in zip(outputs, filter(None, facts), strict=True):
        times.append(modified)
        known = was.modified == modified and not doubtful
        if not (size == was.bytes and (known or hash_file(was.file) == was.hash)):
            raise Changed(modified)
    return FinishedTask(result, record, tuple(outputs), tuple(times), doubtful)
