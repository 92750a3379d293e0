"""Rows of a run's tables, by slices."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fox1.pipeline.run.columns import open_columns
from fox1.pipeline.run.parquet_rows import RowCursor


def test_a_cursor_takes_any_number_of_rows_and_holds_few(tmp_path: Path) -> None:
    table = pa.table({"n": range(100), "s": [str(i) for i in range(100)], "other": range(100)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    with open_columns(tmp_path / "t.parquet") as file:
        cursor, at = RowCursor(file, ["s", "n"]), 0
        for rows in (0, 3, 4, 30, 1, 62, 5):
            assert cursor.take(rows).equals(table.select(["s", "n"]).slice(at, rows))
            at += rows
            assert cursor._held.num_rows < 7
