"""Parquet and Arrow files: every type that a column of text, metadata or a time may have."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.sources import tables
from fox1.pipeline.sources.adapter import NOT_UNDERSTOOD, as_timestamp
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows

TEXTS = [f"the text of row {i}" for i in range(10)]
NEW_YEAR = 1_672_531_200
"""The first second of 2023."""


def read(path: Path, format: str) -> tuple[list[dict[str, Any]], Quarantine]:
    file = SourceFile(format, path.name, str(path), path.stat().st_size, "", format, False, 1)
    quarantine = Quarantine(file, path.parent / "q" / "noted.jsonl")
    rows = [row for batch in read_rows(file, quarantine) for row in batch.to_pylist()]
    quarantine.publish()
    return rows, quarantine


def reasons(folder: Path) -> set[str]:
    return {json.loads(line)["reason"] for line in (folder / "q" / "noted.jsonl").read_text().splitlines()}


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with pa.ipc.new_file(path, table.schema, **options) as writer:
            writer.write_table(table, max_chunksize=4)
    return path


class Named(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.string(), "fox1.named")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "texts",
    [
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array([t.encode() for t in TEXTS], pa.binary()),
        pa.array([t.encode() for t in TEXTS], pa.large_binary()),
        pa.array([t.encode() for t in TEXTS], pa.binary_view()),
        pa.ExtensionArray.from_storage(Named(), pa.array(TEXTS)),
    ],
    ids=lambda a: str(a.type).split("<")[0],
)
def test_text_of_every_type_is_read(tmp_path: Path, suffix: str, texts: pa.Array) -> None:
    path = written(tmp_path / f"x.{suffix}", pa.table({"text": texts, "other": pa.nulls(10)}))
    rows, quarantine = read(path, "pile")
    assert [r["text"] for r in rows] == TEXTS and not quarantine.rows and not quarantine.damage


def test_a_column_without_a_type_is_a_column_of_nulls(tmp_path: Path) -> None:
    rows, quarantine = read(written(tmp_path / "x.parquet", pa.table({"text": pa.nulls(3)})), "pile")
    assert not rows and quarantine.rows == 3 and reasons(tmp_path) == {"text is null"}


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_delta_encodings_are_read(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{i} " + "x" * (i % 50) for i in range(3000)]
    path = written(
        tmp_path / "x.parquet", pa.table({"text": texts}), use_dictionary=False, column_encoding={"text": encoding}
    )
    # A value can be as long as its column, so that few are read at once.
    monkeypatch.setattr(tables, "DELTA_BYTES", 1 << 20)
    rows, quarantine = read(path, "pile")
    assert [r["text"] for r in rows] == texts and not quarantine.damage


def test_names_with_dots_and_names_twice_select_what_they_say(tmp_path: Path) -> None:
    meta, other = pa.array([{"pile_set_name": "Github"}] * 10), pa.array(["OTHER"] * 10)
    names = ["text", "text.sub", "meta.pile_set_name", "meta", "x", "x"]
    table = pa.Table.from_arrays([pa.array(TEXTS), other, other, meta, other, other], names)
    rows, _ = read(written(tmp_path / "x.parquet", table), "pile")
    assert [r["text"] for r in rows] == TEXTS and {r["subset"] for r in rows} == {"Github"}
    twice = pa.Table.from_arrays([pa.array(TEXTS), other], ["text", "text"])
    for name in ("y.parquet", "y.arrow"):
        with pytest.raises(ValueError, match=r"pile/y\.\w+ has two columns 'text'; leave one of them"):
            read(written(tmp_path / name, twice), "pile")


META: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "pile": ("meta", [{"pile_set_name": "Github"}, {"pile_set_name": None}]),
    "slimpajama": ("meta", [{"redpajama_set_name": "RedPajamaC4"}, {"redpajama_set_name": None}]),
    "redpajama": (
        "meta",
        [{"url": "u", "timestamp": "2023-01-01", "id": 7}, {"url": None, "timestamp": None, "id": 8}],
    ),
    "dolma": ("metadata", [{"url": "http://x", "length": 3}, {"url": None, "length": 4}]),
}


@pytest.mark.parametrize("format", META)
def test_metadata_in_a_struct_or_as_json_gives_the_rows_of_json_lines(tmp_path: Path, format: str) -> None:
    key, values = META[format]
    rows = [{"text": f"t{i}", key: value} for i, value in enumerate([*values, None])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted, quarantine = read(tmp_path / "a.jsonl", format)
    assert len(wanted) == 3 and not quarantine.rows
    texts = pa.array([r["text"] for r in rows])
    as_json = pa.array([json.dumps(v) if v else None for v in [*values, None]])
    (tmp_path / "b.jsonl").write_text(
        "".join(
            json.dumps({"text": t, key: v}) + "\n" for t, v in zip(texts.to_pylist(), as_json.to_pylist(), strict=True)
        )
    )
    assert read(tmp_path / "b.jsonl", format)[0] == wanted
    for number, meta in enumerate((pa.array([*values, None]), as_json)):
        for suffix in ("parquet", "arrow"):
            path = written(tmp_path / f"{number}.{suffix}", pa.table({"text": texts, key: meta}))
            assert read(path, format)[0] == wanted, (format, meta.type, suffix)


def test_metadata_of_the_wrong_type_is_quarantined_as_in_json_lines(tmp_path: Path) -> None:
    rows, quarantine = read(written(tmp_path / "x.parquet", pa.table({"text": TEXTS, "source": [1] * 10})), "dolma")
    assert not rows and quarantine.rows == 10
    assert reasons(tmp_path) == {"Expected `str | null`, got `int` - at `$.source`"}


def test_long_metadata_is_absent_field_by_field(tmp_path: Path) -> None:
    meta = pa.array([{"pile_set_name": "Github", "notes": "x" * 100_000}] * 10)
    rows, _ = read(written(tmp_path / "x.parquet", pa.table({"text": TEXTS, "meta": meta})), "pile")
    assert {r["subset"] for r in rows} == {"Github"} and len(rows) == 10


TIMES = [
    pa.array([dt.date(2023, 1, 1)]),
    pa.array([dt.datetime(2023, 1, 1)], pa.timestamp("s")),
    pa.array([dt.datetime(2023, 1, 1)], pa.timestamp("us", "Europe/Paris")),
    pa.array([NEW_YEAR * 10**9 + 1], pa.int64()).cast(pa.timestamp("ns")),
    pa.array([20230101000000]),
    pa.array([20230101], pa.int32()),
    pa.array([NEW_YEAR * 1000]),
    pa.array([float(NEW_YEAR)]),
    pa.array([str(NEW_YEAR)]),
    pa.array(["2023-01-01T00:00:00Z"], pa.string_view()),
]


@pytest.mark.parametrize("time", TIMES, ids=lambda a: f"{a.type} {a[0]}")
def test_times_of_every_type_are_read(tmp_path: Path, time: pa.Array) -> None:
    rows, quarantine = read(
        written(tmp_path / "x.parquet", pa.table({"content": ["a"], "timestamp": time})), "refinedweb"
    )
    assert [r["timestamp"] for r in rows] == [NEW_YEAR] and not quarantine.times


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        (0, 0),
        (-5, 0),
        ("1969-12-31", 0),
        (1.5, 1),
        ("2023", NEW_YEAR),
        ("2023-01", NEW_YEAR),
        ("202301010000", NEW_YEAR),
        ("2023/01/01 00:00:00 UTC", NEW_YEAR),
        ("Sun, 01 Jan 2023 01:00:00 +0100", NEW_YEAR),
        (f"{NEW_YEAR}.25", NEW_YEAR),
        (NEW_YEAR * 10**6, NEW_YEAR),
        (NEW_YEAR * 10**9, NEW_YEAR),
        (1_999_999_999, 1_999_999_999),
        (209_913_000_000, 209_913_000),
        ("soon", NOT_UNDERSTOOD),
        ("2023-13-45", NOT_UNDERSTOOD),
        (10**40, NOT_UNDERSTOOD),
        (True, NOT_UNDERSTOOD),
        ({"year": 2023}, NOT_UNDERSTOOD),
    ],
)
def test_a_time_is_seconds_or_nothing_or_not_understood(value: object, seconds: int) -> None:
    assert as_timestamp(value) == seconds


def test_times_that_are_not_understood_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"content": "a", "timestamp": "soon"}\n{"content": "b", "timestamp": "2023-01-01"}\n{"content": "c"}\n'
    )
    far = pa.array([1 << 50], pa.timestamp("s"))
    for path, wanted in (
        (tmp_path / "a.jsonl", [0, NEW_YEAR, 0]),
        (written(tmp_path / "x.parquet", pa.table({"content": ["a"], "timestamp": far})), [0]),
    ):
        rows, quarantine = read(path, "refinedweb")
        assert [r["timestamp"] for r in rows] == wanted and quarantine.times == 1 and not quarantine.rows


def stream(rows: int = 10, batches: int = 3) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, pa.schema([("text", pa.string())])) as writer:
        for number in range(batches):
            writer.write_batch(pa.record_batch({"text": [f"{number} {i}" for i in range(rows)]}))
    return out.getvalue().to_pybytes()


def test_batches_before_a_cut_are_kept_and_the_cut_is_told(tmp_path: Path) -> None:
    whole = stream()
    one = len(stream(batches=1)) - 8
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, pa.schema([("text", pa.string())])) as writer:
        for number in range(3):
            writer.write_batch(pa.record_batch({"text": [f"{number} {i}" for i in range(10)]}))
    file = out.getvalue().to_pybytes()
    for data, rows in (
        (whole, 30),
        (whole[:-8], 30),  # without the end mark
        (whole[:-12], 20),
        (whole[:one], 10),  # between two batches
        (file, 30),
        (file[:-10], 30),  # in the footer
        (file[: 8 + one + 20], 10),
        (b"", 0),
    ):
        (tmp_path / "x.arrow").write_bytes(data)
        found, quarantine = read(tmp_path / "x.arrow", "pile")
        cut = data not in (whole, file)
        assert (len(found), quarantine.cut, bool(quarantine.damage)) == (rows, cut, cut), (len(data), quarantine.damage)


def test_no_column_is_decompressed_before_its_size_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LINE", 1 << 20)
    zstd = pa.ipc.IpcWriteOptions(compression="zstd")
    big = pa.array(["y" * (8 << 20)])
    # Columns before and after, so that the places of buffers are those of the wanted one.
    small = {"a": big, "n": pa.nulls(1), "l": pa.array([[{"x": [1]}]]), "v": pa.array(["w" * 20], pa.string_view())}
    unused = pa.table({**small, "text": ["x"], "z": big})
    rows, quarantine = read(written(tmp_path / "a.arrow", unused, options=zstd), "pile")
    assert [r["text"] for r in rows] == ["x"] and not quarantine.damage
    for number, texts in enumerate((big, big.dictionary_encode(), big.cast(pa.string_view()))):
        wanted = pa.table({**small, "text": texts, "z": ["x"]})
        rows, quarantine = read(written(tmp_path / f"{number}.arrow", wanted, options=zstd), "pile")
        assert not rows and "a batch expands to 8,388," in quarantine.damage, texts.type
