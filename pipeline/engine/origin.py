"""What another run has finished of this one's tasks: `fox1 curate --from`.

A key says all that a task's output depends on, whatever run it is of. So of a task that the other run has a record of with the same
key, and whose outputs are in place there, this run takes both: files as further names of the same files where one disk has
both runs, else as copies. What the keys do not vouch for stays where it is, and nothing is written to the other run. Neither
run writes a file in place (`run/artifacts.py`), so what one of them replaces or deletes, the other one keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...storage import lease, store
from ...storage.copying import linked
from ..run.artifacts import Artifact, publish, remove
from ..run.paths import RunPaths
from ..run.records import Record, StepRecords
from .finished import Changed, FinishedTask, finished_task
from .records import record_of, with_artifacts
from .tasks import Planned

CHUNK = 16 << 20
"""Bytes of a file that are copied at a time."""
AT_ONCE = 4096
"""Tasks whose outputs are taken before their records are written."""


class Origin:
    """A run that another one takes finished tasks from."""

    def __init__(self, root: Path) -> None:
        # Its lease tells which records a writer left that had lost the run.
        self.paths = RunPaths(root, lease=lease.past(root))
        self.tasks = 0
        """How many were taken."""
        store.remember(root)
        self._there = store.AtStart(root)
        self._trusted_until = 1 << 63

    def take(
        self, step: str, planned: Sequence[Planned], paths: RunPaths
    ) -> Iterator[list[tuple[Planned, Any, Record]]]:
        """Take what is finished of some tasks, some at a time, with their results and records in the new run: whoever iterates
        publishes the records before the next ones.

        Args:
            paths: of the new run. None of its records vouches for the outputs of these tasks.
        """
        found = self._finished(step, planned)
        with ThreadPoolExecutor(store.REQUESTS, "take") as pool:
            for first in range(0, len(found), AT_ONCE):
                some = found[first : first + AT_ONCE]
                taken = [t for t in pool.map(lambda pair: self._take(pair[0], pair[1], paths), some) if t]
                self.tasks += len(taken)
                yield taken

    def _finished(self, step: str, planned: Sequence[Planned]) -> list[tuple[Planned, FinishedTask]]:
        records = StepRecords(self.paths, step)
        found = []
        for p in planned:
            try:
                if there := finished_task(records, self._there, str(self.paths.root), p):
                    found.append((p, there))
            except Changed as changed:
                # What was finished after that may have been made from it.
                self._trusted_until = min(self._trusted_until, changed.modified or self._trusted_until)
        return [(p, there) for p, there in found if there.record.written < self._trusted_until]

    def _take(self, planned: Planned, there: FinishedTask, paths: RunPaths) -> tuple[Planned, Any, Record] | None:
        own: dict[str, Artifact] = {}
        for was in there.outputs:
            if not _take_file(was, target := paths.named(self.paths.name_of(was))):
                return None
            own[was.path] = replace(was, path=str(target), modified=store.modified(target))
        result = with_artifacts(there.result, lambda a: own[a.path])
        record = record_of(paths, planned.task.name, planned.key, there.record.written, result)
        return planned, result, record


def _take_file(source: Artifact, target: Path) -> bool:
    """Whether `target` is now what `source` says that it is."""
    if linked(source.file, target):
        return True
    with publish(target, source.rows) as out, open(source.file, "rb") as file:
        while data := file.read(CHUNK):
            out.write(data)
    if out.artifact.hash != source.hash:
        remove(target)
        return False
    return True


@contextmanager
def origin_of(root: Path, out: Path) -> Iterator[Origin]:
    """The run at `root`, which nobody writes while the block lasts.

    Args:
        out: the folder of the run that is made.

    Raises:
        ValueError: there is no run, it is being written, or one of the two lies in the other.
    """
    if root == out or root in out.parents or out in root.parents:
        raise ValueError(
            f"--from {store.shown(root)} and --out {store.shown(out)} lie in each other; choose another --out"
        )
    if not RunPaths(root).recipe.exists():
        raise ValueError(
            f"--from: no run at {store.shown(root)}; name the folder or URL of one that `fox1 curate` made"
        )
    with lease.reading(root):
        yield Origin(root)
