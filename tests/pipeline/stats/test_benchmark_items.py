"""The contamination report is the same however its counts are added together."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fox1.pipeline.engine import tree
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.artifacts import Artifact, read_json
from fox1.pipeline.run.identity import files_of_table, group_files
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.stats import benchmark_items
from fox1.pipeline.stats.benchmark_items import report_contamination
from fox1.pipeline.text.survivors import DecidedFile


def test_counts_that_are_added_in_steps_name_the_first_documents_of_all_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "FAN_IN", 3)
    monkeypatch.setattr(benchmark_items, "NAMED_DOCUMENTS", 2)
    paths, manifest = RunPaths(run), read_manifest(RunPaths(run))
    sources = files_of_table(manifest["files"])
    files = {f.table: DecidedFile.of_run(f, paths, manifest["artifacts"]) for f in sources}
    items = Artifact(str(run / "prepare" / "benchmarks.parquet"), 0, 0, "items")
    engine = Engine(RunPaths(tmp_path), InProcess())
    report_contamination(engine, 1, [[group] for group in group_files(sources)], files, items)
    assert any(step.startswith("stats.contamination.add2") for step in engine.reused)
    found = read_json(tmp_path / "stats" / "contamination.json")

    where: dict[int, list[str]] = {}
    documents: dict[str, int] = {}
    names = pq.read_table(items.file).to_pylist()
    for name, file in sorted(files.items()):
        for row in pq.read_table(file.signals.file, columns=["row", "contamination_items"]).to_pylist():
            for item in row["contamination_items"]:
                where.setdefault(item, []).append(f"{name}#{row['row']}")
            for benchmark in {names[item]["benchmark"] for item in row["contamination_items"]}:
                documents[benchmark] = documents.get(benchmark, 0) + 1
    assert [(item["documents"], item["where"]) for item in found["items"]] == [
        (len(named), named[:2]) for _, named in sorted(where.items())
    ]
    assert len(where) > 3 and max(map(len, where.values())) > 2
    assert {
        name: counts["documents"] for name, counts in found["benchmarks"].items() if counts["documents"]
    } == documents
