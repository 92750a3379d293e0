"""A run whose files are cut is the run of the whole files: ids, signals, decisions, quarantine, accounts and phases."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.pipeline.inspect.provenance import why
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.run import identity
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources import pieces, rows

from tests.faults.promises import hashes
from tests.pipeline.test_golden import OVERRIDES, write_corpora

CHANGES = (*OVERRIDES, "sources.pile.files=['train/*.jsonl.zst']", "max_bad_rows=0.9")


def write_damaged(root: Path) -> None:
    """The corpora of the golden run, one as zstd of many frames and one as many row groups, both damaged in the middle, and one
    as gz that ends too early."""
    write_corpora(root)
    packed = root / "dolma" / "a.json.gz"
    lines = gzip.decompress(packed.read_bytes()).splitlines(keepends=True)
    packed.write_bytes(gzip.compress(b"".join([*lines[:40], b"no json\n", *lines[40:]]), mtime=0)[:-20_000])
    plain = root / "pile" / "train" / "a.jsonl"
    data = plain.read_bytes()
    compress = zstandard.ZstdCompressor().compress
    frames = [compress(data[i : i + 10_000]) for i in range(0, len(data), 10_000)]
    frames[len(frames) * 2 // 3] = b"no frame of zstd"
    plain.with_suffix(".jsonl.zst").write_bytes(b"".join(frames))
    plain.unlink()
    with (root / "slimpajama" / "train" / "a.jsonl").open("ab") as file:
        file.write(b'{"text": 5}\n\nno json')
    path = root / "refinedweb" / "data" / "a.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=8, compression="zstd")
    place = pq.ParquetFile(path).metadata.row_group(6).column(0)
    stored = bytearray(path.read_bytes())
    begin = place.dictionary_page_offset or place.data_page_offset
    stored[begin : begin + 60] = b"\xff" * 60
    path.write_bytes(stored)


def tables(run: Path, part: str) -> dict[str, pa.Table]:
    """The tables of a run by the file that they tell of, those of its pieces put together."""
    found: dict[str, list[pa.Table]] = {}
    for path in sorted(filter(Path.is_file, (run / part).rglob("*.parquet"))):
        name = path.relative_to(run / part).with_suffix("").as_posix()
        file, _, number = name.rpartition("/")
        found.setdefault(file if number.isdigit() else name, []).append(pq.read_table(path))
    return {name: pa.concat_tables(parts).combine_chunks() for name, parts in found.items()}


def quarantined(run: Path) -> list[str]:
    return [
        line
        for path in sorted(filter(Path.is_file, (run / "quarantine").rglob("*.jsonl")))
        for line in path.read_text().splitlines()
    ]


def tokens_of_last(run: Path) -> dict[str, list[int] | None]:
    """The tokens of the last document that is kept of every file, from the run's shards."""
    opened, found = FinishedRun(RunPaths(run)), dict[str, list[int] | None]()
    for name, decided in tables(run, "decisions").items():
        subsets = tables(run, "signals")[name].column("subset").to_pylist()
        last = max(i for i, kept in enumerate(decided.column("kept").to_pylist()) if kept)
        found[name] = opened.ids(decided["doc_id"][last].as_py(), subsets[last])
        assert found[name]
    return found


def test_a_run_of_cut_files_is_the_run_of_whole_ones(
    tmp_path: Path,
    settings_of: Callable[..., Any],
    curate: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_damaged(tmp_path / "data")
    settings = settings_of(*CHANGES, data=tmp_path / "data")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary, _ = curate(settings, whole)
    stored = tokens_of_last(whole)
    monkeypatch.setattr(pieces, "MOST_TEXT", 60_000)
    monkeypatch.setattr(pieces, "ROWS_TEXT", 60_000)
    monkeypatch.setattr(identity, "GROUP_TEXT", 30_000)
    monkeypatch.setattr(rows, "BATCH_BYTES", 10_000)
    of_pieces, _ = curate(settings, cut)
    opened = FinishedRun(RunPaths(cut))
    parts = [file for file in opened.files if file.piece]
    assert {f.path.rsplit(".", 1)[-1] for f in parts} == {"jsonl", "zst", "parquet", "gz"} and len(parts) > 12
    assert sum(file.read_whole for file in parts) == 3
    for part in ("signals", "decisions"):
        before, after = (tables(run, part) for run in (whole, cut))
        assert before.keys() == after.keys()
        assert all(before[name].equals(after[name]) for name in before)
    assert sum("damaged file" in line for line in quarantined(whole)) == 3
    assert quarantined(whole) == quarantined(cut)
    assert [vars(f) for f in summary.funnels] == [vars(f) for f in of_pieces.funnels]
    kinds = ("phases", "held_out", "index")
    before, after = ({n: h for n, h in hashes(run).items() if n.split("/")[0] in kinds} for run in (whole, cut))
    assert before == after
    for name in ("funnel", "overlap", "dedupe", "languages", "contamination"):
        values = [json.loads((run / "stats" / f"{name}.json").read_text()) for run in (whole, cut)]
        assert values[0] == values[1], name
    for name, decided in tables(cut, "decisions").items():
        row = decided.num_rows - 1
        asked = f"{name}#{decided['row'][row]}"
        assert why(FinishedRun(RunPaths(whole)), asked) == why(opened, str(decided["doc_id"][row]))
    assert tokens_of_last(cut) == stored
    again, _ = curate(settings, cut)
    assert all(reused == total for reused, total in again.reused.values())
