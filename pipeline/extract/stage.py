"""The extract stage: the steps of `before_scan`, one task per source file, or per piece of a large one. It comes before prepare,
whose samples are of the texts that the steps make; its steps belong to the scan, which it is the first half of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..engine.engine import Engine
from ..engine.tasks import Task
from ..run.artifacts import Artifact
from ..run.identity import SourceFile, cut_by_rows
from ..sources import pieces
from .extract import ExtractedFile, StepFigures, extract_file
from .settings import StepSettings, with_version

VERSION = 2
STEP = "scan.extract"


@dataclass(frozen=True)
class ExtractedRows:
    """What was found wrong with the rows of a file, or a piece of one, when they were read."""

    quarantine: Artifact | None = None
    quarantined: int = 0
    damage: str = ""
    intact: int = 0
    cut: bool = False
    times_not_understood: int = 0


@dataclass(frozen=True)
class Extracted:
    """The source files of a run, and what the steps of `before_scan` left of those that they serve."""

    sources: Sequence[SourceFile]
    """All files; those of which texts are stored with these, large ones as their pieces."""
    rows: Mapping[str, ExtractedRows] = field(default_factory=dict)
    """By `SourceFile.table`, of those of which texts are stored."""
    figures: Mapping[str, Sequence[StepFigures]] = field(default_factory=dict)
    """By corpus, of each of its files what every step did."""


def extract(engine: Engine, files: Sequence[SourceFile], steps: Sequence[StepSettings]) -> Extracted:
    """Give the rows of the corpora that steps serve to these steps, and store the texts.

    Args:
        steps: of the recipe, in their order.

    Raises:
        ValueError: a step cannot be used, or a file changed since planning.
    """
    if not steps:
        return Extracted(files)
    steps = tuple(map(with_version, steps))
    own = {f.corpus: tuple(s for s in steps if s.serves(f.corpus)) for f in files}
    cut = pieces.cut_files(engine, [f for f in files if own[f.corpus]], f"{STEP}_count")
    tasks = []
    for file in cut:
        in_pieces = _in_pieces(file)
        # Where a step serves does not say what it does.
        settings = tuple(replace(s, sources=()) for s in own[file.corpus])
        # Nor do the ids of its documents.
        read = replace(file, file_hash=0)
        arguments = (read, settings, pieces.ROWS_TEXT if in_pieces else 0, engine.paths)
        weight, unweighed = max(file.text, 1), not file.size
        tasks.append(Task(file.table, extract_file, arguments, weight, unweighed, shares=not in_pieces))
    results = dict(zip((f.table for f in cut), engine.run(STEP, VERSION, tasks), strict=True))
    made: dict[str, list[tuple[SourceFile, ExtractedRows]]] = {}
    for file in cut:
        made.setdefault(file.name, []).extend(_pieces(file, results[file.table]))
    everything = [pair for file in files for pair in made.get(file.name, [(file, ExtractedRows())])]
    used = list(pieces.up_to_damage([f for f, _ in everything], {f.table: rows.damage for f, rows in everything}))
    tables = {f.table for f in used}
    engine.disown(STEP, [f.extracted for f, _ in everything if f.extracted and f.table not in tables])
    figures: dict[str, list[StepFigures]] = {}
    for file in cut:
        if _in_pieces(file) or file.table in tables:
            figures.setdefault(file.corpus, []).extend(results[file.table].figures)
    return Extracted(used, {f.table: rows for f, rows in everything if f.extracted and f.table in tables}, figures)


def _in_pieces(file: SourceFile) -> bool:
    """Whether the texts of a file that one task reads are stored as those of pieces."""
    return not file.piece and file.text > pieces.ROWS_TEXT


def _pieces(file: SourceFile, result: ExtractedFile) -> Iterator[tuple[SourceFile, ExtractedRows]]:
    """What a task has read, with its texts: a file or piece, or one file as the pieces into which it was cut. The last one has
    what is said of the whole file."""
    ends = [*(t.first for t in result.tables[1:]), None]
    for number, (table, end) in enumerate(zip(result.tables, ends, strict=True)):
        piece, rows = file, ExtractedRows()
        if _in_pieces(file):
            piece = cut_by_rows(file, number, table.first, -1 if end is None else end - table.first, table.bytes)
        if end is None:
            rows = ExtractedRows(
                result.quarantine,
                result.quarantined,
                result.damage,
                result.intact,
                result.cut,
                result.times_not_understood,
            )
        yield replace(piece, extracted=table.table), rows
