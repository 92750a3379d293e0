"""Files that are cut give what they give whole: rows, ids, quarantine and damage."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.identity import SourceFile, cut_by_rows
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources import formats, pieces
from fox1.pipeline.sources.listing import SourceSettings, list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_each, read_rows
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few hundred bytes, read by a few dozen."""
    monkeypatch.setattr(pieces, "MOST_TEXT", 400)
    monkeypatch.setattr(pieces, "RANGES", 2)
    monkeypatch.setattr(pieces, "CHUNK", 48)
    monkeypatch.setattr(formats, "CHUNK", 48)
    monkeypatch.setattr(formats, "ZST_SLICE", 16)
    monkeypatch.setattr(formats, "FRAME_STEP", 1)


def only(root: Path) -> SourceFile:
    (file,) = list_sources([SourceSettings("c", "pile", str(root))])
    return file


def cut(file: SourceFile) -> list[SourceFile]:
    with tempfile.TemporaryDirectory() as folder:
        return pieces.cut_files(Engine(RunPaths(Path(folder)), InProcess()), [file])


def read(files: Sequence[SourceFile], folder: Path) -> tuple[list[dict[str, object]], list[str], list[object]]:
    """(rows, lines of quarantine, what is said of damage) of a file or of its pieces."""
    rows, bad, said = list[dict[str, object]](), list[str](), list[object]()
    for k, file in enumerate(files):
        quarantine = Quarantine(file, folder / "q" / f"{k}.jsonl")
        rows += [row for batch in read_rows(file, quarantine) for row in batch.to_pylist()]
        if quarantine.publish():
            bad += (folder / "q" / f"{k}.jsonl").read_text().splitlines()
        assert not quarantine.damage or file is files[-1]
        said = [quarantine.damage, quarantine.intact, quarantine.cut]
    return rows, bad, said


def check_cut(path: Path, least: int = 2) -> list[SourceFile]:
    """Compare a file with its pieces, of which there are some."""
    file = only(path.parent)
    parts = cut(file)
    assert len(parts) >= least
    with tempfile.TemporaryDirectory() as folder:
        assert read(parts, Path(folder)) == read([file], Path(folder))
    return parts


def line(text: str) -> bytes:
    return json.dumps({"text": text, "meta": {"pile_set_name": "Pile-CC"}}).encode()


LINES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(line),
    st.integers(100, 1500).map(lambda n: line("x" * n)),
    st.sampled_from([b"", b"\r", b"{", b'{"text": "\xff"}', b"\xef\xbb\xbf" + line("a"), line("b") + b"\r"]),
)


@st.composite
def json_text(draw: st.DrawFn) -> bytes:
    return b"\n".join(draw(st.lists(LINES, min_size=1, max_size=60))) + draw(st.sampled_from([b"", b"\n"]))


