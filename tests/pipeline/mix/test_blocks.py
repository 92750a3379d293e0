"""Packing one partition: what it holds at most."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.engine.rows import Column, Rows, pack_rows
from fox1.pipeline.engine.shuffle_file import Levels
from fox1.pipeline.engine.two_level import Partition
from fox1.pipeline.mix.assign import ENTRY
from fox1.pipeline.mix.blocks import PartitionDocuments, SetShape, pack_partitions
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.file_sets import FileSet

LENGTH, FILES, DOCUMENTS, TOKENS = 2048, 8, 1_000, 800
SHAPE = SetShape(LENGTH, 64, "best_fit", Levels(4), 1, bos=2, eos=1, pad=0)


def partition(folder: Path, documents: int) -> Partition:
    """One partition of documents of up to `2 * TOKENS` tokens, in several shuffle files."""
    rng, files = np.random.default_rng(1), list[Artifact]()
    for number in range(FILES):
        counts = rng.integers(1, 2 * TOKENS, documents)
        heads = np.zeros(documents, ENTRY)
        heads["place"], heads["take"] = rng.integers(0, 1 << 62, documents), counts + 2
        heads["doc_id"] = np.arange(documents) + number * documents
        ids = rng.integers(3, 1000, int(counts.sum())).astype(np.int32)
        nothing = np.zeros(documents, np.int64)
        columns = [Column(ids, np.cumsum(counts) - counts, counts), Column(np.empty(0, np.int32), nothing, nothing)]
        out = Rows().writer(folder / f"{number}", Levels(1))
        out.add(*pack_rows(heads, columns))  # type: ignore[attr-defined]
        files += out.close()
    return Partition(FileSet.of(files))


def test_a_partition_is_packed_in_little_more_than_twice_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (tmp_path / name for name in ("few", "many"))
    few.mkdir()
    many.mkdir()
    # Kernels are loaded before anything is counted.
    pack_partitions([PartitionDocuments(partition(few, 10), "")], 0, SHAPE, few / "out")
    documents = partition(many, DOCUMENTS)
    stored = sum(file.stat().st_size for file in documents.files)
    # As in a run, where a partition has more tokens than are held of its blocks, or made into blocks at once.
    monkeypatch.setattr("fox1.pipeline.mix.blocks.HELD_BYTES", stored // 2)
    monkeypatch.setattr("fox1.pipeline.mix.blocks.FILL_TOKENS", stored // 32)
    tracemalloc.start()
    try:
        packed = pack_partitions([PartitionDocuments(documents, "")], 0, SHAPE, many / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert packed.tokens > 0.95 * stored / 4 - 2 * LENGTH
    assert peak < 2.3 * stored, peak / stored
