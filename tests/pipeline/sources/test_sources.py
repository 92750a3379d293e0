"""Sources: the five formats, every container, every store, and rows that cannot be read."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources import formats
from fox1.pipeline.sources import rows as rows_of_files
from fox1.pipeline.sources.domains import DOMAINS, SUBSET_DOMAINS, domain_of
from fox1.pipeline.sources.globs import matches
from fox1.pipeline.sources.listing import SourceSettings, list_sources, sample_files
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.pipeline.sources.text_schema import TEXT_SCHEMA

FORMATS = ("redpajama", "slimpajama", "dolma", "pile", "refinedweb")


def read(file: SourceFile) -> tuple[list[dict[str, object]], Quarantine]:
    quarantine = Quarantine(file)
    rows = [row for batch in read_rows(file, quarantine) for row in batch.to_pylist()]
    return rows, quarantine


def only(root: Path, format: str = "pile", pattern: str = "**/*") -> SourceFile:
    return list_sources([SourceSettings("c", format, str(root), (pattern,))])[0]


def lines(*rows: object) -> bytes:
    return b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() for row in rows for r in (row, b"\n"))


@pytest.mark.parametrize("format", FORMATS)
def test_every_row_of_the_sample_is_read(corpora: Path, format: str) -> None:
    for file in list_sources([SourceSettings(format, format, str(corpora / format))]):
        rows, quarantine = read(file)
        assert rows and not quarantine.rows and not quarantine.damage
        assert [r["row"] for r in rows] == list(range(len(rows)))
        assert all(domain_of(format, str(r["subset"])) in DOMAINS for r in rows)
        assert all(r["subset"] in SUBSET_DOMAINS[format] for r in rows)


def test_redpajama_meta_may_be_an_object_json_or_a_repr_and_the_path_may_tell_the_subset(tmp_path: Path) -> None:
    (tmp_path / "arxiv").mkdir()
    (tmp_path / "arxiv" / "a.jsonl").write_bytes(
        lines(
            {"text": "a", "meta": {"arxiv_id": "1", "url": "u"}, "red_pajama_subset": "c4"},
            {"text": "b", "meta": '{"arxiv_id": "2"}'},
            {"text": "c", "meta": "{'url': 'v', 'timestamp': None}"},
            {"text": "d", "meta": "not a mapping"},
        )
    )
    rows, quarantine = read(only(tmp_path, "redpajama"))
    facts = [(r["subset"], r["native_id"], r["url"]) for r in rows]
    assert facts == [("c4", "1", "u"), ("arxiv", "2", ""), ("arxiv", "", "v"), ("arxiv", "", "")]
    assert quarantine.rows == 0


ROWS = [{"text": f"document {i}", "meta": {"pile_set_name": "Pile-CC"}} for i in range(50)]


def containers(folder: Path) -> list[Path]:
    data = lines(*ROWS)
    table = pa.table({"text": [r["text"] for r in ROWS]})
    (folder / "a.jsonl").write_bytes(data)
    (folder / "b.json.gz").write_bytes(gzip.compress(data[:400], mtime=0) + gzip.compress(data[400:], mtime=0))
    compress = zstandard.ZstdCompressor().compress
    (folder / "c.jsonl.zst").write_bytes(compress(data[:300]) + compress(data[300:]))
    pq.write_table(table, folder / "d.parquet", row_group_size=7)
    with pa.ipc.new_file(folder / "e.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    with pa.ipc.new_stream(folder / "f.arrow", table.schema) as writer:
        writer.write_table(table)
    return sorted(folder.iterdir())


def test_every_container_gives_the_same_rows(tmp_path: Path) -> None:
    containers(tmp_path)
    files = list_sources([SourceSettings("c", "pile", str(tmp_path))])
    assert len(files) == 6
    for file in files:
        rows, quarantine = read(file)
        assert [(r["row"], r["text"]) for r in rows] == [(i, r["text"]) for i, r in enumerate(ROWS)], file.path
        assert quarantine.rows == 0


BAD = {
    b'{"text": "cut': "truncated",
    b"": "empty line",
    b'{"meta": {}}': "missing required field",
    b'{"text": 5}': "Expected `str`",
    b'{"text": null}': "Expected `str`",
    b'{"text": "\xff\xfe"}': "invalid UTF-8",
    b'{"text": "a\\u0000b"}': "NUL",
    b'{"text": "\\ud800"}': "",
    b'["text"]': "Expected `object`",
}


def test_bad_rows_go_to_quarantine_with_file_row_offset_and_reason(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rows = [item for bad in BAD for item in ({"text": "good"}, bad)]
    data = lines(*rows)
    (source / "x.jsonl").write_bytes(data)
    file = only(source)
    quarantine = Quarantine(file, tmp_path / "q.jsonl")
    good = [row for batch in read_rows(file, quarantine) for row in batch.to_pylist()]
    assert [r["row"] for r in good] == list(range(0, 2 * len(BAD), 2))
    assert quarantine.rows == len(BAD)
    quarantine.publish()
    entries = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert [e["row"] for e in entries] == list(range(1, 2 * len(BAD), 2))
    for entry, (bad, reason) in zip(entries, BAD.items(), strict=True):
        assert entry["file"] == "c/x.jsonl" and reason in entry["reason"]
        assert data[entry["offset"] :].startswith(bad)


def test_nulls_and_nuls_in_columns_are_quarantined(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"content": ["a", None, "x\0y", "b"], "url": ["u", "v", "w", None]}), tmp_path / "x.parquet"
    )
    rows, quarantine = read(only(tmp_path, "refinedweb"))
    assert [(r["row"], r["text"], r["url"]) for r in rows] == [(0, "a", "u"), (3, "b", "")]
    assert quarantine.rows == 2


@pytest.mark.parametrize("name", ["b.json.gz", "c.jsonl.zst", "d.parquet"])
def test_rows_before_damage_are_kept_and_the_file_is_named(tmp_path: Path, name: str) -> None:
    for path in containers(tmp_path):
        if path.name != name:
            path.unlink()
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.85)])
    rows, quarantine = read(only(tmp_path))
    assert quarantine.damage
    if not name.endswith("parquet"):
        assert 0 < len(rows) <= 50
        assert [r["text"] for r in rows] == [r["text"] for r in ROWS[: len(rows)]]


def test_corrupt_bytes_in_the_middle_are_damage(tmp_path: Path) -> None:
    data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(os.urandom(200_000).hex().encode() + b"\n"))
    data[len(data) // 2] ^= 255
    (tmp_path / "x.jsonl.zst").write_bytes(data)
    _, quarantine = read(only(tmp_path))
    assert quarantine.damage


@pytest.mark.parametrize("name", ["a.jsonl", "c.jsonl.zst", "b.json.gz", "d.parquet"])
def test_trouble_of_the_store_is_an_error_not_damage(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in containers(tmp_path):
        if path.name != name:
            path.unlink()
    file = only(tmp_path)

    class Resets(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(formats, "open_source", lambda url: Resets(io.FileIO(url)))
    with pytest.raises(ConnectionResetError):
        read(file)


def test_hostile_metadata_is_quarantined(tmp_path: Path) -> None:
    rows = [
        b'{"text": "a", "meta": "{{}}"}',
        b'{"text": "b", "meta": "{\'url\': \'\\\\ud83d\'}"}',
        b'{"text": "c", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"text": "d"}',
    ]
    (tmp_path / "x.jsonl").write_bytes(lines(*rows))
    good, quarantine = read(only(tmp_path, "redpajama"))
    assert [r["text"] for r in good][-1] == "d"
    assert len(good) + quarantine.rows == len(rows)
    text = pa.array(["a", "b"])
    url = pa.array([b"\xff", b"ok"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"content": text, "url": url}), tmp_path / "y.parquet")
    good, quarantine = read(only(tmp_path, "refinedweb", "*.parquet"))
    assert [r["text"] for r in good] == ["b"] and quarantine.rows == 1


def test_empty_files_and_empty_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(b""))
    (tmp_path / "c.jsonl").write_bytes(lines({"text": ""}))
    found = [read(f) for f in list_sources([SourceSettings("c", "pile", str(tmp_path))])]
    assert [len(rows) for rows, _ in found] == [0, 0, 1]
    assert not any(q.rows or q.damage for _, q in found)


def test_a_line_over_the_limit_is_quarantined_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (formats, rows_of_files):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    monkeypatch.setattr(formats, "CHUNK", 512)
    (tmp_path / "x.jsonl").write_bytes(lines({"text": "a"}, {"text": "b" * 5000}, {"text": "c"}))
    rows, quarantine = read(only(tmp_path))
    assert [r["text"] for r in rows] == ["a", "c"] and quarantine.rows == 1


def test_batches_keep_the_schema(corpora: Path) -> None:
    file = list_sources([SourceSettings("pile", "pile", str(corpora / "pile"))])[0]
    assert all(b.schema == TEXT_SCHEMA for b in read_rows(file, Quarantine(file)))


@pytest.mark.parametrize(
    ("path", "pattern", "hit"),
    [
        ("train/chunk1/a.jsonl.zst", "train/**/*.jsonl.zst", True),
        ("train/a.jsonl.zst", "train/**/*.jsonl.zst", True),
        ("a.json.gz", "*.json.gz", True),
        ("x/a.json.gz", "*.json.gz", False),
        ("val.jsonl.zst", "val*", True),
        ("validation/x/y", "validation/**", True),
    ],
)
def test_globs(path: str, pattern: str, hit: bool) -> None:
    assert matches(path, [pattern]) is hit


def test_missing_folders_and_empty_patterns_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the folder .* does not exist; set `root`"):
        list_sources([SourceSettings("c", "pile", str(tmp_path / "none"))])
    with pytest.raises(ValueError, match=r"nothing under .* matches \*\.zst"):
        list_sources([SourceSettings("c", "pile", str(tmp_path), ("*.zst",))])
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(ValueError, match="a suffix that fox1 does not read"):
        list_sources([SourceSettings("c", "pile", str(tmp_path))])


def test_what_cannot_be_read_is_named_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.jsonl").write_text("{}\n")
    settings = SourceSettings("pile", "pile", str(tmp_path), ("**/*.jsonl",))
    assert len(list_sources([settings])) == 1
    scandir, access = os.scandir, os.access

    def closed(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("web"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:  # root may read all
        patch.setattr(os, "scandir", closed)
        with pytest.raises(
            ValueError, match=r"source pile: .*/web cannot be read \(Permission denied\); make it readable"
        ):
            list_sources([settings])
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.jsonl") and access(path, mode))
        with pytest.raises(ValueError, match=r"source pile: .*/web/a.jsonl cannot be read \(Permission denied\)"):
            list_sources([settings])
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"source pile: .*/gone.jsonl cannot be read \(No such file or directory\)"):
        list_sources([settings])


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("https://x/a/b.jsonl\nhttps://x/a/../../c.jsonl\n", "leaves the folder"),
        ("s3://a\ns3://a/../c.jsonl\n", "s3://a names no file; remove it"),
        ("s3://a/b.jsonl\ns3://a/c/./d.jsonl\n", "leaves the folder"),
    ],
)
def test_no_listed_file_leaves_its_corpus(lines: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text(lines)
    with pytest.raises(ValueError, match=says):
        list_sources([SourceSettings("c", "pile", urls=str(tmp_path / "urls.txt"))])


def test_no_subset_name_leaves_the_run() -> None:
    paths = RunPaths(Path("/run"))
    for subset in ("..", "../../etc", "/etc", "a/b"):
        assert paths.tokens("pile", subset, "0").parent.parent == Path("/run/tokens/pile")
        assert ".." not in paths.tokens("pile", subset, "0").parts


def test_a_limit_takes_whole_files_of_every_corpus_by_seed(corpora: Path) -> None:
    files = list_sources([SourceSettings(f, f, str(corpora / f)) for f in FORMATS])
    some = sample_files(files, 0.3, seed=1)
    assert {f.corpus for f in some} == set(FORMATS)
    assert len(some) < len(files)
    assert some == sample_files(list(reversed(files)), 0.3, seed=1)


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    store = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        filesystem.mkdir("sources")
        filesystem.pipe("sources/pile/train/00.jsonl.zst", zstandard.ZstdCompressor().compress(lines(*ROWS)))
        files = list_sources([SourceSettings("pile", "pile", "s3://sources/pile", ("train/*.jsonl.zst",))])
        assert [f.path for f in files] == ["train/00.jsonl.zst"]
        assert files[0].version and files[0].size
        assert len(read(files[0])[0]) == 50
    finally:
        store.stop()


def test_any_data_set_streams_by_name_with_its_shards_as_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(3):
        pq.write_table(
            pa.table({"text": [f"{i}-{k}" for k in range(4)], "id": list(range(4))}), folder / f"{i}.parquet"
        )
    source = SourceSettings("mine", "huggingface", dataset=str(folder))
    files = list_sources([source])
    assert [f.path for f in files] == [f"default/train/{i:05d}-of-00003" for i in range(3)]
    texts = [r["text"] for f in files for r in read(f)[0]]
    assert sorted(map(str, texts)) == sorted(f"{i}-{k}" for i in range(3) for k in range(4))
    assert read(files[0])[0][1]["native_id"] == "1"


def test_a_datatrove_reader_is_a_source(tmp_path: Path) -> None:
    from fox1.pipeline.sources.listing import SourceSettings, list_sources

    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "a.csv").write_text("text,id,url\nfirst,1,http://x/1\n,2,\nthird,3,http://x/3\n")
    source = SourceSettings(
        "ours", "datatrove", str(tmp_path), ("**/*.csv",), reader="datatrove.pipeline.readers.CSVReader"
    )
    (file,) = list_sources([source])
    assert file.path == "news/a.csv" and file.size > 0
    table = pa.Table.from_batches(read_rows(file, Quarantine(file)))
    assert table.column("text").to_pylist() == ["first", "", "third"]
    assert table.column("row").to_pylist() == [0, 1, 2]
    assert table.column("url").to_pylist() == ["http://x/1", "", "http://x/3"]
    assert set(table.column("subset").to_pylist()) == {"news"}
    for reader, says in {
        "datatrove.pipeline.readers.Nosuch": "reader datatrove.pipeline.readers.Nosuch",
        "nosuch.Reader": "No module named",
    }.items():
        with pytest.raises(ValueError, match=says):
            list_sources([dataclasses.replace(source, reader=reader)])
