"""Rows of a run's tables, by slices."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.run.columns import open_columns
from fox1.pipeline.run.parquet_rows import RowCursor, take_rows


def test_a_cursor_takes_any_number_of_rows_and_holds_few(tmp_path: Path) -> None:
    table = pa.table({"n": range(100), "s": [str(i) for i in range(100)], "other": range(100)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    with open_columns(tmp_path / "t.parquet") as file:
        cursor, at = RowCursor(file, ["s", "n"]), 0
        for rows in (0, 3, 4, 30, 1, 62, 5):
            assert cursor.take(rows).equals(table.select(["s", "n"]).slice(at, rows))
            at += rows
            assert cursor._held.num_rows < 7


def test_rows_are_taken_by_their_places_across_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(10), "text": [str(n) for n in range(10)]}), path, row_group_size=4)
    for wanted in ([], [0], [3, 4], [1, 2, 7, 9], list(range(10))):
        taken = take_rows(path, wanted)
        assert taken.schema.names == ["n", "text"] and taken.column("n").to_pylist() == wanted
    for wrong in ([10], [-1, 3]):
        with pytest.raises(IndexError, match=f"a.parquet has no row {wrong[0]}"):
            take_rows(path, wrong)
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), path)
    assert take_rows(path, []).num_rows == 0
    with pytest.raises(IndexError, match=r"a.parquet has no row 0"):
        take_rows(path, [0])
