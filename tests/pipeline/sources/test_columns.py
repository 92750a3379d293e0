"""Sources as people have them: any column names, in JSON lines, Parquet, Feather, CSV or TSV, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import RecipeError, load_recipe

COLUMNS = (("id", "uuid"), ("text", "content"), ("timestamp", "day"), ("url", "link"))
ROWS = [
    {
        "uuid": f"u{n}",
        "content": f'Line one, "quoted".\nLine {n} à é',
        "link": f"https://example.org/{n}",
        "day": "2023-01-01",
        "x": n,
    }
    for n in range(5)
]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = pa.BufferOutputStream()
    options = pa.csv.WriteOptions(delimiter=delimiter)
    pa.csv.write_csv(pa.Table.from_pylist(rows), out, options)
    return bytes(out.getvalue())


def _table(write: Callable[[pa.Table, Any], None]) -> bytes:
    out = pa.BufferOutputStream()
    write(pa.Table.from_pylist(ROWS), out)
    return bytes(out.getvalue())


FILES = {
    "a.jsonl": _lines(ROWS),
    "a.ndjson": _lines(ROWS),
    "a.ndjson.gz": gzip.compress(_lines(ROWS)),
    "a.jsonl.bz2": bz2.compress(_lines(ROWS[:2])) + bz2.compress(_lines(ROWS[2:])),
    "a.csv": b"\xef\xbb\xbf" + _csv(ROWS),
    "a.csv.zst": zstandard.compress(_csv(ROWS)),
    "a.tsv": _csv(ROWS, "\t"),
    "a.tsv.gz": gzip.compress(_csv(ROWS, "\t")),
    "a.parquet": _table(pq.write_table),
    "a.feather": _table(pa.feather.write_feather),
}


def read(root: Path, **settings: Any) -> tuple[pa.Table, Quarantine]:
    (file,) = list_sources([SourceSettings("own", root=str(root), **settings)])
    quarantine = Quarantine(file)
    batches = list(read_rows(file, quarantine))
    return pa.Table.from_batches(batches) if batches else pa.table({"row": [], "text": []}), quarantine


@pytest.mark.parametrize("name", FILES)
def test_columns_of_any_names_are_read_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    table, bad = read(tmp_path, columns=COLUMNS)
    assert not bad.rows and not bad.damage
    assert table["row"].to_pylist() == list(range(5))
    for column, field in (("text", "content"), ("native_id", "uuid"), ("url", "link")):
        assert table[column].to_pylist() == [row[field] for row in ROWS]
    assert set(table["timestamp"].to_pylist()) == {1672531200} and set(table["subset"].to_pylist()) == {"default"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_may_name_the_subset(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    table, _ = read(tmp_path, columns=(("subset", "uuid"), ("text", "content")))
    assert table["subset"].to_pylist() == ["u0", "u1", "u2", "u3", "u4"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_two_facts_may_stand_in_one_column(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    table, bad = read(tmp_path, columns=(("id", "link"), ("text", "content"), ("url", "link")))
    assert table["url"].to_pylist() == table["native_id"].to_pylist() == [row["link"] for row in ROWS] and not bad.rows
    with pytest.raises(ValueError, match="`columns` names 'content' as id and it holds the text"):
        read(tmp_path, columns=(("id", "content"), ("text", "content")))


def test_the_first_feather_format_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(40))
    table, bad = read(tmp_path)
    assert not len(table) and "a Feather file of version 1; write it again as version 2" in bad.damage


def test_files_of_one_folder_are_one_subset_and_folders_are_their_own(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "news/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "a"}\n')
    files = list_sources([SourceSettings("own", root=str(tmp_path))])
    subsets = [b.column("subset")[0].as_py() for f in files for b in read_rows(f, Quarantine(f))]
    assert subsets == ["default", "default", "news"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_without_the_text_says_what_to_write(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(
        ValueError, match=r"own/a\.\w+ has no column 'text'; name that of its text in the source's `columns`"
    ):
        read(tmp_path)


def test_every_record_of_a_csv_file_is_a_row_or_is_quarantined(tmp_path: Path) -> None:
    lines = [
        b"text,id",
        b"good,0",
        b"too,many,values",
        b"short",
        b'"wrongly" quoted,3',
        b"\xff\xfe not utf-8,4",
        b"nul \0 within,5",
        b"",
        b'"good, on\ntwo lines",6',
        b"good,7",
    ]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    table, bad = read(tmp_path)
    assert list(zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True)) == [
        (0, "good"),
        (6, "good, on\ntwo lines"),
        (7, "good"),
    ]
    assert bad.rows == 5 and not bad.damage


@pytest.mark.parametrize(
    ("data", "rows", "damage"),
    [
        (b"", 0, "the file is empty, without a header"),
        (b'text\ngood\n"never ends\n' + b"line\n" * 9, 1, "a quoted value does not end"),
    ],
)
def test_a_csv_file_that_is_no_whole_one_is_damaged(tmp_path: Path, data: bytes, rows: int, damage: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    table, bad = read(tmp_path)
    assert table.num_rows == rows and damage in bad.damage and bad.cut


def test_rows_before_the_damage_of_a_bzip2_file_are_kept(tmp_path: Path) -> None:
    drawn = random.Random(1)
    rows = [{"text": "".join(drawn.choice("abcdefghij ") for _ in range(3000))} for _ in range(900)]
    packed = bz2.compress(_lines(rows))
    (tmp_path / "a.jsonl.bz2").write_bytes(packed)
    whole, bad = read(tmp_path)
    assert whole["text"].to_pylist() == [row["text"] for row in rows] and not bad.damage
    (tmp_path / "a.jsonl.bz2").write_bytes(packed[: len(packed) * 9 // 10])
    cut, bad = read(tmp_path)
    assert 300 < cut.num_rows < 900 and cut["text"].to_pylist() == whole["text"].to_pylist()[: cut.num_rows]
    assert bad.cut and "the file was cut" in bad.damage
    at = len(packed) * 9 // 10
    (tmp_path / "a.jsonl.bz2").write_bytes(packed[:at] + bytes(64) + packed[at + 64 :])
    corrupt, bad = read(tmp_path)
    assert corrupt.num_rows == cut.num_rows and "is corrupt" in bad.damage and 0 < bad.intact <= len(packed)


def test_a_row_of_csv_longer_than_any_document_is_quarantined_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fox1.pipeline.sources import separated

    monkeypatch.setattr(separated, "MAX_LINE", 1000)
    (tmp_path / "a.csv").write_text("text\ngood\n" + "x" * 5000 + '\n"' + "y\n" * 2000 + '"\nlast\n')
    table, bad = read(tmp_path)
    assert table["text"].to_pylist() == ["good", "last"] and bad.rows == 2 and table["row"].to_pylist() == [0, 3]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{root: /data, format: pile, columns: {text: body}}", "`columns` belongs to `format: huggingface`"),
        ("{root: /data, columns: {txt: body}}", "sources.own.columns.txt"),
    ],
)
def test_columns_that_cannot_be_are_refused(source: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe("sample", [f"sources.own={source}"], {"FOX1_DATA": "/data"})
