"""The scan stage: the first read of the text, one task per source file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine.tasks import Engine, Task
from ..run.identity import SourceFile
from .plugins import with_version
from .scan import FileSignals, ModelFiles, ScanSettings, scan_file

VERSION = 6


@dataclass(frozen=True)
class Scanned:
    """What scan leaves of every source file."""

    files: Mapping[str, FileSignals]
    """By file name."""


def scan(engine: Engine, files: Sequence[SourceFile], settings: ScanSettings, models: ModelFiles) -> Scanned:
    """Read every document once and store what is known of it.

    Args:
        models: what of `prepare` scan reads; a change of the rest repeats no scan.
    """
    settings = replace(settings, plugins=tuple(map(with_version, settings.plugins)))
    tasks = [Task(f.name, scan_file, (f, settings, models, engine.paths), weight=max(f.size, 1)) for f in files]
    # Big files first: the last task to start should be a short one.
    tasks.sort(key=lambda task: (-task.weight, task.name))
    results = engine.run("scan", VERSION, tasks)
    return Scanned({task.name: result for task, result in zip(tasks, results, strict=True)})
