"""The scan stage: the first read of the text, one task per source file, or per piece of a large one.

A large file that is only read from its start is one task too, but its tables are those of pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine.engine import Engine
from ..engine.records import artifacts_in
from ..engine.tasks import Task
from ..extract.stage import ExtractedRows
from ..run.identity import SourceFile, cut_by_rows
from ..sources import pieces
from .plugins import with_version
from .scan import FileSignals, ModelFiles, ScannedPieces, ScanSettings, scan_file, scan_in_pieces

VERSION = 12


@dataclass(frozen=True)
class Scanned:
    """What scan leaves of every source file."""

    sources: Sequence[SourceFile]
    """The files, large ones as their pieces: what every later stage reads."""
    files: Mapping[str, FileSignals]
    """By `SourceFile.table`."""


def scan(
    engine: Engine,
    files: Sequence[SourceFile],
    settings: ScanSettings,
    models: ModelFiles,
    extracted: Mapping[str, ExtractedRows] | None = None,
) -> Scanned:
    """Read every document once and store what is known of it.

    Args:
        files: large ones as their pieces (`sources.pieces.cut_files`).
        models: what of `prepare` scan reads; a change of the rest repeats no scan.
        extracted: by `SourceFile.table`, what the steps of `before_scan` left of the files that they read instead.
    """
    settings = replace(settings, plugins=tuple(map(with_version, settings.plugins)))
    tasks = [_task(f, settings, models, engine) for f in files]
    sources, scanned = list[SourceFile](), dict[str, FileSignals]()
    for file, result in zip(files, engine.run("scan", VERSION, tasks), strict=True):
        for piece, signals in _pieces(file, result):
            sources.append(piece)
            scanned[piece.table] = _with_bad_rows(signals, (extracted or {}).get(piece.table))
    used = list(pieces.up_to_damage(sources, {table: signals.damage for table, signals in scanned.items()}))
    files_read = {f.table: scanned.pop(f.table) for f in used}
    engine.disown("scan", artifacts_in(scanned))
    return Scanned(used, files_read)


def _task(
    file: SourceFile, settings: ScanSettings, models: ModelFiles, engine: Engine
) -> Task[FileSignals | ScannedPieces]:
    weight, unweighed = max(file.text, 1), not file.size
    if file.piece or file.extracted or file.text <= pieces.ROWS_TEXT:
        arguments = (file, settings, models, engine.paths)
        return Task(file.table, scan_file, arguments, weight, unweighed, shares=True)
    return Task(file.table, scan_in_pieces, (file, settings, models, pieces.ROWS_TEXT, engine.paths), weight, unweighed)


def _pieces(file: SourceFile, scanned: FileSignals | ScannedPieces) -> list[tuple[SourceFile, FileSignals]]:
    """What a task has read, with its tables: a file or piece, or one file as the pieces into which it was cut."""
    if isinstance(scanned, FileSignals):
        return [(file, scanned)]
    ends = [*scanned.first[1:], None]
    return [
        (cut_by_rows(file, number, first, -1 if end is None else end - first, signals.bytes), signals)
        for number, (first, end, signals) in enumerate(zip(scanned.first, ends, scanned.pieces, strict=True))
    ]


def _with_bad_rows(signals: FileSignals, extracted: ExtractedRows | None) -> FileSignals:
    """What scan leaves of a file, with what was found wrong with it when it was read for the steps of `before_scan`."""
    if extracted is None:
        return signals
    return replace(
        signals,
        quarantine=extracted.quarantine,
        quarantined=extracted.quarantined,
        damage=extracted.damage,
        intact=extracted.intact,
        cut=extracted.cut,
        times_not_understood=extracted.times_not_understood,
    )
