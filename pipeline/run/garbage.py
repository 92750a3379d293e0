"""`fox1 gc`: files that a finished run no longer uses.

Only what a completion record names is deleted, and the record with it: a file that no record names is its user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...storage import lease, store
from ...storage.inside import refuse_links
from ...storage.names import stays_below
from .artifacts import remove
from .manifest import Artifacts, is_finished, read_manifest, without_folders
from .paths import RunPaths
from .published import below
from .records import is_part, outputs_in, rewrite_without, stored_files
from .schemas import FINAL
from .spread import Spread, in_turn

INTERMEDIATE = ("dedupe", "mix", "counts")
"""Folders of what steps pass on, most of it shuffle files: large, and read again only if a changed recipe repeats a step."""
COLLECTED = (*FINAL, *INTERMEDIATE, "filtered", "quarantine")
"""Folders that hold artifacts. All else in a run's folder is left alone."""
DELETED_AT_ONCE = 1000
"""Files that one task deletes: by one request in a store, and their names are what the task is given."""


@dataclass(frozen=True)
class _Unused:
    """A file of completion records of which some name files that nothing uses."""

    path: Path
    tasks: frozenset[int]
    """Numbers of these records within it."""
    names: list[str]
    """The files that they name and nothing uses."""

    def forget(self) -> None:
        """Delete these records."""
        if is_part(self.path):
            rewrite_without(self.path, self.tasks)
        else:
            remove(self.path)


def collect(
    paths: RunPaths, intermediate: bool = False, dry_run: bool = False, spread: Spread = in_turn
) -> tuple[list[str], int]:
    """Delete what records name and the manifest of a finished run does not.

    Args:
        intermediate: also delete what dedupe and mix pass from step to step; a later `curate` rebuilds it where needed.
        dry_run: delete nothing.
        spread: runs what deletes.

    Returns:
        (names of the deleted files, their total bytes).

    Raises:
        ValueError: the run is not finished, is being written, or has links or names that lead out of it.
    """
    _finished_manifest(paths)
    for folder in COLLECTED:
        refuse_links(paths.root, paths.root / folder)
    # What only looks writes nothing, not even who holds the run.
    with nullcontext() if dry_run else lease.held(paths.root, lease.RUN) as held:
        manifest = _finished_manifest(paths)
        store.remember(paths.root)
        there = store.AtStart(paths.root)
        passing = INTERMEDIATE if intermediate else ()
        unused = list(_unused(paths, manifest["artifacts"], passing))
        gone: dict[str, int] = {}
        for each in unused:
            for name in each.names:
                paths.named(name)  # raises for one that leads out
                if facts := there.facts(name):
                    gone[name] = facts[0]
        if not dry_run:
            # What the manifest names must exist at all times, even if this is interrupted.
            if set(passing).intersection(manifest["artifacts"].folders):
                without_folders(paths, manifest, passing)
            names = sorted(gone)
            chunks = [names[at : at + DELETED_AT_ONCE] for at in range(0, len(names), DELETED_AT_ONCE)]
            for _ in spread(delete, [(RunPaths(paths.root, lease=held), chunk) for chunk in chunks]):
                pass
        for each in unused:
            record = each.path.relative_to(paths.root).as_posix()
            facts = there.facts(record)
            # Records last: they name what is left to delete.
            if not dry_run:
                each.forget()
            if not is_part(each.path):
                gone[record] = facts[0] if facts else 0
        return sorted(gone), sum(gone.values())


@dataclass(frozen=True)
class Deleted:
    """How many files a task deleted."""

    files: int


def delete(paths: RunPaths, names: Sequence[str]) -> Deleted:
    """Delete files of a run by their names, under its lease."""
    found = [paths.named(name) for name in names]
    with lease.under(paths.lease):
        for path in found:
            lease.allow_write(path)
        store.remove_files(found)
    return Deleted(len(found))


def _finished_manifest(paths: RunPaths) -> Any:
    manifest = read_manifest(paths)
    if not is_finished(manifest):
        raise ValueError(f"{paths.root} is not finished and may still need its files; run `fox1 curate` to finish it")
    return manifest


def _unused(paths: RunPaths, artifacts: Artifacts, passing: Sequence[str]) -> Iterator[_Unused]:
    """The records of a run that name files which its manifest does not, or that lie in `passing` folders.

    Raises:
        ValueError: one of them is damaged, or names a file outside the run.
    """
    for path in stored_files(paths):
        outputs = [[n for n in names if _folder(n) in COLLECTED] for names in outputs_in(path)]
        names = {n for of_task in outputs for n in of_task}
        used: set[str] = set()
        for folder in {_folder(name) for name in names}.difference(passing):
            asked = pa.array([name for name in names if _folder(name) == folder], pa.string())
            used.update(asked.filter(pc.is_in(asked, artifacts.table(folder).column("path"))).to_pylist())
        tasks = frozenset(number for number, of_task in enumerate(outputs) if not used.issuperset(of_task))
        if tasks:
            yield _Unused(path, tasks, sorted({n for number in tasks for n in outputs[number]} - used))


def _folder(name: str) -> str:
    return name.split("/", 1)[0]


def remove_outdated(paths: RunPaths, outputs: Iterable[str], finished: Mapping[str, pa.Table]) -> None:
    """Delete what the replaced records of tasks named and nothing names now: other files than the tasks write today.

    Args:
        finished: what the run has published, by step; see `published.py`.
    """
    # A record of somebody else's may name any file.
    ours = [name for name in outputs if _folder(name) in COLLECTED and stays_below(name)]
    gone = pa.array(ours, pa.string())
    for table in finished.values():
        if not len(gone):
            return
        gone = gone.filter(pc.invert(pc.is_in(gone, table.column("path"))))
    for name in gone.to_pylist():
        remove(paths.named(name))


def remove_stale(paths: RunPaths, finished: Mapping[str, pa.Table], folders: Sequence[str]) -> None:
    """Delete what an earlier mixture left in the folders that users open: its files have other names and counts.

    Args:
        finished: what the run has published, by step; see `published.py`.
        folders: names of folders of the run.
    """
    tables = (below(table, folder) for table in finished.values() for folder in folders)
    current = {name for table in tables for name in table.column("path").to_pylist()}
    for folder in folders:
        refuse_links(paths.root, paths.root / folder)
    there = (path for folder in folders for path, _ in store.files_below(paths.root / folder))
    if all(path.relative_to(paths.root).as_posix() in current for path in there):
        return
    for file in stored_files(paths):
        outputs = outputs_in(file)
        # What a record names elsewhere is none of this function's.
        stale = [{n for n in names if _folder(n) in folders and n not in current} for names in outputs]
        tasks = frozenset(number for number, names in enumerate(stale) if names)
        for name in sorted(set().union(*stale)):
            remove(paths.named(name))
        if tasks:
            _Unused(file, tasks, []).forget()
