"""Packing: padding, cut documents and speed of best fit beside concatenate-and-chunk.

    python benchmarks/bench_pack.py [--run RUN] [--documents 1M]

Lengths are those of a run's token shards, else made up: log-normal with a heavy tail, as web documents have. Partitions of
64k documents, as mix makes them; what they leave over is packed once more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
from fox1.pipeline.artifacts import RunPaths, read_json
from fox1.recipes.units import quantity
from fox1.tokenize.pack import Packing, pack
from fox1.tokenize.shards import token_batches

PARTITION = 1 << 16


def lengths_of(run: Path | None, documents: int) -> np.ndarray:
    """int64 tokens of every document, BOS and EOS included."""
    if run is None:
        rng = np.random.default_rng(1)
        return np.maximum(2, np.minimum(rng.lognormal(6.2, 1.2, documents), 2_000_000)).astype(np.int64)
    paths = RunPaths(run)
    shards = sorted(name for name in read_json(paths.manifest)["artifacts"] if name.startswith("tokens/"))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--documents", default="1M")
    options = parser.parse_args()
    lengths = lengths_of(options.run, quantity(options.documents))
    for packing in get_args(Packing):
        measure(lengths[:1000], 2048, packing)  # kernels are compiled
    rows = [measure(lengths, n, packing) for n in (2048, 4096, 8192) for packing in get_args(Packing)]
    for row in rows:
        print(", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in row.items()))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
