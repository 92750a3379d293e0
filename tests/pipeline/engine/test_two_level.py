"""The shuffle in two levels: the same rows for every reducer as in one, from few and large pieces."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fox1.pipeline.engine import shuffle, two_level
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.lists import MOST_FILES
from fox1.pipeline.engine.rows import Column, Rows, RowShuffle, pack_rows, unpack_rows
from fox1.pipeline.engine.shuffle import (
    Records,
    RecordShuffle,
    distinct,
    merged,
    read_ahead,
    read_partition,
    read_records,
    sequential,
)
from fox1.pipeline.engine.shuffle_file import Levels
from fox1.pipeline.engine.tasks import InProcess, Task
from fox1.pipeline.engine.two_level import Partitioned, bring_together, plan_levels
from fox1.pipeline.run.artifacts import Artifact, publish
from fox1.pipeline.run.file_sets import FileSet
from fox1.pipeline.run.paths import RunPaths
from fox1.storage import store
from fox1.storage.ahead import READ_AHEAD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RECORD = np.dtype([("key", "<u8"), ("value", "<u8")])
BY = ("key", "value")
HEAD = np.dtype([("id", "<u8"), ("kind", "<u4")])

shapes = st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
"""(partitions, map tasks, fine partitions of a coarse one, map files of a group)."""
anyhow = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("shuffle", "shuffle_file", "rows"):
        for name in ("SPILL_BYTES", "SLICE_BYTES"):
            monkeypatch.setattr(f"fox1.pipeline.engine.{module}.{name}", 200, raising=False)


def fresh(tmp_path: Path) -> Path:
    """A folder of its own for each example."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    return folder


def together(folder: Path, maps: list[Artifact], levels: Levels, rows: Records | Rows) -> Partitioned:
    return bring_together(Engine(RunPaths(folder), InProcess()), "x.merge", 1, maps, levels, rows, folder / "merged")


