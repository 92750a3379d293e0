"""The whole near-dedupe, from text to decisions, against datatrove's four MinHash stages, one core each, in one run.

    FOX1_DATA=... python -m benchmarks.bench_dedupe [--megabytes 30] [--pairs 3]

The same documents in the same JSON lines files, word 5-grams, 14 bands of 8 rows on both sides. fox1: the whole scan (which
computes all other signals as well), filter without rules, exact and near dedupe, decisions on disk. datatrove: signatures,
buckets, clusters, filter, at its defaults (English words by spaCy) and in its fastest setting (words split at white
space). rensa: its LSH deduplicator over texts in memory, 5-grams of words split at white space. Imports and compilation
are excluded. The last line is JSON.

Installs the peers that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = "1"

from fox1.benchmarks.dedupe_only import decisions, scan_and_dedupe
from fox1.benchmarks.peers import bring, is_sampled, minhash_dedup, timed, whitespace_words
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.scan import ScanSettings
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import sources_of

FILES = 4


def write_sample(recipe: str, megabytes: float, folder: Path) -> tuple[int, list[str]]:
    """A stratified sample of the recipe's documents as JSON lines of The Pile's form; (bytes of text, texts)."""
    files = list_sources(sources_of(load_recipe(recipe)[0]))
    texts = [t for f in files for b in read_rows(f, Quarantine(f)) for t in b.column("text").to_pylist()]
    share = megabytes * 1e6 / sum(len(t.encode()) for t in texts)
    chosen = [t for t in texts if is_sampled(t, share)]
    folder.mkdir()
    for k in range(FILES):
        rows = [
            json.dumps({"id": str(i), "text": t, "meta": {"pile_set_name": "Pile-CC"}}, ensure_ascii=False)
            for i, t in enumerate(chosen)
            if i % FILES == k
        ]
        (folder / f"{k}.jsonl").write_text("\n".join(rows) + "\n")
    return sum(len(t.encode()) for t in chosen), chosen


def run_fox1(sources: Path, folder: Path) -> int:
    """Documents kept."""
    files = list_sources((SourceSettings("pile", "pile", str(sources), ("*.jsonl",)),))
    scan_and_dedupe(files, Engine(RunPaths(folder), InProcess()), ScanSettings(), DedupeSettings())
    return sum(decisions(folder, files).column("kept").to_pylist())


def run_rensa(texts: list[str]) -> int:
    from rensa import RMinHash, RMinHashDeduplicator

    dedup = RMinHashDeduplicator(threshold=0.8, num_perm=112, use_lsh=True, num_bands=14, seed=1)
    kept = 0
    for i, text in enumerate(texts):
        words = text.split()
        signature = RMinHash(num_perm=112, seed=1)
        signature.update([" ".join(words[k : k + 5]) for k in range(max(1, len(words) - 4))])
        kept += dedup.add(str(i), signature)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    bring("spacy", "rensa")
    logger_off()
    root = Path(tempfile.mkdtemp(prefix="fox1-bench-"))
    kept: dict[str, int] = {}

    def once(name: str) -> float:
        folder = Path(tempfile.mkdtemp(dir=root))

        def call() -> None:
            if name == "fox1":
                kept[name] = run_fox1(root / "text", folder)
            elif name == "rensa":
                kept[name] = run_rensa(texts)
            else:
                words = "en" if name == "default" else whitespace_words()
                kept[name] = sum(1 for _ in minhash_dedup(root / "text", folder, FILES, words))

        seconds = timed(call)
        shutil.rmtree(folder)
        print(f"{name:8} {size / 1e6 / seconds:8.3f} MB/s {seconds:8.2f} s, {kept[name]:,} of {len(texts):,} kept")
        return seconds

    try:
        size, texts = write_sample(options.recipe, options.megabytes, root / "text")
        once("fox1")  # models are loaded
        pairs = [(once("fox1"), once("fastest"), once("rensa")) for _ in range(options.pairs)]
        default = once("default")
        ours = statistics.median(p[0] for p in pairs)
        result = {
            "ratio_default": round(default / ours, 1),
            "ratio": round(statistics.median(p[1] / p[0] for p in pairs), 1),
            "ratio_rensa": round(statistics.median(p[2] / p[0] for p in pairs), 1),
            "mb_per_s": round(size / 1e6 / ours, 1),
            "megabytes": round(size / 1e6, 1),
        }
        print(json.dumps(result))
    finally:
        shutil.rmtree(root)


def logger_off() -> None:
    from datatrove.utils.logging import logger

    logger.remove()


if __name__ == "__main__":
    main()
