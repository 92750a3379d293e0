"""How fast the page of `fox1 inspect` is on ten million documents, measured in Chromium.

    python -m benchmarks.bench_inspect [--documents 10000000] [--folder DIR]

A corpus of short documents is curated once. Its tables are then multiplied: each copy is a file of its own, with ids of its own,
other counts and other decisions, and lies over a raw shard that a document's text is read from. A page over this run is opened; all
histograms of all signals are shown, and 50 ranges are chosen. The last line is JSON:

    first_paint_s    from opening the address to the painted overview
    cross_filter_s   from a changed range to all histograms repainted, 95th percentile of 50
    document_s       from opening a document to its painted text, 95th percentile of 20
    memory_gib       peak of the server

Beside them: the start of the command, the first histograms, and for comparison one group-by of DuckDB over a signal's Parquet.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fox1.pipeline.run.artifacts import Artifact, parquet_writer
from fox1.pipeline.run.documents import RunDocuments
from fox1.pipeline.run.identity import ROW_BITS, SourceFile, file_hash
from fox1.pipeline.run.manifest import write_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.published import table_of
from fox1.pipeline.run.schemas import DECISION_SCHEMA, SIGNAL_GROUP_ROWS
from fox1.pipeline.signals.ratios import SIGNAL_COUNTS

from .bench_lookup import ROWS_OF_A_FILE, curate, write_corpus

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REASONS = (
    "",
    "exact_duplicate",
    "near_duplicate",
    "min_words",
    "max_duplicate_5gram_fraction",
    "languages",
    "min_stop_words",
)
CHANGES, DOCUMENTS = 50, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="keep the run here, and use one that is there")
    options = parser.parse_args()
    if not CHROMIUM:
        raise SystemExit("there is no Chromium; Debian's is installed by `apt-get install chromium`")
    with tempfile.TemporaryDirectory(prefix="fox1-inspect-") as scratch:
        root = options.folder or Path(scratch)
        if not (root / "run" / "manifest.json").exists():
            write_corpus(root / "corpus", ROWS_OF_A_FILE)
            curate(root, 6_000_000)
            began = time.monotonic()
            multiply(root, max(options.documents // ROWS_OF_A_FILE, 1))
            print(f"multiplied in {time.monotonic() - began:.0f} s")
        figures = measure(root / "run")
        figures["duckdb_one_histogram_s"] = group_by(root / "run")
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def multiply(root: Path, copies: int) -> None:
    """Make the run of one file one of so many."""
    paths = RunPaths(root / "run")
    run = RunDocuments(paths)
    (first,) = run.files
    signals = pq.read_table(paths.signals(first.corpus, first.part))
    raw = root / "corpus" / first.path
    files = [first]
    for number in range(1, copies):
        name = f"part-{number:03d}.jsonl"
        os.link(raw, root / "corpus" / name)
        files.append(replace(first, path=name, file_hash=file_hash(first.corpus, name)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tables = list(pool.map(lambda file: write_tables(paths, file, signals), files))
    kept = [run.manifest["artifacts"].table(folder) for folder in run.manifest["artifacts"].folders]
    written = table_of([entry for entries in tables for entry in entries])
    write_manifest(paths, files, [*kept, written], run.tokenizer)


def write_tables(paths: RunPaths, file: SourceFile, signals: pa.Table) -> list[tuple[str, Artifact]]:
    """Signals and decisions of a copy: its own ids, counts that are spread over many bins, and decisions by chance."""
    rng = np.random.default_rng(file.file_hash)
    n = signals.num_rows
    rows = signals.column("row").to_numpy()
    ids = pa.array(np.uint64(file.file_hash << ROW_BITS) | rows.astype(np.uint64))
    table = signals.set_column(signals.column_names.index("doc_id"), signals.schema.field("doc_id"), ids)
    for name in SIGNAL_COUNTS:
        if name in ("url_blocked", "contaminated"):
            continue
        at = table.column_names.index(name)
        field = table.schema.field(at)
        own = signals.column(name).to_numpy() * rng.lognormal(0, 0.6, n)
        if name in ("quality", "language_score"):
            own = rng.beta(3, 2, n) * (65_535 if name == "quality" else 10_000)
        table = table.set_column(at, field, pa.array(own.astype(field.type.to_pandas_dtype())))
    at = table.column_names.index("language")
    languages = pa.array(["en", "de", "fr", "es", "zh", "ru", "und"]).take(pa.array(rng.zipf(2, n).clip(1, 7) - 1))
    table = table.set_column(at, table.schema.field(at), languages)
    reasons = pa.array(REASONS).take(pa.array(rng.choice(len(REASONS), n, p=(0.45, 0.2, 0.1, 0.1, 0.06, 0.05, 0.04))))
    kept = np.array([not reason for reason in reasons.to_pylist()])
    copied = np.char.endswith(np.array(reasons.to_pylist()), "duplicate")
    decisions = {
        "corpus": pa.repeat(pa.scalar(file.corpus), n),
        "file": pa.repeat(pa.scalar(file.path), n),
        "row": pa.array(rows),
        "doc_id": ids,
        "kept": pa.array(kept),
        "reason": reasons,
        "reasons": pa.array([[r] if r else [] for r in reasons.to_pylist()], DECISION_SCHEMA.field("reasons").type),
        "duplicate_of": pa.array(np.where(copied, ids.to_numpy()[rng.integers(0, n, n)], 0).astype(np.uint64)),
        "similarity": pa.array(np.where(copied, 0.9, 0).astype(np.float32)),
        "kind": pa.array(
            ["near" if r[:4] == "near" else "exact" if r[:5] == "exact" else "" for r in reasons.to_pylist()]
        ),
        "cluster_size": pa.array(np.where(kept, rng.zipf(2.5, n).clip(1, 5000), 0).astype(np.uint32)),
    }
    written = []
    for path, columns, rows_of_a_group in (
        (paths.signals(file.corpus, file.part), table, SIGNAL_GROUP_ROWS),
        (paths.decisions(file.corpus, file.part), pa.table(decisions, schema=DECISION_SCHEMA), 8192),
    ):
        with parquet_writer(path, columns.schema, rows_of_a_group) as out:
            for batch in columns.combine_chunks().to_batches():
                out.write(batch)
        written.append((path.relative_to(paths.root).as_posix(), out.artifact))
    return written


@contextmanager
def serving(run: Path) -> Iterator[tuple[str, int, float]]:
    """(address, process id, seconds to start) of the page of a run."""
    began = time.monotonic()
    command = [sys.executable, "-m", "fox1", "inspect", str(run), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    address = re.search(r"http://\S+", process.stdout.readline())
    assert address
    try:
        yield address[0], process.pid, time.monotonic() - began
    finally:
        process.terminate()  # not Ctrl-C, which a shell has what runs in the background ignore
        process.wait(120)


def measure(run: Path) -> dict[str, float]:
    """What the page takes."""
    from playwright.sync_api import sync_playwright

    with serving(run) as (address, process, start), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(600_000)
        began = time.monotonic()
        page.goto(address)
        page.wait_for_selector(".overview[data-ready] .tile")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        first_paint = time.monotonic() - began
        began = time.monotonic()
        page.keyboard.press("2")
        page.wait_for_selector(".explore[data-painted]")
        explore = time.monotonic() - began
        began = time.monotonic()
        page.locator(".more button").click()
        page.wait_for_function("() => document.querySelectorAll('.histogram .h-kept[d]').length > 60")
        page.wait_for_selector(".explore:not([data-busy])")
        every = time.monotonic() - began
        changes = [change(page, k) for k in range(CHANGES)]
        documents = [open_document(page, address, k) for k in range(DOCUMENTS)]
        peak = next(
            line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        browser.close()
    print(f"changes: median {statistics.median(changes):.3f} s; documents: median {statistics.median(documents):.3f} s")
    return {
        "start_s": start,
        "first_paint_s": first_paint,
        "first_histograms_s": explore,
        "all_histograms_s": every,
        "cross_filter_s": float(np.quantile(changes, 0.95)),
        "document_s": float(np.quantile(documents, 0.95)),
        "memory_gib": int(peak.split()[1]) / 2**20,
    }


def change(page: Any, k: int) -> float:
    """Seconds in which all histograms follow another range of one of them."""
    signal = ("words", "quality", "mean word length", "alphanumeric fraction", "longest line")[k % 5]
    page.evaluate(
        """([signal, share]) => {
            const view = document.querySelector('.explore');
            delete view.dataset.painted;
            const slider = document.querySelector(`input[aria-label="${signal}, from"]`);
            slider.value = Math.round(Number(slider.min) + share * (Number(slider.max) - Number(slider.min)));
            slider.dispatchEvent(new Event('input'));
        }""",
        [signal, 0.15 + 0.6 * ((k * 7) % 10) / 10],
    )
    page.wait_for_selector(".explore[data-painted]:not([data-busy])")
    took = float(page.locator(".explore").get_attribute("data-painted")) / 1000
    if k % 5 == 4:
        page.locator(".toolbar button", has_text="Reset").click()
        page.wait_for_selector(".explore:not([data-busy])")
    return took


def open_document(page: Any, address: str, k: int) -> float:
    """Seconds in which a document is shown that lies somewhere in its file."""
    name = page.evaluate(
        """async (first) => {
            const headers = { 'Content-Type': 'application/json' };
            const body = JSON.stringify({ selection: {}, first, number: 1, order: 'mixed' });
            return (await (await fetch('/api/rows', { method: 'POST', headers, body })).json()).table.rows[0][1];
        }""",
        1000 * k + 17,
    )
    page.evaluate("(name) => { location.hash = `#/document/${name}`; }", name)
    page.wait_for_selector(".document[data-painted][data-ready]")
    took = float(page.locator(".document").get_attribute("data-painted")) / 1000
    assert page.locator("pre.text").first.inner_text().startswith("The ")
    page.evaluate("() => { location.hash = '#/overview'; }")
    page.wait_for_selector(".overview[data-ready]")
    return took


def group_by(run: Path) -> float:
    """Seconds of one histogram by DuckDB, of a stored count over the run's Parquet files, on all cores."""
    connection = duckdb.connect()
    began = time.monotonic()
    connection.execute(
        f"select floor(2 * log2(n_words + 1)), count(*) from read_parquet('{run}/signals/*/*.parquet') "
        "where raw_bytes > 100 group by 1"
    ).fetchall()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
