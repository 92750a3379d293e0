"""Scan and dedupe without the other stages, filters off: what the benchmarks of dedupe have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.dedupe.stage import Decided
from fox1.pipeline.dedupe.stage import dedupe as decide
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.filter.judge import FilterSettings
from fox1.pipeline.filter.stage import filter_documents
from fox1.pipeline.run.identity import SourceFile, group_files
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.scan import ModelFiles, ScanSettings
from fox1.pipeline.signals.stage import scan as scan_files
from fox1.pipeline.sources.pieces import cut_files


def scan_and_dedupe(files: Sequence[SourceFile], engine: Engine, scan: ScanSettings, dedupe: DedupeSettings) -> Decided:
    """Decisions of `files` in the engine's run, where no filter drops anything."""
    scanned = scan_files(engine, cut_files(engine, files), scan, ModelFiles.installed())
    groups = group_files(scanned.sources)
    filtered = filter_documents(engine, groups, scanned.files, FilterSettings(), None)
    return decide(engine, groups, scanned.files, filtered.groups, dedupe, scan.minhash)


def decisions(root: Path, files: Sequence[SourceFile]) -> pa.Table:
    """The decisions of all files or pieces, in their order."""
    paths = RunPaths(root)
    return pa.concat_tables([pq.read_table(paths.decisions(f.corpus, f.part)) for f in files])
