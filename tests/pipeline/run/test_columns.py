"""Columns of a run's tables in a store: what is asked for is fetched, and little else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.run.columns import FOOTER_BYTES, Columns, each_open, joined, open_columns, read_columns
from fox1.pipeline.run.parquet_rows import row_of
from fox1.storage import store
from hypothesis import given
from hypothesis import strategies as st

ROWS = 5_000


@pytest.fixture
def table() -> pa.Table:
    """Narrow columns beside a wide one, of bytes that no codec makes fewer."""
    rng = np.random.default_rng(1)
    narrow = {f"n{i}": rng.integers(0, 1 << 62, 2 * ROWS) for i in range(6)}
    return pa.table(
        {
            "doc_id": pa.array(range(2 * ROWS), pa.uint64()),
            **narrow,
            "sketch": pa.array([rng.bytes(300) for _ in range(2 * ROWS)], pa.binary()),
            "edits": pa.array([[{"start": i, "kind": 1}] * (i % 3) for i in range(2 * ROWS)]),
        }
    )


@pytest.fixture
def stored(tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[int]]]:
    """The table in a store, and the bytes of each request for some of it; fetching it whole fails."""
    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir(mode=0o700)
    monkeypatch.setattr(store, "session_folder", lambda: tmp_path / "scratch" / "session-0")
    path = store.open_root("memory://columns/t.parquet")
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=ROWS)
    files = fsspec.filesystem("memory")
    files.pipe_file("/columns/t.parquet", (tmp_path / "t.parquet").read_bytes())
    fetched: list[int] = []
    cat = type(files).cat_file

    def cat_file(self: object, path: str, start: int | None = None, end: int | None = None, **more: object) -> bytes:
        data = cat(self, path, start=start, end=end, **more)
        fetched.append(len(data))
        return bytes(data)

    monkeypatch.setattr(type(files), "cat_file", cat_file)
    monkeypatch.setattr(type(files), "get_file", lambda *_, **__: pytest.fail("fetched as a whole"))
    yield path, fetched
    files.rm("/columns", recursive=True)


def test_columns_of_a_store_are_fetched_without_the_others(stored: tuple[Path, list[int]], table: pa.Table) -> None:
    path, fetched = stored
    for columns in (["doc_id", "n1", "n5"], ["edits", "n0"], ["sketch"]):
        fetched.clear()
        assert read_columns(path, columns).equals(table.select(columns))
        needed = sum(table.column(c).nbytes for c in columns)
        assert sum(fetched) <= 1.3 * needed + FOOTER_BYTES
        assert len(fetched) <= 1 + 2 * len(columns)


def test_a_row_of_a_store_is_found_without_its_wide_columns(stored: tuple[Path, list[int]], table: pa.Table) -> None:
    path, fetched = stored
    found = row_of(path, ROWS + 7, ["n3", "edits"])
    assert found and found.to_pylist() == table.select(["n3", "edits"]).slice(ROWS + 7, 1).to_pylist()
    assert sum(fetched) < 0.2 * table.nbytes


def test_all_columns_of_a_row_group_are_one_request(stored: tuple[Path, list[int]], table: pa.Table) -> None:
    path, fetched = stored
    with open_columns(path) as file:
        fetched.clear()
        assert file.read_row_group(0).equals(table.slice(0, ROWS).combine_chunks())
    assert len(fetched) == 1


def _rows(file: Columns, columns: list[str]) -> pa.Table:
    return pa.Table.from_batches(file.batches(columns))


@pytest.mark.parametrize("far", [True, False])
def test_tables_that_are_opened_one_after_the_other_are_those_that_were_asked_for(
    stored: tuple[Path, list[int]], tmp_path: Path, far: bool
) -> None:
    """Sets of two tables, one of them with another one beside it, in order; a set is closed when the next is asked for."""
    folder = stored[0].parent if far else tmp_path
    files, names = fsspec.filesystem("memory"), [f"{i}.parquet" for i in range(30)]
    for i, name in enumerate(names):
        for kind, column in (("a", "x"), ("b", "y"), ("c", "z")):
            pq.write_table(
                pa.table({column: range(100 * i, 100 * i + i)}), tmp_path / f"{kind}{name}", row_group_size=7
            )
            files.pipe_file(f"/columns/{kind}{name}", (tmp_path / f"{kind}{name}").read_bytes())
    sets = ([[folder / f"a{name}", folder / f"b{name}"], [folder / f"c{name}"]] for name in names)
    before: Columns | None = None
    for i, (first, second) in enumerate(each_open(sets, [["x", "y"], ["z"]])):
        assert before is None or before._file.closed
        expected = list(range(100 * i, 100 * i + i))
        if expected:
            assert _rows(first, ["y", "x"]).to_pydict() == {"y": expected, "x": expected}
            assert _rows(second, ["z"]).to_pydict() == {"z": expected}
        before = second
    assert i == 29 and before and before._file.closed
    assert not list(each_open([]))


def test_of_a_store_the_next_row_group_is_fetched_while_one_is_worked_on(
    stored: tuple[Path, list[int]], table: pa.Table
) -> None:
    path, fetched = stored
    for file, *_ in each_open([[[path]]] * 3, [["sketch"]]):
        batches = file.batches(["sketch"])
        parts = [next(batches)]
        fetched.clear()
        # The second group is asked for no more than once: it is there, or on its way.
        parts += batches
        assert sum(fetched) <= table.column("sketch").nbytes * 0.6 + FOOTER_BYTES
        assert pa.Table.from_batches(parts).equals(table.select(["sketch"]))


def test_who_leaves_a_table_of_a_store_early_fetches_one_row_group_more_at_most(
    stored: tuple[Path, list[int]], table: pa.Table
) -> None:
    path, fetched = stored
    with open_columns(path) as file:
        fetched.clear()
        found = file.read_row_group(0, ["sketch"])
        assert found.equals(table.select(["sketch"]).slice(0, ROWS))
        file.read_row_group(0, ["n1"], onwards=True)
        # What was expected is not what is asked for.
        assert file.read_row_group(1, ["n2"]).equals(table.select(["n2"]).slice(ROWS))
    assert sum(fetched) < 0.6 * table.nbytes


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=20), st.floats(0, 2))
def test_ranges_are_joined_within_what_may_be_spared(pieces: list[tuple[int, int]], spare: float) -> None:
    ranges, at = [], 0
    for size, gap in pieces:
        ranges.append((at, at + size))
        at += size + gap
    wanted = {i for begin, end in ranges for i in range(begin, end)}
    fetched = [i for begin, end in joined(ranges[::-1], spare) for i in range(begin, end)]
    assert len(fetched) == len(set(fetched)) and wanted <= set(fetched)
    assert len(fetched) - len(wanted) <= spare * len(wanted)
