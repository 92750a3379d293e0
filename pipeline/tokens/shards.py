"""Tokenize, the second read of the text: survivors with their edits applied, as token shards by (corpus, subset).

One task handles one group of files and writes one shard per subset that has survivors there. Rows keep file and row
order; batches are cut by tokens, so the bytes are a function of the group alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...tokenize.chat import ChatEncoder, EncodedChats
from ...tokenize.encode import encoder_of, gather
from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import TOKEN_SCHEMA
from ..engine.tasks import TaskResult
from ..run.artifacts import Publication, RunPaths
from ..run.identity import Group
from ..sources.domains import CHAT
from ..text.survivors import read_survivors

VERSION = 2
BATCH_IDS = 1 << 20
"""Tokens of a record batch of a token shard."""


class _Shard:
    """The token shard of one subset, batch by batch."""

    def __init__(self, path: Path) -> None:
        self.out = Publication(path, 0)
        self._writer = pa.ipc.new_stream(self.out, TOKEN_SCHEMA)
        self._held: list[tuple[np.ndarray, ...]] = []
        self._held_ids = 0
        self.tokens = self.bytes = 0

    def add(
        self,
        doc_ids: np.ndarray,
        quality: np.ndarray,
        ids: np.ndarray,
        offsets: np.ndarray,
        spans: np.ndarray,
        span_offsets: np.ndarray,
    ) -> None:
        """Append documents; their ids are ``ids[offsets[i]:offsets[i + 1]]``, what is trained on of them likewise."""
        begin = 0
        while begin < len(doc_ids):
            # A batch ends with the document that fills it.
            filled = int(np.searchsorted(offsets, offsets[begin] + BATCH_IDS - self._held_ids, "left"))
            end = min(len(doc_ids), max(filled, begin + 1))
            span = slice(begin, end)
            self._held.append(
                (
                    doc_ids[span],
                    quality[span],
                    np.diff(offsets[begin : end + 1]),
                    ids[offsets[begin] : offsets[end]],
                    np.diff(span_offsets[begin : end + 1]),
                    spans[span_offsets[begin] : span_offsets[end]],
                )
            )
            self._held_ids += int(offsets[end] - offsets[begin])
            if self._held_ids >= BATCH_IDS:
                self._flush()
            begin = end

    def _flush(self) -> None:
        doc_ids, quality, lengths, ids, counts, spans = (
            np.concatenate(parts) for parts in zip(*self._held, strict=True)
        )
        columns = [
            pa.array(doc_ids, pa.uint64()),
            pa.array(quality, pa.uint16()),
            _lists(ids, lengths, "input_ids"),
            _lists(spans, counts, "loss_spans"),
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=TOKEN_SCHEMA))
        self.out.rows += len(doc_ids)
        self.tokens += self._held_ids
        self._held, self._held_ids = [], 0

    def close(self) -> None:
        if self._held:
            self._flush()
        self._writer.close()
        self.out.commit()


def _lists(values: np.ndarray, lengths: np.ndarray, name: str) -> pa.ListArray:
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.int32()), type=TOKEN_SCHEMA.field(name).type)


def tokenize_group(group: Group, settings: TokenizerSettings, model_hash: str, paths: RunPaths) -> TaskResult:
    """Encode the kept documents of a group into ``tokens/``.

    Raises:
        ValueError: a source file is not the one that was scanned.
    """
    encoder = encoder_of(paths.tokenizer, model_hash, settings.reserved)
    # The files of a group are of one corpus.
    chat = ChatEncoder(encoder, settings.chat) if group.files[0].format == CHAT else None
    shards: dict[str, _Shard] = {}
    counts = {"with_control": 0, "with_reserved": 0, "documents": 0, "tokens": 0, "bytes": 0}
    try:
        for batch in read_survivors(group.files, paths, ["quality"]):
            encoded = chat.encode(batch.text) if chat else encoder.encode(batch.text)
            quality = batch.facts.column("quality").to_numpy()
            nothing = np.empty(0, np.int32), np.zeros(len(batch.doc_ids) + 1, np.int64)
            spans = (encoded.spans, encoded.span_offsets) if isinstance(encoded, EncodedChats) else nothing
            sizes = pc.binary_length(batch.text).to_numpy()
            subsets = batch.subset.dictionary_encode()
            which = subsets.indices.to_numpy()
            for code, subset in enumerate(subsets.dictionary.to_pylist()):
                if subset not in shards:
                    shards[subset] = _Shard(paths.tokens(group.corpus, subset, group.name.split("/")[1]))
                mine = np.flatnonzero(which == code)
                its = [(encoded.ids, encoded.offsets), spans]
                if len(mine) < len(which):
                    its = [gather(values, bounds[mine], np.diff(bounds)[mine]) for values, bounds in its]
                shards[subset].add(batch.doc_ids[mine], quality[mine], *its[0], *its[1])
                shards[subset].bytes += int(sizes[mine].sum())
            counts["with_control"] += encoded.with_control
            counts["with_reserved"] += encoded.with_reserved
            counts["documents"] += len(which)
            counts["tokens"] += len(encoded.ids)
            counts["bytes"] += int(sizes.sum())
        for subset in sorted(shards):
            shards[subset].close()
    except BaseException:
        for shard in shards.values():
            shard.out.discard()
        raise
    names = sorted(shards)
    data = {
        "subsets": {name: shards[name].tokens for name in names},
        "bytes": {name: shards[name].bytes for name in names},
    }
    return TaskResult(tuple(shards[name].out.artifact for name in names), counts, data)
