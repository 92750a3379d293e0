"""Walks over the tables of documents by their ids, on a disk and in a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.dedupe.order import Part, id_batches
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import ROW_BITS, Group, SourceFile
from fox1.storage import store
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

FILES, ROWS, GROUP_ROWS = 24, 50, 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The tables of files whose ids follow each other, on the disk and in a store."""
    local = tmp_path_factory.mktemp("walked")
    with pytest.MonkeyPatch.context() as patch:
        scratch = local / "scratch"
        scratch.mkdir(mode=0o700)
        patch.setenv("FOX1_SCRATCH", str(scratch))
        patch.setattr(store, "session_folder", lambda: scratch / "session-0")
        stored, objects = store.open_root("memory://walked"), fsspec.filesystem("memory")
        rng = np.random.default_rng(3)
        for number in range(FILES):
            ids = pa.array((number << ROW_BITS) + np.arange(ROWS), pa.uint64())
            narrow = pa.table({"doc_id": ids, "n_shingles": rng.integers(0, 9, ROWS)})
            wide = pa.table({"doc_id": ids, "sketch": [rng.bytes(20_000) for _ in range(ROWS)]})
            for kind, table in (("signals", narrow), ("signatures", wide)):
                name = f"{kind}{number}.parquet"
                pq.write_table(table, local / name, row_group_size=GROUP_ROWS)
                objects.pipe_file(f"/walked/{name}", (local / name).read_bytes())
        yield local, stored
        objects.rm("/walked", recursive=True)


def parts(folder: Path) -> list[Part]:
    """Groups of some of these files, whose order is not that of the ids."""
    found = []
    for g in range(4):
        numbers = [*range(g, FILES, 4)][::-1]
        files = tuple(SourceFile("c", f"{n}", "", 0, "", "pile", False, n) for n in numbers)
        tables = [
            tuple(Artifact(str(folder / f"{kind}{n}.parquet"), 1, ROWS, "") for n in numbers)
            for kind in ("signals", "signatures")
        ]
        found.append(Part(Group("c", g, False, files), *tables, filtered=None))
    return found


def walked(folder: Path, wanted: list[int]) -> list[tuple[int, int, bytes]]:
    """(id, number, sketch) of the documents that are asked for."""
    left, found = sorted(wanted), list[tuple[int, int, bytes]]()
    for batch in id_batches(parts(folder), ["doc_id", "n_shingles", "sketch"], lambda: left[0] if left else None):
        for row in batch.to_pylist():
            if left and row["doc_id"] == left[0]:
                found.append((left.pop(0), row["n_shingles"], row["sketch"]))
    return found


@settings(deadline=None, max_examples=30)
@given(
    st.sets(st.tuples(st.integers(0, FILES - 1), st.integers(0, ROWS - 1)), max_size=40),
    st.integers(0, FILES - 1),
    st.booleans(),
)
def test_documents_in_a_store_are_those_on_the_disk(
    folders: tuple[Path, Path], some: set[tuple[int, int]], whole: int, dense: bool
) -> None:
    local, stored = folders
    wanted = {(number << ROW_BITS) + row for number, row in some}
    if dense:
        wanted |= {(number << ROW_BITS) + row for number in range(whole, FILES) for row in range(ROWS)}
    found = walked(stored, list(wanted))
    assert [doc for doc, *_ in found] == sorted(wanted)
    assert found == walked(local, list(wanted))


def test_of_few_documents_little_more_than_their_row_groups_is_fetched(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = 0
    read = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, *arguments: object, **named: object) -> bytes:
        nonlocal fetched
        data = bytes(read(self, *arguments, **named))
        fetched += len(data)
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    wanted = [(number << ROW_BITS) + ROWS // 2 for number in range(0, FILES, 3)]
    assert len(walked(folders[1], wanted)) == len(wanted)
    footers = 64 << 10
    # Files between them were opened ahead of time; no row group of theirs was read.
    assert fetched < len(wanted) * GROUP_ROWS * 20_000 * 1.2 + 2 * FILES * footers
