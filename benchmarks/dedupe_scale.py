"""CPU, reads, memory and disk of dedupe on made-up signatures of any number of documents, and how they grow with it.

    python -m benchmarks.dedupe_scale [--documents 1M 4M 16M] [--memory 1Gi] [--folder DIR]

Clusters are Zipf-like, one holds a tenth of all documents. Members of a cluster have up to an eighth of their shingles
of their own; a third of them are exact copies. Signatures, sketches and hashes are those that scan would make of such
sets of shingles. Tasks run in this process, one after the other. A read is a range of a file, or a row group of a table.
Needs about 2 KB of disk a document in DIR. The last line is JSON, with the exponents of what grows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.dedupe.stage import dedupe
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Outcome, Progress, Waiting, attempt
from fox1.pipeline.filter.judge import FILTERED_SCHEMA, FilteredGroup, Verdict
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.columns import Columns
from fox1.pipeline.run.identity import ROW_BITS, Group, SourceFile, file_hash, group_files
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import SIGNAL_GROUP_ROWS
from fox1.pipeline.signals.hashing import fixed_binary, mix64
from fox1.pipeline.signals.minhash import MinHashSettings, _update_minima, coefficients
from fox1.pipeline.signals.scan import FileSignals
from fox1.recipes.units import quantity
from fox1.storage import store
from numba import njit, prange

DOCUMENTS_PER_FILE = 50_000
SHAPE = MinHashSettings()


def cluster_of(documents: int, seed: int = 1) -> np.ndarray:
    """int64 [documents]: the cluster of every document, in a mixed order; cluster 0 has a tenth of all."""
    rng = np.random.default_rng(seed)
    sizes = [np.array([documents // 10])]
    left = documents - documents // 10
    while left > 0:
        more = np.minimum(rng.zipf(2.2, 1 << 20), documents // 1000 + 1)
        upto = int(np.searchsorted(np.cumsum(more), left)) + 1
        sizes.append(more[:upto])
        left -= int(more[:upto].sum())
    clusters = np.repeat(np.arange(sum(map(len, sizes))), np.concatenate(sizes))[:documents]
    return rng.permutation(clusters)


@njit(cache=True, nogil=True, parallel=True)
def signatures(
    clusters: np.ndarray, ids: np.ndarray, a: np.ndarray, b: np.ndarray, n_bands: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bands [n, n_bands], content [n, 2], sizes [n], sketches [n, k]) of documents made up from their numbers."""
    n = len(clusters)
    bands = np.empty((n, n_bands), np.uint64)
    content = np.empty((n, 2), np.uint64)
    sizes = np.empty(n, np.uint32)
    sketches = np.empty((n, k), np.uint32)
    rows = len(a) // n_bands
    for i in prange(n):
        cluster = mix64(np.uint64(clusters[i]) + np.uint64(0x1234567))
        own = mix64(np.uint64(ids[i]) + np.uint64(0x7654321))
        size = np.int64(40 + cluster % np.uint64(160))
        changed = np.int64(0)
        if own % np.uint64(3):
            changed = np.int64((own >> np.uint64(20)) % np.uint64(size // 8 + 1))
        shingles = np.empty(size, np.uint32)
        for s in range(size):
            base = own if s < changed else cluster
            shingles[s] = np.uint32(mix64(base + np.uint64(s) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))
        minima = np.full(len(a), np.uint32(0xFFFFFFFF), np.uint32)
        _update_minima(minima, a, b, shingles, size)
        for band in range(n_bands):
            h = mix64(np.uint64(band) + np.uint64(0x9E3779B97F4A7C15))
            for j in range(band * rows, (band + 1) * rows):
                h = mix64(h ^ np.uint64(minima[j]))
            bands[i, band] = h
        content[i, 0], content[i, 1] = (own if changed else cluster), np.uint64(changed)
        sizes[i] = size
        ordered = np.sort(shingles)
        held = min(k, size)
        sketches[i, :held] = ordered[:held]
    return bands, content, sizes, sketches


def write_signals(root: Path, documents: int) -> tuple[list[Group], dict[str, FileSignals], dict[str, FilteredGroup]]:
    """(groups, signals by file name, filter results by group) of made-up documents."""
    paths = RunPaths(root)
    clusters = cluster_of(documents)
    a, b = coefficients(SHAPE)
    files = []
    signals: dict[str, FileSignals] = {}
    for start in range(0, documents, DOCUMENTS_PER_FILE):
        mine = clusters[start : start + DOCUMENTS_PER_FILE]
        n = len(mine)
        name = f"{start // DOCUMENTS_PER_FILE:06d}"
        file = SourceFile("web", name, "", 32 << 20, "", "pile", False, file_hash("web", name))
        files.append(file)
        ids = np.arange(start, start + n)
        bands, content, sizes, sketches = signatures(mine, ids, a, b, SHAPE.bands, SHAPE.sketch_size)
        held = np.minimum(sizes, SHAPE.sketch_size).astype(np.int64)
        offsets = np.r_[0, np.cumsum(held * 4)].astype(np.int32)
        data = sketches[np.arange(SHAPE.sketch_size)[None, :] < held[:, None]]
        rng = np.random.default_rng(start)
        table = pa.table(
            {
                "doc_id": pa.array(np.uint64(file.file_hash << ROW_BITS) + np.arange(n, dtype=np.uint64)),
                "row": np.arange(n),
                "subset": pa.repeat("crawl", n),
                "content_hash": fixed_binary(content),
                "url_hash": pa.repeat(pa.scalar(0, pa.uint64()), n),
                "timestamp": pa.repeat(0, n),
                "quality": rng.integers(0, 65_536, n, np.uint16),
                "contaminated": pa.repeat(pa.scalar(0, pa.uint16()), n),
                "n_bytes": rng.integers(200, 10_000, n),
                "n_shingles": sizes,
            }
        )
        sketch = pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        wide = pa.table(
            {"doc_id": table.column("doc_id"), "band_signature": fixed_binary(bands), "sketch": sketch},
        )
        written = []
        for path, columns in ((paths.signals("web", name), table), (paths.signatures("web", name), wide)):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(columns, path, row_group_size=SIGNAL_GROUP_ROWS, compression="lz4")
            written.append(Artifact(str(path), 0, n, name))
        signals[file.table] = FileSignals(written[0], written[1], None, n, 4000 * n, 0, 0)
    groups = group_files(files)
    filtered: dict[str, FilteredGroup] = {}
    for group in groups:
        n = sum(signals[f.table].documents for f in group.files)
        path = paths.filtered(group.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        list_type = FILTERED_SCHEMA.field("reasons").type
        empty = pa.ListArray.from_arrays(np.zeros(n + 1, np.int32), pa.array([], pa.string()), type=list_type)
        columns = [pa.array(np.zeros(n, np.uint64)), pa.repeat("", n), empty]
        pq.write_table(pa.Table.from_arrays(columns, schema=FILTERED_SCHEMA), path)
        kept = (Verdict("web", "crawl", "", n),)
        artifact = Artifact(str(path), 0, n, group.name)
        filtered[group.name] = FilteredGroup(artifact, kept, ())
    return groups, signals, filtered


class Counting(InProcess):
    """Runs tasks in this process, and counts what each step takes."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self._now = Step()
        self._read_range, self._read = store.read_range, Columns.read_row_group

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            self._now = self.steps.setdefault(planned.step.removeprefix("dedupe.").rstrip("0123456789"), Step())
            began = time.process_time()
            outcome = attempt(planned, paths)
            spent = time.process_time() - began
            self._now.tasks += 1
            self._now.cpu += spent
            self._now.longest = max(self._now.longest, spent)
            yield planned.index, outcome

    def __enter__(self) -> Counting:
        def read_range(path: Path, begin: int, end: int | None) -> bytes:
            data = self._read_range(path, begin, end)
            self._now.reads += 1
            self._now.read_bytes += len(data)
            return data

        def read(of: Columns, group: int, columns: Sequence[str] | None = None) -> pa.Table:
            self._now.reads += 1
            return self._read(of, group, columns)

        store.read_range, Columns.read_row_group = read_range, read  # type: ignore[assignment, method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        store.read_range, Columns.read_row_group = self._read_range, self._read  # type: ignore[method-assign]


@dataclass
class Step:
    """What a step of dedupe takes, over all rounds."""

    tasks: int = 0
    cpu: float = 0.0
    longest: float = 0.0
    """CPU seconds of a task."""
    reads: int = 0
    read_bytes: int = 0


def measure(root: Path, documents: int, memory: int) -> dict[str, Any]:
    began = time.monotonic()
    groups, signals, filtered = write_signals(root, documents)
    print(f"{documents:,} documents: signatures written in {time.monotonic() - began:.0f} s", flush=True)
    paths = RunPaths(root)
    with Counting() as executor:
        began, cpu = time.monotonic(), time.process_time()
        engine = Engine(paths, executor, memory=memory)
        result = dedupe(engine, groups, signals, filtered, DedupeSettings(), SHAPE)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    lines = [json.loads(line) for line in paths.timings("tasks.jsonl").read_text().splitlines()]
    peak = max(line["peak_bytes"] for line in lines)
    disk: dict[str, int] = {}
    for path in (root / "dedupe").rglob("*"):
        if path.is_file():
            name = path.relative_to(root / "dedupe").parts[0].rstrip("0123456789")
            disk[name] = disk.get(name, 0) + path.stat().st_size
    for name, step in executor.steps.items():
        print(
            f"  {name:18} {step.tasks:6} tasks {step.cpu:8.1f} CPU-s, longest {step.longest:6.1f} "
            f"{step.reads:8,} reads {step.read_bytes / documents:8.1f} and {disk.get(name, 0) / documents:8.1f} bytes/document"
        )
    print(f"  rounds: {json.dumps(result.figures['rounds'])}")
    kept = sum(v.documents for v in result.verdicts.listed() if not v.reason)
    figures = {
        "documents": documents,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "reads": sum(step.reads for step in executor.steps.values()),
        "tasks": sum(step.tasks for step in executor.steps.values()),
        "documents_per_second": round(documents / seconds),
        "peak_mib": round(peak / (1 << 20)),
        "shuffle_bytes_per_document": round(sum(disk.values()) / documents, 1),
        "pass_cpu_s": round(sum(step.cpu for name, step in executor.steps.items() if name in ("pass", "few")), 2),
        "kept": kept,
        "rounds": len(result.figures["rounds"]),
        "largest_bucket": result.figures["largest_bucket"],
        "kept_past_a_cap": result.figures["kept_past_a_cap"],
    }
    print(f"  {json.dumps(figures)}", flush=True)
    return figures


def exponent(found: Sequence[dict[str, Any]], name: str) -> float:
    """The largest slope of a figure between two numbers of documents that follow each other, both as logarithms."""
    pairs = itertools.pairwise(found)
    slopes = (math.log(b[name] / a[name]) / math.log(b["documents"] / a["documents"]) for a, b in pairs)
    return round(max(slopes, default=math.nan), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", nargs="+", default=["1M", "4M", "16M"])
    parser.add_argument("--memory", default="1Gi")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    found = []
    # Kernels are compiled, or loaded, before anything is counted.
    for number in ("20K", *options.documents):
        root = Path(tempfile.mkdtemp(prefix="fox1-scale-", dir=options.folder))
        try:
            found.append(measure(root, quantity(number), quantity(options.memory)))
        finally:
            shutil.rmtree(root)
    del found[0]
    growth = {f"{name}_exponent": exponent(found, name) for name in ("cpu_s", "reads", "shuffle_bytes_per_document")}
    print(json.dumps({"runs": found, **growth}))


if __name__ == "__main__":
    main()