@settings(max_examples=40, deadline=None)
@given(data=json_text())
def test_plain_lines(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(data)
        parts = check_cut(path, least=1)
        assert len(parts) <= max(1, -(-len(data) // 400))


def skippable(data: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def frames_of(data: bytes, size: int, kind: str) -> list[bytes]:
    """A text as zstd frames of `size` bytes, as `kind` of program writes them."""
    compress = zstandard.ZstdCompressor(1).compress
    if kind == "lines":
        parts = [bytes(part) for part in data.splitlines(keepends=True)]
    else:
        parts = [data[i : i + size] for i in range(0, len(data), size)]
    frames = [compress(part) for part in parts]
    if kind == "pzstd":
        frames = [skippable(struct.pack("<I", len(frame))) + frame for frame in frames]
    if kind == "seekable":
        table = b"".join(struct.pack("<II", len(f), len(p)) for f, p in zip(frames, parts, strict=True))
        footer = struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
        frames.append(struct.pack("<II", 0x184D2A5E, len(table) + len(footer)) + table + footer)
    return frames


@settings(max_examples=40, deadline=None)
@given(
    data=json_text(),
    size=st.sampled_from([1, 30, 170, 900]),
    kind=st.sampled_from(["plain", "pzstd", "seekable", "lines"]),
    damage=st.sampled_from(["", "cut", "corrupt", "garbage"]),
    seed=st.integers(0, 1 << 30),
)
def test_frames_also_where_one_is_damaged(data: bytes, size: int, kind: str, damage: str, seed: int) -> None:
    stored, rng = bytearray(b"".join(frames_of(data, size, kind))), random.Random(seed)
    at = rng.randrange(len(stored)) if stored else 0
    if damage == "cut":
        del stored[at:]
    elif damage == "corrupt" and stored:
        stored[at] ^= 1 << rng.randrange(8)
    elif damage == "garbage":
        stored += b"\0\0\0\0 no frame"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl.zst")
        path.write_bytes(stored)
        check_cut(path, least=1)


def documents(n: int) -> bytes:
    return b"".join(line(f"document {i} " + "word " * (i % 7)) + b"\n" for i in range(n))


def test_a_piece_of_frames_reads_its_own_frames_alone(tmp_path: Path) -> None:
    frames = frames_of(documents(100), 90, "plain")
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    parts = check_cut(tmp_path / "a.jsonl.zst", least=10)
    found = [p.piece for p in parts if p.piece]
    assert [p.begin for p in found] == sorted({p.begin for p in found})
    assert all(p.skip < 400 for p in found)
    assert all(0.2 * 400 < p.text < 1.6 * 400 for p in found)


def test_one_frame_and_gz_stay_whole_and_a_first_frame_that_does_not_end_is_not_decoded(tmp_path: Path) -> None:
    data = documents(9000)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(data))
    file = only(tmp_path)
    assert cut(file) == [file]
    assert pieces.count_frames(file, 400).text < len(data) / 2
    (tmp_path / "a.jsonl.zst").unlink()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(documents(200)) + gzip.compress(documents(200)))
    file = only(tmp_path)
    assert cut(file) == [file]


def test_of_a_great_many_frames_few_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FRAME_STEP", 30)
    frames = frames_of(documents(20), 1, "plain") + [zstandard.ZstdCompressor().compress(b"")] * 50
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    noted = list[tuple[int, int]]()
    for _ in formats.chunks(str(tmp_path / "a.jsonl.zst"), frames=noted):
        assert len(noted) <= 3
        noted.clear()
    check_cut(tmp_path / "a.jsonl.zst")


def table(path: Path, rows: int, group: int) -> None:
    texts = [f"document {i} " + "word " * (i % 50) for i in range(rows)]
    texts[3] = "a\0b"
    texts[rows // 2] = "c\0d"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=group, compression="none", use_dictionary=False)


def test_row_groups(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", 97, 5)
    parts = check_cut(tmp_path / "a.parquet", least=8)
    assert sum(p.piece.length for p in parts[:-1] if p.piece) < 20


def test_a_table_without_a_footer_stays_whole(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", 97, 5)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    assert len(check_cut(tmp_path / "a.parquet", least=1)) == 1


def test_small_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(documents(3))
    (tmp_path / "b.parquet").write_bytes(b"no table")
    files = list_sources([SourceSettings("c", "pile", str(tmp_path))])
    engine = Engine(RunPaths(tmp_path / "run"), InProcess())
    assert pieces.cut_files(engine, files) == files
    assert not engine.reused


def test_files_of_a_store_are_cut_where_those_of_a_disk_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(documents(100))
    (tmp_path / "b.jsonl.zst").write_bytes(b"".join(frames_of(documents(100), 90, "plain")))
    table(tmp_path / "c.parquet", 97, 5)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path), "/cut", recursive=True)
    try:
        roots = (str(tmp_path), "memory://cut")
        here, there = (list_sources([SourceSettings("c", "pile", root)]) for root in roots)
        for local, remote in zip(here, there, strict=True):
            parts = cut(remote)
            assert [p.piece for p in parts] == [p.piece for p in cut(local)] and len(parts) > 1
            assert read(parts, tmp_path / "q") == read([local], tmp_path / "q")
    finally:
        store.rm("/cut", recursive=True)


def test_a_store_that_gives_no_ranges_gives_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(documents(100))
    (tmp_path / "b.jsonl.zst").write_bytes(b"".join(frames_of(documents(100), 90, "plain")))
    files = list_sources([SourceSettings("c", "pile", str(tmp_path))])
    monkeypatch.setattr(pieces, "can_be_cut", lambda url: False)
    assert [cut(file) for file in files] == [[file] for file in files]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=25, deadline=None)
def test_rows_of_a_file_that_is_read_from_its_start(
    suffix: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rng = random.Random(seed)
    texts = ["".join(rng.choices("ab \n", k=rng.randrange(200))) + "." * rng.randrange(2) for _ in range(40)]
    texts = [t + "\0" if rng.random() < 0.2 else t for t in texts]
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "meta": ["{}"] * 40}), folder / f"a{suffix}")
        (file,) = list_sources([SourceSettings("c", "huggingface", str(folder))])
    else:
        lines = "".join(json.dumps({"text": t, "meta": {}}) + "\n" for t in texts)
        (folder / f"a{suffix}").write_bytes(gzip.compress(lines.encode()))
        file = only(folder)
    bounds = [0, *sorted(rng.sample(range(1, 40), 3)), 40]
    parts = [
        cut_by_rows(file, k, a, -1 if b == 40 else b - a, 1) for k, (a, b) in enumerate(itertools.pairwise(bounds))
    ]
    rows = read([file], folder)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fox1.pipeline.sources.rows.BATCH_ROWS", rng.randrange(1, 12))
        # Each by itself, all in one pass, and some of them among other files.
        assert [row for part in parts for row in read([part], folder)[0]] == rows
        for chosen in (parts, parts[1:], [file, *parts[2:], file], [parts[2], parts[3]]):
            each = [(f, [row for b in batches for row in b.to_pylist()]) for f, batches in read_each(chosen)]
            assert [f for f, _ in each] == list(chosen)
            for part, own in each:
                assert own == read([part], folder)[0]
            # The same of some rows only, whose numbers are given a few at a time.
            some = [[r["row"] for r in own if rng.random() < 0.4] for _, own in each]
            numbers = [(np.array(part, np.int64) for part in cuts(rng, one)) for one in some]
            few = [[row for b in batches for row in b.to_pylist()] for _, batches in read_each(chosen, numbers)]
            assert few == [[r for r in own if r["row"] in one] for (_, own), one in zip(each, some, strict=True)]


def cuts(rng: random.Random, rows: list[int]) -> list[list[int]]:
    """Rows in a few parts, some of which are empty."""
    bounds = [0, *sorted(rng.choices(range(len(rows) + 1), k=3)), len(rows)]
    return [rows[a:b] for a, b in itertools.pairwise(bounds)]
