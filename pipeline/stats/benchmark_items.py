"""The contamination report: which items of which benchmark stand in which documents, from the stored signals."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..engine.tasks import TaskResult
from ..filter.judge import signal_batches
from ..run.artifacts import RunPaths, write_json
from ..run.identity import SourceFile

NAMED_DOCUMENTS = 20
"""Documents named for an item; the count is of all, and `contamination_items` of the signals names every one."""


def report_contamination(files: Sequence[SourceFile], paths: RunPaths) -> TaskResult:
    """Write ``stats/contamination.json``: by benchmark, and by item found with the documents that hold it."""
    items = pq.read_table(paths.prepare("benchmarks.parquet")).to_pylist()
    found: dict[int, list[str]] = {}
    counts: dict[int, int] = {}
    documents: dict[str, int] = {}
    for file in sorted(files, key=lambda f: f.name):
        for batch in signal_batches(
            paths.signals(file.corpus, file.path), ["row", "contaminated", "contamination_items"]
        ):
            hit = batch.filter(pc.greater(batch.column("contaminated"), 0))
            rows, held = (hit.column(c).to_pylist() for c in ("row", "contamination_items"))
            for row, its in zip(rows, held, strict=True):
                for item in its:
                    counts[item] = counts.get(item, 0) + 1
                    if counts[item] <= NAMED_DOCUMENTS:
                        found.setdefault(item, []).append(f"{file.name}#{row}")
                for benchmark in {items[item]["benchmark"] for item in its}:
                    documents[benchmark] = documents.get(benchmark, 0) + 1
    benchmarks: dict[str, dict[str, int]] = {}
    for i, item in enumerate(items):
        name = item["benchmark"]
        row = benchmarks.setdefault(name, {"items": 0, "uncovered": 0, "found": 0, "documents": documents.get(name, 0)})
        row["items"] += 1
        row["uncovered"] += not item["covered_by"]
        row["found"] += i in counts
    listed = [
        {
            "benchmark": items[i]["benchmark"],
            "file": items[i]["file"],
            "row": items[i]["row"],
            "question": items[i]["question"],
            "documents": counts[i],
            "where": found[i],
        }
        for i in sorted(counts)
    ]
    report = {"benchmarks": benchmarks, "items": listed}
    return TaskResult((write_json(paths.stats("contamination"), report),), {"items_found": len(counts)})
