"""What the scripts in benchmarks/ call of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fox1.benchmarks.bench_resume import InPlace, measure
from fox1.benchmarks.dedupe_only import decisions, scan_and_dedupe
from fox1.pipeline.dedupe.order import DUPLICATES, DedupeSettings
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.artifacts import RunPaths
from fox1.pipeline.signals.scan import ScanSettings
from fox1.pipeline.sources.listing import list_sources
from fox1.storage import store


def test_dedupe_alone_decides_every_document(settings_of: Callable[..., Any], tmp_path: Path) -> None:
    files = list_sources(settings_of().sources)
    scan_and_dedupe(files, Engine(RunPaths(tmp_path), InProcess()), ScanSettings(), DedupeSettings())
    found = decisions(tmp_path, files)
    reasons = found.column("reason").to_pylist()
    assert {"", "exact_duplicate", "near_duplicate"} <= set(reasons) <= {"", *DUPLICATES, "held_out"}
    assert found.num_rows > 500 and found.column("kept").to_pylist() == [not reason for reason in reasons]


def test_a_run_of_many_tasks_resumes_and_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AtStart", InPlace)
    found = measure(tmp_path, 1200, 2, 40)
    assert found["artifacts"] == 3600 and 0 < found["resume_cpu_s"] + found["look_cpu_s"] < 10
