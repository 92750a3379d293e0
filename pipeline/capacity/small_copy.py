"""A small copy of a recipe's inputs: the first rows of its files, in the formats and compression they have."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ..run.identity import SourceFile
from ..signals.hashing import mix_array
from ..sources.formats import MAX_LINE, is_json_lines, json_lines

MOST_FILES = 64
"""Most files of a corpus that are copied in part."""
LEAST_BYTES = 32 << 10
"""Least stored bytes taken from a file; of many small files only some are taken."""
FEW_BYTES = 4 << 10
"""Bytes taken from a file when only the fixed cost of a task is measured."""
CHUNK_BYTES = 16 << 10
"""Text that is compressed and counted at once."""


def copy_beginnings(files: Sequence[SourceFile], share: float, root: Path) -> tuple[int, int]:
    """Write about `share` of the stored bytes of every corpus below ``root/<corpus>``; 0: a few rows of each file.

    Returns:
        (bytes written, bytes of all files). Whole rows are taken, and of many files some, chosen by hash.

    Raises:
        ValueError: a file is of a kind that cannot be copied in part.
    """
    taken = there = 0
    for corpus, held_out in sorted({(f.corpus, f.held_out) for f in files}):
        candidates = [f for f in files if (f.corpus, f.held_out) == (corpus, held_out)]
        whole = sum(f.size for f in candidates)
        order = mix_array(np.array([f.file_hash for f in candidates], np.uint64), 11)
        most = max(1, min(MOST_FILES, int(share * whole / LEAST_BYTES))) if share else MOST_FILES
        chosen = [candidates[i] for i in np.argsort(order, kind="stable")[:most].tolist()]
        of_each = share * whole / max(sum(f.size for f in chosen), 1)
        there += whole
        for file in chosen:
            size = int(of_each * file.size) if share else FEW_BYTES
            out = root / corpus / file.path
            out.parent.mkdir(parents=True, exist_ok=True)
            if is_json_lines(file.path):
                _copy_lines(file, size, out)
            elif file.path.endswith(".parquet") and "://" not in file.url:
                _copy_table(file, size / max(file.size, 1), out)
            else:
                raise ValueError(
                    f"{file.name}: only JSON lines and local Parquet files can be sampled; plan with --rates, measured elsewhere"
                )
            taken += out.stat().st_size
    return taken, there


def _copy_lines(file: SourceFile, size: int, out: Path) -> None:
    """Lines until they take `size` bytes as stored, at least one."""
    lines = (bytes(line) + b"\n" for _, _, line, _ in json_lines(file.url) if len(line) <= MAX_LINE)
    opened: IO[bytes]
    if file.path.endswith(".gz"):
        opened = cast(IO[bytes], gzip.open(out, "wb"))
    elif file.path.endswith(".zst"):
        opened = cast(IO[bytes], zstandard.ZstdCompressor().stream_writer(open(out, "wb", buffering=0)))
    else:
        opened = open(out, "wb")
    first = next(lines, None)
    with opened as target:
        if first is None:
            return
        target.write(first)
        held = 0
        for line in lines if size else ():
            if held >= CHUNK_BYTES:
                held = 0
                target.flush()
                if out.stat().st_size >= size:
                    return
            target.write(line)
            held += len(line)


def _copy_table(file: SourceFile, share: float, out: Path) -> None:
    parquet = pq.ParquetFile(file.url)
    rows = max(1, round(parquet.metadata.num_rows * share))
    batches: list[pa.RecordBatch] = []
    for batch in parquet.iter_batches(min(rows, 1024)):
        batches.append(batch.slice(0, rows))
        rows -= batches[-1].num_rows
        if rows <= 0:
            break
    codec = parquet.metadata.row_group(0).column(0).compression if parquet.metadata.num_row_groups else "SNAPPY"
    pq.write_table(pa.Table.from_batches(batches, parquet.schema_arrow), out, compression=codec)
