"""Publishing and the file shuffle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.engine import shuffle, shuffle_file
from fox1.pipeline.run.artifacts import parquet_writer, publish
from fox1.pipeline.run.paths import remove_partial
from fox1.storage import lease
from fox1.storage.inside import partial
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RECORD = np.dtype([("key", "<u8"), ("value", "<u4")])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), max_size=60), st.integers(1, 4))
def test_every_record_reaches_its_partition_once(tmp_path: Path, rows: list[tuple[int, int]], maps: int) -> None:
    files = []
    for m in range(maps):
        out = shuffle.RecordShuffle(tmp_path / f"m{m}", 5, RECORD)
        for where, value in rows[m::maps]:
            out.add(np.array([(where, value)], RECORD), np.array([where]))
        files += [Path(a.path) for a in out.close()]
    for partition in range(5):
        got = shuffle.read_records(files, partition, RECORD)
        assert (got["key"] == partition).all()
        assert sorted(got["value"].tolist()) == sorted(v for w, v in rows if w == partition)


def test_a_map_task_spills_instead_of_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle_file, "SPILL_BYTES", 1000)
    out = shuffle.RecordShuffle(tmp_path / "m", 3, RECORD)
    for i in range(10):
        out.add(np.array([(i, i)] * 50, RECORD), np.full(50, i % 3))
        assert out._held < 1000
    (file,) = out.close()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    for p in range(3):
        got = shuffle.read_records([Path(file.path)], p, RECORD)
        # In the order in which they came.
        assert got["key"].tolist() == [i for i in range(p, 10, 3) for _ in range(50)]


def test_partitions_follow_bytes() -> None:
    assert shuffle.partition_count(10, 4) == 1
    assert shuffle.partition_count(100 << 30, 4) == 1600
    assert shuffle.partition_count(4 << 20, 4) == 4
    assert shuffle.partition_count(1 << 20, 8) == 1


def test_hash_ranges_are_sorted_and_complete() -> None:
    hashes = np.sort(np.random.default_rng(0).integers(0, 1 << 64, 1000, np.uint64))
    where = shuffle.by_hash_range(hashes, 7)
    assert (np.diff(where) >= 0).all()
    assert set(where.tolist()) == set(range(7))


def test_a_damaged_shuffle_file_is_named(tmp_path: Path) -> None:
    sizes = np.array([[3, 1], [4, 1]])
    shuffle_file.write_partitions(tmp_path / "s", shuffle_file.Levels(2), sizes, [(0, b"abcdefg")])
    assert shuffle.read_partition(tmp_path / "s", 1) == b"defg"
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-2])
    with pytest.raises(ValueError, match="ends early"):
        shuffle.read_partition(tmp_path / "s", 1)
    (tmp_path / "s").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="not a shuffle file"):
        shuffle.read_partition(tmp_path / "s", 0)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), publish(tmp_path / "f") as out:
        out.write(b"half")
        assert not (tmp_path / "f").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with publish(tmp_path / "f", rows=3) as out:
        out.write(b"whole")
    assert out.artifact.bytes == 5 and out.artifact.rows == 3


def test_partial_files_of_killed_attempts_are_removed(tmp_path: Path) -> None:
    (tmp_path / "signals").mkdir()
    partial(tmp_path / "signals").write_text("half")
    (tmp_path / "signals" / "x.parquet").write_text("whole")
    (tmp_path / "signals" / ".mine.tmp").write_text("a user's")
    remove_partial(tmp_path)
    assert {p.name for p in (tmp_path / "signals").iterdir()} == {"x.parquet", ".mine.tmp"}


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6))
def test_parquet_bytes_do_not_depend_on_how_rows_arrived(tmp_path: Path, sizes: list[int]) -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    values = np.arange(sum(sizes))
    written = []
    for cuts in ([sum(sizes)], sizes):
        with parquet_writer(tmp_path / "p", schema) as out:
            at = 0
            for n in cuts:
                out.write(pa.RecordBatch.from_arrays([pa.array(values[at : at + n])], schema=schema))
                at += n
        written.append((tmp_path / "p").read_bytes())
    assert written[0] == written[1]


def test_one_writer_per_run(tmp_path: Path) -> None:
    with lease.held(tmp_path), pytest.raises(ValueError, match="is being written by process"), lease.held(tmp_path):
        pass
    with lease.held(tmp_path):
        pass
