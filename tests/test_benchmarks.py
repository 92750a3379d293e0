"""What the scripts in benchmarks/ call of the pipeline."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fox1.benchmarks import fineweb_causes as causes
from fox1.benchmarks.bench_resume import InPlace, measure
from fox1.benchmarks.dedupe_only import decisions, scan_and_dedupe
from fox1.pipeline.dedupe.order import DUPLICATES, DedupeSettings
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.paths import RunPaths
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


def shingles(text: str) -> np.ndarray:
    words = text.split()
    grams = [" ".join(words[k : k + 5]) for k in range(len(words) - 4)]
    return np.array([zlib.crc32(gram.encode()) for gram in grams], np.uint64).reshape(-1, 1)


def test_every_document_that_two_dedupes_decide_otherwise_has_a_cause() -> None:
    def text(subject: str, words: int = 100, changed: int = 0) -> str:
        return " ".join(f"{subject}{n}" if n >= changed else f"other{n}" for n in range(words))

    texts = [
        *(text("ferry"), text("ferry", changed=3)),  # alike; each side keeps another
        *(text("river"), text("river", changed=40)),  # an equal band, though half as alike as it must be
        *(text("bridge"), text("bridge", changed=3)),  # alike, without an equal band there
        *(text("lamp", 3), text("lamp", 3)),  # too short for datatrove
        *(text("oak"), text("oak", changed=30), text("oak", changed=60)),  # a chain
        text("alone"),
    ]
    bands = {n: tuple(b"%d-%d" % (n, k) for k in range(14)) for n in range(len(texts)) if n not in (6, 7)}

    def equal(a: int, b: int, place: int) -> None:
        bands[b] = (*bands[b][:place], bands[a][place], *bands[b][place + 1 :])

    equal(0, 1, 4)
    equal(2, 3, 0)
    equal(8, 9, 1)
    equal(9, 10, 2)
    sides = causes.Sides(
        frozenset({0, 2, 3, 4, 6, 8, 10, 11}),
        frozenset({1, 2, 4, 5, 6, 7, 8}),
        {1: 0, 5: 4, 7: 6, 9: 8},
        causes.Buckets(bands),
        causes.Texts(texts, shingles),
        0.72,
    )
    found = {d.document: d for d in sides.differences()}
    assert {n: (d.kept_by, d.other, d.cause) for n, d in found.items()} == {
        0: ("fox1", 1, causes.OTHER_COPY),
        1: ("datatrove", 0, causes.OTHER_COPY),
        3: ("fox1", 2, causes.LESS_ALIKE),
        5: ("datatrove", 4, causes.MISSED_THERE),
        7: ("datatrove", 6, causes.NO_SIGNATURE),
        10: ("fox1", 8, causes.CHAIN),
        11: ("fox1", -1, causes.UNEXPLAINED),
    }
    # 93 of 99 shingles are the same; the words of both are, too.
    assert found[0].jaccard == found[0].jaccard_there == pytest.approx(93 / 99)
    assert found[0].buckets == 1 and found[3].jaccard < 0.5
