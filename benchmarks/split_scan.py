"""One plain .jsonl, scanned and deduplicated by many tasks and by one: are ids, decisions and quarantine the same?

    python -m benchmarks.split_scan [--megabytes 200] [--piece-megabytes 16] [--workers N] [--data DIR] [--scratch DIR]

The file is made of the text of ${FOX1_DATA} (or of `fox1 sample`): each time it is repeated its letters are exchanged, so that
no document is a copy but the planted ones, one in fifty; one line in a thousand cannot be read. `--megabytes 10000
--piece-megabytes 512` is the file of 10 GB. Filters are off. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import string
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import zstandard
from fox1.api import session
from fox1.benchmarks.dedupe_only import scan_and_dedupe
from fox1.pipeline.dedupe.order import DedupeSettings
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.run.columns import open_columns
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.parquet_rows import RowCursor
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sample import write_sample
from fox1.pipeline.signals.scan import ScanSettings
from fox1.pipeline.sources import pieces
from fox1.pipeline.sources.listing import SourceSettings, list_sources

COPIES, BAD = 50, 1000
"""One line in so many is a copy of an earlier one, or no JSON."""


def documents(data: Path) -> list[str]:
    """The texts of The Pile's training files."""
    decode = msgspec.json.Decoder().decode
    found = []
    for path in sorted((data / "pile" / "train").glob("*.jsonl.zst")):
        lines = zstandard.ZstdDecompressor().stream_reader(open(path, "rb")).read().splitlines()
        found += [decode(line)["text"] for line in lines]
    return found


def lines_of(texts: Sequence[str], size: int) -> Iterator[bytes]:
    """Lines of The Pile's format, `size` bytes of them."""
    rng, encode = random.Random(19), msgspec.json.Encoder().encode
    letters, kept = string.ascii_lowercase.encode(), list[bytes]()
    written = n = 0
    while written < size:
        exchanged = bytes.maketrans(letters, bytes(rng.sample(letters, len(letters))))
        for text in texts:
            n += 1
            if n % BAD == 0:
                line = b'{"text": 5}\n'
            elif n % COPIES == 0 and kept:
                line = rng.choice(kept)
            else:
                changed = text.encode().translate(exchanged).decode()
                line = encode({"text": changed, "meta": {"pile_set_name": "Pile-CC"}}) + b"\n"
            if n % (COPIES - 1) == 0 and len(kept) < 10_000:
                kept.append(line)
            written += len(line)
            yield line
            if written >= size:
                return


def curated(folder: Path, most: int, file: SourceFile, workers: int | None) -> tuple[RunPaths, list[SourceFile], float]:
    """Scan and dedupe the file, cut from `most` bytes on; the run, what its tables tell of, and the wall seconds."""
    pieces.MOST_TEXT = most
    paths = RunPaths(folder)
    began = time.monotonic()
    with session(None, workers, False) as executor:
        engine = Engine(paths, executor)
        scan_and_dedupe([file], engine, ScanSettings(), DedupeSettings())
        # Reused: what was counted is kept.
        return paths, pieces.cut_files(engine, [file]), time.monotonic() - began


def same_rows(whole: Path, parts: Sequence[Path]) -> bool:
    """Whether the tables of pieces are, one after the other, the table of the whole file."""
    with open_columns(whole) as table:
        columns = table.schema_arrow.names
        expected, rows = RowCursor(table, columns), 0
        for path in parts:
            with open_columns(path) as part:
                found = RowCursor(part, columns)
                while taken := (chunk := found.take(1 << 16)).num_rows:
                    rows += taken
                    if not expected.take(taken).equals(chunk):
                        return False
        return rows == table.metadata.num_rows


def quarantined(paths: RunPaths, files: Sequence[SourceFile]) -> bytes:
    found = (paths.quarantine(f.corpus, f.part) for f in files)
    return b"".join(path.read_bytes() for path in found if path.exists())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--piece-megabytes", type=int, default=16)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FOX1_DATA", "")))
    parser.add_argument("--scratch", type=Path, default=None)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fox1-split-", dir=options.scratch))
    try:
        data = options.data
        if not (data / "pile").is_dir():
            data = folder / "sample"
            write_sample(data)
        (folder / "pile").mkdir()
        with open(folder / "pile" / "large.jsonl", "wb") as out:
            out.writelines(lines_of(documents(data), options.megabytes * 10**6))
        (file,) = list_sources([SourceSettings("pile", "pile", str(folder / "pile"))])
        print(f"{file.size / 1e6:,.0f} MB of JSON lines")
        cut, parts, cut_seconds = curated(folder / "cut", options.piece_megabytes << 20, file, options.workers)
        whole, _, seconds = curated(folder / "whole", 1 << 62, file, options.workers)
        scans = [e for e in task_times(cut) if e["stage"] == "scan"]
        (alone,) = [e for e in task_times(whole) if e["stage"] == "scan"]
        counts = sum(e["seconds"] for e in task_times(cut) if e["stage"] == "scan.count")
        print(
            f"cut: {len(scans)} tasks, the longest {max(e['seconds'] for e in scans):.1f} s, counting {counts:.1f} s;"
        )
        print(f"     {cut_seconds:.1f} s in all. Whole: a task of {alone['seconds']:.1f} s, {seconds:.1f} s in all.")
        same = {
            part: same_rows(at(whole, file), [at(cut, f) for f in parts])
            for part, at in (
                ("signals", lambda paths, f: paths.signals(f.corpus, f.part)),
                ("decisions", lambda paths, f: paths.decisions(f.corpus, f.part)),
            )
        }
        bad = quarantined(whole, [file])
        same["quarantine"] = bad == quarantined(cut, parts) and bad.count(b"\n") > 0
        assert all(same.values()), same
        figures = {
            "bytes": file.size,
            "pieces": len(parts),
            "count_seconds": round(counts, 2),
            "longest_seconds": round(max(e["seconds"] for e in scans), 2),
            "whole_seconds": round(alone["seconds"], 2),
            "peak_mib": max(e["peak_bytes"] for e in scans) >> 20,
            "same": same,
        }
        print(json.dumps(figures))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
