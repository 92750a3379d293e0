"""Source files of the formats, and lists of URLs."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from .cases import CONTROL, Case, Fault, Target, damage, refused, text_of


def value_of(rng: random.Random, depth: int = 3) -> Any:
    """A value that JSON can hold."""
    match rng.randrange(9 if depth else 6):
        case 0:
            return None
        case 1:
            return rng.choice([True, False, 0, -1, 1.5, 1e308, 1 << 62, -(1 << 63), 10**25, 253402300800, -62135596801])
        case 2:
            return rng.choice(["", "2023-02-30", "2023-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1 if 1 else 2"])
        case 3:
            return (
                "{'url': " + rng.choice(["'\\ud800'", "0x" + "f" * 5000, "[[]]", "b'x'", "1j", "-" * 300 + "1"]) + "}"
            )
        case 4 | 5:
            return text_of(rng, 8)
        case 6 | 7:
            keys = ["text", "url", "role", "content", "from", "value", "redpajama_set_name", "pile_set_name", "id", "x"]
            return {rng.choice(keys): value_of(rng, depth - 1) for _ in range(rng.randrange(4))}
        case _:
            return [value_of(rng, depth - 1) for _ in range(rng.randrange(4))]


TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So <start_of_turn>."}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "redpajama": [
        {
            "text": "first",
            "meta": {"url": "http://x/1", "timestamp": "2023-01-01T00:00:00Z"},
            "red_pajama_subset": "c4",
        },
        {"text": "second", "meta": "{'arxiv_id': '1', 'timestamp': None}"},
        {"text": "third", "meta": '{"id": 3}', "red_pajama_subset": "arxiv"},
    ],
    "slimpajama": [{"text": f"row {i}", "meta": {"redpajama_set_name": "RedPajamaC4"}} for i in range(3)],
    "dolma": [
        {"id": "a", "text": "first", "source": "c4", "created": "2020-01-01", "metadata": {"url": "http://x/1"}},
        {"id": 2, "text": "second", "source": "wiki", "added": "2021-01-01T00:00:00Z", "version": "v1"},
    ],
    "pile": [{"text": f"row {i}", "meta": {"pile_set_name": "Github"}} for i in range(3)],
    "refinedweb": [{"content": "first", "url": "http://x/1", "timestamp": "2013-05-18T10:42:00Z", "dump": "CC"}],
    "huggingface": [{"text": f"row {i}", "id": i, "url": "http://x", "timestamp": 1600000000} for i in range(3)],
    "chat": [
        {"messages": TURNS, "id": "1", "source": "s"},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"instruction": "Do", "input": "it", "output": "done"},
    ],
}
TABLES: dict[str, pa.Table] = {
    "refinedweb": pa.table(
        {
            "content": ["first", "second " * 40, None, ""],
            "url": ["http://x/1", None, "u", "v"],
            "timestamp": pa.array([0, 1, None, 3], pa.timestamp("us")),
        }
    ),
    "huggingface": pa.table({"text": ["a", "b\u00e9" * 50, "c"], "id": [1, 2, 3], "url": ["u", "v", "w"]}),
    "chat": pa.Table.from_pylist([{"messages": TURNS, "source": "s"}, {"messages": TURNS[:1], "source": None}] * 2),
}


def _lines(format: str, rng: random.Random) -> bytes:
    rows = []
    for row in ROWS[format]:
        changed = dict(row)
        for _ in range(rng.randrange(3)):
            changed[rng.choice([*row, "text", "id", "url", "system"])] = value_of(rng)
        rows.append(json.dumps(changed, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
    return b"\n".join(rows) + b"\n" * rng.randrange(2)


def _table(format: str, rng: random.Random, kind: str) -> bytes:
    table, out = TABLES[format], io.BytesIO()
    if rng.random() < 0.3:
        at = rng.randrange(table.num_columns)
        odd = rng.choice(
            [
                pa.array([1 << 62, -(1 << 62), 5, 6][: len(table)], pa.timestamp(rng.choice(["ms", "us", "ns"]))),
                pa.array([b"\xff\xfe", b"\x00", None, b"ok"][: len(table)], pa.binary()).view(pa.string()),
                pa.array([[1], [], None, [2]][: len(table)]),
                pa.array([None] * len(table)),
                pa.array(["a"] * len(table)).dictionary_encode(),
                pa.array([1.5, float("nan"), float("inf"), -1.0][: len(table)]),
                pa.array([b"\xff"] * len(table), pa.binary()),
            ]
        )
        table = table.set_column(at, table.column_names[at], odd)
    if kind == "parquet":
        pq.write_table(table, out, row_group_size=2, compression=rng.choice(["none", "snappy", "zstd"]))
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "zstd", "lz4"]))
        new = pa.ipc.new_file if rng.random() < 0.5 else pa.ipc.new_stream
        with new(out, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def source(format: str, suffix: str) -> Target:
    def make(rng: random.Random) -> Case:
        if suffix in ("parquet", "arrow"):
            data = _table(format, rng, suffix)
            return Case(f"c4/x.{suffix}", data if rng.random() < 0.3 else damage(data, rng, rng.randrange(1, 4)))
        data = _lines(format, rng)
        if suffix == "jsonl":
            return Case("c4/x.jsonl", data if rng.random() < 0.3 else damage(data, rng))
        # Damage inside what is compressed, or to the compressed bytes.
        inner = rng.random() < 0.3
        data = damage(data, rng) if inner else data
        compressed = gzip.compress(data, 1, mtime=0) if suffix == "jsonl.gz" else zstandard.compress(data)
        return Case(f"c4/x.{suffix}", compressed if inner else damage(compressed, rng))

    return Target(make, lambda case, folder: _read_source(format, case, folder))


def _read_source(format: str, case: Case, folder: Path) -> str:
    """Rows of the schema, in order, none of them in the quarantine; every line of a plain file is in one of the two."""
    from fox1.pipeline.run.identity import SourceFile
    from fox1.pipeline.sources.quarantine import Quarantine
    from fox1.pipeline.sources.rows import read_rows
    from fox1.pipeline.sources.text_schema import TEXT_SCHEMA

    path = folder / "source" / case.name
    path.parent.mkdir(parents=True)
    path.write_bytes(case.data)
    file = SourceFile("fuzz", case.name, str(path), len(case.data), "", format, False, 1)
    noted = folder / "quarantine.jsonl"
    quarantine = Quarantine(file, noted)
    rows: list[int] = []
    try:
        for batch in read_rows(file, quarantine):
            batch.validate(full=True)
            if batch.schema != TEXT_SCHEMA or any(c.null_count for c in batch.columns):
                raise Fault(f"a batch of {batch.schema}")
            if any("\0" in text for text in batch.column("text").to_pylist()):
                raise Fault("NUL in a text")
            for subset in batch.column("subset").to_pylist():
                if CONTROL.search(subset) or len(quote(subset, safe="").replace(".", "%2E")) > 255:
                    raise Fault(f"a subset that cannot name a folder: {subset[:200]!r}")
            rows += batch.column("row").to_pylist()
    except Fault:
        raise
    except Exception as error:
        return refused(error, file.name, str(path))
    quarantine.publish()
    noted_rows = [json.loads(line)["row"] for line in noted.read_bytes().splitlines()] if noted.exists() else []
    # Damage is noted too, of no row.
    bad = [row for row in noted_rows if row >= 0]
    if rows != sorted(set(rows)) or set(rows) & set(bad):
        raise Fault(f"rows {rows}, quarantined {bad}")
    if case.name.endswith("jsonl"):
        lines = case.data.count(b"\n") + bool(case.data and not case.data.endswith(b"\n"))
        if sorted(rows + bad) != list(range(lines)):
            raise Fault(f"{lines} lines: rows {rows}, quarantined {bad}")
    return "damaged" if quarantine.damage else "quarantined" if quarantine.rows else "read"


def make_urls(rng: random.Random) -> Case:
    good = ["https://x/a/", "s3://b/a/", "https://x/a/%2e%2e/"]
    bad = [
        "",
        "/",
        "../",
        "file:///etc/",
        "https://x/a/../../",
        "http://127.0.0.1/",
        "http://2130706433/",
        "a::https://x/",
    ]
    bad += ["datatrove://read?reader=os.system&root=", "datasets://stream?name="]
    hosts = [rng.choice(bad if rng.random() < 0.2 else good) for _ in range(3)]
    lines = [host + text_of(rng, 4) + rng.choice(["b.jsonl", "c/d.parquet", ".."]) for host in hosts]
    return Case("urls.txt", damage("\n".join(lines).encode(), rng))


def list_urls(case: Case, folder: Path) -> str:
    """No path of a list leads out of the folders of a run, and no line to code, to this machine or to its folders."""
    from fox1.pipeline.run.paths import RunPaths
    from fox1.pipeline.sources.listing import SourceSettings, list_sources

    listed = folder / case.name
    listed.write_bytes(case.data)
    try:
        files = list_sources([SourceSettings("fuzz", "pile", urls=str(listed))])
    except Exception as error:
        return refused(error, "fuzz")
    for file in files:
        for path in (RunPaths(folder).signals("fuzz", file.path), RunPaths(folder).quarantine("fuzz", file.path)):
            if not Path(os.path.normpath(path)).is_relative_to(folder / path.relative_to(folder).parts[0] / "fuzz"):
                raise Fault(f"{file.path!r} leads to {path}")
        scheme = file.url.partition("://")[0] if "://" in file.url else ""
        inside = Path(file.url).is_relative_to(folder) if not scheme else scheme in ("http", "https", "s3", "hf")
        host = urlsplit(file.url).netloc if scheme else ""
        if file.reader or not inside or "127.0.0.1" in host or "2130706433" in host:
            raise Fault(f"a line leads to {file.url!r}")
        if CONTROL.search(file.path):
            raise Fault(f"a file name that can steer a terminal: {file.path!r}")
    return "read"


BOMB_BYTES = 3 << 29
"""Memory that reading a file may take, whatever it expands to."""


def make_bomb(rng: random.Random) -> Case:
    """A small file that stands for gigabytes: one long value in a dictionary for all rows, or columns of zeros."""
    size, rows = 1 << rng.randrange(18, 21), 1 << rng.randrange(4, 11)
    one, out = "y" * size, io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([one]))
    short = pa.array(["short"] * rows)
    match rng.randrange(4):
        case 0:  # the type that the file itself declares decides how it is read
            kind = rng.choice([pa.large_string(), pa.binary(), pa.string_view(), pa.string(), pa.large_binary()])
            declared = pa.schema([("text", pa.string()), ("url", kind)])
            _declared(out, pa.table({"text": short, "url": column}), declared)
            return Case("huggingface/x.parquet", out.getvalue())
        case 1:
            _declared(
                out, pa.table({"text": column}), pa.schema([("text", rng.choice([pa.large_string(), pa.string()]))])
            )
            return Case("huggingface/x.parquet", out.getvalue())
        case 2:
            said = pa.StructArray.from_arrays([short.dictionary_encode(), column], ["role", "content"])
            talks = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), said)
            pq.write_table(pa.table({"messages": talks}), out, compression="zstd")
            return Case("chat/x.parquet", out.getvalue())
        case _:
            zeros = pa.array([b"\0" * (size << 6)], pa.large_binary())
            table = pa.table({"text": ["x"], **{f"junk{i}": zeros for i in range(rng.randrange(1, 16))}})
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with rng.choice([pa.ipc.new_file, pa.ipc.new_stream])(out, table.schema, options=options) as writer:
                writer.write_table(table)
            return Case("pile/x.arrow", out.getvalue())


def _declared(out: io.BytesIO, table: pa.Table, schema: pa.Schema) -> None:
    """Write dictionaries as they are, under a schema that says other types."""
    with pq.ParquetWriter(out, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        text = base64.b64encode(schema.serialize().to_pybytes())
        writer.add_key_value_metadata({b"ARROW:schema": text})


def read_bomb(case: Case, folder: Path) -> str:
    """What reading gives, in bounded memory."""
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    outcome = _read_source(case.name.partition("/")[0], case, folder)
    if (taken := _status("VmHWM") - before) > BOMB_BYTES:
        raise Fault(f"reading {len(case.data):,} bytes takes {taken >> 20:,} MiB")
    return outcome


def _status(name: str) -> int:
    """A number of bytes of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
