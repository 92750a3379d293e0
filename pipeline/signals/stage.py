"""The scan stage: the first read of the text, one task per source file, or per piece of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine.engine import Engine
from ..engine.records import artifacts_in
from ..engine.tasks import Task
from ..run.identity import SourceFile
from ..sources.pieces import cut_files
from .plugins import with_version
from .scan import FileSignals, ModelFiles, ScanSettings, scan_file

VERSION = 7


@dataclass(frozen=True)
class Scanned:
    """What scan leaves of every source file."""

    sources: Sequence[SourceFile]
    """The files, large ones as their pieces: what every later stage reads."""
    files: Mapping[str, FileSignals]
    """By `SourceFile.table`."""


def scan(engine: Engine, files: Sequence[SourceFile], settings: ScanSettings, models: ModelFiles) -> Scanned:
    """Read every document once and store what is known of it.

    Args:
        models: what of `prepare` scan reads; a change of the rest repeats no scan.
    """
    settings = replace(settings, plugins=tuple(map(with_version, settings.plugins)))
    sources = cut_files(engine, files)
    tasks = [
        Task(f.table, scan_file, (f, settings, models, engine.paths), max(f.text, 1), not f.size, shares=True)
        for f in sources
    ]
    results = engine.run("scan", VERSION, tasks)
    scanned = dict(zip((task.name for task in tasks), results, strict=True))
    used = list(_up_to_damage(sources, scanned))
    files_read = {f.table: scanned.pop(f.table) for f in used}
    engine.disown("scan", artifacts_in(scanned))
    return Scanned(used, files_read)


def _up_to_damage(sources: Sequence[SourceFile], scanned: Mapping[str, FileSignals]) -> Iterator[SourceFile]:
    """The files and pieces that are used: of a damaged table nothing after the damage is, as if it had not been cut."""
    damaged = set[str]()
    for file in sources:
        if file.name not in damaged:
            yield file
        if scanned[file.table].damage:
            damaged.add(file.name)
