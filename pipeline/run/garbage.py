"""`fox1 gc`: files that a finished run no longer uses.

Only what a completion record names is deleted, and the record with it: a file that no record names is its user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...storage import lease
from ...storage.inside import refuse_links
from .artifacts import FINAL, Artifact, RunPaths, is_finished, read_json, remove, write_json
from .manifest import read_manifest

INTERMEDIATE = ("dedupe", "mix")
"""Folders of shuffle files: large, and read again only if a changed recipe repeats a step."""
COLLECTED = (*FINAL, *INTERMEDIATE, "filtered", "quarantine")
"""Folders that hold artifacts. All else in a run's folder is left alone."""


@dataclass(frozen=True)
class _Recorded:
    """A completion record, and the files that it names in the folders of artifacts."""

    path: Path
    outputs: dict[str, Path]


def collect(paths: RunPaths, intermediate: bool = False, dry_run: bool = False) -> tuple[list[str], int]:
    """Delete what records name and the manifest of a finished run does not.

    Args:
        intermediate: also delete what dedupe and mix pass from step to step; a later `curate` rebuilds it where needed.
        dry_run: delete nothing.

    Returns:
        (names of the deleted files, their total bytes).

    Raises:
        ValueError: the run is not finished, is being written, or has links or names that lead out of it.
    """
    _finished_manifest(paths)
    # What only looks writes nothing, not even who holds the run.
    with nullcontext() if dry_run else lease.held(paths.root, lease.RUN):
        manifest = _finished_manifest(paths)
        named = {n: facts for n, facts in manifest["artifacts"].items() if not (intermediate and _passing(n))}
        gone: dict[str, Path] = {}
        for record in _records(paths):
            unused = {name: path for name, path in record.outputs.items() if name not in named}
            if unused:
                gone[record.path.relative_to(paths.root).as_posix()] = record.path
                gone |= {name: path for name, path in unused.items() if path.is_file()}
        size = sum(path.stat().st_size for path in gone.values())
        if not dry_run:
            # What the manifest names must exist at all times, even if this is interrupted.
            if len(named) < len(manifest["artifacts"]):
                write_json(paths.manifest, manifest | {"artifacts": named})
            # Records last: they name what is left to delete.
            for name in sorted(gone, key=lambda n: n.startswith("records/")):
                remove(gone[name])
        return sorted(gone), size


def _finished_manifest(paths: RunPaths) -> Any:
    manifest = read_manifest(paths)
    if not is_finished(manifest):
        raise ValueError(f"{paths.root} is not finished and may still need its files; run `fox1 curate` to finish it")
    return manifest


def _records(paths: RunPaths) -> Iterator[_Recorded]:
    """All completion records of a run.

    Raises:
        ValueError: one of them is damaged, or names a file outside the run.
    """
    refuse_links(paths.root, paths.records)
    for path in sorted(paths.records.rglob("*.json")):
        names = [output["path"] for output in read_json(path)["outputs"]]
        yield _Recorded(path, {n: paths.named(n) for n in names if n.split("/", 1)[0] in COLLECTED})


def remove_outdated(paths: RunPaths, outputs: Iterable[str], current: set[str]) -> None:
    """Delete what the replaced record of a task named and nothing names now: other files than the task writes today."""
    for name in outputs:
        if name.split("/", 1)[0] in COLLECTED and name not in current:
            remove(paths.named(name))


def remove_stale(paths: RunPaths, finished: Mapping[str, Sequence[Artifact]], folders: Sequence[str]) -> None:
    """Delete what an earlier mixture left in the folders that users open: its files have other names and counts.

    Args:
        finished: what the run has published, by step.
        folders: names of folders of the run.
    """
    current = {a.path for outputs in finished.values() for a in outputs}
    for folder in folders:
        refuse_links(paths.root, paths.root / folder)
    if not any(
        path.is_file() and str(path) not in current for folder in folders for path in (paths.root / folder).rglob("*")
    ):
        return
    for record in _records(paths):
        stale = [p for n, p in record.outputs.items() if n.split("/", 1)[0] in folders and str(p) not in current]
        for path in stale:
            remove(path)
        if stale:
            remove(record.path)


def _passing(name: str) -> bool:
    return name.split("/", 1)[0] in INTERMEDIATE
