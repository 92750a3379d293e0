"""Scan and dedupe without the other stages, filters off: what the benchmarks of dedupe have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.dedupe.stage import DedupeResult, run_dedupe
from fox1.pipeline.engine.tasks import Engine, Task
from fox1.pipeline.filter.judge import FilterSettings, filter_group
from fox1.pipeline.run.artifacts import RunPaths
from fox1.pipeline.run.identity import SourceFile, group_files
from fox1.pipeline.signals.scan import ScanSettings, scan_file


def scan_and_dedupe(
    files: Sequence[SourceFile], engine: Engine, scan: ScanSettings, dedupe: DedupeSettings
) -> DedupeResult:
    """Decisions of `files` in the engine's run, where no filter drops anything."""
    paths = engine.paths
    scans = engine.run("scan", [Task(f.name, f.name, scan_file, (f, scan, paths)) for f in files])
    by_name = {f.name: r for f, r in zip(files, scans, strict=True)}
    groups = group_files(files)
    filtered = engine.run(
        "filter", [Task(g.name, g.name, filter_group, (g, FilterSettings(), "", paths)) for g in groups]
    )
    counts = [[by_name[f.name].counts for f in g.files] for g in groups]
    return run_dedupe(
        engine,
        groups,
        [(sum(c["bytes"] for c in of), sum(c["documents"] for c in of)) for of in counts],
        {g.name: [r.outputs[0].hash] for g, r in zip(groups, filtered, strict=True)},
        {key.rsplit("|", 1)[0] for r in filtered for key in r.counts},
        dedupe,
        scan.minhash.bands,
        scan.minhash.sketch_size,
    )


def decisions(root: Path, files: Sequence[SourceFile]) -> pa.Table:
    """The decisions of all files, in their order."""
    paths = RunPaths(root)
    return pa.concat_tables([pq.read_table(paths.decisions(f.corpus, f.path)) for f in files])
