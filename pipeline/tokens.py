"""Tokenize, the second read of the text: survivors with their edits applied, as token shards by (corpus, subset).

One task handles one group of files and writes one shard per subset that has survivors there. Rows keep file and row
order; batches are cut by tokens, so the bytes are a function of the group alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..tokenize.encode import Encoder
from ..tokenize.model import TokenizerSettings
from ..tokenize.shards import TOKEN_SCHEMA
from .artifacts import Publication, RunPaths
from .edits import apply_edits
from .engine import TaskResult
from .identity import Group
from .signals.scan import check_unchanged
from .sources.quarantine import Quarantine
from .sources.rows import read_rows

VERSION = 1
BATCH_IDS = 1 << 20
"""Tokens of a record batch of a token shard."""


class _Shard:
    """The token shard of one subset, batch by batch."""

    def __init__(self, path: Path) -> None:
        self.out = Publication(path, 0)
        self._writer = pa.ipc.new_stream(self.out, TOKEN_SCHEMA)
        self._docs: list[tuple[int, int]] = []
        self._ids: list[np.ndarray] = []
        self._held = 0
        self.tokens = 0

    def add(self, doc_id: int, quality: int, ids: np.ndarray) -> None:
        self._docs.append((doc_id, quality))
        self._ids.append(ids)
        self._held += len(ids)
        if self._held >= BATCH_IDS:
            self._flush()

    def _flush(self) -> None:
        offsets = np.zeros(len(self._ids) + 1, np.int32)
        offsets[1:] = np.cumsum([len(i) for i in self._ids])
        type_ = TOKEN_SCHEMA.field("input_ids").type
        values = pa.array(np.concatenate(self._ids), pa.int32())
        columns = [
            pa.array([d for d, _ in self._docs], pa.uint64()),
            pa.array([q for _, q in self._docs], pa.uint16()),
            pa.ListArray.from_arrays(pa.array(offsets), values, type=type_),
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=TOKEN_SCHEMA))
        self.out.rows += len(self._docs)
        self.tokens += self._held
        self._docs, self._ids, self._held = [], [], 0

    def close(self) -> None:
        if self._docs:
            self._flush()
        self._writer.close()
        self.out.commit()


def tokenize_group(group: Group, settings: TokenizerSettings, paths: RunPaths) -> TaskResult:
    """Encode the kept documents of a group into ``tokens/``.

    Raises:
        ValueError: a source file is not the one that was scanned.
    """
    encoder = Encoder(paths.tokenizer, settings.reserved)
    shards: dict[str, _Shard] = {}
    counts = {"with_reserved": 0, "documents": 0, "tokens": 0, "bytes": 0}
    try:
        for file in group.files:
            check_unchanged(file)
            decisions = pq.read_table(paths.decisions(file.corpus, file.path), columns=["row", "doc_id", "kept"])
            facts = pq.read_table(paths.signals(file.corpus, file.path), columns=["quality", "edits"])
            at = 0
            for batch in read_rows(file, Quarantine(file)):
                n = batch.num_rows
                decided, fact = decisions.slice(at, n), facts.slice(at, n)
                at += n
                if not decided.column("row").combine_chunks().equals(batch.column("row")):
                    raise ValueError(
                        f"{file.name} is not the file that was scanned; run again to plan with the new one"
                    )
                kept = decided.column("kept").combine_chunks()
                rows = batch.filter(kept)
                if rows.num_rows == 0:
                    continue
                text = apply_edits(rows.column("text"), fact.column("edits").combine_chunks().filter(kept))
                encoded = encoder.encode(text.to_pylist())
                ids = decided.column("doc_id").combine_chunks().filter(kept).to_pylist()
                quality = fact.column("quality").combine_chunks().filter(kept).to_pylist()
                for k, subset in enumerate(rows.column("subset").to_pylist()):
                    if subset not in shards:
                        shards[subset] = _Shard(paths.tokens(group.corpus, subset, group.name.split("/")[1]))
                    span = encoded.ids[encoded.offsets[k] : encoded.offsets[k + 1]]
                    shards[subset].add(ids[k], quality[k], span)
                counts["with_reserved"] += encoded.with_reserved
                counts["documents"] += rows.num_rows
                counts["tokens"] += len(encoded.ids)
                counts["bytes"] += int(pc.sum(pc.binary_length(text)).as_py())
            check_unchanged(file)
            if at != decisions.num_rows:
                # A transient failure of the store, since size and version are those of the scan.
                raise OSError(f"{file.name} gave {at} rows, the scan read {decisions.num_rows}")
        for subset in sorted(shards):
            shards[subset].close()
    except BaseException:
        for shard in shards.values():
            shard.out.discard()
        raise
    subsets = {subset: shards[subset].tokens for subset in sorted(shards)}
    outputs = tuple(shards[s].out.artifact for s in sorted(shards))
    return TaskResult(outputs, counts, {"subsets": subsets})
