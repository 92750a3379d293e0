"""The contamination report: which items of which benchmark stand in which documents, from the stored signals.

A task counts for the files of some groups, further ones add the counts of some together until few are left, and the last
writes the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..engine.engine import Engine
from ..engine.tasks import Task
from ..engine.tree import add_up
from ..prepare.contamination import UNCOVERED
from ..run.artifacts import Artifact, publish, write_json
from ..run.columns import each_open
from ..run.file_sets import FileSet
from ..run.identity import Group
from ..text.survivors import DecidedFile

NAMED_DOCUMENTS = 20
"""Documents named per item. All are counted, and the column `contamination_items` of `signals/` names every one."""


class _Item(msgspec.Struct, array_like=True):
    """Where an item was found."""

    documents: int
    where: list[tuple[str, int]]
    """The first (file, row), `NAMED_DOCUMENTS` at most."""


class _Counts(msgspec.Struct):
    """What was found in some files."""

    items: dict[int, _Item]
    """By the number of the item."""
    documents: dict[str, int]
    """Documents by benchmark."""


@dataclass(frozen=True)
class ContaminationCounts:
    """What was found in some files, as JSON."""

    file: Artifact


@dataclass(frozen=True)
class ContaminationReport:
    """`stats/contamination.json`."""

    file: Artifact


def report_contamination(
    engine: Engine,
    version: int,
    together: Sequence[Sequence[Group]],
    files: Mapping[str, DecidedFile],
    benchmarks: Artifact,
) -> None:
    """Write ``stats/contamination.json``: by benchmark, and by item found with the documents that hold it.

    Args:
        version: of the stage.
        together: groups whose files a task reads together.
        files: by `SourceFile.table`.
        benchmarks: the items.
    """
    tasks = []
    for some in together:
        path = engine.paths.counts(f"contamination/{some[0].name}.json")
        own = [files[f.table] for group in some for f in group.files]
        tasks.append(Task(some[0].name, count_items, (own, benchmarks, path)))
    counted = [c.file for c in engine.run("stats.contamination.count", version, tasks)]
    into = engine.paths.counts("contamination-sum")
    counted = add_up(engine, "stats.contamination.add", version, counted, add_counts, into)
    last = Task("contamination", write_report, (counted, benchmarks, engine.paths.stats("contamination")))
    engine.run("stats.contamination", version, [last])


def count_items(files: Sequence[DecidedFile], benchmarks: Artifact, path: Path) -> ContaminationCounts:
    """Count the items in the documents of some files."""
    benchmark_of = pq.read_table(benchmarks.file, columns=["benchmark"]).column(0).to_pylist()
    found = _Counts({}, {})
    columns, ordered = ["row", "contaminated", "contamination_items"], sorted(files, key=lambda f: f.source.table)
    tables = ([[file.signals.file]] for file in ordered)
    for file, (signals,) in zip(ordered, each_open(tables, [columns]), strict=True):
        for batch in signals.batches(columns):
            hit = batch.filter(pc.greater(batch.column("contaminated"), 0))
            rows, held = (hit.column(c).to_pylist() for c in ("row", "contamination_items"))
            for row, in_document in zip(rows, held, strict=True):
                for number in in_document:
                    item = found.items.setdefault(number, _Item(0, []))
                    item.documents += 1
                    if len(item.where) < NAMED_DOCUMENTS:
                        item.where.append((file.source.name, row))
                for benchmark in {benchmark_of[number] for number in in_document}:
                    found.documents[benchmark] = found.documents.get(benchmark, 0) + 1
    return _write(found, path)


def add_counts(counted: FileSet, path: Path) -> ContaminationCounts:
    """Add the counts of some files together."""
    return _write(_sum(counted), path)


def _sum(counted: Iterable[Path]) -> _Counts:
    total = _Counts({}, {})
    for file in counted:
        part = msgspec.json.decode(file.read_bytes(), type=_Counts)
        for number, more in part.items.items():
            item = total.items.setdefault(number, _Item(0, []))
            item.documents += more.documents
            item.where = sorted(item.where + more.where)[:NAMED_DOCUMENTS]
        for benchmark, n in part.documents.items():
            total.documents[benchmark] = total.documents.get(benchmark, 0) + n
    return total


def _write(counts: _Counts, path: Path) -> ContaminationCounts:
    ordered = _Counts(dict(sorted(counts.items.items())), dict(sorted(counts.documents.items())))
    with publish(path, len(counts.items)) as out:
        out.write(msgspec.json.encode(ordered))
    return ContaminationCounts(out.artifact)


def write_report(counted: Sequence[Artifact], benchmarks: Artifact, path: Path) -> ContaminationReport:
    """Write the report from what was counted."""
    items, found = pq.read_table(benchmarks.file).to_pylist(), _sum(a.file for a in counted)
    by_benchmark: dict[str, dict[str, Any]] = {}
    for i, item in enumerate(items):
        name = item["benchmark"]
        row = by_benchmark.setdefault(
            name,
            {
                "items": 0,
                "uncovered": 0,
                "why_uncovered": dict.fromkeys(UNCOVERED, 0),
                "found": 0,
                "documents": found.documents.get(name, 0),
            },
        )
        row["items"] += 1
        if why := item["uncovered"]:
            row["uncovered"] += 1
            row["why_uncovered"][why] += 1
        row["found"] += i in found.items
    listed = [
        {
            "benchmark": items[i]["benchmark"],
            "file": items[i]["file"],
            "row": items[i]["row"],
            "question": items[i]["question"],
            "documents": found.items[i].documents,
            "where": [f"{name}#{row}" for name, row in found.items[i].where],
        }
        for i in sorted(found.items)
    ]
    return ContaminationReport(write_json(path, {"benchmarks": by_benchmark, "items": listed}))