@anyhow
@given(shapes, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=150))
def test_a_reducer_gets_the_records_of_one_level(
    tmp_path: Path, small_spills: None, shape: tuple[int, int, int, int], pairs: list[tuple[int, int]]
) -> None:
    folder = fresh(tmp_path)
    partitions, maps, fine, group = shape
    given_ = np.array(pairs, RECORD)
    found = {}
    for levels in (Levels(partitions), Levels(partitions, fine, group)):
        for records in (Records(RECORD), Records(RECORD, BY), Records(RECORD, BY, distinct)):
            name = f"{bool(levels.fine)}-{records.by}-{records.combine is None}"
            files = []
            for m in range(maps):
                out = RecordShuffle(folder / f"{name}-{m}", levels, RECORD, records.by, records.combine)
                for piece in np.array_split(given_[m::maps], 3):
                    out.add(piece, (piece["key"] % partitions).astype(np.int64))
                files += out.close()
            whole = together(folder / name, files, levels, records)
            parts = [whole.of(p) for p in range(partitions)]
            if records.by:
                got = [np.concatenate([np.empty(0, RECORD), *merged(p.files, p.place, RECORD, BY)]) for p in parts]
            else:
                got = [read_records(p.files, p.place, RECORD) for p in parts]
            if levels.fine:
                assert all(len(p.files) <= -(-maps // group) for p in parts)
            found[name] = [np.unique(g) if records.combine else g for g in got]
    for p in range(partitions):
        mine = given_[given_["key"] % partitions == p]
        in_order = np.concatenate([np.empty(0, RECORD), *(given_[m::maps] for m in range(maps))])
        for two in (False, True):
            assert found[f"{two}-()-True"][p].tolist() == in_order[in_order["key"] % partitions == p].tolist()
            assert found[f"{two}-{BY}-True"][p].tolist() == np.sort(mine, order=BY).tolist()
            assert found[f"{two}-{BY}-False"][p].tolist() == np.unique(mine).tolist()


@anyhow
@given(shapes, st.lists(st.integers(0, 30), max_size=80), st.data())
def test_a_span_is_its_partitions_one_after_the_other(
    tmp_path: Path, small_spills: None, shape: tuple[int, int, int, int], keys: list[int], data: st.DataObject
) -> None:
    """Where the order of the partitions is that of the records."""
    folder = fresh(tmp_path)
    partitions, maps, fine, group = shape
    rows = np.array([(key, i) for i, key in enumerate(keys)], RECORD)
    first, end = sorted(data.draw(st.tuples(st.integers(0, partitions), st.integers(0, partitions))))
    for levels in (Levels(partitions), Levels(partitions, fine, group)):
        files = []
        for m in range(maps):
            out = RecordShuffle(folder / f"{levels.fine}-{m}", levels, RECORD, BY)
            out.add(rows[m::maps], (rows["key"][m::maps] * partitions // 31).astype(np.int64))
            files += out.close()
        whole = together(folder / f"{levels.fine}", files, levels, Records(RECORD, BY))
        spans = whole.between(first, end)
        assert sum(span.count for span in spans) == end - first and (levels.fine or len(spans) <= 1)
        slices = [part for s in spans for part in merged(s.files, s.place, RECORD, BY, 64, s.count)]
        where = rows["key"] * partitions // 31
        expected = np.sort(rows[(where >= first) & (where < end)], order=BY)
        assert np.concatenate([np.empty(0, RECORD), *slices]).tolist() == expected.tolist()


def test_from_a_store_pieces_are_read_side_by_side_and_in_order(
    tmp_path: Path, small_spills: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(shuffle, "AHEAD_BYTES", 64)
    at_once, most, lock = 0, 0, threading.Lock()
    read = MemoryFileSystem.cat_file

    def slow(*arguments: Any, **named: Any) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.005)
        with lock:
            at_once -= 1
        return bytes(read(*arguments, **named))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", slow)
    rng = np.random.default_rng(0)
    rows = np.array([(k, i) for i, k in enumerate(rng.integers(0, 40, 600))], RECORD)
    found = []
    for root in (tmp_path / "here", store.open_root("memory://bucket/run")):
        plain, in_order = [], []
        for m in range(12):
            for by, files in (((), plain), (BY, in_order)):
                out = RecordShuffle(root / f"{len(by)}-{m}", Levels(4), RECORD, by)
                out.add(rows[m::12], (rows["key"][m::12] % 4).astype(np.int64))
                files += out.close()
        if isinstance(root, store.Mirrored):
            for path in root.local.rglob("*"):
                if path.is_file():
                    path.unlink()  # another node has none of them
        files = [a.file for a in plain]
        found.append(
            [
                [read_records(files, p, RECORD).tolist() for p in range(4)],
                [np.concatenate([*sequential(files, p, RECORD, 100)]).tolist() for p in range(4)],
                [np.concatenate([*read_ahead(files, p, RECORD)]).tolist() for p in range(4)],
                [np.concatenate([*merged([a.file for a in in_order], p, RECORD, BY, 400)]).tolist() for p in range(4)],
            ]
        )
    assert found[0] == found[1]
    assert 2 <= most <= 2 * READ_AHEAD + 2


def test_records_are_combined_when_they_are_merged(tmp_path: Path, small_spills: None) -> None:
    levels, records = Levels(4, 2, 8), Records(RECORD, BY, distinct)
    rows = np.array([(k % 4, k % 3) for k in range(300)], RECORD)
    files = []
    for m in range(8):
        out = RecordShuffle(tmp_path / f"m{m}", levels, RECORD, BY, distinct)
        for piece in np.array_split(rows, 40):
            out.add(piece, piece["key"].astype(np.int64))
        files += out.close()
    assert {file.rows for file in files} == {12}
    whole = together(tmp_path, files, levels, records)
    assert [len(read_records(whole.of(p).files, whole.of(p).place, RECORD)) for p in range(4)] == [3] * 4


@anyhow
@given(shapes, st.lists(st.tuples(st.integers(0, 99), st.integers(0, 40), st.integers(0, 3)), max_size=60))
def test_rows_of_any_length_arrive_whole_and_in_order(
    tmp_path: Path, small_spills: None, shape: tuple[int, int, int, int], sizes: list[tuple[int, int, int]]
) -> None:
    folder = fresh(tmp_path)
    partitions, maps, fine, group = shape

    def columns(rows: list[tuple[int, int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for k in (1, 2):
            values = [[row[0] * k + i for i in range(row[k])] for row in rows]
            offsets = np.r_[0, np.cumsum([len(v) for v in values], dtype=np.int64)]
            found.append((np.array(list(chain.from_iterable(values)), np.int32), offsets))
        return found

    def packed(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
        heads = np.array([(r[0], r[1]) for r in rows], HEAD)
        return pack_rows(heads, [Column.of(*column) for column in columns(rows)])

    levels = Levels(partitions, fine, group)
    files = []
    for m in range(maps):
        out = RowShuffle(folder / f"m{m}", levels)
        for at in range(m, len(sizes), maps):
            out.add(*packed(sizes[at : at + 1]), sizes[at][0] % partitions)
        files += out.close()
    assert sum(file.rows for file in files) == len(sizes)
    whole = together(folder, files, levels, Rows())
    in_order = [row for m in range(maps) for row in sizes[m::maps]]
    for p in range(partitions):
        mine = [row for row in in_order if row[0] % partitions == p]
        part = whole.of(p)
        words = np.frombuffer(b"".join(read_partition(file, part.place) for file in part.files), np.int32)
        assert words.tolist() == packed(mine)[0].tolist()
        heads, got = unpack_rows(words, HEAD, 2)
        assert heads.tolist() == [(r[0], r[1]) for r in mine]
        back = np.arange(len(mine))[::-1]
        for k, (values, offsets) in enumerate(columns(mine[::-1])):
            taken = got[k].take(back)
            assert taken[0].tolist() == values.tolist() and taken[1].tolist() == offsets.tolist()


def test_a_partition_larger_than_memory_is_streamed(tmp_path: Path, small_spills: None) -> None:
    rows = np.array([(k * 7919 % 1000, 1) for k in range(1000)], RECORD)
    out = RecordShuffle(tmp_path / "m", 1, RECORD, BY)
    for piece in np.array_split(rows, 50):
        out.add(piece)
    (file,) = out.close()
    assert read_records([file.file], 0, RECORD)["key"].tolist() == list(range(1000))


@pytest.mark.parametrize("size", [1, 4, 16])
def test_pieces_stay_large_and_counts_grow_slowly(size: int) -> None:
    """At the size of the full recipe, and at a quarter and a sixteenth of it."""
    total, maps = 11_000_000_000_000 * size // 16, 50_000 * size // 16
    partitions = total // (128 << 20)
    levels = plan_levels(total, maps, partitions)
    groups = -(-maps // levels.group)
    assert total / (maps * levels.coarse) >= 1 << 20, "a merge task reads crumbs"
    assert total / (partitions * groups) >= 1 << 20, "a reducer reads crumbs"
    assert groups <= 80
    # So does what crumbs would hide: requests grow with the bytes alone.
    assert total / (maps * levels.coarse) <= 1.1 * two_level.MOST_PIECE
    assert levels.coarse * groups <= 12_000, "merge tasks"


@pytest.mark.parametrize("size", [1, 64, 256, 2_000, 10_000])
def test_merge_tasks_fill_the_cores_of_a_large_cluster_once_or_more_often(size: int) -> None:
    """Of so many GB, on the 4,096 cores that the full recipe is planned for: never a few more tasks than a multiple of these."""
    total, maps, cores = size * 10**9, 4_000, 4_096
    levels = plan_levels(total, maps, max(10, total // (128 << 20)), most_maps=32)
    tasks = levels.coarse * -(-maps // levels.group)
    bytes_each = total / tasks
    assert tasks < cores or tasks > 0.8 * cores * -(-tasks // cores)
    assert bytes_each <= two_level.MERGE_BYTES
    assert tasks <= 1.2 * -(-total // two_level.SMALL_MERGE) and (tasks > 900 or bytes_each < 2 * two_level.SMALL_MERGE)


def test_small_shuffles_have_one_level() -> None:
    assert plan_levels(10 << 20, 8, 4) == Levels(4)
    assert plan_levels(10 << 30, two_level.MOST_MAPS, 1000) == Levels(1000)
    assert plan_levels(1 << 40, 1000, 1000) == Levels(1000)
    assert plan_levels(1 << 30, 1000, 1000).fine > 0


@dataclass(frozen=True)
class Counted:
    count: int
    first: str


def count_files(files: FileSet) -> Counted:
    return Counted(len(list(files)), next(iter(files)).name if files else "")


def count_part(part: two_level.Partition) -> Counted:
    return count_files(part.files)


@pytest.mark.parametrize("count", [count_files, count_part])
def test_tasks_are_given_a_list_instead_of_many_paths(tmp_path: Path, count: Callable[..., Counted]) -> None:
    made = []
    for i in range(3 * MOST_FILES):
        with publish(tmp_path / "mix" / f"{i:05d}") as out:
            out.write(b"x")
        made.append(out.artifact)
    files = FileSet.of(made)
    sizes = []

    class Measuring(InProcess):
        def run(self, waiting, paths, progress):  # type: ignore[no-untyped-def]
            sizes.extend(len(pickle.dumps(p.task)) for p in waiting.asked.values())
            assert len(list((tmp_path / "lists").iterdir())) == 1
            yield from super().run(waiting, paths, progress)

    engine = Engine(RunPaths(tmp_path), Measuring())
    argument = files if count is count_files else two_level.Partition(files, 0)
    tasks = [Task(f"{i}", count, (argument,)) for i in range(5)]
    assert engine.run("x.count", 1, tasks) == [Counted(len(made), "00000")] * 5
    assert max(sizes) < 2000
    # The list goes with its step, and the key does not depend on it.
    assert not list((tmp_path / "lists").iterdir())
    again = Engine(RunPaths(tmp_path), InProcess())
    again.run("x.count", 1, tasks)
    assert again.reused["x.count"] == (5, 5)


def test_a_damaged_file_of_a_merge_is_named(tmp_path: Path) -> None:
    out = RecordShuffle(tmp_path / "m", Levels(4, 2, 8), RECORD)
    out.add(np.array([(1, 1)], RECORD), 1)
    (file,) = out.close()
    with pytest.raises(ValueError, match=r"m has 2 partitions, not 3; delete it"):
        two_level.gather_tables(FileSet.of([file]), 3, tmp_path / "t")
    tables = two_level.gather_tables(FileSet.of([file]), 2, tmp_path / "t").file
    file.file.write_bytes(file.file.read_bytes()[:80])
    with pytest.raises(ValueError, match=r"m ends early; delete it"):
        two_level.merge_pieces(FileSet.of([file]), tables, 0, Levels(4, 2, 8), Records(RECORD), tmp_path / "x")
