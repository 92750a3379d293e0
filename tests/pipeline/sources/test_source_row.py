"""A row of a source as it stands in its file, whatever the file's format; a line where it is gone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fox1
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.inspect.document import show_row
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources.source_row import MOST_BYTES, source_row

from tests.conftest import SMALL, curate_sample, read_stored, write_stored


def file_at(path: Path, format: str = "huggingface") -> SourceFile:
    return SourceFile("own", path.name, str(path), path.stat().st_size, "", format, False, 1)


LINES = [b'{"text": "one",   "id": 1}', b"no json \xff", b'{"text": "\\u00fc", "meta": {"a": [1]}}']


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_stands_as_it_is(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    write_stored(path, b"\n".join(LINES))
    rows = [source_row(file_at(path), k) for k in range(3)]
    assert [row.text for row in rows] == [line.decode(errors="replace") for line in LINES]
    assert [row.bytes for row in rows] == [*map(len, LINES)] and {row.kind for row in rows} == {"line"}
    with pytest.raises(ValueError, match="has no row 3 any more"):
        source_row(file_at(path), 3)


def test_a_row_of_a_table_has_all_its_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": [f"text {k}" for k in range(5)],
            "image": [b"\x00" * 3_000_000] * 5,
            "when": pa.array([0] * 5, pa.timestamp("ns")),
            "deep": [{"a": [k], "b": None} for k in range(5)],
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=2)
    arrow = tmp_path / "a.arrow"
    with pa.ipc.new_stream(arrow, table.schema) as out:
        out.write_table(table)
    for each in (path, arrow):
        found = source_row(file_at(each), 3)
        values = json.loads(found.text)
        assert found.kind == "columns" and values["text"] == "text 3" and values["deep"] == {"a": [3], "b": None}
        assert values["image"] == "(3,000,000 bytes, not shown)" and values["when"].startswith("1970")
    values_path = tmp_path / "a.csv"
    values_path.write_text('text,url\n"a, b",https://a.org\nsecond,\n')
    assert json.loads(source_row(file_at(values_path), 1).text)["text"] == "second"


def test_a_long_line_is_cut_and_says_how_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"text": "x" * 3 * MOST_BYTES}).encode())
    found = source_row(file_at(path), 0)
    assert len(found.text) == MOST_BYTES and found.bytes == path.stat().st_size


def test_every_document_of_a_run_has_its_row(run: Path) -> None:
    opened = fox1.open_run(run)
    documents: Any = opened.documents("reason <> 'licence'", ["document"]).column(0).to_pylist()
    seen = set()
    for name in documents:
        file = name.rpartition("#")[0]
        if file in seen:
            continue
        seen.add(file)
        found = show_row(opened.finished, name)
        row = opened.finished.row(opened.finished.doc_id(name))
        assert json.loads(found.text) and row.column("text")[0].as_py()[:20].split()[0][:4] in json.dumps(
            json.loads(found.text), ensure_ascii=False
        )
    assert len(seen) >= 5
    licence = opened.documents("reason = 'licence'", ["document"], 1).column(0)[0].as_py()
    with pytest.raises(ValueError, match="licence policy"):
        show_row(opened.finished, licence)


def test_corpora_that_have_moved_are_named_in_one_line(corpora: Path, tmp_path: Path) -> None:
    shutil.copytree(corpora, tmp_path / "data")
    curate_sample(tmp_path / "run", tmp_path / "data", *SMALL)
    (tmp_path / "data").rename(tmp_path / "moved")
    name = fox1.open_run(tmp_path / "run").documents("kept", ["document"], 1).column(0)[0].as_py()
    with pytest.raises(ValueError, match="--data OLD=NEW") as caught:
        show_row(fox1.open_run(tmp_path / "run").finished, name)
    assert "\n" not in str(caught.value)
    moved = fox1.open_run(tmp_path / "run", moves=[f"{tmp_path / 'data'}={tmp_path / 'moved'}"])
    assert show_row(moved.finished, name).text


def test_of_a_file_that_was_cut_into_pieces_the_row_is_found(tmp_path: Path) -> None:
    from fox1.pipeline.run.identity import Piece

    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(LINES))
    begin = len(LINES[0]) + 1
    piece = Piece(1, begin, 0, -1, 1, begin, 0)
    assert source_row(replace(file_at(path), piece=piece), 2).text == LINES[2].decode()
    assert read_stored(path).count(b"\n") == 2
