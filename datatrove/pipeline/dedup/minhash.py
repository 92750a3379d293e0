"""MinHash dedupe in two steps before datatrove's filter: signatures of every task, then decisions over all of them.

    MinhashDedupSignature    for each task `<rank>.signatures`: bands, number of shingles and sketch of each document
    MinhashDedupDecide       stages 2 and 3 of datatrove in one: `<rank>.remove`, for datatrove's `MinhashDedupFilter`

Documents are decided in the order of tasks and of what they read. One is removed only for a document that is kept, shares a
band with it, and whose sketch says that they are alike; datatrove removes all but one of whatever bands connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datatrove.data import DocumentsPipeline
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.logging import logger
from datatrove.utils.text import TextNormConfig
from datatrove.utils.typeshelper import StatHints
from numba import njit

from ....pipeline.signals.hashing import fixed_binary
from ....pipeline.signals.minhash import JACCARD, MinHashSettings, Signatures, common, sign
from ....pipeline.signals.nfc import to_nfc
from ....pipeline.signals.segment import segment
from ....tokenize.spans import text_array, text_buffers
from ...preload import share
from ..filters.base_filter import batches

BATCH = 4096
SETTINGS = b"fox1.minhash"
"""Key of the metadata that says how signatures were made."""


def settings_of(config: MinhashConfig | None) -> MinHashSettings:
    """The shape of signatures by datatrove's settings.

    Raises:
        ValueError: they ask for datatrove's normalised words or hashes, which fox1's signatures have not.
    """
    config = config or MinhashConfig()
    if config.norm_config != TextNormConfig() or config.hash_config != MinhashConfig().hash_config:
        raise ValueError(
            "config: fox1's signatures have words and hashes of their own; leave norm_config and hash_config as they are, or "
            "use datatrove.pipeline.dedup"
        )
    return MinHashSettings("word", config.n_grams, config.num_buckets, config.hashes_per_bucket, seed=config.seed)


def _schema(settings: MinHashSettings) -> pa.Schema:
    fields = [
        ("bands", pa.binary(8 * settings.bands)),
        ("n_shingles", pa.uint32()),
        ("sketch", pa.large_binary()),
    ]
    return pa.schema([pa.field(*f, nullable=False) for f in fields], metadata={SETTINGS: repr(settings).encode()})


class MinhashDedupSignature(PipelineStep):
    """Stage 1: the signature of every document, in one file for each task.

    Args:
        output_folder: where signatures are written.
        config: datatrove's; `n_grams`, `num_buckets`, `hashes_per_bucket` and `seed` are read.

    Raises:
        ValueError: of `settings_of`.
    """

    type = "🫂 - DEDUP"
    name = "🎯 MinHash stage 1"

    def __init__(self, output_folder: DataFolderLike, config: MinhashConfig | None = None) -> None:
        super().__init__()
        self.output_folder = get_datafolder(output_folder)
        self.config = config or MinhashConfig()
        self.settings = settings_of(config)
        share("minhash")

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        schema = _schema(self.settings)
        with (
            self.output_folder.open(f"{rank:05d}.signatures", mode="wb") as file,
            pa.ipc.new_stream(file, schema) as out,
        ):
            for batch in batches(data, BATCH):
                with self.track_time("batch"):
                    # Half a surrogate pair is read as a question mark.
                    text = to_nfc(text_array((document.text for document in batch), errors="replace"))
                    out.write(_rows(sign(segment(*text_buffers(text)), self.settings), schema))
                for _ in batch:
                    self.stat_update(StatHints.total)


def _rows(signatures: Signatures, schema: pa.Schema) -> pa.RecordBatch:
    offsets, data = pa.py_buffer(signatures.sketch_offsets * 4), pa.py_buffer(signatures.sketch.astype("<u4"))
    n = len(signatures.bands)
    shingles = pa.py_buffer(np.ascontiguousarray(signatures.n_shingles, np.uint32))
    columns = [
        fixed_binary(signatures.bands),
        pa.Array.from_buffers(pa.uint32(), n, [None, shingles]),
        pa.Array.from_buffers(pa.large_binary(), n, [None, offsets, data]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@dataclass(frozen=True)
class _Signed:
    """Signatures of all tasks, in order."""

    tasks: list[int]
    offsets: np.ndarray
    """int64 [tasks + 1]: documents of each."""
    bands: np.ndarray
    """uint64 [n, bands]."""
    sketch: np.ndarray
    """uint32: back to back."""
    sketch_offsets: np.ndarray
    """int64 [n + 1]."""


class MinhashDedupDecide(PipelineStep):
    """Stages 2 and 3 in one task: which documents are removed, as `<rank>.remove` files of datatrove.

    It holds all signatures in memory: 8 bytes a band and 4 a value of the sketch, about 600 for a document.

    Args:
        input_folder: what `MinhashDedupSignature` wrote.
        output_folder: for `MinhashDedupFilter`.
        config: that of the signatures.
        jaccard: least similarity of a document with the kept one for which it is removed.
        save_cluster_id: also write `<rank>.clusters`: (document, cluster) of every kept document with its duplicates.
        save_cluster_size: also write `<rank>.sizes`: (document, size of its cluster).

    Raises:
        ValueError: of `settings_of`; or, when it runs, signatures are missing or were made otherwise.
    """

    type = "🫂 - DEDUP"
    name = "🎯 MinHash stages 2 and 3"

    def __init__(
        self,
        input_folder: DataFolderLike,
        output_folder: DataFolderLike,
        config: MinhashConfig | None = None,
        jaccard: float = JACCARD,
        save_cluster_id: bool = False,
        save_cluster_size: bool = False,
    ) -> None:
        super().__init__()
        self.input_folder = get_datafolder(input_folder)
        self.output_folder = get_datafolder(output_folder)
        self.settings = settings_of(config)
        self.jaccard = jaccard
        self.save_cluster_id = save_cluster_id
        self.save_cluster_size = save_cluster_size

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        if world_size != 1:
            raise ValueError(f"MinhashDedupDecide looks at all documents in one task, not in {world_size}: set tasks=1")
        with self.track_time():
            signed = self._read()
            kept_for = decide(
                signed.bands, signed.sketch, signed.sketch_offsets, self.settings.sketch_size, self.jaccard
            )
            self._write(signed, kept_for)

    def _read(self) -> _Signed:
        names = sorted(n for n in self.input_folder.list_files() if n.endswith(".signatures"))
        if not names:
            raise ValueError(f"{self.input_folder.path} holds no signatures: run MinhashDedupSignature first")
        tables = list(self._tables(names))
        lengths = [len(table) for table in tables]
        bands = [np.frombuffer(c.buffers()[1], "<u8") for t in tables for c in t.column("bands").chunks]
        chunks = [c for t in tables for c in t.column("sketch").chunks]
        sketches = [np.frombuffer(c.buffers()[2], "<u4") if c.buffers()[2] else np.empty(0, "<u4") for c in chunks]
        sizes = [np.diff(np.frombuffer(c.buffers()[1], np.int64)[: len(c) + 1]) // 4 for c in chunks]
        nothing = np.empty(0, np.uint64)
        return _Signed(
            [int(name.removesuffix(".signatures")) for name in names],
            np.cumsum([0, *lengths]),
            np.concatenate([*bands, nothing]).reshape(-1, self.settings.bands),
            np.concatenate([*sketches, np.empty(0, np.uint32)]),
            np.cumsum(np.concatenate([np.zeros(1, np.int64), *sizes])),
        )

    def _tables(self, names: list[str]) -> Iterator[pa.Table]:
        expected = _schema(self.settings)
        for name in names:
            with self.input_folder.open(name, mode="rb") as file:
                table = pa.ipc.open_stream(file).read_all()
            if not table.schema.equals(expected, check_metadata=True):
                raise ValueError(f"{name} was signed with other settings: give all steps the same config")
            yield table

    def _write(self, signed: _Signed, kept_for: np.ndarray) -> None:
        n = len(kept_for)
        dropped = kept_for != np.arange(n)
        size = np.bincount(kept_for, minlength=n)[kept_for]
        together = size > 1
        # Clusters are numbered by their first document.
        number = (np.cumsum(together & ~dropped) - 1)[kept_for]
        for k, task in enumerate(signed.tasks):
            begin, end = int(signed.offsets[k]), int(signed.offsets[k + 1])
            own = np.arange(begin, end)[together[begin:end]]
            if not len(own):
                continue
            rows = {"remove": own[dropped[own]][:, None] - begin}
            if self.save_cluster_id:
                rows["clusters"] = np.column_stack([own - begin, number[own]])
            if self.save_cluster_size:
                rows["sizes"] = np.column_stack([own - begin, size[own]])
            for kind, values in rows.items():
                if len(values):
                    with self.output_folder.open(f"{task:06d}.{kind}", mode="wb") as file:
                        file.write(values.astype("<u4").tobytes())
        for label, value in (("duplicates", together), ("to_remove", dropped), ("clusters", together & ~dropped)):
            self.stat_update(label, value=int(np.count_nonzero(value)))
        for cluster in size[together & ~dropped].tolist():
            self.stat_update("cluster_size", value=cluster, unit="cluster")
        logger.info(f"{int(np.count_nonzero(dropped))} of {n} documents are near-duplicates of kept ones")


def decide(
    bands: np.ndarray, sketch: np.ndarray, sketch_offsets: np.ndarray, sketch_size: int, jaccard: float
) -> np.ndarray:
    """int64 [n]: for every document, in order, the kept one that it is removed for; itself if it is kept."""
    buckets = np.full(bands.shape, -1, np.int64)
    first = 0
    for k in range(bands.shape[1]):
        _, inverse, counts = np.unique(bands[:, k], return_inverse=True, return_counts=True)
        shared = counts > 1
        number = np.where(shared, first + np.cumsum(shared) - 1, -1)
        buckets[:, k] = number[inverse]
        first += int(np.count_nonzero(shared))
    return _decide(buckets, first, sketch, sketch_offsets, sketch_size, jaccard)


@njit(cache=True, nogil=True)
def _decide(
    buckets: np.ndarray,
    number: int,
    sketch: np.ndarray,
    sketch_offsets: np.ndarray,
    sketch_size: int,
    jaccard: float,
) -> np.ndarray:
    n, width = buckets.shape
    kept_for = np.arange(n)
    # The kept documents of each bucket, as linked lists: entries of `member`, each with the one before it.
    last = np.full(number, -1, np.int64)
    member, before = np.empty(n * width, np.int64), np.empty(n * width, np.int64)
    entries = 0
    compared = np.full(n, -1, np.int64)
    for d in range(n):
        own = sketch[sketch_offsets[d] : sketch_offsets[d + 1]]
        best = np.int64(-1)
        for k in range(width):
            if buckets[d, k] < 0:
                continue
            at = last[buckets[d, k]]
            while at >= 0:
                other = member[at]
                at = before[at]
                if compared[other] == d:
                    continue
                compared[other] = d
                if best >= 0 and other > best:
                    continue
                shared, examined = common(own, sketch[sketch_offsets[other] : sketch_offsets[other + 1]], sketch_size)
                if shared >= jaccard * examined:
                    best = other
        if best >= 0:
            kept_for[d] = best
            continue
        for k in range(width):
            bucket = buckets[d, k]
            if bucket >= 0:
                member[entries], before[entries] = d, last[bucket]
                last[bucket] = entries
                entries += 1
    return kept_for
