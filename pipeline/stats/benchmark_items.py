"""The contamination report: which items of which benchmark stand in which documents, from the stored signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..filter.judge import signal_batches
from ..run.artifacts import Artifact, write_json

NAMED_DOCUMENTS = 20
"""Documents named per item. All are counted, and the column `contamination_items` of `signals/` names every one."""


@dataclass(frozen=True)
class ContaminationReport:
    """`stats/contamination.json`."""

    file: Artifact


def report_contamination(
    signals: Sequence[tuple[str, Artifact]], benchmarks: Artifact, path: Path
) -> ContaminationReport:
    """Write ``stats/contamination.json``: by benchmark, and by item found with the documents that hold it.

    Args:
        signals: with the names of their files, in order.
        benchmarks: the items.
    """
    items = pq.read_table(benchmarks.file).to_pylist()
    found: dict[int, list[str]] = {}
    counts: dict[int, int] = {}
    documents: dict[str, int] = {}
    for name, scanned in signals:
        for batch in signal_batches(scanned.file, ["row", "contaminated", "contamination_items"]):
            hit = batch.filter(pc.greater(batch.column("contaminated"), 0))
            rows, held = (hit.column(c).to_pylist() for c in ("row", "contamination_items"))
            for row, in_document in zip(rows, held, strict=True):
                for item in in_document:
                    counts[item] = counts.get(item, 0) + 1
                    if counts[item] <= NAMED_DOCUMENTS:
                        found.setdefault(item, []).append(f"{name}#{row}")
                for benchmark in {items[item]["benchmark"] for item in in_document}:
                    documents[benchmark] = documents.get(benchmark, 0) + 1
    by_benchmark: dict[str, dict[str, int]] = {}
    for i, item in enumerate(items):
        name = item["benchmark"]
        row = by_benchmark.setdefault(
            name, {"items": 0, "uncovered": 0, "found": 0, "documents": documents.get(name, 0)}
        )
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
    return ContaminationReport(write_json(path, {"benchmarks": by_benchmark, "items": listed}))
