"""Phase sets of random tokens, for benchmarks that load or train on blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from fox1.pipeline.run.artifacts import publish, write_json
from fox1.tokenize.shards import (
    SetInfo,
    Split,
    block_schema,
    blocks_to_batch,
    file_names,
    rows_per_file,
    set_metadata,
    write_blocks,
)


def write_set(folder: Path, lengths: Sequence[int], tokens: int, shares: Sequence[float], vocabulary: int) -> None:
    """A phase set with the tokens shared equally between block lengths.

    Args:
        shares: where the documents of a block end, of its length; the last is 1.
    """
    rng, splits, sizes = np.random.default_rng(1), [], {}
    for length in lengths:
        blocks = tokens // len(lengths) // length
        names = file_names(-(-blocks // rows_per_file(length)))
        hashes, sizes[str(length)] = [], 0
        for k, name in enumerate(names):
            n = min(rows_per_file(length), blocks - k * rows_per_file(length))
            segments = len(shares) * n
            batch = blocks_to_batch(
                rng.integers(4, vocabulary, (n, length), np.int32),
                np.arange(0, segments + 1, len(shares)),
                np.arange(segments, dtype=np.uint64) + 1,
                np.zeros(segments, np.int32),
                np.tile((np.array(shares) * length).astype(int), n),
                np.zeros(segments, np.uint16),
            )
            with publish(folder / str(length) / name) as out:
                write_blocks(out, pa.Table.from_batches([batch], block_schema(length)), length)
            hashes.append(out.artifact.hash)
            sizes[str(length)] += out.artifact.bytes
        splits.append(Split(length, blocks, blocks * length, tuple(names), "".join(hashes)[:32]))
    slots = {str(length): 64 for length in lengths}
    info = SetInfo("bench", tuple(splits), (("c", "s", "web"),), slots, vocabulary, 0, 1, 2, "bench")
    for name, value in set_metadata(info, sizes).items():
        write_json(folder / name, value)
