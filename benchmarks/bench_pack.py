"""Packing: padding, cut documents and speed of best fit beside concatenate-and-chunk; tokens to blocks beside `datasets`.

    python -m benchmarks.bench_pack [--run RUN] [--documents 1M] [--pairs 3]

Lengths are those of a run's token shards, else made up: log-normal with a heavy tail, as web documents have. Partitions of
64k documents, as mix makes them; what they leave over is packed once more. The peer is the grouping of texts that the
examples of `transformers` use, through `datasets.map` in batches of 1,000, one process: it concatenates and cuts. Both make
blocks of 2,048 of the same 20,000 documents in memory. The last line is JSON; `ratio` is that of tokens per second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import pyarrow as pa
from fox1.benchmarks.peers import timed
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.units import quantity
from fox1.tokenize.pack import Packing, fill, pack
from fox1.tokenize.shards import token_batches

PARTITION = 1 << 16


def lengths_of(run: Path | None, documents: int) -> np.ndarray:
    """int64 tokens of every document, BOS and EOS included."""
    if run is None:
        rng = np.random.default_rng(1)
        return np.maximum(2, np.minimum(rng.lognormal(6.2, 1.2, documents), 2_000_000)).astype(np.int64)
    paths = RunPaths(run)
    shards = list(read_manifest(paths)["artifacts"].below("tokens/"))
    found = [np.diff(b.column("input_ids").offsets.to_numpy()) for s in shards for b in token_batches(paths.root / s)]
    return np.random.default_rng(1).permutation(np.concatenate(found)).astype(np.int64) + 2


def measure(lengths: np.ndarray, block_length: int, packing: Packing) -> dict[str, Any]:
    max_docs = block_length // 32
    began = time.perf_counter()
    parts = [lengths[i : i + PARTITION] for i in range(0, len(lengths), PARTITION)]
    packed = [pack(part, block_length, max_docs, packing) for part in parts]
    rest = np.concatenate([p.leftover.length for p in packed])
    tail = pack(rest, block_length, max_docs, "concatenate", last=True)
    seconds = time.perf_counter() - began
    blocks = sum(p.n_blocks for p in packed) + tail.n_blocks
    pieces = [np.bincount(p.segments.document, minlength=len(part)) for p, part in zip(packed, parts, strict=True)]
    left = [np.bincount(p.leftover.document, minlength=len(part)) for p, part in zip(packed, parts, strict=True)]
    short = np.concatenate([part <= block_length for part in parts])
    cut = np.concatenate([a + b > 1 for a, b in zip(pieces, left, strict=True)]) & short
    return {
        "block_length": block_length,
        "packing": packing,
        "blocks": blocks,
        "padding_percent": round(100 * (1 - lengths.sum() / (blocks * block_length)), 4),
        "cut_percent_of_documents_that_fit": round(100 * (cut.sum() + tail.cut) / max(short.sum(), 1), 3),
        "documents_per_second": round(len(lengths) / seconds),
    }


def blocks_of(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Blocks of 2,048 by best fit: what a pack task does between reading and writing."""
    p = pack(lengths, 2048, 64, "best_fit")
    s = p.segments
    return fill(s.document, s.start, s.length, s.block, p.n_blocks, 2048, ids, np.r_[0, np.cumsum(lengths)], 0)[0]


def grouped(texts: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """Concatenate, drop the rest, cut: the examples' `group_texts`."""
    joined = [i for ids in texts["input_ids"] for i in ids]
    total = len(joined) // 2048 * 2048
    return {"input_ids": [joined[i : i + 2048] for i in range(0, total, 2048)]}


def beside_datasets(lengths: np.ndarray, pairs: int) -> dict[str, Any]:
    """Tokens per second of both, medians."""
    ids = np.random.default_rng(1).integers(4, 255_000, lengths.sum(), np.int32)
    column = pa.ListArray.from_arrays(pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32)), pa.array(ids))
    table = datasets.Dataset(pa.table({"input_ids": column}))
    datasets.disable_progress_bars()
    options = {"batched": True, "batch_size": 1000, "keep_in_memory": True, "load_from_cache_file": False}
    blocks_of(ids, lengths)
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(timed(lambda: blocks_of(ids, lengths)))
        theirs.append(timed(lambda: table.map(grouped, **options)))
    return {
        "tokens_per_second": round(len(ids) / statistics.median(ours)),
        "datasets_tokens_per_second": round(len(ids) / statistics.median(theirs)),
        "ratio": round(statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--documents", default="1M")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    lengths = lengths_of(options.run, quantity(options.documents))
    for packing in get_args(Packing):
        measure(lengths[:1000], 2048, packing)  # kernels are compiled
    rows = [measure(lengths, n, packing) for n in (2048, 4096, 8192) for packing in get_args(Packing)]
    for row in rows:
        print(", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in row.items()))
    print(json.dumps({**beside_datasets(lengths[:20_000], options.pairs), "packing": rows}))


if __name__ == "__main__":
    main()
