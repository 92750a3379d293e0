"""A small copy of a recipe's inputs: the first rows of its files, in the formats and compression they have.

What is neither JSON lines nor Parquet, or is read by somebody else's reader, cannot be cut: some whole files are copied.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ..run.identity import SourceFile
from ..signals.hashing import mix_array
from ..sources.formats import MAX_LINE, is_json_lines, json_lines, open_source

MOST_FILES = 64
"""Most files of a corpus that are copied in part."""
LEAST_BYTES = 32 << 10
"""Least stored bytes taken from a file; of many small files only some are taken."""
FEW_BYTES = 4 << 10
"""Bytes taken from a file when only the fixed cost of a task is measured."""
MOST_WHOLE = 256 << 20
"""Bytes of the largest file that is copied whole."""
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
        if not all(map(_can_be_cut, candidates)):
            there += whole
            taken += sum(
                _copy_whole(f, root / corpus / f.path) for f in _few(candidates, share * whole, order.tolist())
            )
            continue
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
            else:
                _copy_table(file, size / max(file.size, 1), out)
            taken += out.stat().st_size
    return taken, there


def _can_be_cut(file: SourceFile) -> bool:
    return file.reader is None and (
        is_json_lines(file.path) or (file.path.endswith(".parquet") and "://" not in file.url)
    )


def _few(files: Sequence[SourceFile], size: float, order: Sequence[int]) -> list[SourceFile]:
    """Files to copy whole, by hash until they have about so many bytes, at least one; of no bytes the smallest one.

    Raises:
        ValueError: none is small enough, or is a file.
    """
    small = [f for f in files if f.url and f.size <= MOST_WHOLE]
    if not small:
        raise ValueError(
            f"{files[0].name} cannot be sampled: it is no file of at most {MOST_WHOLE >> 20} MiB; plan with --rates, "
            "measured elsewhere"
        )
    if not size:
        return [min(small, key=lambda f: (f.size, f.name))]
    hashes = dict(zip((f.name for f in files), order, strict=True))
    chosen, held = list[SourceFile](), 0
    for file in sorted(small, key=lambda f: hashes[f.name]):
        if chosen and held + file.size > size:
            break
        chosen.append(file)
        held += file.size
    return chosen


def _copy_whole(file: SourceFile, out: Path) -> int:
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_source(file.url) as source, open(out, "wb") as target:
        shutil.copyfileobj(source, target)
    return out.stat().st_size


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
