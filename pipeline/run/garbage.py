"""`fox1 gc`: files that a finished run no longer uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...storage import lease
from .artifacts import FINAL, Artifact, RunPaths, is_finished, read_json, write_json

INTERMEDIATE = ("dedupe", "mix")
"""Folders of shuffle files: large, and read again only if a changed recipe repeats a step."""
COLLECTED = (*FINAL, *INTERMEDIATE, "filtered", "quarantine", "records")
"""Folders that hold artifacts and their records. All else in a run's folder is left alone."""


def collect(paths: RunPaths, intermediate: bool = False, dry_run: bool = False) -> tuple[list[str], int]:
    """Delete what the manifest of a finished run does not name.

    Args:
        intermediate: also delete what dedupe and mix pass from step to step; a later `curate` rebuilds it where needed.
        dry_run: delete nothing.

    Returns:
        (names of the deleted files, their total bytes).

    Raises:
        ValueError: the run is not finished, or is being written.
    """
    with lease.held(paths.root):
        manifest = read_json(paths.manifest)
        if not is_finished(manifest):
            raise ValueError(
                f"{paths.root} is not finished and may still need its files; run `fox1 curate` to finish it"
            )
        named = {n: facts for n, facts in manifest["artifacts"].items() if not (intermediate and _passing(n))}
        found: list[str] = []
        size = 0
        for folder in COLLECTED:
            for path in sorted((paths.root / folder).rglob("*")):
                name = path.relative_to(paths.root).as_posix()
                if not path.is_file() or name in named:
                    continue
                if folder == "records":
                    outputs = [o["path"] for o in read_json(path)["outputs"]]
                    if not outputs or all(o in named for o in outputs):
                        continue
                found.append(name)
                size += path.stat().st_size
        if not dry_run:
            # What the manifest names must exist at all times, even if this is interrupted.
            if len(named) < len(manifest["artifacts"]):
                write_json(paths.manifest, manifest | {"artifacts": named})
            # Records first: a record without its outputs would only be checked in vain.
            for name in sorted(found, key=lambda n: not n.startswith("records/")):
                (paths.root / name).unlink()
        return found, size


def remove_stale(finished: Mapping[str, Sequence[Artifact]], *folders: Path) -> None:
    """Delete what an earlier mixture left in the folders that users open: its files have other names and counts.

    Args:
        finished: what the run has published, by step.
    """
    current = {a.path for outputs in finished.values() for a in outputs}
    for path in (p for folder in folders for p in folder.rglob("*")):
        if path.is_file() and str(path) not in current:
            path.unlink()


def _passing(name: str) -> bool:
    return name.split("/", 1)[0] in INTERMEDIATE
