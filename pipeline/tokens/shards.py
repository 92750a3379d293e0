"""Tokenize, the second read of the text: survivors with their edits applied, as token shards by (corpus, subset).

One task handles one group of files, or those of a file that is only read from its start, and writes one shard per group and
subset that has survivors there. Rows keep file and row order; batches are cut by tokens, so the bytes are a function of the
group alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...tokenize.chat import ChatEncoder, EncodedChats
from ...tokenize.encode import Encoder, encoder_of
from ...tokenize.model import TokenizerSettings
from ...tokenize.shards import TOKEN_SCHEMA
from ...tokenize.spans import gather
from ..engine.parts import Parts
from ..run.artifacts import Artifact, Publication
from ..run.identity import Group
from ..run.paths import RunPaths
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile, Survivors, survivors_of_each

BATCH_IDS = 1 << 20
"""Tokens of a record batch of a token shard."""


class ShardWriter:
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


@dataclass(frozen=True)
class TokenShard:
    """The token shard of one subset of a group."""

    subset: str
    shard: Artifact
    """`TOKEN_SCHEMA`."""
    tokens: int
    bytes: int
    """Of the edited text."""


@dataclass(frozen=True)
class EncodedDocuments:
    """What was encoded of a group."""

    with_control: int = 0
    """Documents whose text holds the literal of a control token."""
    with_reserved: int = 0
    """Documents whose text holds the literal of a reserved piece."""
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    """Of the edited text."""


@dataclass(frozen=True)
class GroupTokens:
    """The token shards of a group, by subset in name order."""

    shards: tuple[TokenShard, ...]
    encoded: EncodedDocuments


@dataclass(frozen=True)
class TokenizedGroups:
    """The token shards of groups that one task reads."""

    groups: tuple[GroupTokens, ...]


def tokenize_groups(
    groups: Sequence[Group],
    files: Sequence[DecidedFile],
    tokenizer: Artifact,
    converted: Artifact | None,
    settings: TokenizerSettings,
    paths: RunPaths,
) -> TokenizedGroups:
    """Encode the kept documents of some groups into ``tokens/``, in one pass over their files.

    Args:
        files: of all groups, in their order.
        converted: the tokenizer in the form that gigatoken loads, if that encodes.
        settings: what `TokenizerSettings.of_encoding` leaves of them.

    Raises:
        ValueError: a source file is not the one that was scanned.
    """
    encoder = encoder_of(tokenizer.file, tokenizer.hash, settings.reserved, converted.file if converted else None)
    each = survivors_of_each(files, FACTS)
    parts, found = Parts(GroupTokens), list[GroupTokens]()
    for number, group in enumerate(groups):
        own = itertools.chain.from_iterable(itertools.islice(each, len(group.files)))

        def encode(survivors: Iterator[Survivors], group: Group = group) -> GroupTokens:
            return _encode(group, survivors, encoder, settings, paths)

        # Of a single group, the record of the task says it all.
        found.append(parts.take(number, own, encode) if len(groups) > 1 else encode(own))
    return TokenizedGroups(tuple(found))


class SubsetShards(dict[str, ShardWriter]):
    """The token shards of a group by subset, each made when it is first asked for."""

    def __init__(self, group: Group, paths: RunPaths) -> None:
        super().__init__()
        self._corpus, self._name, self._paths = group.corpus, group.name.split("/")[1], paths

    def __missing__(self, subset: str) -> ShardWriter:
        shard = self[subset] = ShardWriter(self._paths.tokens(self._corpus, subset, self._name))
        return shard

    def written(self) -> tuple[TokenShard, ...]:
        """What they became, by name of the subset."""
        return tuple(
            TokenShard(name, self[name].out.artifact, self[name].tokens, self[name].bytes) for name in sorted(self)
        )


@contextmanager
def subset_shards(group: Group, paths: RunPaths) -> Iterator[SubsetShards]:
    """The token shards of a group, published when the block ends."""
    shards = SubsetShards(group, paths)
    try:
        yield shards
        for subset in sorted(shards):
            shards[subset].close()
    except BaseException:
        for shard in shards.values():
            shard.out.discard()
        raise


FACTS = ("quality",)
"""Columns of `signals/` that go along."""


def _encode(
    group: Group, survivors: Iterable[Survivors], encoder: Encoder, settings: TokenizerSettings, paths: RunPaths
) -> GroupTokens:
    # The files of a group are of one corpus.
    chat = ChatEncoder(encoder, settings.chat) if group.format == CHAT else None
    counts = dict.fromkeys((f.name for f in fields(EncodedDocuments)), 0)
    with subset_shards(group, paths) as shards:
        for batch in survivors:
            encoded = chat.encode(batch.text) if chat else encoder.encode(batch.text)
            quality = batch.facts.column("quality").to_numpy()
            nothing = np.empty(0, np.int32), np.zeros(len(batch.doc_ids) + 1, np.int64)
            spans = (encoded.spans, encoded.span_offsets) if isinstance(encoded, EncodedChats) else nothing
            sizes = pc.binary_length(batch.text).to_numpy()
            subsets = batch.subset.dictionary_encode()
            which = subsets.indices.to_numpy()
            for code, subset in enumerate(subsets.dictionary.to_pylist()):
                of_subset = np.flatnonzero(which == code)
                lists = [(encoded.ids, encoded.offsets), spans]
                if len(of_subset) < len(which):
                    lists = [gather(values, bounds[of_subset], np.diff(bounds)[of_subset]) for values, bounds in lists]
                shards[subset].add(batch.doc_ids[of_subset], quality[of_subset], *lists[0], *lists[1])
                shards[subset].bytes += int(sizes[of_subset].sum())
            counts["with_control"] += encoded.with_control
            counts["with_reserved"] += encoded.with_reserved
            counts["documents"] += len(which)
            counts["tokens"] += len(encoded.ids)
            counts["bytes"] += int(sizes.sum())
    return GroupTokens(shards.written(), EncodedDocuments(**counts))
